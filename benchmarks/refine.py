"""Score against labels and against seconds: the second stage, a LoRA from scratch, examples in the context.

python benchmarks/refine.py --tasks ../shared/data/tasks --split dev --out benchmarks/results/refine.json

Refining and training from scratch are the same procedure with the same examples; only the start differs. Every
measurement is a line of a file beside the result, named by the generator, so that an interrupted run goes on where it
was and never with the numbers of another generator. Tasks come in a fixed shuffle; those that `--minutes` leave no
time for are left out whole. Seconds are processor seconds, which another process cannot stretch: with
OMP_NUM_THREADS=1 those of one idle core.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from prompt2lora.adapter.grid import initial_grid
from prompt2lora.base.decoding import answers
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.versions import origin
from prompt2lora.evaluation.resources import Resources
from prompt2lora.evaluation.revisions import components, revisions
from prompt2lora.evaluation.score_cache import ScoreCache
from prompt2lora.evaluation.statistics import mean_interval
from prompt2lora.generator.examples import ExampleOptions
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.text_encoder import cached_encoder
from prompt2lora.ground.files import check_new, write_json
from prompt2lora.training.tasks import Example, Task, read_tasks
from prompt2lora.training.tuning import refine

LEAST = 8  # labelled examples that a second stage needs
MOST_EXAMPLES = 16  # in a context


class Point(NamedTuple):
    """One way to answer, with so many labelled examples and at most so many optimiser steps."""

    way: str  # base, generated, in context, refined, from scratch
    labels: int
    steps: int


class Measured(NamedTuple):
    """`ready` seconds until the first answer can be given, `asking` for all test examples, and a score for each."""

    ready: float
    asking: float
    scores: list[float]


@dataclass
class Bench:
    """`examples` test examples of every task, in the form that has the instruction."""

    work: Resources
    examples: int

    def measure(self, task: Task, seed: int, point: Point) -> Measured:
        examples = self.work.examples(task, seed, point.labels)
        began = time.process_time()
        grid = self._grid(task, seed, point, examples)
        ready = time.process_time()
        examples = (
            [(task.prompt(example.input), example.output) for example in examples] if point.way == "in context" else []
        )
        asked, base = task.test[: self.examples], self.work.base
        prompts = [task.prompt(example.input) for example in asked]
        given = answers(base.model, base.chat, prompts, examples=examples, layout=base.layout, grid=grid)
        scores = [task.comparison.score(answer, example.output) for answer, example in zip(given, asked, strict=True)]
        return Measured(ready - began, time.process_time() - ready, scores)

    def _grid(self, task: Task, seed: int, point: Point, examples: Sequence[Example]) -> torch.Tensor | None:
        if point.way in ("base", "in context"):
            return None
        layout = self.work.base.layout
        if point.way == "from scratch":
            start = initial_grid(layout, seed)
        else:
            start = self.work.pipeline(self.work.generator).make(self.work.prompts(task, seed)).grid
        if point.way == "generated":
            return start
        options = ExampleOptions(steps=point.steps)
        pairs = [(example.input, example.output) for example in examples]
        return refine(self.work.training, start, task.instruction, pairs, options, seed=seed).grid


def shuffled(tasks: Sequence[Task]) -> list[Task]:
    """The order of the SHA-256 of their names: any first few of them are a sample of all."""
    return sorted(tasks, key=lambda task: hashlib.sha256(task.name.encode()).digest())


def points(labels: Sequence[int], steps: Sequence[int]) -> Iterator[Point]:
    yield from (Point("base", 0, 0), Point("generated", 0, 0))
    for count in labels:
        if count <= MOST_EXAMPLES:
            yield Point("in context", count, 0)
        if count >= LEAST:
            for most in steps:
                yield from (Point("refined", count, most), Point("from scratch", count, most))


def summary(found: dict[Point, list[Measured]], tasks: int) -> list[dict[str, Any]]:
    """Per point: the mean score with its interval over tasks and examples, and the mean seconds."""
    return [
        {
            **point._asdict(),
            **mean_interval([one.scores for one in many])._asdict(),
            "ready": sum(one.ready for one in many) / len(many),
            "asking": sum(one.asking for one in many) / len(many),
            "tasks": tasks,
        }
        for point, many in found.items()
    ]


def break_even(measured: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Where the others reach the generated adapter, which needs neither labels nor training.

    None: nowhere measured, or the generated one answers nothing, which everything reaches.
    """
    made = next(point for point in measured if point["way"] == "generated")
    found: dict[str, Any] = {"generated": {key: made[key] for key in ("score", "ready")}}
    for way in ("from scratch", "in context", "refined"):
        reached = [point for point in measured if point["way"] == way and point["score"] >= made["score"] > 0]
        found[way] = {
            "labels": min((point["labels"] for point in reached), default=None),
            "seconds": min((point["ready"] for point in reached), default=None),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no task is begun after so many")
    parser.add_argument("--labels", type=int, nargs="+", default=[1, 4, 8, 16, 32, 64])
    parser.add_argument("--steps", type=int, nargs="+", default=[16, 48])
    parser.add_argument("--examples", type=int, default=40, help="test examples of every task")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--generator", default="smollm2-135m-instruct")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    check_new(asked.out, "result file")
    tasks = shuffled(read_tasks([asked.tasks], split=asked.split))
    generator = Generator.from_pretrained(asked.generator)
    layout = generator.config.layout
    base = Frozen.load(layout, dtype=torch.float32)
    work = Resources(base, cached_encoder(generator.config.encoder), generator, tasks)
    work.training = Frozen.load(layout, dtype=torch.float32, training=True)
    bench = Bench(work, asked.examples)
    sha = str(generator.provenance["sha256"])
    cache = ScoreCache(asked.out.with_suffix(f".{sha[:12]}-{asked.examples}.lines.jsonl"))
    code = revisions(*components())
    tried = [(point, seed) for point in points(asked.labels, asked.steps) for seed in range(asked.seeds)]
    found: dict[Point, list[Measured]] = {}
    complete: list[str] = []
    began = time.monotonic()
    for task in tasks:
        keys = [json.dumps([task.name, task.digest, code, seed, *point]) for point, seed in tried]
        if time.monotonic() - began > 60 * asked.minutes and not all(map(cache.get, keys)):
            continue
        for (point, seed), key in zip(tried, keys, strict=True):
            known = cache.get(key)
            one = Measured(**known) if known else bench.measure(task, seed, point)
            if not known:
                cache.add(key, one._asdict())
                score = sum(one.scores) / len(one.scores)
                print(f"{task.name} {seed} {tuple(point)}: {score:.2f} after {one.ready:.1f} s", flush=True)
            found.setdefault(point, []).append(one)
        complete.append(task.name)
    if not complete:
        raise SystemExit("no task is complete; give it more --minutes")
    measured = summary(found, len(complete))
    result = {
        "points": measured,
        "break_even": break_even(measured),
        "examples": asked.examples,
        "tasks": complete,
        "left_out": len(tasks) - len(complete),
        "order": "tasks in the order of the SHA-256 of their names",
        "generator": sha,
        **origin(torch.float32),
    }
    write_json(asked.out, result)
    print(json.dumps(break_even(measured), indent=2))


if __name__ == "__main__":
    main()
