"""Prompts looked at before an adapter is made of them. Thin, like all of the command line."""

from __future__ import annotations

import typer

from prompt2lora.cli.app import (
    PLANT,
    Column,
    GeneratorOption,
    Instruction,
    Json,
    PromptsNeeded,
    Working,
    app,
    print_json,
    tell_reading,
)

prompts_app = typer.Typer(help="Check prompts before an adapter is made from them.")
app.add_typer(prompts_app, name="prompts", rich_help_panel=PLANT)


@prompts_app.command("check")
def check_prompts(
    prompts: PromptsNeeded,
    instruction: Instruction = "",
    column: Column = "",
    generator: GeneratorOption = None,
    as_json: Json = False,
) -> None:
    """Say if prompts are too few, repeated, odd, mixed, too long, in another script or personal, and what to do."""
    from prompt2lora.generator.prompt_checks import Finding
    from prompt2lora.ground.examples import read_prompts
    from prompt2lora.plant.plant import Plant

    given, read = read_prompts(prompts, instruction, column)
    tell_reading(read)
    with Working("reading"):
        found = Plant.open(generator).check_prompts(given)
    if as_json:
        print_json({"prompts": len(given), "findings": found, "read": [read.to_dict()]})
        return
    for finding in found:
        print(Finding(**finding))
    if not found:
        print(f"{len(given)} prompts, nothing looks wrong")
