"""The plant's commands: pilot, prompts, explain, registry, audit. Thin, like all of the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from prompt2lora.cli import BaseOption, GeneratorOption, Json, Working, app, print_json
from prompt2lora.custody.gate import Check
from prompt2lora.errors import DamagedFile, UsageError

registry_app = typer.Typer(help="Which version of a job answers, and how it came to that.")
audit_app = typer.Typer(help="The record of every change.")
prompts_app = typer.Typer(help="Look at prompts before an adapter is made of them.")
app.add_typer(registry_app, name="registry")
app.add_typer(audit_app, name="audit")
app.add_typer(prompts_app, name="prompts")
monitor_app = typer.Typer(help="Watch what answers a job; on alarm its release is taken back.")
app.add_typer(monitor_app, name="monitor")

Job = Annotated[str, typer.Option("--job", help="The job's name: a-z, 0-9, - . and _.")]
Prompts = Annotated[Path, typer.Option("--prompts", help="Prompts of the job: text (one a line), JSONL or CSV.")]
Instruction = Annotated[str, typer.Option("--instruction", help="Put this instruction before every prompt.")]


@app.command()
def pilot(
    job: Job,
    prompts: Prompts,
    instruction: Instruction = "",
    inspection: Annotated[Path | None, typer.Option(help="Labelled rows (JSONL: input, output).")] = None,
    bias: Annotated[Path | None, typer.Option(help="Questions of a bias check (JSONL, BBQ's form).")] = None,
    policy: Annotated[Path | None, typer.Option(help="Bounds of the gate (TOML).")] = None,
    approve: Annotated[bool, typer.Option("--approve", help="Release the adapter if every check passes.")] = False,
    language: Annotated[str, typer.Option(help="Language of the report: en or ja.")] = "en",
    currency: Annotated[str | None, typer.Option(help="Currency of the report's costs.")] = None,
    kilowatt_hour: Annotated[float | None, typer.Option(min=0, help="Price of a kilowatt hour.")] = None,
    watts: Annotated[float | None, typer.Option(min=0, help="Power that this machine draws.")] = None,
    minutes_per_prompt: Annotated[float | None, typer.Option(min=0, help="To collect a prompt.")] = None,
    minutes_per_label: Annotated[float | None, typer.Option(min=0, help="To label a row.")] = None,
    sharing_jobs: Annotated[int | None, typer.Option(min=1, help="Jobs that share the generator's training.")] = None,
    person_hour: Annotated[
        float | None, typer.Option(min=0, help="Price of an hour of who collects and labels.")
    ] = None,
    measure_tuning: Annotated[
        bool, typer.Option("--measure-tuning", help="Fine-tune once on the labelled rows, to compare times (minutes).")
    ] = False,
    generator: GeneratorOption = None,
    base: BaseOption = None,
    as_json: Json = False,
) -> None:
    """Make an adapter, measure it against the base, judge it, and write a report for a manager."""
    from prompt2lora.custody.pages import texts
    from prompt2lora.plant import Plant, read_labelled
    from prompt2lora.prompts import read_prompts

    given = read_prompts(prompts, instruction)
    labelled = read_labelled(inspection) if inspection else ()
    opened = Plant.open(generator, base)
    given_prices: dict[str, Any] = {
        "currency": currency,
        "watts": watts,
        "per_kilowatt_hour": kilowatt_hour,
        "per_hour": person_hour,
        "minutes_per_prompt": minutes_per_prompt,
        "minutes_per_label": minutes_per_label,
        "jobs": sharing_jobs,
    }
    prices = replace(opened.prices, **{name: price for name, price in given_prices.items() if price is not None})
    with Working("pilot") as show:
        found = opened.pilot(
            job,
            given,
            labelled=labelled,
            bias=bias,
            policy=policy,
            approve=approve,
            language=language,
            prices=prices,
            measure_tuning=measure_tuning,
            report=show,
        )
    if as_json:
        print_json(found)
        return
    _print_checks(found["checks"])
    print(f"{found['version']}: {found['verdict']}; released: {found['release'] or 'no'}")
    print(texts(language)[f"recommend {found['recommendation']}"])
    print(f"Report: {found['report']}")


@app.command()
def gate(
    job: Job,
    version: Annotated[str, typer.Option(help="A version's name.")],
    policy: Annotated[Path | None, typer.Option(help="Bounds of the gate (TOML).")] = None,
    inspection: Annotated[Path | None, typer.Option(help="Labelled rows to measure it on now (JSONL).")] = None,
    bias: Annotated[Path | None, typer.Option(help="Questions of a bias check (JSONL, BBQ's form).")] = None,
    generator: GeneratorOption = None,
    as_json: Json = False,
) -> None:
    """Judge a version anew, perhaps by another policy; one that was never measured is measured first."""
    from prompt2lora.plant import Plant, read_labelled

    labelled = read_labelled(inspection) if inspection else ()
    with Working("judging") as show:
        found = Plant.open(generator).gate(job, version, policy, labelled=labelled, bias=bias, report=show)
    if as_json:
        print_json(found)
    else:
        _print_checks(found["checks"])
        print(f"{version}: {found['verdict']}")


@prompts_app.command("check")
def check_prompts(
    prompts: Prompts, instruction: Instruction = "", generator: GeneratorOption = None, as_json: Json = False
) -> None:
    """Too few, repeated, odd, mixed, too long, in another script, personal: what to do about it."""
    from prompt2lora.plant import Plant
    from prompt2lora.prompts import read_prompts

    given = read_prompts(prompts, instruction)
    with Working("reading"):
        found = Plant.open(generator).check_prompts(given)
    if as_json:
        print_json({"prompts": len(given), "findings": found})
        return
    for finding in found:
        which = ", ".join(str(i + 1) for i in finding["prompts"][:8])
        where = f"prompts {which}: " if which else ""
        print(f"{'!!' if finding['grave'] else ' -'} {where}{finding['text']}; {finding['remedy']}")
    if not found:
        print(f"{len(given)} prompts, nothing looks wrong")


@app.command()
def explain(
    prompts: Prompts,
    instruction: Instruction = "",
    rows: Annotated[Path | None, typer.Option(help="Rows of your own to answer before and after (JSONL).")] = None,
    out: Annotated[Path | None, typer.Option(help="Page to write (HTML); must not exist.")] = None,
    language: Annotated[str, typer.Option(help="Language of the page: en or ja.")] = "en",
    generator: GeneratorOption = None,
    base: BaseOption = None,
    as_json: Json = False,
) -> None:
    """Say why an adapter of these prompts is what it is; with --out as a page with plots."""
    from prompt2lora.plant import Plant, read_labelled
    from prompt2lora.prompts import read_prompts

    given = read_prompts(prompts, instruction)
    texts = [text for text, _ in read_labelled(rows)] if rows else []
    with Working("explaining") as show:
        found = Plant.open(generator, base).explain(given, texts=texts, out=out, language=language, report=show)
    if as_json:
        print_json(found)
        return
    print(f"Distance from the training tasks: {found['distance']:.2f} (1 is usual, above 2 is far)")
    print("Nearest training tasks:")
    for neighbour in found["neighbours"]:
        print(f"  {neighbour['similarity']:.2f}  {neighbour['task']}: {neighbour['instruction']}")
    print("Prompts with the most influence:")
    for influence in found["influences"][:5]:
        print(f"  {influence['share']:.1%}  {given[influence['prompt']][:90]!r}")
    print("Modules, by how far they differ from what every job gets:")
    for name, size in sorted(found["modules"].items(), key=lambda item: -item[1]):
        print(f"  {size:.3f}  {name}")
    for row in found["rows"]:
        print(f"{row['text'][:70]!r}: {row['base'][:60]!r} -> {row['generated'][:60]!r}")
    if out:
        print(f"Page: {out}")


@app.command()
def refine(
    job: Job,
    rows: Annotated[Path, typer.Option(help="Labelled rows (JSONL: input, output), at least eight.")],
    version: Annotated[str, typer.Option(help="Version to begin from; default: the job's newest.")] = "",
    steps: Annotated[int, typer.Option(min=1, help="Most optimiser steps.")] = 48,
    bare: Annotated[float, typer.Option(min=0, max=1, help="Share of steps without the instruction.")] = 0.5,
    as_json: Json = False,
) -> None:
    """Second stage: fine-tune an adapter on a few labelled rows; it is never worse than its start on held-out ones."""
    from prompt2lora.plant import Plant, read_labelled

    labelled = read_labelled(rows)
    with Working("refining") as show:
        found = Plant.open().refine(job, labelled, version=version, steps=steps, bare=bare, report=show)
    if as_json:
        print_json(found)
    elif found["improved"]:
        print(f"{found['version']}: from {found['start']} in {found['seconds']:.0f} s, {found['steps']} steps")
        print(f"exact match on {found['held_out']} held-out rows: {found['before']:.2f} -> {found['after']:.2f}")
    else:
        print(f"nothing was better than {found['start']} on {found['held_out']} held-out rows; it stays as it is")


@monitor_app.command("start")
def start_watch(
    job: Job,
    promised: Annotated[str, typer.Option(help="Acceptable rates of bad outcomes: canary=0.2,format=0.05,...")],
    alpha: Annotated[float, typer.Option(help="Chance of ever taking back a release that keeps its promises.")] = 0.01,
    as_json: Json = False,
) -> None:
    """Watch what answers a job from now on."""
    from prompt2lora.plant import Plant

    watch = Plant.open().watch(job, _rates(promised), alpha)
    if as_json:
        print_json({"job": job, "release": watch.release, "promised": watch.promised})
    else:
        print(f"{job}: release {watch.release} is watched for {', '.join(watch.promised)}")


@monitor_app.command("outcome")
def tell_outcome(
    job: Job,
    source: Annotated[str, typer.Option(help="canary, format or correction.")],
    bad: Annotated[float, typer.Option(min=0, max=1, help="0 good, 1 bad.")],
    as_json: Json = False,
) -> None:
    """Tell one outcome of what answers the job now."""
    from prompt2lora.plant import Plant

    monitor = Plant.open().monitor()
    _tell_alarm(monitor.outcome(job, monitor.read(job).release, source, bad), as_json)


@monitor_app.command("replay")
def replay(
    job: Job,
    rows: Annotated[Path, typer.Option(help="Labelled rows (JSONL: input, output) to ask again.")],
    as_json: Json = False,
) -> None:
    """Ask the current release the canary rows again, and take it back if it fails too many."""
    from prompt2lora.plant import Plant, read_labelled

    labelled = read_labelled(rows)
    with Working("replaying") as show:
        alarm = Plant.open().replay(job, labelled, show)
    _tell_alarm(alarm, as_json)


@monitor_app.command("status")
def watch_status(job: Job, as_json: Json = False) -> None:
    """The evidence against the promises of what is watched."""
    from prompt2lora.plant import Plant

    watch = Plant.open().monitor().read(job)
    found = {
        source: {
            "promised": process.promised,
            "outcomes": process.count,
            "bad": process.bad,
            "evidence": process.evidence,
        }
        for source, process in watch.processes.items()
    }
    if as_json:
        print_json({"job": job, "release": watch.release, "sources": found})
    else:
        for source, state in found.items():
            limit = len(found) / watch.alpha
            seen = f"{state['outcomes']:>6} outcomes, {state['bad']:g} bad"
            print(f"{source:<12} {seen}, evidence {state['evidence']:.2f} of {limit:.0f}")


@registry_app.command("list")
def list_jobs(as_json: Json = False) -> None:
    """All jobs and what answers them, and the generators that made their versions."""
    from prompt2lora import plant

    registry = plant.registry()
    found = []
    for job in registry.jobs():
        current = registry.current(job)
        answers = current.version.name if current and current.version else "base"
        found.append({"job": job, "answers": answers, "versions": len(registry.versions(job))})
    generators = registry.generators()
    if as_json:
        print_json({"jobs": found, "generators": generators})
    else:
        for row in found:
            print(f"{row['job']:<30} {row['answers']:<40} {row['versions']} versions")
        if not found:
            print("no job yet; `prompt2lora pilot` begins one")
        for made in generators:
            print(f"generator {made['digest'][:12]} since {made['at'][:10]}: {made['versions']} versions")


@registry_app.command("show")
def show_job(job: Job, as_json: Json = False) -> None:
    """A job's versions, their verdicts and what they come from."""
    from prompt2lora import plant

    registry = plant.registry()
    current = registry.current(job)
    found = [
        {
            **version._asdict(),
            **registry.provenance(version),
            "name": version.name,
            "verdict": registry.verdict(version),
        }
        for version in registry.versions(job)
    ]
    answers = current.version.name if current and current.version else "base"
    if as_json:
        print_json({"job": job, "answers": answers, "versions": found})
    else:
        for row in found:
            mark, verdict = "*" if row["name"] == answers else " ", row["verdict"] or "not judged"
            print(f"{mark} {row['name']:<40} {row['kind']:<10} {verdict}")
            came = f"prompts {row['prompts'][:12]}, generator {row['generator'][:12]}, base {row['base_digest'][:12]}"
            print(f"    {came}, seed {row['seed']}, from {row['parent'] or 'no other version'}")


