"""The command line: one thin command a verb. `--help` loads no torch; results go to stdout, all else to stderr.

Exit codes: 0 done, 1 it could not be done (or was interrupted), 2 the request was wrong.
"""

from __future__ import annotations

import json
import signal
import sys
from importlib import import_module
from pathlib import Path
from textwrap import shorten
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from prompt2lora import __version__
from prompt2lora.errors import Prompt2LoraError, UsageError
from prompt2lora.files import check_new

_INTERRUPTED = 130  # how typer tells an interrupt

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A handful of unlabelled prompts in, a LoRA adapter out: seconds, no training.",
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Tasks = Annotated[list[Path], typer.Option("--tasks", help="Task files or folders of them.")]
MoreTasks = Annotated[list[Path] | None, typer.Argument(help="More task files or folders.", metavar="[TASKS]...")]
GeneratorOption = Annotated[
    str | None, typer.Option("--generator", help="Generator folder or hub id; default: the released one.")
]
BaseOption = Annotated[
    str | None, typer.Option("--base", help="Base model: hub id or local folder; default: the generator's.")
]


def _version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def generate(
    prompts: Annotated[Path, typer.Option(help="Prompts of the job: text (one a line), JSONL or CSV.")],
    out: Annotated[Path, typer.Option(help="Folder to write the adapter to; must not exist.")],
    instruction: Annotated[str, typer.Option(help="Put this instruction before every prompt.")] = "",
    generator: GeneratorOption = None,
    base: BaseOption = None,
    as_json: Json = False,
) -> None:
    """Make an adapter from a handful of unlabelled prompts of a job."""
    from prompt2lora.prompts import read_prompts

    texts = read_prompts(prompts, instruction)
    check_new(out)
    with Working("making the adapter"):
        from prompt2lora import verbs

        made = verbs.generate(texts, out, generator=generator, base=base)
    if as_json:
        print_json(made.to_dict())
    else:
        steps = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in made.seconds.items())
        print(f"{made.adapter}: {made.parameters:,} parameters from {made.prompts} prompts ({steps})")
        if made.instruction:
            print(f"In the weights, so leave it out when you ask: {shorten(made.instruction, 80)}")
        else:
            print("No instruction is in the weights, so ask with whole prompts, as they stand in the file")
        print(f'Try it: prompt2lora ask --adapter {made.adapter} "your text"')


@app.command()
def ask(
    text: Annotated[str, typer.Argument(help="What to ask; - reads it from standard input.")],
    adapter: Annotated[Path | None, typer.Option(help="Adapter folder; without it the base answers.")] = None,
    base: BaseOption = None,
    longest: Annotated[int, typer.Option(min=1, max=4096, help="Most tokens of the answer.")] = 128,
    as_json: Json = False,
) -> None:
    """Ask the base model, through an adapter or without."""
    if text == "-":
        try:
            text = sys.stdin.read()
        except UnicodeDecodeError as error:
            raise UsageError("standard input must be UTF-8 text and is not; save it as UTF-8") from error
    with Working("answering"):
        from prompt2lora import verbs

        answer = verbs.ask(adapter, text, base=base, longest=longest)
    if as_json:
        print_json({"answer": answer, "adapter": str(adapter) if adapter else None})
    else:
        print(answer)


