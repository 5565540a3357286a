"""Measuring and its page: benchmark, report. Thin, like all of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from prompt2lora.cli.app import BaseOption, GeneratorOption, Json, MoreTasks, Tasks, Working, app, listed, print_json

if TYPE_CHECKING:
    from prompt2lora.evaluation.results import BenchmarkResult


@app.command()
def benchmark(
    tasks: Tasks,
    out: Annotated[Path, typer.Option(help="Result file (JSON); must not exist.")],
    more: MoreTasks = None,
    arms: Annotated[
        str, typer.Option(help="Which arms, with commas; an unknown one lists them all.")
    ] = "base,generated,wrong-prompt",
    forms: Annotated[str, typer.Option(help="Which forms, with commas: full, bare.")] = "full,bare",
    limit: Annotated[int | None, typer.Option(min=1, help="Most test examples per task.")] = None,
    prompts_per_task: Annotated[int, typer.Option(min=1, help="Prompts that make an adapter.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of the choice of prompts and examples.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from --seed on, to take the mean of.")] = 1,
    split: Annotated[str | None, typer.Option(help="Only tasks of this split.")] = None,
    generator: GeneratorOption = None,
    base: BaseOption = None,
    multi_task: Annotated[Path | None, typer.Option(help="Adapter folder of the arm multi-task.")] = None,
    teachers: Annotated[
        Path | None, typer.Option(help="Collection for the arms mean-, best-, nearest-teacher.")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="Generator folder of the arm reference-decoder.")] = None,
    scores: Annotated[
        Path | None,
        typer.Option(help="File that keeps the scores of every example, to go on after a cut; default: in the home."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score the base, the generated adapters, rivals and controls on task files (resumable)."""
    from prompt2lora.training.tasks import read_tasks

    tasks = [*tasks, *(more or [])]
    read_tasks(tasks, split=split)  # a broken file is told before anything heavy is loaded
    with Working("judging", resumable=True) as show:
        from prompt2lora import api

        result = api.benchmark(
            list(tasks),
            arms=listed(arms),
            forms=listed(forms),
            seed=seed,
            seeds=seeds,
            limit=limit,
            out=out,
            generator=generator,
            base=base,
            multi_task=multi_task,
            teachers=teachers,
            reference=reference,
            prompts_per_task=prompts_per_task,
            split=split,
            scores=scores,
            report=show,
        )
    if as_json:
        print_json(result.to_dict())
    else:
        _print_scores(result)


@app.command()
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
