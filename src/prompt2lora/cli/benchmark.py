"""Measuring and its page: benchmark, report. Thin, like all of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from prompt2lora.cli.app import TRAIN, BaseOption, Json, MoreTasks, Tasks, Working, app, listed, print_json
from prompt2lora.errors import UsageError

if TYPE_CHECKING:
    from prompt2lora.evaluation.published.results import PublishedResult
    from prompt2lora.evaluation.results import BenchmarkResult


@app.command(rich_help_panel=TRAIN)
def benchmark(
    out: Annotated[Path, typer.Option(help="Result file (JSON); must not exist.")],
    tasks: Tasks = None,
    more: MoreTasks = None,
    suites: Annotated[Path | None, typer.Option(help="Folder of the published tasks, in place of --tasks.")] = None,
    suite: Annotated[
        str | None, typer.Option(help="Which of them, separated by commas; an unknown one lists them all.")
    ] = None,
    arms: Annotated[
        str, typer.Option(help="Which arms, separated by commas; an unknown one lists them all.")
    ] = "base,generated,wrong-prompt",
    forms: Annotated[
        str | None, typer.Option(help="Which forms of task files, separated by commas; default: full,bare.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many test examples per task.")] = None,
    prompts_per_task: Annotated[
        int | None, typer.Option(min=1, help="Prompts that make an adapter; default: 16, of published tasks 128.")
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(min=0, help="Programs drawn for each example of humaneval and mbpp, for pass@5; default: 10."),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(help="Which metrics of published tasks, separated by commas (written,letter take half the time)."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the choice of prompts and examples.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds to average over, starting with --seed.")] = 1,
    split: Annotated[str | None, typer.Option(help="Only task files of this split.")] = None,
    generator: Annotated[
        str | None,
        typer.Option(
            help="A released generator, a folder or a hub id; default: the best one for the base, or for this machine; "
            "{suite} in it, and in the rivals, is the suite."
        ),
    ] = None,
    base: BaseOption = None,
    multi_task: Annotated[Path | None, typer.Option(help="Adapter folder of the arm multi-task.")] = None,
    teachers: Annotated[
        Path | None, typer.Option(help="Collection for the arms mean-, best-, nearest-teacher.")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="Generator folder of the arm reference-decoder.")] = None,
    scores: Annotated[
        Path | None,
        typer.Option(
            help="File that keeps the scores of every example, to continue after an interruption; default: in the home."
        ),
    ] = None,
    dtype: Annotated[
        str,
        typer.Option(
            help="float32 or bfloat16, which some processors are much faster with; "
            "in float32 figures do not depend on the processor."
        ),
    ] = "float32",
    as_json: Json = False,
) -> None:
    """Score the base, the generated adapters, rivals and controls, on task files or on published tasks (resumable)."""
    from prompt2lora.training.suites import SUITES, check_names
    from prompt2lora.training.tasks import read_tasks

    places = [*(tasks or []), *(more or [])]
    both, neither = places and suites is not None, not places and suites is None
    if neither or (both and "nearest-teacher" not in arms):  # that one finds its teachers' tasks in their files
        raise UsageError("name either task files with --tasks or the folder of the published tasks with --suites")
    if suites is None:
        _refuse("--suites DIR", suite=suite, samples=samples, metrics=metrics)
    else:
        _refuse("task files without --suites", forms=forms, split=split)
    names = listed(suite or "")
    check_names(names)
    if places:  # a broken file is told before anything heavy is loaded
        read_tasks(places, split=split)
    given: dict[str, Any] = {
        "arms": listed(arms),
        "seed": seed,
        "seeds": seeds,
        "limit": limit,
        "out": out,
        "generator": generator,
        "base": base,
        "multi_task": multi_task,
        "teachers": teachers,
        "reference": reference,
        "scores": scores,
        "dtype": dtype,
        "prompts_per_task": prompts_per_task,
        "samples": samples,
        "metrics": metrics and listed(metrics),
        "forms": forms and listed(forms),
        "split": split,
    }
    given = {name: value for name, value in given.items() if value is not None}
    with Working("judging", resumable=True) as show:
        from prompt2lora import api

        if suites is not None:
            result: Any = api.benchmark_published(suites, names or tuple(SUITES), tasks=places, report=show, **given)
        else:
            result = api.benchmark(places, report=show, **given)
    if as_json:
        print_json(result.to_dict())
    elif suites is not None:
        _print_published(result)
    else:
        _print_scores(result)


@app.command(rich_help_panel=TRAIN)
def report(
    results: Annotated[Path, typer.Option(help="Folder of result files.")] = Path("benchmarks/results"),
    out: Annotated[Path, typer.Option(help="Page to write (Markdown); pictures go beside it.")] = Path(
        "docs/benchmark.md"
    ),
    as_json: Json = False,
) -> None:
    """Turn result files of the benchmark into a page with tables and plots."""
    with Working("writing"):
        from prompt2lora import api

        written = api.report(results, out)
    if as_json:
        print_json({"written": [str(file) for file in written]})
    else:
        print(f"{out} and {len(written) - 1} pictures")


def _refuse(place: str, **options: Any) -> None:
    """Refuse options that mean nothing for what is measured."""
    for name, value in options.items():
        if value is not None:
            raise UsageError(f"--{name} {value} is for {place}; leave --{name} out")


def _print_scores(result: BenchmarkResult) -> None:
    from rich.console import Console
    from rich.table import Table

    for form, arms in result.mean.items():
        table = Table(title=f"exact match, {form} form, {len(result.tasks)} tasks")
        for column in ("arm", "mean", "95 % interval"):
            table.add_column(column)
        for arm, cell in {**arms, **result.difference[form]}.items():
            table.add_row(arm, f"{cell.score:.3f}", f"{cell.low:.3f} to {cell.high:.3f}")
        Console().print(table)
    if result.seen:
        print(f"the generator was trained or validated on {', '.join(result.seen)}: these tasks are not new to it")


def _print_published(result: PublishedResult) -> None:
    from rich.console import Console
    from rich.table import Table

    for name, suite in result.published.items():
        metrics = list(next(iter(suite.arms.values())).scores)
        table = Table(title=f"{name}, {suite.examples} of {suite.of} examples")
        for column in ("arm", *metrics):
            table.add_column(column)
        for arm, found in suite.arms.items():
            cells = [found.scores[metric] for metric in metrics]
            table.add_row(arm, *(f"{cell.score:.3f} ({cell.low:.3f} to {cell.high:.3f})" for cell in cells))
        Console().print(table)
        if suite.seen:
            print(f"{name}: the generator was trained on {', '.join(suite.seen)}, which this suite forbids")
