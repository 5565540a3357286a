"""Teacher LoRAs: one short training per task, all from the same initial A, with snapshots; and reading them.

In: tasks. Out: a folder with one subfolder a task, which holds PEFT folders `step-N` and `teacher.json`.
A task's folder appears only when it is complete, so a killed collection goes on with the next task.
A teacher that does not learn is marked (`"learned": false`) and not read for training.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.grid import balanced, encode, initial_grid
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.peft import Adapter, adapter_digest
from prompt2lora.adapter.tensors import WEIGHTS
from prompt2lora.base import models
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.versions import origin
from prompt2lora.errors import DamagedFile, UsageError, cause
from prompt2lora.ground.files import claim, new_folder, read_safetensors, write_json
from prompt2lora.ground.profile import RANKS, TARGETS
from prompt2lora.ground.progress import Report, part, silent
from prompt2lora.training.tasks import Task
from prompt2lora.training.tuning import TuningOptions, judged, random_order, steps

MANIFEST, BEST = "manifest.json", "best.json"
_HELD_OUT = 24  # training examples kept for the validation score; test examples are never touched


@dataclass(frozen=True)
class TeacherOptions(TuningOptions):
    """snapshots   how many of the last checkpoints are kept, `every` steps apart
    least_gain  gain in validation exact match below which a teacher has not learned
    """

    base: str = models.DEFAULT_BASE
    rank: int = 8
    targets: tuple[str, ...] = TARGETS
    snapshots: int = 1
    every: int = 4
    least_gain: float = 0.1

    def layout(self) -> LoraLayout:
        """Of the teachers' adapters. Raises ModelNotFound for an unknown base, LayoutError for targets it lacks."""
        config = models.load_config(self.base)
        return LoraLayout.from_config(config, base_model=self.base, rank=self.rank, targets=self.targets)


def collect(
    tasks: Sequence[Task],
    folder: Path,
    options: TeacherOptions,
    report: Report = silent,
) -> list[dict[str, Any]]:
    """Train what is missing; returns the manifest, of all teachers in the folder. Raises UsageError if it was made with
    other options or from other task files."""
    layout = options.layout()
    _check(tasks, options)
    refusal = f"{folder} was collected with other options; name another folder or remove it"
    claim(folder / "options.json", asdict(options), refusal)
    missing = [task for task in tasks if not (folder / task.name).is_dir()]
    for task in tasks:
        if task not in missing and _record(folder / task.name)["digest"] != task.digest:
            raise UsageError(f"{folder / task.name} was taught another task {task.name}; remove it and collect again")
    if missing:
        base = Frozen.load(layout, training=True)
        for number, task in enumerate(missing, 1):
            with part(report, (number - 1) / len(missing), number / len(missing)):
                record = _teach(base, task, folder / task.name, options)
            report({"done": number, "of": len(missing), **record})
    manifest = [_record(file.parent) for file in sorted(folder.glob("[!.]*/teacher.json"))]
    write_json(folder / MANIFEST, {"teachers": manifest, **origin()})
    return manifest


def _check(tasks: Sequence[Task], options: TeacherOptions) -> None:
    if options.rank not in RANKS:
        raise UsageError(f"the rank must be one of {RANKS}, which engines load, not {options.rank}")
    if (options.snapshots - 1) * options.every >= options.steps:
        wanted = f"{options.snapshots} snapshots {options.every} steps apart"
        raise UsageError(f"{wanted} do not fit into {options.steps} steps; ask for fewer or for more steps")
    for task in tasks:
        if len(task.train) <= _HELD_OUT:
            raise UsageError(
                f"task {task.name} has {len(task.train)} training examples, a teacher needs more than {_HELD_OUT}; "
                "add some or leave it out"
            )


def _teach(base: Frozen, task: Task, folder: Path, options: TeacherOptions) -> dict[str, Any]:
    began = time.monotonic()
    examples = random_order(task.train, f"{options.seed} {task.name}")
    held_out, used = examples[:_HELD_OUT], examples[_HELD_OUT:]

    @torch.no_grad()
    def validated() -> float:
        return float(judged(base, grid, task, held_out).exact)

    grid = initial_grid(base.layout, options.seed).to(base.model.device).requires_grad_()
    before = validated()
    losses: list[float] = []
    kept = {options.steps - i * options.every for i in range(options.snapshots)}
    with new_folder(folder) as aside:
        for step, loss in enumerate(steps(base, grid, task, used, options), 1):
            losses.append(loss)
            if step in kept:
                origin = {"teacher": task.name, "step": step, "seed": options.seed}
                Adapter(base.layout, grid.detach().cpu(), origin).save(aside / f"step-{step:04d}")
        after = validated()
        record = {
            "task": task.name,
            "family": task.family,
            "digest": task.digest,
            "seconds": round(time.monotonic() - began, 1),
            "loss": round(sum(losses[-8:]) / len(losses[-8:]), 4),
            "validation_before": round(before, 4),
            "validation": round(after, 4),
            "learned": after - before >= options.least_gain,
        }
        write_json(aside / "teacher.json", record)
    return record


