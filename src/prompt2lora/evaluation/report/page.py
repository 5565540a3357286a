"""Result files of the benchmarks -> one page with tables and plots. In: JSON files. Out: Markdown and pictures.

It computes nothing: every figure on the page stands in the file that it names.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from prompt2lora.errors import DamagedFile, UsageError, cause
from prompt2lora.evaluation.published.results import PublishedResult
from prompt2lora.evaluation.report import experiments, plots, sections
from prompt2lora.evaluation.report.experiments import Experiment
from prompt2lora.evaluation.report.headline import opening
from prompt2lora.evaluation.report.published import published
from prompt2lora.evaluation.results import BenchmarkResult, read_result
from prompt2lora.ground.files import write_bytes, write_text

Result = TypeVar("Result", bound=Experiment)


class Plot(NamedTuple, Generic[Result]):
    """What is drawn, under which caption; `suffix` is added to the file's name."""

    draw: Callable[[Result], bytes]
    caption: str
    suffix: str = ""


class ResultKind(NamedTuple, Generic[Result]):
    """A kind of result, known by a key that no other has: its type, its section, and its pictures."""

    key: str
    model: type[Result]
    section: Callable[[Path, Result], str]
    pictures: tuple[Plot[Result], ...] = ()


_KINDS: tuple[ResultKind[Any], ...] = (
    ResultKind("alignments", experiments.Alignments, sections.alignments),
    ResultKind(
        "variants",
        experiments.ReadingVariants,
        sections.reading,
        (Plot(plots.by_prompts, "Exact match against the number of prompts"),),
    ),
    ResultKind(
        "own_prompts_best",
        experiments.Matrix,
        sections.matrix,
        (
            Plot(plots.loss_matrix, "Loss of every task's adapter on every task's test examples, bare form"),
            Plot(plots.similarity, "Similarity of adapters against similarity of their prompts", "-similarity"),
        ),
    ),
    ResultKind(
        "break_even",
        experiments.SecondStage,
        sections.refined,
        (Plot(plots.labels_and_seconds, "Score against labels, and against seconds until ready"),),
    ),
    ResultKind(
        "break_even_jobs",
        experiments.Costs,
        sections.costs,
        (Plot(plots.seconds_a_job, "Seconds per job, by the number of jobs"),),
    ),
    ResultKind(
        "trained",
        experiments.Trained,
        sections.trained,
        (Plot(plots.own_and_wrong_losses, "Loss in the bare form, with own prompts and with another task's"),),
    ),
)


def report(results: Path, page: Path) -> list[Path]:
    """Write the page and, into a folder `images` beside it, the pictures; returns what was written.

    Raises UsageError if the folder holds no result that it shows, DamagedFile for one that is broken.
    """
    found = {file: _read(file) for file in sorted(results.glob("*.json"))}
    tables = {file: read_result(BenchmarkResult, file, data) for file, data in found.items() if "difference" in data}
    suites = {file: read_result(PublishedResult, file, data) for file, data in found.items() if "published" in data}
    others = [
        (kind, file, read_result(kind.model, file, data))
        for kind in _KINDS
        for file, data in found.items()
        if kind.key in data
    ]
    written: list[Path] = []
    parts: list[str] = [opening(tables), *(published(file, result) for file, result in suites.items())]

    def picture(name: str, caption: str, drawn: bytes) -> None:
        if drawn:
            written.append(page.parent / "images" / name)
            write_bytes(written[-1], drawn)
            parts.append(f"![{caption}](images/{name})\n")

    for file, result in sorted(tables.items(), key=lambda item: -len(item[1].request.arms)):
        parts.append(sections.benchmark(file, result))
        for form in result.mean:
            picture(f"{file.stem}-{form}.png", f"Every task of {file.stem}, {form} form", plots.by_task(result, form))
    for kind, file, other in others:
        parts.append(kind.section(file, other))
        for shown in kind.pictures:
            picture(f"{file.stem}{shown.suffix}.png", shown.caption, shown.draw(other))
    if len(parts) == 1:
        raise UsageError(f"{results} has no result of a benchmark; make one or name another folder")
    write_text(page, "\n".join(parts))
    return [page, *written]


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{file} is not a readable result ({cause(error)}); make it again or remove it") from error
    return found if isinstance(found, dict) else {}
