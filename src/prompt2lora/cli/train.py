"""Training: teachers, their ranking, generators. Thin, like all of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from prompt2lora.cli.app import TRAIN, Json, MoreTasks, Tasks, Working, app, listed, print_json
from prompt2lora.errors import UsageError


@app.command(rich_help_panel=TRAIN)
def collect(
    out: Annotated[Path, typer.Option(help="Folder of the teachers; an unfinished one is resumed.")],
    tasks: Tasks = None,
    more: MoreTasks = None,
    suites: Annotated[Path | None, typer.Option(help="Folder of the published tasks, to teach them as well.")] = None,
    suite: Annotated[str, typer.Option(help="Which of them, separated by commas; default: the commonsense ones.")] = "",
    base: Annotated[
        str | None, typer.Option(help="Base model: hub id or local folder; default: SmolLM2-135M-Instruct.")
    ] = None,
    rank: Annotated[int, typer.Option(help="Rank of the LoRAs: 8, 16, 32 or 64.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps per teacher.")] = 48,
    budget: Annotated[int, typer.Option(min=64, help="Tokens per step.")] = 512,
    snapshots: Annotated[int, typer.Option(min=1, help="Checkpoints kept per teacher.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the shared start and of the order of examples.")] = 0,
    validation: Annotated[float, typer.Option(min=0, max=0.9, help="Share of task families to leave out.")] = 0.0,
    most: Annotated[
        int | None, typer.Option(min=1, help="At most so many tasks, from as many families as possible.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train a teacher LoRA for every task of the split train, for published tasks, or for both (resumable)."""
    from prompt2lora.training.suites import COMMONSENSE, check_names

    places, names = [*(tasks or []), *(more or [])], listed(suite) or COMMONSENSE
    check_names(names)
    if not places and suites is None:
        raise UsageError("name task files with --tasks, the folder of the published tasks with --suites, or both")
    with Working("training teachers", resumable=True) as show:
        from prompt2lora import api
        from prompt2lora.base.models import DEFAULT_BASE
        from prompt2lora.training.teachers import TeacherOptions

        options = TeacherOptions(
            base=base or DEFAULT_BASE, rank=rank, steps=steps, budget=budget, snapshots=snapshots, seed=seed
        )
        published: dict[str, Any] = {"suites": suites, "names": names} if suites else {}
        manifest = api.collect(places, out, options=options, validation=validation, most=most, report=show, **published)
    learned = sum(record["learned"] for record in manifest)
    if as_json:
        print_json({"teachers": manifest, "learned": learned})
    else:
        print(f"{out}: {len(manifest)} teachers, {learned} learned")


@app.command(rich_help_panel=TRAIN)
def compare(
    teachers: Annotated[Path, typer.Option(help="Collection to rank.")],
    tasks: Tasks = None,
    more: MoreTasks = None,
    suites: Annotated[
        Path | None, typer.Option(help="Folder of the published tasks, in place of --tasks, for teachers of these.")
    ] = None,
    validation: Annotated[float, typer.Option(min=0.01, max=0.9, help="Share of families held out for this.")] = 0.1,
    as_json: Json = False,
) -> None:
    """Rank collected teachers on held-out training tasks, for the arm best-teacher (resumable)."""
    places = [*(tasks or []), *(more or [])]
    if bool(places) == (suites is not None):
        raise UsageError("name either task files with --tasks or the folder of the published tasks with --suites")
    with Working("comparing teachers", resumable=True) as show:
        from prompt2lora import api

        best = api.compare(teachers, places, suites=suites, validation=validation, report=show)
    if as_json:
        print_json({"best": best})
    else:
        print(f"{teachers}: {best} is the best")


@app.command(rich_help_panel=TRAIN)
def train(
    recipe: Annotated[Path, typer.Option(help="The run as a TOML file; see recipes/.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; an unfinished one is resumed.")],
    tasks: Annotated[Path | None, typer.Option(help="Folder of the task files, if the recipe needs any.")] = None,
    suites: Annotated[
        Path | None, typer.Option(help="Folder of the published tasks, if the recipe or --without names any.")
    ] = None,
    without: Annotated[
        str, typer.Option(help="Published tasks, separated by commas, that must not be trained on.")
    ] = "",
    start: Annotated[Path | None, typer.Option(help="Generator folder to go on from.")] = None,
    shared: Annotated[Path | None, typer.Option(help="Adapter folder that the shared adapter begins with.")] = None,
    as_json: Json = False,
) -> None:
    """Train a generator from a recipe (resumable)."""
    from prompt2lora.training.recipe import read_recipe

    wanted = read_recipe(recipe)
    with Working("training", resumable=True) as show:
        from prompt2lora import api

        made = api.train(
            wanted, out, tasks=tasks, suites=suites, without=listed(without), start=start, shared=shared, report=show
        )
    _print_made(made, out / "generator", as_json)


@app.command(rich_help_panel=TRAIN)
def release(
    tasks: Annotated[Path, typer.Option(help="Folder of the task files.")],
    out: Annotated[Path, typer.Option(help="Folder of the runs and of the generator; an unfinished one is resumed.")],
    plan: Annotated[Path, typer.Option(help="Which recipes, one after the other.")] = Path("recipes/release.toml"),
    suites: Annotated[
        Path | None, typer.Option(help="Folder of the published tasks, if the recipe or --without names any.")
    ] = None,
    without: Annotated[
        str, typer.Option(help="Published tasks, separated by commas, that must not be trained on.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Make a generator from task files in several runs (resumable)."""
    with Working("training", resumable=True) as show:
        from prompt2lora import api

        made = api.release(plan, tasks, out, suites=suites, without=listed(without), report=show)
    _print_made(made, out / "generator", as_json)


def _print_made(made: Any, folder: Path, as_json: bool) -> None:
    if as_json:
        print_json({"generator": str(folder), "provenance": made.provenance})
    else:
        print(f"{folder}: {made.trained_parameters:,} parameters, {made.provenance['steps']} steps")