@registry_app.command("report")
def write_report(
    job: Job,
    version: Annotated[str, typer.Option(help="A version's name.")],
    out: Annotated[Path, typer.Option(help="Page to write (HTML); must not exist.")],
    language: Annotated[str, typer.Option(help="Language of the report: en or ja.")] = "en",
    as_json: Json = False,
) -> None:
    """Write the report of any version that was judged, by its latest measurement."""
    from prompt2lora.files import check_new, write_text
    from prompt2lora.plant import Plant

    check_new(out)
    opened = Plant.open()
    page = opened.report_page(opened.registry.version(job, version), language)
    if page is None:
        raise UsageError(f"{version} was never judged; run `prompt2lora gate --job {job} --version {version}` first")
    write_text(out, page)
    if as_json:
        print_json({"report": str(out)})
    else:
        print(f"Report: {out}")


@registry_app.command("history")
def show_history(job: Job, as_json: Json = False) -> None:
    """All releases of a job, oldest first."""
    from prompt2lora import plant

    found = [_release(release) for release in plant.registry().history(job)]
    if as_json:
        print_json({"job": job, "releases": found})
    else:
        for row in found:
            print(f"{row['at']}  {row['action']:<9} {row['version'] or 'base':<40} {row['actor']}: {row['reason']}")


