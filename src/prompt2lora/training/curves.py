"""The curve of a run: `curves.csv`, a line for every logged step, and `curves.png` drawn from it.

In: records by column. Out: the two files; the table is replaced as a whole, so that no cut leaves half a line.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prompt2lora.ground.files import write_text
from prompt2lora.training.validation import ARMS

_TABLE, _PICTURE = "curves.csv", "curves.png"
_COLUMNS = (
    "step",
    "seconds",
    "loss",
    "exact",
    "norm",
    "rate",
    *(f"{arm}{kind}" for arm in ARMS for kind in ("", "_loss")),
    "step_seconds",  # of the steps since the line before, with all that was done between them
    "memory",  # most bytes of the accelerator that were in use so far
)


def add(folder: Path, record: dict[str, Any]) -> None:
    """One line more."""
    line = {key: round(value, 5) if isinstance(value, float) else value for key, value in record.items()}
    _write(folder, [*_read(folder), line])


def forget_after(folder: Path, step: int) -> None:
    """Take back the lines of steps that the checkpoint does not hold: these steps will be made again."""
    if (folder / _TABLE).exists():
        _write(folder, [line for line in _read(folder) if int(line["step"]) <= step])


def draw(folder: Path) -> None:
    """Loss and validation curves as a PNG; silently nothing if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    lines = _read(folder)
    figure = Figure(figsize=(10, 4))
    left, right = figure.subplots(1, 2)
    losses = ("loss", *(f"{arm}_loss" for arm in ARMS))
    matches = ("exact", *ARMS)
    for axes, columns in ((left, losses), (right, matches)):
        for column in columns:
            known = [line for line in lines if line[column] not in ("", "nan")]
            points = [(int(line["step"]), float(line[column])) for line in known]
            if points:
                axes.plot(*zip(*points, strict=True), label=column.replace("_", " "), linewidth=1, alpha=0.8)
        axes.set_xlabel("step")
        if axes.lines:
            axes.legend(loc="upper right")  # to look for the best place takes longer than the rest
    left.set_ylabel("loss per answer token")
    right.set_ylabel("exact match")
    figure.savefig(folder / _PICTURE, dpi=120)


def _read(folder: Path) -> list[dict[str, str]]:
    file = folder / _TABLE
    return list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8")))) if file.exists() else []


def _write(folder: Path, lines: Sequence[dict[str, Any]]) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_text(folder / _TABLE, stream.getvalue())
