"""A release: runs one after the other, each by a recipe, from task files to one finished generator folder.

In: a plan (recipes/release.toml: which recipes, and what each takes from the runs before it), task files. Out: a folder
with a run under the name of every recipe, and `generator/`, the last run's. Killed at any moment, it goes on where it
was: finished runs are kept, the unfinished one is resumed. It knows nothing of how a run is trained.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.errors import UsageError
from prompt2lora.generator.generator import Generator
from prompt2lora.ground.files import read_toml
from prompt2lora.ground.progress import Report, silent
from prompt2lora.training.finish import GENERATOR, SHARED, train
from prompt2lora.training.recipe import Recipe, read_recipe

_KEYS = {"recipe", "start", "shared", "examples"}


class Planned(NamedTuple):
    """A run by its recipe's name; the others name earlier runs: whose generator it goes on with, with whose shared
    adapter it begins, and with whose shared adapter its generator begins where labelled examples are given."""

    name: str
    recipe: Recipe
    start: str
    shared: str
    examples: str


def read_plan(file: Path, tasks: Path) -> list[Planned]:
    """The runs of a plan, their recipes read and checked. Raises UsageError that names file and key."""
    runs = read_toml(file, "a plan of runs").get("run")
    if not isinstance(runs, list) or not runs or not all(isinstance(run, dict) for run in runs):
        raise UsageError(f"{file}: a plan needs at least one [[run]] with a recipe; see recipes/release.toml")
    planned: list[Planned] = []
    for run in runs:
        _check(file, run, {earlier.name for earlier in planned})
        place = file.parent / run["recipe"]
        recipe = read_recipe(place, tasks=str(tasks))
        planned.append(
            Planned(place.stem, recipe, run.get("start", ""), run.get("shared", ""), run.get("examples", ""))
        )
    return planned


def _check(file: Path, run: dict[str, Any], earlier: set[str]) -> None:
    if unknown := sorted(run.keys() - _KEYS):
        raise UsageError(f"{file}: unknown key {unknown[0]!r}; the keys of a run are {', '.join(sorted(_KEYS))}")
    name = run.get("recipe")
    if not isinstance(name, str) or Path(name).stem in earlier:
        raise UsageError(f"{file}: recipe must be a recipe file that no earlier run has, not {name!r}; name another")
    for key in ("start", "shared", "examples"):
        if key in run and run[key] not in earlier:
            raise UsageError(f"{file}: {key} must name an earlier run, not {run[key]!r}; one of {sorted(earlier)}")


def release(plan: Path, tasks: Path, out: Path, report: Report = silent) -> Generator:
    """Make every run of the plan that is not made yet; returns the last one's generator, kept in `out`/generator."""
    planned = read_plan(plan, tasks)
    for run in planned:
        places = {}
        if run.start:
            places["start"] = str(out / run.start / GENERATOR)
        if run.shared:
            places["shared"] = str(out / run.shared / SHARED)
        report({"run": run.name})
        train(run.recipe.changed(**places), out / run.name, report)
    if not (out / GENERATOR).exists():
        made = Generator.from_pretrained(out / run.name / GENERATOR)
        if run.examples:
            config = models.load_config(run.recipe.base)
            made.examples_start = Adapter.load(out / run.examples / SHARED, config).grid
        made.save_pretrained(out / GENERATOR)
    return Generator.from_pretrained(out / GENERATOR)