@registry_app.command("promote")
def promote(
    job: Job,
    version: Annotated[str, typer.Option(help="A version's name, or `base`.")],
    reason: Annotated[str, typer.Option(help="Why; it stands in the history.")],
    as_json: Json = False,
) -> None:
    """Let a version answer the job from now on; only what passed its gate."""
    from prompt2lora.plant import Plant

    _tell(Plant.open().promote(job, version, reason), as_json)


@registry_app.command("rollback")
def rollback(
    job: Job, reason: Annotated[str, typer.Option(help="Why; it stands in the history.")], as_json: Json = False
) -> None:
    """Let what answered before answer again; in the end that is the base."""
    from prompt2lora import plant

    _tell(plant.registry().rollback(job, reason), as_json)


@registry_app.command("verify")
def verify(as_json: Json = False) -> None:
    """Check the files of all versions against what was signed."""
    from prompt2lora import plant

    registry = plant.registry()
    damaged = []
    for job in registry.jobs():
        for version in registry.versions(job):
            try:
                registry.store.verify(version.adapter)
            except DamagedFile as error:
                damaged.append({"version": version.name, "fault": str(error)})
    count = sum(len(registry.versions(job)) for job in registry.jobs())
    if as_json:
        print_json({"versions": count, "damaged": damaged})
    else:
        for row in damaged:
            print(f"BAD  {row['version']}: {row['fault']}")
        print(f"{count} versions, {len(damaged)} damaged")
    if damaged:
        raise typer.Exit(1)


