"""Adapters explained and refined. Thin, like all of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prompt2lora.cli.app import (
    PLANT,
    Column,
    GeneratorOption,
    Instruction,
    Job,
    JobsBase,
    Json,
    PromptsNeeded,
    Working,
    app,
    print_json,
    tell_reading,
)
from prompt2lora.ground.pictures import Prompt, text_of


@app.command(rich_help_panel=PLANT)
def explain(
    prompts: PromptsNeeded,
    instruction: Instruction = "",
    column: Column = "",
    texts: Annotated[
        Path | None, typer.Option(help="Texts to answer before and after: text (one a line), JSONL, CSV or Excel.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Page to write (HTML); must not exist.")] = None,
    language: Annotated[str, typer.Option(help="Language of the page: en or ja.")] = "en",
    generator: GeneratorOption = None,
    base: JobsBase = None,
    as_json: Json = False,
) -> None:
    """Explain why an adapter made from these prompts is what it is; with --out as a page with plots."""
    from prompt2lora.ground.examples import read_prompts
    from prompt2lora.plant.plant import Plant

    given, *read = read_prompts(prompts, instruction, column)
    asked: list[Prompt] = []
    if texts:
        asked, told = read_prompts(texts)
        read.append(told)
    tell_reading(*read)
    with Working("explaining") as show:
        found = Plant.open(generator, base).explain(given, texts=asked, out=out, language=language, report=show)
    if as_json:
        print_json({**found.to_dict(), "read": [one.to_dict() for one in read]})
        return
    print(f"Distance from the training tasks: {found.distance:.2f} (1 is usual, above 2 is far)")
    print("Nearest training tasks:")
    for neighbour in found.neighbours:
        print(f"  {neighbour.similarity:.2f}  {neighbour.task}: {neighbour.instruction}")
    if found.from_base:
        print("Answers to such prompts are long, so the base writes them; the prompts count only by their instruction")
    else:
        print("Prompts with the most influence:")
    for influence in found.influences[:5]:
        print(f"  {influence.share:.1%}  {text_of(given[influence.prompt])[:90]!r}")
    print("Modules, by how far they differ from what every job gets:")
    for name, size in sorted(found.module_changes.items(), key=lambda item: -item[1]):
        print(f"  {size:.3f}  {name}")
    for one in found.texts:
        print(f"{one.text[:70]!r}: {one.base[:60]!r} -> {one.generated[:60]!r}")
    if out:
        print(f"Page: {out}")


@app.command(rich_help_panel=PLANT)
def refine(
    job: Job,
    examples: Annotated[Path, typer.Option(help="At least eight examples to learn from (JSONL, CSV, Excel).")],
    version: Annotated[str, typer.Option(help="Version to begin from; default: the job's newest.")] = "",
    steps: Annotated[
        int,
        typer.Option(min=1, help="At most so many optimiser steps, unless more are needed to ask every example once."),
    ] = 48,
    as_json: Json = False,
) -> None:
    """Second stage: fine-tune an adapter on a few examples; on held-out ones it never gets worse."""
    from prompt2lora.ground.examples import read_examples
    from prompt2lora.plant import refinement
    from prompt2lora.plant.plant import Plant

    pairs, read = read_examples(examples, part="train")
    tell_reading(read)
    with Working("refining") as show:
        found = refinement.refine(Plant.open(), job, pairs, version=version, steps=steps, report=show)
    if as_json:
        print_json({**found, "read": [read.to_dict()]})
    elif found["improved"]:
        print(f"{found['version']}: from {found['start']} in {found['seconds']:.0f} s, {found['steps']} steps")
        print(f"right answers on {found['held_out']} held-out examples: {found['before']:.2f} -> {found['after']:.2f}")
    else:
        print(f"nothing was better than {found['start']} on {found['held_out']} held-out examples; it stays as it is")
