"""Score against labels and against seconds: the second stage, a LoRA from scratch, examples in the context.

python benchmarks/refine.py --tasks ../shared/data/tasks --split dev --out benchmarks/results/refine.json

Refining and training from scratch are the same procedure with the same rows; only the start differs. Every measurement
is a line of a file beside the result, so that an interrupted run goes on where it was.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from prompt2lora.evaluation.arms import Workbench
from prompt2lora.evaluation.decoding import answers
from prompt2lora.evaluation.metrics import exact_match
from prompt2lora.evaluation.statistics import mean_interval
from prompt2lora.files import check_new, write_bytes, write_json
from prompt2lora.generator.conditions import cached_encoder
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.reading import Frozen, Reader
from prompt2lora.training.tasks import Row, Task, read_tasks
from prompt2lora.training.tuning import TuningOptions, refine
from prompt2lora.verbs import released_generator
from prompt2lora.versions import origin
from prompt2lora.weights.tokens import initial_grid

LEAST = 8  # labelled rows that a second stage needs
MOST_EXAMPLES = 16  # in a context


class Point(NamedTuple):
    """One way to answer, with so many labelled rows and at most so many optimiser steps."""

    way: str  # base, generated, in context, refined, from scratch
    labels: int
    steps: int


class Measured(NamedTuple):
    """`ready` seconds until the first answer can be given, `asking` seconds for all test rows, and a score a row."""

    task: str
    seed: int
    point: Point
    ready: float
    asking: float
    scores: list[float]


@dataclass
class Bench:
    """`rows` test rows of every task, in the form that has the instruction."""

    work: Workbench
    training: Frozen
    rows: int

    def measure(self, task: Task, seed: int, point: Point) -> Measured:
        labelled = self.work.labelled(task, seed, point.labels)
        began = time.monotonic()
        grid = self._grid(task, seed, point, labelled)
        ready = time.monotonic()
        examples = [(task.prompt(row.input), row.output) for row in labelled] if point.way == "in context" else []
        rows, base = task.test[: self.rows], self.work.base
        asked = [task.prompt(row.input) for row in rows]
        given = answers(base.model, base.chat, asked, examples=examples, layout=base.layout, grid=grid)
        scores = [float(exact_match(answer, row.output)) for answer, row in zip(given, rows, strict=True)]
        return Measured(task.name, seed, point, ready - began, time.monotonic() - ready, scores)

    def _grid(self, task: Task, seed: int, point: Point, labelled: Sequence[Row]) -> torch.Tensor | None:
        if point.way in ("base", "in context"):
            return None
        layout = self.work.base.layout
        if point.way == "from scratch":
            start = initial_grid(layout, seed)
        else:
            start = Reader(self.work.generator, self.work.encoder, self.work.base).generate(
                self.work.prompts(task, seed)
            )
        if point.way == "generated":
            return start
        options = TuningOptions(steps=point.steps, seed=seed, bare=0.0)
        return refine(self.training, start.clone(), task, labelled, options).grid


def points(labels: Sequence[int], steps: Sequence[int]) -> Iterator[Point]:
    yield from (Point("base", 0, 0), Point("generated", 0, 0))
    for count in labels:
        if count <= MOST_EXAMPLES:
            yield Point("in context", count, 0)
        if count >= LEAST:
            for most in steps:
                yield from (Point("refined", count, most), Point("from scratch", count, most))


def summary(found: Sequence[Measured]) -> list[dict[str, Any]]:
    """Per point: the mean score with its interval over tasks and rows, and the mean seconds."""
    kept: dict[Point, list[Measured]] = {}
    for one in found:
        kept.setdefault(one.point, []).append(one)
    return [
        {
            **point._asdict(),
            **mean_interval([one.scores for one in many])._asdict(),
            "ready": sum(one.ready for one in many) / len(many),
            "asking": sum(one.asking for one in many) / len(many),
            "tasks": len({one.task for one in many}),
        }
        for point, many in kept.items()
    ]


def break_even(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Where the others reach the generated adapter, which needs neither labels nor training; None: nowhere measured."""
    made = next(row for row in rows if row["way"] == "generated")
    found: dict[str, Any] = {"generated": {key: made[key] for key in ("score", "ready")}}
    for way in ("from scratch", "in context", "refined"):
        reached = [row for row in rows if row["way"] == way and row["score"] >= made["score"]]
        found[way] = {
            "labels": min((row["labels"] for row in reached), default=None),
            "seconds": min((row["ready"] for row in reached), default=None),
        }
    return found


def read(file: Path) -> list[Measured]:
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    records = [json.loads(line) for line in lines]
    return [Measured(**{**record, "point": Point(*record["point"])}) for record in records]


def plot(rows: Sequence[dict[str, Any]]) -> bytes:
    """Two panels: score against labels, and against seconds until ready."""
    import io

    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for way in dict.fromkeys(row["way"] for row in rows):
        mine = [row for row in rows if row["way"] == way]
        for panel, key in zip(panels, ("labels", "ready"), strict=True):
            ordered = sorted(mine, key=lambda row: row[key])
            panel.plot([row[key] for row in ordered], [row["score"] for row in ordered], "o-", label=way)
    for panel, label in zip(panels, ("labelled rows", "seconds until ready"), strict=True):
        panel.set_xlabel(label)
        panel.set_xscale("symlog")
    panels[0].set_ylabel("exact match")
    panels[0].legend()
    figure.tight_layout()
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=110)
    pyplot.close(figure)
    return drawn.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--most", type=int, help="most tasks")
    parser.add_argument("--labels", type=int, nargs="+", default=[1, 4, 8, 16, 32, 64])
    parser.add_argument("--steps", type=int, nargs="+", default=[16, 48])
    parser.add_argument("--rows", type=int, default=40, help="test rows of every task")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--generator")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plot", type=Path, help="picture to write (PNG)")
    asked = parser.parse_args()
    check_new(asked.out)
    tasks = read_tasks([asked.tasks], split=asked.split)[: asked.most]
    generator = Generator.from_pretrained(asked.generator or released_generator())
    layout = generator.config.layout
    base = Frozen.load(layout)
    work = Workbench(base, cached_encoder(generator.config.encoder), generator, tasks)
    bench = Bench(work, Frozen.load(layout, training=True), asked.rows)
    log = asked.out.with_suffix(".lines.jsonl")
    found = read(log)
    known = {(one.task, one.seed, one.point) for one in found}
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as lines:
        for task in tasks:
            for seed in range(asked.seeds):
                for point in points(asked.labels, asked.steps):
                    if (task.name, seed, point) in known:
                        continue
                    one = bench.measure(task, seed, point)
                    found.append(one)
                    lines.write(json.dumps(one._asdict()) + "\n")
                    lines.flush()
                    score = sum(one.scores) / len(one.scores)
                    print(f"{task.name} {seed} {tuple(point)}: {score:.2f} after {one.ready:.1f} s", flush=True)
    rows = summary(found)
    write_json(asked.out, {"points": rows, "break_even": break_even(rows), "rows": asked.rows, **origin()})
    if asked.plot:
        write_bytes(asked.plot, plot(rows))
    print(json.dumps(break_even(rows), indent=2))


if __name__ == "__main__":
    main()
