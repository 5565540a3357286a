"""Watching what answers a job: start, outcome, replay, status. Thin, like all of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from prompt2lora.cli.app import (
    PLANT,
    JobArgument,
    JobOption,
    Json,
    Working,
    app,
    one_job,
    print_json,
    print_release,
    tell_reading,
)
from prompt2lora.errors import UsageError

monitor_app = typer.Typer(help="Monitor what answers a job; on an alarm its release is taken back.")
app.add_typer(monitor_app, name="monitor", rich_help_panel=PLANT)


@monitor_app.command("start")
def start_watch(
    promised: Annotated[
        str,
        typer.Option(
            help="Acceptable rates of bad outcomes, as in canary=0.2,format=0.05: canary, a known example answered "
            "wrong; format, one answered in another form; correction, an answer that a user corrected."
        ),
    ],
    alpha: Annotated[float, typer.Option(help="Chance of ever taking back a release that keeps its promises.")] = 0.01,
    name: JobArgument = None,
    named: JobOption = None,
    as_json: Json = False,
) -> None:
    """Monitor what answers a job from now on."""
    job = one_job(name, named)
    from prompt2lora.plant.plant import Plant

    watch = Plant.open().watch(job, _rates(promised), alpha)
    if as_json:
        print_json({"job": job, "release": watch.release, "promised": watch.promised})
    else:
        print(f"{job}: release {watch.release} is monitored for {', '.join(watch.promised)}")


@monitor_app.command("outcome")
def tell_outcome(
    source: Annotated[str, typer.Option(help="canary, format or correction.")],
    bad: Annotated[float, typer.Option(min=0, max=1, help="0 good, 1 bad.")],
    name: JobArgument = None,
    named: JobOption = None,
    as_json: Json = False,
) -> None:
    """Report one outcome of what answers the job now."""
    job = one_job(name, named)
    from prompt2lora.plant.plant import Plant

    monitor = Plant.open().monitor()
    watch, _ = monitor.watching(job)
    _tell_alarm(monitor.outcome(job, watch.release, source, bad), monitor, as_json)


@monitor_app.command("replay")
def replay(
    inspection: Annotated[Path, typer.Option(help="Examples to ask again (JSONL, CSV, Excel).")],
    name: JobArgument = None,
    named: JobOption = None,
    as_json: Json = False,
) -> None:
    """Ask the current release known examples again, and take it back if it gets too many wrong."""
    job = one_job(name, named)
    from prompt2lora.ground.examples import read_examples
    from prompt2lora.plant import watches
    from prompt2lora.plant.plant import Plant

    examples, read = read_examples(inspection)
    tell_reading(read)
    with Working("replaying") as show:
        opened = Plant.open()
        alarm = watches.replay(opened, job, examples, show)
    _tell_alarm(alarm, opened.monitor(), as_json)


@monitor_app.command("status")
def watch_status(name: JobArgument = None, named: JobOption = None, as_json: Json = False) -> None:
    """The evidence against the promises of what is monitored."""
    job = one_job(name, named)
    from prompt2lora.custody.records import watch_record
    from prompt2lora.plant.plant import Plant

    watch, _ = Plant.open().monitor().watching(job)
    found = watch_record(watch)
    if as_json:
        print_json(found)
    else:
        for source, state in found["sources"].items():
            seen = f"{state['outcomes']:>6} outcomes, {state['bad']:g} bad"
            print(f"{source:<12} {seen}, evidence {state['evidence']:.2f} of {state['limit']:.0f}")


def _tell_alarm(alarm: Any, monitor: Any, as_json: bool) -> None:
    from prompt2lora.custody.records import alarm_record

    if as_json:
        print_json({"alarm": alarm_record(alarm) if alarm else None})
    elif alarm:
        print(f"ALARM {alarm.job}: {alarm.reason}")
        print_release(alarm.release, monitor, as_json)
    else:
        print("no alarm")


def _rates(text: str) -> dict[str, float]:
    try:
        pairs = [part.split("=") for part in text.split(",") if part.strip()]
        return {source.strip(): float(rate) for source, rate in pairs}
    except ValueError as error:
        raise UsageError(f"rates are written like canary=0.2,format=0.05, not {text!r}") from error
