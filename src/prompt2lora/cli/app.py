"""What all commands share: the application they join, common options, progress on stderr, results on stdout."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import typer

from prompt2lora import __version__
from prompt2lora.errors import UsageError
from prompt2lora.ground.pictures import Prompt
from prompt2lora.ground.progress import listening, timed

MAKE, PLANT, SERVE, TRAIN = "Make", "In a plant", "Serve", "Train and measure"  # the parts of --help
_QUIET, _EVERY = 5.0, 10.0  # seconds before a plain line about another step, or about the same

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="A handful of prompts in, a LoRA adapter out: in seconds, without training.",
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
Tasks = Annotated[list[Path] | None, typer.Option("--tasks", help="Task files or folders of them.")]
MoreTasks = Annotated[list[Path] | None, typer.Argument(help="More task files or folders.", metavar="TASKS")]
GeneratorOption = Annotated[
    str | None,
    typer.Option(
        "--generator",
        help="A released generator, a folder or a hub id; default: the best one for the base, or for this machine.",
    ),
]
_BASE = "Base model: hub id or local folder; default: "
BaseOption = Annotated[str | None, typer.Option("--base", help=f"{_BASE}the generator's.")]
AdapterBase = Annotated[str | None, typer.Option("--base", help=f"{_BASE}the adapter's.")]
JobsBase = Annotated[
    str | None,
    typer.Option("--base", help=f"{_BASE}the named generator's, or the jobs', or else the default generator's."),
]

_PROMPTS = typer.Option("--prompts", help="Prompts of the job: text (one a line), JSONL, CSV or Excel.")
Prompts = Annotated[Path | None, _PROMPTS]
PromptsNeeded = Annotated[Path, _PROMPTS]
Learned = Annotated[
    Path | None,
    typer.Option("--examples", help="Prompts with right answers to learn from: JSONL, CSV or Excel."),
]
Column = Annotated[
    str,
    typer.Option("--column", help="Column of the prompts in a table, by name or number; default: found automatically."),
]
Instruction = Annotated[str, typer.Option("--instruction", help="Put this instruction before every prompt.")]
Answers = Annotated[
    str,
    typer.Option(
        "--answers",
        help="Form of the answers; default: free. Or auto (as the examples show), choices:a,b,c, number, date, "
        "date:DD.MM.YYYY, pattern:REGEX, schema:FILE, or a file with one choice a line.",
    ),
]
JobArgument = Annotated[str | None, typer.Argument(metavar="JOB", help="The job's name; or name it by --job.")]
JobOption = Annotated[str | None, typer.Option("--job", help="The job's name: a-z, 0-9, - . and _.")]
Job = Annotated[str, typer.Option("--job", help="The job's name: a-z, 0-9, - . and _.")]


class Given(NamedTuple):
    """Prompts, examples (prompt, right answer), and how the files of both were read."""

    prompts: list[Prompt]
    examples: list[tuple[Prompt, str]]
    read: list[Any]


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


def listed(text: str) -> tuple[str, ...]:
    """The parts of an option with commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def one_job(argument: str | None, option: str | None) -> str:
    """The job that was named, by its place or by the option."""
    if argument and option and argument != option:
        raise UsageError(f"name one job, not both {argument!r} and --job {option!r}; leave one of them out")
    if not (named := argument or option):
        raise UsageError("name one job, as in `prompt2lora registry show JOB`, or with --job")
    return named


def print_release(release: Any, monitor: Any, as_json: bool) -> None:
    """What answers a job from now on, and whether that is watched."""
    from prompt2lora.custody.records import release_record

    if as_json:
        print_json(release_record(release))
    else:
        print(f"{release.job} is answered by {release.version.name if release.version else 'the base'} from now on")
        if release.version and not monitor.is_watching(release):
            print(f"It is not monitored yet: prompt2lora monitor start --job {release.job} --promised canary=0.1")


