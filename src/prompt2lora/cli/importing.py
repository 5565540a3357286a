"""Adapters from elsewhere: import. Thin, like all of the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from prompt2lora.cli.app import (
    MAKE,
    Column,
    Instruction,
    JobOption,
    Json,
    Prompts,
    Working,
    app,
    print_json,
    tell_reading,
)
from prompt2lora.errors import UsageError
from prompt2lora.ground.files import check_new
from prompt2lora.ground.pictures import Prompt


@app.command("import", rich_help_panel=MAKE)
def import_adapter(
    folder: Annotated[Path, typer.Argument(help="An adapter's folder, as PEFT writes it.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write the adapter to; must not exist.")] = None,
    job: JobOption = None,
    prompts: Prompts = None,
    instruction: Instruction = "",
    column: Column = "",
    display_name: Annotated[str, typer.Option(help="What people call the job, in any script.")] = "",
    base: Annotated[
        str | None,
        typer.Option("--base", help="Its base model: hub id or local folder; default: the one that the folder names."),
    ] = None,
    approximate: Annotated[
        bool, typer.Option("--approximate", help="Lower a rank that no engine takes, and report what is lost.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring an adapter that was made elsewhere into the form that every engine takes, as strong as in PEFT."""
    if out is None and job is None:
        raise UsageError(
            "say where the adapter goes: into a folder with --out, to the versions of a job with --job, or both"
        )
    if job is None and (prompts or instruction or display_name):
        raise UsageError("prompts, instruction and display name belong to a job; name it with --job")
    if out:
        check_new(out, "output folder")
    asked: list[Prompt] = []
    if prompts:
        from prompt2lora.ground.examples import read_prompts

        asked, read = read_prompts(prompts, instruction, column)
        tell_reading(read)
    elif instruction or column:
        raise UsageError("--instruction and --column go with prompts; name these with --prompts")
    with Working("importing"):
        if job is None:
            from prompt2lora import api

            made: dict[str, Any] = api.import_adapter(folder, str(out), base=base, approximate=approximate).to_dict()
        else:
            from prompt2lora.plant.importing import import_version
            from prompt2lora.plant.plant import Plant

            opened = Plant.open(base=base)
            made = import_version(
                opened, job, folder, prompts=asked, out=out, approximate=approximate, display_name=display_name
            )
    if made["made_for"] and Path(made["made_for"]).name != Path(made["base"]).name:
        print(f"The folder says that it was made for {made['made_for']}, and not for {made['base']}", file=sys.stderr)
    if as_json:
        print_json(made)
        return
    ranks = ", ".join(f"{count} modules of rank {rank}" for rank, count in sorted(made["ranks"].items()))
    print(f"{ranks} -> rank {made['rank']}, alpha {made['alpha']}, {', '.join(made['targets'])}, for {made['base']}")
    if made["lost"]:
        print(f"The new weights differ by {made['lost']:.2%} of the update's norm from those that PEFT makes")
    if out:
        print(f'Try it: prompt2lora ask --adapter {out} "your text"')
    if job:
        words = f"prompt2lora gate --job {job} --version {made['version']} --inspection FILE"
        print(f"{made['version']} is kept; measure it: {words}")
