"""Decisions: a version promoted, refused, or taken back. Thin, like all of the command line."""

from __future__ import annotations

from typing import Annotated

import typer

from prompt2lora.cli.app import JobArgument, JobOption, Json, one_job, print_json, print_release
from prompt2lora.cli.registry import registry_app

VersionName = Annotated[str, typer.Option("--version", help="A version's name.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; it is kept in the history.")]
SeenRelease = Annotated[
    int | None,
    typer.Option(
        "--release", help="The release that you saw, by its id in the history (0: none); no other is changed."
    ),
]


@registry_app.command("promote")
def promote(
    version: Annotated[str, typer.Option(help="A version's name, or `base`.")],
    reason: Reason,
    override: Annotated[
        str | None,
        typer.Option(help="Why to release it although it was refused, never judged, or judged by another policy."),
    ] = None,
    seen: SeenRelease = None,
    name: JobArgument = None,
    named: JobOption = None,
    as_json: Json = False,
) -> None:
    """Let a version answer the job from now on; it must have passed its gate by the policy in force."""
    job = one_job(name, named)
    from prompt2lora.plant.plant import Plant, owns_home

    opened = Plant.open()
    released = opened.promote(job, version, reason, seen=seen, override=override, admin=owns_home())
    print_release(released, opened.monitor(), as_json)


@registry_app.command("refuse")
def refuse(
    version: VersionName, reason: Reason, name: JobArgument = None, named: JobOption = None, as_json: Json = False
) -> None:
    """Refuse a version: nobody can release it until that is withdrawn."""
    job = one_job(name, named)
    from prompt2lora.custody import decisions
    from prompt2lora.plant.plant import Plant

    kept = Plant.open().registry
    decisions.refuse(kept, kept.version(job, version), reason)
    _print_decision("refused", version, reason, as_json)


@registry_app.command("withdraw")
def withdraw(
    version: VersionName, reason: Reason, name: JobArgument = None, named: JobOption = None, as_json: Json = False
) -> None:
    """Withdraw a refusal; only whoever refused, or the owner of the home, may do so."""
    job = one_job(name, named)
    from prompt2lora.custody import decisions
    from prompt2lora.plant.plant import Plant, owns_home

    kept = Plant.open().registry
    decisions.withdraw(kept, kept.version(job, version), reason, admin=owns_home())
    _print_decision("refusal withdrawn", version, reason, as_json)


def _print_decision(what: str, version: str, reason: str, as_json: bool) -> None:
    if as_json:
        print_json({"version": version, "decision": what, "reason": reason})
    else:
        print(f"{version}: {what}; {reason}")


@registry_app.command("rollback")
def rollback(
    reason: Reason,
    seen: SeenRelease = None,
    name: JobArgument = None,
    named: JobOption = None,
    as_json: Json = False,
) -> None:
    """Return to what answered before, in the end to the base."""
    job = one_job(name, named)
    from prompt2lora.plant.plant import Plant

    opened = Plant.open()
    print_release(opened.registry.rollback(job, reason, expected=seen), opened.monitor(), as_json)