def compare(
    base: Frozen, teachers: Teachers, tasks: Sequence[Task], report: Report = silent, *, budget: int = 256
) -> str:
    """Score every teacher on examples that none of them was made of, in the full form; returns the best.

    Of every task as many are asked as `budget` tokens hold. The ranking is kept in the collection's `best.json`; who
    stands there with the same weights and scores of the same tasks is not scored again. Raises UsageError without
    tasks.
    """
    if not tasks:
        raise UsageError("teachers are compared on held-out tasks and there are none; raise validation or add families")
    file = teachers.folder / BEST
    known, names = _ranking(file), [task.name for task in tasks]
    for number, name in enumerate(sorted(teachers.names), 1):
        made_of = teachers.scored_as(name, tasks)
        if known.made_of.get(name) != made_of:
            grid = teachers.last(name)
            with torch.no_grad():
                found = [float(judged(base, grid, task, task.test[:_HELD_OUT], budget=budget).exact) for task in tasks]
            known.by_task[name] = dict(zip(names, (round(one, 4) for one in found), strict=True))
            known.exact[name] = round(sum(found) / len(tasks), 4)
            known.made_of[name] = made_of
            write_json(file, {**known._asdict(), "tasks": names})
        report({"done": number, "of": len(teachers.names), "teacher": name, "exact": known.exact[name]})
    best: str = max(sorted(teachers.names), key=known.exact.__getitem__)
    return best


class _Ranking(NamedTuple):
    """Scores of the teachers: means over the tasks, and task by task; `made_of` stands for the weights and the tasks
    (collections of before have the means alone)."""

    tasks: list[str]
    exact: dict[str, float]
    by_task: dict[str, dict[str, float]]
    made_of: dict[str, str]


def _ranking(file: Path) -> _Ranking:
    if not file.exists():
        return _Ranking([], {}, {}, {})
    found = json.loads(file.read_text(encoding="utf-8"))
    return _Ranking(found["tasks"], found["exact"], found.get("by_task", {}), found.get("made_of", {}))


def read_options(folder: Path) -> TeacherOptions:
    """What a collection was made with."""
    try:
        found = json.loads((folder / "options.json").read_text(encoding="utf-8"))
        return TeacherOptions(**{**found, "targets": tuple(found["targets"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{folder} holds no collection of teachers ({cause(error)}); run `prompt2lora collect`"
        ) from error


def _record(folder: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads((folder / "teacher.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedFile(
            f"{folder} is not a complete teacher ({cause(error)}); remove it and collect again"
        ) from error
    return record


class Teachers:
    """The learned teachers of a collection, as weight grids; `canonical` brings their factors to one fixed form.

    `weight` (layers rows 1) is the inverse variance of a row over the teachers, with mean one: rows of B,
    which are small, count as much as rows of A. Teachers of the tasks `without` are not read, and what was found on
    these tasks ranks nobody.
    """

    def __init__(
        self, folder: Path, layout: LoraLayout, *, canonical: bool = False, without: Collection[str] = ()
    ) -> None:
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["teachers"]
        except (OSError, ValueError, KeyError) as error:
            raise UsageError(
                f"{folder} holds no manifest of teachers ({cause(error)}); run `prompt2lora collect`"
            ) from error
        self.folder, self.layout, self.canonical, self.without = folder, layout, canonical, frozenset(without)
        self.folders = {
            record["task"]: sorted((folder / record["task"]).glob("step-*"))
            for record in manifest
            if record["learned"] and record["task"] not in self.without
        }
        if not self.folders:
            apart = f" but for {', '.join(sorted(self.without))}" if self.without else ""
            raise UsageError(f"{folder} holds no teacher that learned{apart}; collect with more steps")
        self.names = frozenset(self.folders)
        self._grids: dict[Path, Tensor] = {}
        everyone = torch.stack([self.grid(folders[-1]) for folders in self.folders.values()])
        power = everyone.var(0, unbiased=False).mean(-1, keepdim=True) + 1e-12
        self.weight = (1 / power) / (1 / power).mean()

    def grid(self, folder: Path) -> Float[Tensor, "layers rows cols"]:
        if folder not in self._grids:
            state, _ = read_safetensors(folder / WEIGHTS)
            grid = encode(state, self.layout)
            self._grids[folder] = (balanced(grid[None], self.layout)[0] if self.canonical else grid).half()
        return self._grids[folder].float()

    def draw(self, name: str, random: Random) -> Float[Tensor, "layers rows cols"]:
        """One of the task's snapshots."""
        return self.grid(random.choice(self.folders[name]))

    def last(self, name: str) -> Float[Tensor, "layers rows cols"]:
        """The task's final snapshot."""
        return self.grid(self.folders[name][-1])

    def scored_as(self, name: str, tasks: Sequence[Task]) -> str:
        """Stands for a teacher's weights and the tasks that it is scored on."""
        told = [adapter_digest(self.folders[name][-1]), *(task.digest for task in tasks)]
        return hashlib.sha256("\n".join(told).encode()).hexdigest()

    def mean(self) -> Float[Tensor, "layers rows cols"]:
        """The average of all final snapshots, factor by factor: they share their first A."""
        return torch.stack([self.last(name) for name in self.folders]).mean(0)

    @property
    def best(self) -> str:
        """The teacher that scored best on the tasks of `compare`. Raises UsageError if there was no comparison."""
        known = _ranking(self.folder / BEST)
        if not known.exact:
            raise UsageError(f"{self.folder} was never compared; run `prompt2lora compare`")
        ranking = {name: score for name, score in known.exact.items() if name in self.names}
        if self.without & set(known.tasks):
            kept = [task for task in known.tasks if task not in self.without]
            if not kept or not ranking.keys() <= known.by_task.keys():
                raise UsageError(
                    f"{self.folder} was not compared on other tasks than {', '.join(sorted(self.without))}; "
                    "run `prompt2lora compare` on some"
                )
            ranking = {name: sum(known.by_task[name][task] for task in kept) for name in ranking}
        return max(ranking, key=lambda name: ranking[name])

    @cached_property
    def digest(self) -> str:
        """Stands for the names and weights of all teachers."""
        parts = (f"{name} {adapter_digest(folders[-1])}" for name, folders in sorted(self.folders.items()))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
