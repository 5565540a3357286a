"""Adapters for other engines: export. Thin, like all of the command line."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from prompt2lora.cli.app import MAKE, AdapterBase, JobOption, Json, Working, app, print_json
from prompt2lora.errors import UsageError
from prompt2lora.ground.files import check_new


@app.command(rich_help_panel=MAKE)
def export(
    to: Annotated[str, typer.Option(help="The engine: gguf (llama.cpp), mlx, onnxruntime, openvino or peft.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist.")],
    adapter: Annotated[Path | None, typer.Option(help="Adapter folder; or name a job with --job.")] = None,
    job: JobOption = None,
    version: Annotated[str, typer.Option("--version", help="A version of the job; default: the released one.")] = "",
    base: AdapterBase = None,
    check: Annotated[
        bool, typer.Option("--check", help="Let the engine itself answer and compare it with PEFT.")
    ] = False,
    model: Annotated[str, typer.Option(help="The base as that engine's file or folder, for --check.")] = "",
    as_json: Json = False,
) -> None:
    """Write an adapter as files for another engine, with the strength that it has in PEFT."""
    check_new(out, "output folder")
    if (adapter is None) == (job is None):
        raise UsageError("name what to export, with --adapter FOLDER or --job NAME")
    if version and adapter:
        raise UsageError("--version names a version of a job; leave it out, or name the job with --job")
    with Working("exporting"):
        from prompt2lora import api
        from prompt2lora.adapter.formats import check_format

        check_format(to)
        folder = adapter or _kept(str(job), version)
        note = api.export(folder, to, out, base=base)
        compared = api.check_export(folder, to, out, base=base, model=model) if check else None
    if as_json:
        found = {**asdict(compared), "agrees": compared.agrees} if compared else None
        print_json({"out": str(out), "to": to, "note": note, "check": found})
    else:
        print(f"{out}: {note}")
        if compared:
            told = "as PEFT" if compared.agrees else "OTHERWISE than PEFT"
            print(
                f"{compared.engine} {compared.version} moves {compared.tokens} log probabilities {told}: by "
                f"{compared.change:.2f} on average, {compared.error:.0%} off"
            )
    if compared and not compared.agrees:
        raise typer.Exit(1)


def _kept(job: str, name: str) -> Path:
    """The folder of a job's version, checked against what was signed."""
    from prompt2lora.plant.plant import Plant

    registry = Plant.open().registry
    current = registry.current(job)
    version = registry.version(job, name) if name else current.version if current else None
    if version is None:
        raise UsageError(f"the job {job} has no released version; name one by --version (`prompt2lora registry show`)")
    registry.store.verify(version.adapter)
    return registry.store.path(version.adapter)
