"""Making an adapter and asking the model: generate, ask, doctor. Thin, like all of the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import shorten
from typing import Annotated

import typer

from prompt2lora.adapter.settings import read_config
from prompt2lora.cli.app import (
    MAKE,
    Answers,
    BaseOption,
    Column,
    GeneratorOption,
    Instruction,
    Json,
    Learned,
    Prompts,
    Working,
    app,
    declared_form,
    print_json,
    read_given,
)
from prompt2lora.errors import UsageError
from prompt2lora.ground.files import check_new
from prompt2lora.ground.pictures import opened
from prompt2lora.ground.profile import MAX_NEW_TOKENS


@app.command(rich_help_panel=MAKE)
def generate(
    out: Annotated[Path, typer.Option(help="Folder to write the adapter to; must not exist.")],
    prompts: Prompts = None,
    examples: Learned = None,
    instruction: Instruction = "",
    column: Column = "",
    answers: Answers = "",
    generator: GeneratorOption = None,
    base: BaseOption = None,
    as_json: Json = False,
) -> None:
    """Make an adapter from a handful of prompts of a job, from a few right answers, or from both."""
    given = read_given(prompts, examples, instruction, column)
    check_new(out, "output folder")
    form = declared_form(answers, given)
    with Working("making the adapter") as show:
        from prompt2lora import api

        made = api.generate(
            given.prompts, out, examples=given.examples, form=form, generator=generator, base=base, report=show
        )
    if as_json:
        print_json(
            {**made.to_dict(), "answers": form and form.to_dict(), "read": [read.to_dict() for read in given.read]}
        )
    else:
        steps = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in made.seconds.items())
        counts = {"prompts": made.prompts, "examples": made.examples}
        source = " and ".join(f"{count} {what}" for what, count in counts.items() if count)
        print(f"{made.adapter}: {made.parameters:,} parameters from {source} ({steps})")
        if made.from_base:
            print("Answers to such prompts are long, so the base writes them; only the instruction is in the weights")
            print("If the answers are short, declare their form (--answers)")
        if made.instruction:
            print(f"The instruction is in the weights, so leave it out when you ask: {shorten(made.instruction, 80)}")
        else:
            print("No instruction is in the weights, so ask with whole prompts, as they are in the file")
        for finding in made.advice:
            print(finding)
        print(f'Try it: prompt2lora ask --adapter {made.adapter} "your text"')


@app.command(rich_help_panel=MAKE)
def ask(
    text: Annotated[str, typer.Argument(help="What to ask; - reads it from standard input.")],
    adapter: Annotated[Path | None, typer.Option(help="Adapter folder; without it the base answers.")] = None,
    image: Annotated[
        list[Path] | None, typer.Option(help="A picture to ask about (PNG, JPEG, WebP); may be given several times.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base", help="Base model: hub id or local folder; default: the adapter's, or the default generator's."
        ),
    ] = None,
    max_new_tokens: Annotated[
        int, typer.Option(min=1, max=4096, help="At most so many tokens in the answer.")
    ] = MAX_NEW_TOKENS,
    as_json: Json = False,
) -> None:
    """Ask the base model, with an adapter or without one."""
    if text == "-":
        try:
            text = sys.stdin.read()
        except UnicodeDecodeError as error:
            raise UsageError("standard input must be UTF-8 text, and this is not; save it as UTF-8") from error
    pictures = [opened(file.resolve().parent, file.resolve().name, "--image") for file in image or []]
    if adapter:
        read_config(adapter)  # a wrong path is told before anything is loaded
    with Working("answering"):
        from prompt2lora import api

        answer = api.ask(adapter, text, pictures=pictures, base=base, max_new_tokens=max_new_tokens)
    if as_json:
        print_json({"answer": answer, "adapter": str(adapter) if adapter else None})
    else:
        print(answer)


@app.command(rich_help_panel=MAKE)
def doctor(generator: GeneratorOption = None, as_json: Json = False) -> None:
    """Check base, encoder, generator, versions and memory, and say what is missing."""
    with Working("checking"):
        from prompt2lora import api

        found = api.doctor(generator)
    if as_json:
        print_json({"checks": found})
    else:
        for check in found:
            print(f"{'ok ' if check['state'] == 'good' else 'BAD'}  {check['check']:<10} {check['found']}")
    if any(check["state"] == "bad" for check in found):
        raise typer.Exit(1)