@app.command()
def benchmark(
    tasks: Tasks,
    out: Annotated[Path, typer.Option(help="Result file (JSON); must not exist.")],
    more: MoreTasks = None,
    arms: Annotated[
        str, typer.Option(help="Which arms, with commas; an unknown one lists them all.")
    ] = "base,generated,wrong-prompt",
    forms: Annotated[str, typer.Option(help="Which forms, with commas: full, bare.")] = "full,bare",
    limit: Annotated[int | None, typer.Option(min=1, help="Most test rows per task.")] = None,
    prompts_per_task: Annotated[int, typer.Option(min=1, help="Prompts that make an adapter.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of the choice of prompts and rows.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds, from --seed on, to take the mean of.")] = 1,
    split: Annotated[str | None, typer.Option(help="Only tasks of this split.")] = None,
    generator: GeneratorOption = None,
    base: BaseOption = None,
    multi_task: Annotated[Path | None, typer.Option(help="Adapter folder of the arm multi-task.")] = None,
    teachers: Annotated[
        Path | None, typer.Option(help="Collection for the arms mean-, best-, nearest-teacher.")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="Generator folder of the arm reference-decoder.")] = None,
    kept: Annotated[
        Path | None,
        typer.Option(help="File that keeps every row's scores, to go on after a cut; default: below the home."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score the base, the generated adapters, rivals and controls on task files (resumable)."""
    from prompt2lora.training.tasks import read_tasks

    tasks = [*tasks, *(more or [])]
    read_tasks(tasks, split=split)  # a broken file is told before anything heavy is loaded
    with Working("judging") as show:
        from prompt2lora import verbs

        result = verbs.benchmark(
            list(tasks),
            arms=_listed(arms),
            forms=_listed(forms),
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
            kept=kept,
            report=show,
        )
    if as_json:
        print_json(result)
    else:
        _print_scores(result)


@app.command()
def collect(
    tasks: Tasks,
    out: Annotated[Path, typer.Option(help="Folder of the teachers; an unfinished one is gone on with.")],
    more: MoreTasks = None,
    base: Annotated[str | None, typer.Option(help="Base model: hub id or local folder.")] = None,
    rank: Annotated[int, typer.Option(help="Rank of the LoRAs: 8, 16, 32 or 64.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Optimiser steps per teacher.")] = 48,
    budget: Annotated[int, typer.Option(min=64, help="Tokens per step.")] = 512,
    snapshots: Annotated[int, typer.Option(min=1, help="Checkpoints kept per teacher.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the shared start and of the rows.")] = 0,
    validation: Annotated[float, typer.Option(min=0, max=0.9, help="Share of task families to leave out.")] = 0.0,
    most: Annotated[int | None, typer.Option(min=1, help="Most tasks, of as many families as possible.")] = None,
    as_json: Json = False,
) -> None:
    """Train a teacher LoRA for every task of split train (resumable)."""
    with Working("training teachers") as show:
        from prompt2lora import verbs
        from prompt2lora.bases import DEFAULT_BASE
        from prompt2lora.training.teachers import TeacherOptions

        options = TeacherOptions(
            base=base or DEFAULT_BASE, rank=rank, steps=steps, budget=budget, snapshots=snapshots, seed=seed
        )
        places = [*tasks, *(more or [])]
        manifest = verbs.collect(places, out, options=options, validation=validation, most=most, report=show)
    learned = sum(record["learned"] for record in manifest)
    if as_json:
        print_json({"teachers": manifest, "learned": learned})
    else:
        print(f"{out}: {len(manifest)} teachers, {learned} learned")


@app.command()
def compare(
    teachers: Annotated[Path, typer.Option(help="Collection to rank.")],
    tasks: Tasks,
    more: MoreTasks = None,
    validation: Annotated[float, typer.Option(min=0.01, max=0.9, help="Share of families held out for this.")] = 0.1,
    as_json: Json = False,
) -> None:
    """Rank collected teachers on held-out training tasks, for the arm best-teacher (resumable)."""
    with Working("comparing teachers") as show:
        from prompt2lora import verbs

        best = verbs.compare(teachers, [*tasks, *(more or [])], validation=validation, report=show)
    if as_json:
        print_json({"best": best})
    else:
        print(f"{teachers}: {best} is the best")


@app.command()
def train(
    recipe: Annotated[Path, typer.Option(help="The run as a TOML file; see recipes/.")],
    out: Annotated[Path, typer.Option(help="Folder of the run; an unfinished one is gone on with.")],
    as_json: Json = False,
) -> None:
    """Train a generator by a recipe (resumable)."""
    from prompt2lora.training.recipe import read_recipe

    wanted = read_recipe(recipe)
    with Working("training") as show:
        from prompt2lora import verbs

        made = verbs.train(wanted, out, report=show)
    if as_json:
        print_json({"generator": str(out / "generator"), "provenance": made.provenance})
    else:
        print(f"{out / 'generator'}: {made.trained_parameters:,} parameters, {made.provenance['steps']} steps")


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
        from prompt2lora import verbs

        written = verbs.report(results, out)
    if as_json:
        print_json({"written": [str(file) for file in written]})
    else:
        print(f"{out} and {len(written) - 1} pictures")


@app.command()
def doctor(generator: GeneratorOption = None, as_json: Json = False) -> None:
    """Check base, encoder, generator, versions and memory, and say what to do."""
    with Working("looking"):
        from prompt2lora import verbs

        found = verbs.doctor(generator)
    if as_json:
        print_json({"checks": found})
    else:
        for check in found:
            print(f"{'ok ' if check['state'] == 'good' else 'BAD'}  {check['check']:<10} {check['found']}")
    if any(check["state"] == "bad" for check in found):
        raise typer.Exit(1)


class Working:
    """What is being done, on stderr: a bar in a terminal, plain lines elsewhere.

    Gives a function that shows a record; `done` and `of` in it, if there, move the bar.
    """

    def __init__(self, what: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.console = Console(stderr=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        self.bar = Progress(*columns, TimeElapsedColumn(), console=self.console, transient=True)
        self.task = self.bar.add_task(what, total=None)

    def __enter__(self) -> Any:
        if self.console.is_terminal:
            self.bar.start()
        return self.show

    def show(self, record: dict[str, Any]) -> None:
        position = {key: record[key] for key in ("done", "of") if key in record}
        if position:
            self.bar.update(self.task, completed=position["done"], total=position["of"])
        rest = {key: value for key, value in record.items() if key not in position}
        if rest:
            line = _line(rest if self.console.is_terminal else position | rest)
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __exit__(self, *_: object) -> None:
        self.bar.stop()


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _line(record: dict[str, Any]) -> str:
    shown = {key: f"{value:.4g}" if isinstance(value, float) else str(value) for key, value in record.items()}
    return "  ".join(f"{key} {value}" for key, value in shown.items())


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _print_scores(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    for form, arms in result["mean"].items():
        table = Table(title=f"exact match, {form} form, {len(result['tasks'])} tasks")
        for column in ("arm", "mean", "95 % interval"):
            table.add_column(column)
        for arm, cell in {**arms, **result["difference"][form]}.items():
            table.add_row(arm, f"{cell['score']:.3f}", f"{cell['low']:.3f} to {cell['high']:.3f}")
        Console().print(table)


def main() -> None:
    for module in ("cli_plant", "cli_serve"):  # their commands join the app
        import_module(f"prompt2lora.{module}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except TyperException as error:
        told = " ".join(error.format_message().split()).rstrip(".")
        print(f"error: {told}; see prompt2lora --help", file=sys.stderr)
        sys.exit(error.exit_code)
    except Prompt2LoraError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"error: {error}; check the disk and the path", file=sys.stderr)
        sys.exit(1)
    except MemoryError:
        print("error: not enough memory; close other programs (see `prompt2lora doctor`)", file=sys.stderr)
        sys.exit(1)
    if code == _INTERRUPTED:
        print("error: interrupted; nothing is half written, a run can be gone on with", file=sys.stderr)
        sys.exit(1)
    sys.exit(code or 0)


if __name__ == "__main__":
    main()
