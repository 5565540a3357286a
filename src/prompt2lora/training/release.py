"""A release: runs one after the other, each by a recipe, from task files to one finished generator folder.

In: a plan (recipes/release.toml: which recipes, and what each takes from the runs before it), task files. Out: a
folder with `runs/`, in it a run under the name of every recipe, and `generator/`, made of the last one's. Killed at any
moment, it goes on where it was: finished runs are kept, the unfinished one is resumed. It knows nothing of how a run is
trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.errors import UsageError
from prompt2lora.generator.generator import Generator
from prompt2lora.ground.files import read_toml
from prompt2lora.ground.progress import Report, silent
from prompt2lora.training.finish import GENERATOR, SHARED, begin_examples_with, train
from prompt2lora.training.recipe import Recipe, read_recipe
from prompt2lora.training.run import Run
from prompt2lora.training.suites import check_names

RUNS = "runs"
_EXAMPLES = "examples"  # told as a run, too
_EARLIER = ("start", "shared", "examples", "change")  # keys of a run that name earlier ones
_KEYS = {"recipe", *_EARLIER}


class Planned(NamedTuple):
    """A run by its recipe's name; the others name earlier runs: whose generator it goes on with, with whose shared
    adapter it begins, and with whose shared adapter its generator begins where labelled examples are given (`change`:
    with its own, changed as that run changed the one that it began with)."""

    name: str
    recipe: Recipe
    start: str
    shared: str
    examples: str
    change: str


def read_plan(file: Path, tasks: Path, suites: Path | None = None, without: Sequence[str] = ()) -> list[Planned]:
    """The runs of a plan, their recipes read and checked. Raises UsageError that names file and key.

    `suites` is the folder of the published tasks; no run trains on anything of those `without`.
    """
    check_names(without)
    if without and suites is None:
        raise UsageError(f"what asks a question of {without[0]} is found in its files; name their folder by --suites")
    changes = {"suites": str(suites)} if suites else {}
    runs = read_toml(file, "a plan of runs").get("run")
    if not isinstance(runs, list) or not runs or not all(isinstance(run, dict) for run in runs):
        raise UsageError(f"{file}: a plan needs at least one [[run]] with a recipe; see recipes/release.toml")
    planned: list[Planned] = []
    for run in runs:
        _check(file, run, {earlier.name for earlier in planned})
        place = file.parent / run["recipe"]
        recipe = read_recipe(place, tasks=str(tasks), **changes)
        if recipe.published and not recipe.suites:
            raise UsageError(f"{place} trains on the published tasks; name their folder by --suites")
        recipe = recipe.leaving_out(without)
        named = (run.get(key, "") for key in _EARLIER)
        planned.append(Planned(place.stem, recipe, *named))
    for run in planned[:-1]:
        if run.examples or run.change:
            raise UsageError(f"{file}: only the last run's generator has examples, not {run.name}'s; move the key")
    if (last := planned[-1]).change and (last.examples or not _named(planned, last.change).shared):
        raise UsageError(
            f"{file}: change stands in place of examples and names a run with `shared`; correct {last.name}"
        )
    return planned


def _check(file: Path, run: dict[str, Any], earlier: set[str]) -> None:
    if unknown := sorted(run.keys() - _KEYS):
        raise UsageError(f"{file}: unknown key {unknown[0]!r}; the keys of a run are {', '.join(sorted(_KEYS))}")
    name = run.get("recipe")
    if not isinstance(name, str) or Path(name).stem in earlier:
        raise UsageError(f"{file}: recipe must be a recipe file that no earlier run has, not {name!r}; name another")
    for key in _EARLIER:
        if key in run and run[key] not in earlier:
            raise UsageError(f"{file}: {key} must name an earlier run, not {run[key]!r}; one of {sorted(earlier)}")


def release(
    plan: Path,
    tasks: Path,
    out: Path,
    report: Report = silent,
    *,
    suites: Path | None = None,
    without: Sequence[str] = (),
) -> Generator:
    """Make every run of the plan that is not made yet; returns the last one's generator, kept in `out`/generator.

    No run trains on anything of the published tasks `without` (see suites.py), which lie in the folder `suites`.
    """
    planned = [_placed(run, out) for run in read_plan(plan, tasks, suites, without)]
    for run in planned:
        report({"run": run.name})
        train(run.recipe, out / RUNS / run.name, report)
    if not (out / GENERATOR).exists():
        last = planned[-1]
        place = out / RUNS / last.name
        made = Generator.from_pretrained(place / GENERATOR)
        if name := last.examples or last.change:
            report({"run": _EXAMPLES})
            learned = _shared_adapter(last.recipe, out, name)
            start = learned.grid
            if last.change:
                start = made.start + start - _shared_adapter(last.recipe, out, _named(planned, name).shared).grid
            begin_examples_with(Run(last.recipe, place, report), made, start)
            made.provenance = {**made.provenance, "examples": dict(learned.provenance)}
        made.save_pretrained(out / GENERATOR)
    return Generator.from_pretrained(out / GENERATOR)


def _named(planned: Sequence[Planned], name: str) -> Planned:
    return next(run for run in planned if run.name == name)


def _shared_adapter(recipe: Recipe, out: Path, run: str) -> Adapter:
    return Adapter.load(out / RUNS / run / SHARED, models.load_config(recipe.base))


def _placed(run: Planned, out: Path) -> Planned:
    """The run with the folders of the earlier runs that its recipe begins with."""
    places = {"start": out / RUNS / run.start / GENERATOR} if run.start else {}
    if run.shared:
        places["shared"] = out / RUNS / run.shared / SHARED
    return run._replace(recipe=run.recipe.changed(**{key: str(place) for key, place in places.items()}))