class Working:
    """What is being done, on stderr: a bar in a terminal, plain lines elsewhere, with the share that is done and about
    how long the rest takes.

    Gives a function that shows a record (see ground/progress.py). After an interrupt `goes_on` is the command that goes
    on with the work, if one does: the same one where the work is `resumable`, else what `go_on_by` was told.
    """

    goes_on: ClassVar[str] = ""

    def __init__(self, what: str, *, resumable: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.console = Console(stderr=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[far]}"))
        self.bar = Progress(*columns, TimeElapsedColumn(), console=self.console, transient=True)
        self.task = self.bar.add_task(what, total=None, far="")
        self.resume = shlex.join(["prompt2lora", *sys.argv[1:]]) if resumable else ""
        self.report = timed(self.show, time.monotonic)
        self.listening = listening(self.report)
        self.said: tuple[Any, float] = (None, time.monotonic())  # the step of the last plain line, and when that was

    def __enter__(self) -> Any:
        Working.goes_on = ""
        self.listening.__enter__()
        if self.console.is_terminal:
            self.bar.start()
        return self.report

    def go_on_by(self, *words: str, **options: Any) -> None:
        """What goes on with the work if it is interrupted from now on: a command with the options that were given."""
        given = [str(word) for name, value in options.items() if value for word in (f"--{name}", value)]
        self.resume = shlex.join(["prompt2lora", *words, *given])

    def show(self, record: dict[str, Any]) -> None:
        far = {key: record[key] for key in ("share", "seconds_left") if record.get(key) is not None}
        told = {"share": f"{100 * far['share']:.0f} %"} if "share" in far else {}
        if "seconds_left" in far:
            told["left"] = f"about {duration(far['seconds_left'])}"
        rest = {key: value for key, value in record.items() if key not in ("share", "seconds_left")}
        counted = {"done": f"{rest.pop('done')} of {rest.pop('of')}"} if {"done", "of"} <= rest.keys() else {}
        step, line = rest.get("step"), dict(rest)
        if self.console.is_terminal:
            if isinstance(step, str):
                self.bar.update(self.task, description=step)
                del line["step"]
            if told:
                self.bar.update(self.task, completed=far["share"], total=1.0, far="  left ".join(told.values()))
        elif rest.keys() - {"step"} or time.monotonic() - self.said[1] > (_EVERY if step == self.said[0] else _QUIET):
            line = {**counted, **rest, **told}
        else:
            line = {}
        if line:
            self.said = (step, time.monotonic())
            self.console.print(_line(line), markup=False, highlight=False, soft_wrap=True)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self.console.is_terminal:
            self.bar.stop()
        self.listening.__exit__(None, None, None)
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            Working.goes_on = self.resume


def duration(seconds: float) -> str:
    """About so long, in the one unit that fits."""
    if seconds < 90:
        return f"{5 * max(1, round(seconds / 5))} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _line(record: dict[str, Any]) -> str:
    """A record as a plain line: a named step before a colon, the share and the rest of the time without their names."""
    step = record.get("step")
    named = {key: value for key, value in record.items() if key != "step" or not isinstance(step, str)}
    shown = {key: f"{value:.4g}" if isinstance(value, float) else str(value) for key, value in named.items()}
    said = [
        value if key == "share" else f"{value} left" if key == "left" else f"{key} {value}"
        for key, value in shown.items()
    ]
    return (f"{step.replace('_', ' ')}: " if isinstance(step, str) else "") + "  ".join(said)


def read_given(prompts: Path | None, examples: Path | None, instruction: str, column: str = "") -> Given:
    """What an adapter is to be made of, each prompt under its instruction; says how the files were read."""
    from prompt2lora.ground.examples import read_examples, read_prompts
    from prompt2lora.ground.prompts import full_examples

    if prompts is None and examples is None:
        raise UsageError("there is nothing to make an adapter from; name a file with --prompts or --examples")
    if column and prompts is None:
        raise UsageError(
            "--column names a column of the file given with --prompts, and there is no such file; leave it out"
        )
    asked, *read = read_prompts(prompts, instruction, column) if prompts else ([],)
    pairs, *told = read_examples(examples, part="train") if examples else ([],)
    tell_reading(*read, *told)
    return Given(asked, full_examples(instruction, pairs), [*read, *told])


def declared_form(answers: str, given: Given, judging: Sequence[tuple[Prompt, str]] = ()) -> Any:
    """What the answers have to be; says on stderr what that is, or what they seem to be if nothing was said."""
    from prompt2lora.base.constraints import check
    from prompt2lora.ground.declared_form import AUTO, FREE, declared, found

    form = declared(answers, [right for _, right in given.examples], files=True)
    if form:
        print(f"Answers: {check(form)}", file=sys.stderr)
    elif answers == AUTO:
        print("Answers: the examples show no common form, so answers are free", file=sys.stderr)
    elif answers != FREE and (seen := found([right for _, right in given.examples or judging])):
        print(f'Answers are free and seem to be {seen}; to hold them to that: --answers "{seen}"', file=sys.stderr)
    return form


def tell_reading(*readings: Any) -> None:
    """What was taken of files that could have been read in another way, on stderr."""
    for reading in readings:
        if not reading.is_plain:
            print(reading, file=sys.stderr)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
