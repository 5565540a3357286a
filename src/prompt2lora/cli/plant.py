"""The plant's commands: pilot, gate, prompts, explain, refine. Thin, like all of the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from prompt2lora.cli.app import (
    Answers,
    BaseOption,
    Column,
    GeneratorOption,
    Instruction,
    Job,
    Json,
    Learned,
    Prompts,
    PromptsNeeded,
    Working,
    app,
    declared_form,
    print_json,
    read_given,
    tell_reading,
)
from prompt2lora.custody.gate import Check
from prompt2lora.ground.comparison import Comparison

prompts_app = typer.Typer(help="Look at prompts before an adapter is made of them.")
app.add_typer(prompts_app, name="prompts")


@app.command()
def pilot(
    job: Job,
    prompts: Prompts = None,
    instruction: Instruction = "",
    column: Column = "",
    examples: Learned = None,
    answers: Answers = "",
    inspection: Annotated[Path | None, typer.Option(help="Examples to be judged on (JSONL, CSV, Excel).")] = None,
    bias: Annotated[Path | None, typer.Option(help="Questions of a bias check (JSONL, BBQ's form).")] = None,
    policy: Annotated[Path | None, typer.Option(help="Other bounds of the gate for this call (TOML).")] = None,
    comparison: Annotated[
        Comparison | None,
        typer.Option(help="How answers are compared with the right ones; default: as before in this job, or exact."),
    ] = None,
    display_name: Annotated[str, typer.Option(help="What people call the job, in any script.")] = "",
    approve: Annotated[bool, typer.Option("--approve", help="Release the adapter if every check passes.")] = False,
    language: Annotated[str, typer.Option(help="Language of the report: en or ja.")] = "en",
    currency: Annotated[str | None, typer.Option(help="Currency of the report's costs.")] = None,
    kilowatt_hour: Annotated[float | None, typer.Option(min=0, help="Price of a kilowatt hour.")] = None,
    watts: Annotated[float | None, typer.Option(min=0, help="Power that this machine draws.")] = None,
    minutes_per_prompt: Annotated[float | None, typer.Option(min=0, help="To collect a prompt.")] = None,
    minutes_per_label: Annotated[float | None, typer.Option(min=0, help="To label an example.")] = None,
    sharing_jobs: Annotated[int | None, typer.Option(min=1, help="Jobs that share the generator's training.")] = None,
    person_hour: Annotated[
        float | None, typer.Option(min=0, help="Price of an hour of who collects and labels.")
    ] = None,
    measure_tuning: Annotated[
        bool,
        typer.Option("--measure-tuning", help="Fine-tune once on these examples, to compare times (minutes)."),
    ] = False,
    generator: GeneratorOption = None,
    base: BaseOption = None,
    as_json: Json = False,
) -> None:
    """Make an adapter, measure it against the base, judge it, and write a report for a manager."""
    from prompt2lora.custody.reports import texts
    from prompt2lora.ground.examples import read_examples
    from prompt2lora.plant.plant import Plant

    given = read_given(prompts, examples, instruction, column)
    judging, *told = read_examples(inspection) if inspection else ([],)
    tell_reading(*told)
    form = declared_form(answers, given, judging)
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
    working = Working("pilot")

    def follow(record: dict[str, Any]) -> None:
        show(record)
        if "version" in record:  # it is kept, and can be measured at any time
            options = {"--inspection": inspection, "--bias": bias, "--policy": policy, "--generator": generator}
            words = [str(word) for option in options.items() if option[1] for word in option]
            working.go_on_by("gate", "--job", job, "--version", record["version"], *words)

    with working as show:
        found = opened.pilot(
            job,
            given.prompts,
            examples=given.examples,
            form=form,
            inspection=judging,
            bias=bias,
            policy=policy,
            comparison=comparison,
            display_name=display_name,
            approve=approve,
            language=language,
            prices=prices,
            measure_tuning=measure_tuning,
            report=follow,
        )
    if as_json:
        read = [one.to_dict() for one in (*given.read, *told)]
        print_json({**found, "answers": form and form.to_dict(), "read": read})
        return
    _print_checks(found["checks"])
    if found["set_aside"]:
        print(f"{found['set_aside']} inspection examples were set aside: the adapter has learned from their inputs")
    print(f"{found['version']}: {found['verdict']}; released: {found['release'] or 'no'}")
    if found["held"]:
        print(found["held"])
    print(texts(language)[f"recommend {found['recommendation']}"])
    print(f"Report: {found['report']}")


@app.command()
def gate(
    job: Job,
    version: Annotated[str, typer.Option(help="A version's name.")],
    policy: Annotated[Path | None, typer.Option(help="Other bounds of the gate for this call (TOML).")] = None,
    inspection: Annotated[Path | None, typer.Option(help="Examples to measure it on now (JSONL, CSV, Excel).")] = None,
    bias: Annotated[Path | None, typer.Option(help="Questions of a bias check (JSONL, BBQ's form).")] = None,
    generator: GeneratorOption = None,
    as_json: Json = False,
) -> None:
    """Judge a version anew, perhaps by another policy; one that was never measured is measured first."""
    from prompt2lora.ground.examples import read_examples
    from prompt2lora.plant.plant import Plant

    examples, *read = read_examples(inspection) if inspection else ([],)
    tell_reading(*read)
    with Working("judging") as show:
        found = Plant.open(generator).gate(job, version, policy, inspection=examples, bias=bias, report=show)
    if as_json:
        print_json({**found, "read": [one.to_dict() for one in read]})
    else:
        _print_checks(found["checks"])
        print(f"{version}: {found['verdict']}")


@prompts_app.command("check")
def check_prompts(
    prompts: PromptsNeeded,
    instruction: Instruction = "",
    column: Column = "",
    generator: GeneratorOption = None,
    as_json: Json = False,
) -> None:
    """Too few, repeated, odd, mixed, too long, in another script, personal: what to do about it."""
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
        which = ", ".join(str(i + 1) for i in finding["prompts"][:8])
        where = f"prompts {which}: " if which else ""
        print(f"{'!!' if finding['grave'] else ' -'} {where}{finding['text']}; {finding['remedy']}")
    if not found:
        print(f"{len(given)} prompts, nothing looks wrong")


@app.command()
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
    base: BaseOption = None,
    as_json: Json = False,
) -> None:
    """Say why an adapter of these prompts is what it is; with --out as a page with plots."""
    from prompt2lora.ground.examples import read_prompts
    from prompt2lora.plant.plant import Plant

    given, *read = read_prompts(prompts, instruction, column)
    asked: list[str] = []
    if texts:
        asked, told = read_prompts(texts)
        read.append(told)
    tell_reading(*read)
    with Working("explaining") as show:
        found = Plant.open(generator, base).explain(given, texts=asked, out=out, language=language, report=show)
    if as_json:
        print_json({**found, "read": [one.to_dict() for one in read]})
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
    for one in found["texts"]:
        print(f"{one['text'][:70]!r}: {one['base'][:60]!r} -> {one['generated'][:60]!r}")
    if out:
        print(f"Page: {out}")


@app.command()
def refine(
    job: Job,
    examples: Annotated[Path, typer.Option(help="At least eight examples to learn from (JSONL, CSV, Excel).")],
    version: Annotated[str, typer.Option(help="Version to begin from; default: the job's newest.")] = "",
    steps: Annotated[int, typer.Option(min=1, help="Most optimiser steps.")] = 48,
    as_json: Json = False,
) -> None:
    """Second stage: fine-tune an adapter on a few examples; it is never worse than its start on held-out ones."""
    from prompt2lora.ground.examples import read_examples
    from prompt2lora.plant.plant import Plant

    pairs, read = read_examples(examples, part="train")
    tell_reading(read)
    with Working("refining") as show:
        found = Plant.open().refine(job, pairs, version=version, steps=steps, report=show)
    if as_json:
        print_json({**found, "read": [read.to_dict()]})
    elif found["improved"]:
        print(f"{found['version']}: from {found['start']} in {found['seconds']:.0f} s, {found['steps']} steps")
        print(f"right answers on {found['held_out']} held-out examples: {found['before']:.2f} -> {found['after']:.2f}")
    else:
        print(f"nothing was better than {found['start']} on {found['held_out']} held-out examples; it stays as it is")


def _print_checks(checks: list[dict[str, Any]]) -> None:
    for check in checks:
        print(Check(**check))