@registry_app.command("regenerate")
def regenerate(
    job: Annotated[list[str] | None, typer.Option("--job", help="Only this job; may be given again.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Bounds of the gate (TOML).")] = None,
    generator: GeneratorOption = None,
    base: BaseOption = None,
    as_json: Json = False,
) -> None:
    """Make a candidate of the (new) generator for every job and show what it would change; releases stay."""
    from prompt2lora.plant import Plant

    with Working("regenerating") as show:
        changes = Plant.open(generator, base).regenerate(job or (), policy=policy, report=show)
    if as_json:
        print_json({"jobs": [change._asdict() for change in changes]})
        return
    for change in changes:
        print(f"{change.job}: {change.status}{f' ({change.trouble})' if change.trouble else ''}")
        if change.status != "new":
            continue
        moved = "another base" if change.distance is None else f"{change.distance:.0%} of the weights' size"
        print(f"  {change.source} -> {change.candidate}: {moved}; {change.verdict}")
        for check in change.checks:
            before, after = (f"{n:.4g}" if n is not None else "-" for n in (check["before"], check["after"]))
            print(f"  {check['metric']:<26} {before:>10} -> {after:<10} {check['result']}")
        if change.answers:
            print(f"  {change.answers[0]} of {change.answers[1]} inspected answers differ")


