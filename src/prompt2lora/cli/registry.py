"""The registry: what it knows of jobs, versions and releases. Thin, like all of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from prompt2lora.cli.app import (
    PLANT,
    GeneratorOption,
    JobArgument,
    JobOption,
    JobsBase,
    Json,
    Working,
    app,
    one_job,
    print_json,
)
from prompt2lora.custody.versions import IMPORTED
from prompt2lora.errors import UsageError

registry_app = typer.Typer(help="Which version answers a job, and how that came about.")
app.add_typer(registry_app, name="registry", rich_help_panel=PLANT)


@registry_app.command("list")
def list_jobs(as_json: Json = False) -> None:
    """All jobs, what answers them and on which base, and the generators that made their versions."""
    from prompt2lora.custody.records import job_record
    from prompt2lora.plant.plant import Plant

    registry = Plant.open().registry
    found = [job_record(registry, job) for job in sorted(registry.jobs())]
    generators = registry.generators()
    if as_json:
        print_json({"jobs": found, "generators": generators})
    else:
        for one in found:
            belongs = f", base {one['base']}" if one["base"] else ""
            called = f"  ({one['display_name']})" if one["display_name"] != one["job"] else ""
            told = f"{one['version_count']}{belongs}{called}"
            print(f"{one['job']:<30} {one['answers'] or 'not released':<40} versions: {told}")
        if not found:
            print("no job yet; start one with `prompt2lora pilot`")
        for made in generators:
            name = f"generator {made['name']} ({made['digest'][:12]})" if made["digest"] != IMPORTED else IMPORTED
            print(f"{name} since {made['at'][:10]}: versions: {made['versions']}")


@registry_app.command("name")
def name_job(
    display_name: Annotated[str, typer.Option(help="What people call the job, in any script; empty: its name.")],
    name: JobArgument = None,
    named: JobOption = None,
    as_json: Json = False,
) -> None:
    """Change what people call a job; programs go on using its name."""
    job = one_job(name, named)
    from prompt2lora.custody.records import job_record
    from prompt2lora.plant.plant import Plant

    registry = Plant.open().registry
    registry.call_job(job, display_name)
    if as_json:
        print_json(job_record(registry, job))
    else:
        print(f"{job} is called {registry.display_name(job)} from now on")


@registry_app.command("show")
def show_job(name: JobArgument = None, named: JobOption = None, as_json: Json = False) -> None:
    """A job's versions, their verdicts and what they were made from."""
    job = one_job(name, named)
    from prompt2lora.custody.records import job_record, version_record
    from prompt2lora.plant.plant import Plant

    registry = Plant.open().registry
    told = job_record(registry, job)
    found = [version_record(registry, version) for version in registry.versions(job)]
    if as_json:
        print_json({**told, "versions": found})
    else:
        for made in found:
            mark, verdict = "*" if made["name"] == told["answers"] else " ", made["verdict"] or "not judged"
            verdict += f", refused by {made['refused']['actor']}" if made["refused"] else ""
            print(f"{mark} {made['name']:<40} {made['kind']:<10} {verdict}")
            prompts, generator, base = (made[key][:12] for key in ("prompts", "generator", "base_digest"))
            generator, base = f"generator {made['generator_name']} ({generator})", f"{made['base']} ({base})"
            if made["generator"] == IMPORTED:
                generator = "imported"
            came = f"prompts {prompts}, {generator}, base {base}"
            print(f"    {came}, seed {made['seed']}, from {made['parent_name'] or 'no other version'}")
            print(f"    answers compared: {made['comparison']}")


@registry_app.command("report")
def write_report(
    version: Annotated[str, typer.Option(help="A version's name.")],
    out: Annotated[Path, typer.Option(help="Page to write (HTML); must not exist.")],
    language: Annotated[str, typer.Option(help="Language of the report: en or ja.")] = "en",
    name: JobArgument = None,
    named: JobOption = None,
    as_json: Json = False,
) -> None:
    """Write the report of a judged version, from its latest measurement."""
    job = one_job(name, named)
    from prompt2lora.ground.files import check_new, write_text
    from prompt2lora.plant import candidates
    from prompt2lora.plant.plant import Plant

    check_new(out, "report")
    opened = Plant.open()
    page = candidates.report_page(opened, opened.registry.version(job, version), language)
    if page is None:
        raise UsageError(f"{version} is not judged yet; run `prompt2lora gate --job {job} --version {version}` first")
    write_text(out, page)
    if as_json:
        print_json({"report": str(out)})
    else:
        print(f"Report: {out}")


@registry_app.command("history")
def show_history(name: JobArgument = None, named: JobOption = None, as_json: Json = False) -> None:
    """All releases of a job, oldest first."""
    job = one_job(name, named)
    from prompt2lora.custody.records import release_record
    from prompt2lora.plant.plant import Plant

    found = [release_record(one) for one in Plant.open().registry.history(job)]
    if as_json:
        print_json({"job": job, "releases": found})
    else:
        for release in found:
            told = f"{release['actor']}: {release['reason']}"
            print(
                f"{release['id']:>5}  {release['at']}  {release['action']:<9} {release['version'] or 'base':<40} {told}"
            )


@registry_app.command("verify")
def verify(as_json: Json = False) -> None:
    """Check the files of all versions against what was signed, and their bases against the digests on record."""
    from prompt2lora.plant.plant import Plant

    found = Plant.open().verify()
    if as_json:
        print_json(found._asdict())
    else:
        for one in found.damaged:
            print(f"BAD  {one['version']}: {one['fault']}")
        for name in found.bases_not_here:
            print(f"not compared: the base {name} is not on this machine")
        print(f"{found.versions} versions, {len(found.damaged)} damaged")
    if found.damaged:
        raise typer.Exit(1)


@registry_app.command("regenerate")
def regenerate(
    job: Annotated[list[str] | None, typer.Option("--job", help="Only this job; may be given several times.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Other bounds of the gate, for this call only (TOML).")] = None,
    generator: GeneratorOption = None,
    base: JobsBase = None,
    as_json: Json = False,
) -> None:
    """Make a candidate for every job with the (new) generator and show what it would change; releases stay."""
    from prompt2lora.plant import candidates
    from prompt2lora.plant.plant import Plant

    working = Working("regenerating")

    def follow(record: dict[str, Any]) -> None:
        left = record.pop("jobs_left", ())
        show(record)
        if left:  # the candidates of those before it are kept
            jobs = [word for one in left for word in ("--job", one)]
            working.go_on_by("registry", "regenerate", *jobs, policy=policy, generator=generator, base=base)

    with working as show:
        changes = candidates.regenerate(Plant.open(generator, base), job or (), policy=policy, report=follow)
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