@audit_app.command("verify")
def verify_audit(as_json: Json = False) -> None:
    """Check that no line of the record was altered, removed or moved."""
    from prompt2lora import plant

    count = plant.registry().verify_audit()
    if as_json:
        print_json({"lines": count, "sound": True})
    else:
        print(f"{count} lines, all as they were written")


@audit_app.command("export")
def export_audit(out: Annotated[Path, typer.Option(help="File to write (JSONL).")], as_json: Json = False) -> None:
    """Write the record to a file, a line a change, with the public key that signs its end."""
    import json
    from dataclasses import asdict

    from prompt2lora import plant
    from prompt2lora.files import check_new, write_text

    check_new(out)
    registry = plant.registry()
    lines = [json.dumps(asdict(line), ensure_ascii=False) for line in registry.audit_lines()]
    write_text(out, "".join(f"{line}\n" for line in lines))
    if as_json:
        print_json({"lines": len(lines), "public_key": registry.store.signer.public})
    else:
        print(f"{out}: {len(lines)} lines; public key {registry.store.signer.public}")


def _release(release: Any) -> dict[str, Any]:
    return {**release._asdict(), "version": release.version.name if release.version else None}


def _tell(release: Any, as_json: bool) -> None:
    if as_json:
        print_json(_release(release))
    else:
        print(f"{release.job} is answered by {release.version.name if release.version else 'the base'} from now on")


def _tell_alarm(alarm: Any, as_json: bool) -> None:
    if as_json:
        print_json({"alarm": {**alarm._asdict(), "release": _release(alarm.release)} if alarm else None})
    elif alarm:
        print(f"ALARM {alarm.job}: {alarm.reason}")
        _tell(alarm.release, as_json)
    else:
        print("no alarm")


def _rates(text: str) -> dict[str, float]:
    try:
        pairs = [part.split("=") for part in text.split(",") if part.strip()]
        return {source.strip(): float(rate) for source, rate in pairs}
    except ValueError as error:
        raise UsageError(f"rates are written like canary=0.2,format=0.05, not {text!r}") from error


def _print_checks(checks: list[dict[str, Any]]) -> None:
    for check in checks:
        print(Check(**check))
