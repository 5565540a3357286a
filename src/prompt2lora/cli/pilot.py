"""A pilot and its gate: an adapter made, measured and judged. Thin, like all of the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from prompt2lora.cli.app import (
    PLANT,
    Answers,
    Column,
    GeneratorOption,
    Instruction,
    Job,
    JobsBase,
    Json,
    Learned,
    Prompts,
    Working,
    app,
    declared_form,
    print_json,
    read_given,
    tell_reading,
)
from prompt2lora.ground.comparison import Comparison


@app.command(rich_help_panel=PLANT)
def pilot(
    job: Job,
    prompts: Prompts = None,
    instruction: Instruction = "",
    column: Column = "",
    examples: Learned = None,
    answers: Answers = "",
    inspection: Annotated[Path | None, typer.Option(help="Examples to judge it on (JSONL, CSV, Excel).")] = None,
    bias: Annotated[Path | None, typer.Option(help="Questions for the bias check (JSONL in BBQ's form).")] = None,
    policy: Annotated[Path | None, typer.Option(help="Other bounds of the gate, for this call only (TOML).")] = None,
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
    minutes_per_prompt: Annotated[float | None, typer.Option(min=0, help="Minutes to collect a prompt.")] = None,
    minutes_per_label: Annotated[float | None, typer.Option(min=0, help="Minutes to label an example.")] = None,
    sharing_jobs: Annotated[int | None, typer.Option(min=1, help="Jobs that share the generator's training.")] = None,
    person_hour: Annotated[
        float | None, typer.Option(min=0, help="Price of an hour of work (collecting and labelling).")
    ] = None,
    measure_tuning: Annotated[
        bool,
        typer.Option(
            "--measure-tuning", help="Also fine-tune a LoRA on these examples, to compare times (takes minutes)."
        ),
    ] = False,
    generator: GeneratorOption = None,
    base: JobsBase = None,
    as_json: Json = False,
) -> None:
    """Make an adapter, measure it against the base, judge it, and write a report for a manager."""
    from prompt2lora.custody.pilot import PilotRequest
    from prompt2lora.custody.reports import texts
    from prompt2lora.generator.prompt_checks import Finding
    from prompt2lora.ground.examples import read_examples
    from prompt2lora.plant import candidates
    from prompt2lora.plant.plant import Plant

    given = read_given(prompts, examples, instruction, column)
    judging, *told = read_examples(inspection) if inspection else ([],)
    tell_reading(*told)
    form = declared_form(answers, given, judging)
    request = PilotRequest(
        job,
        given.prompts,
        judging,
        given.examples,
        form,
        comparison,
        display_name=display_name,
        approve=approve,
        measure_tuning=measure_tuning,
    )
    opened = Plant.open(generator, base)
    given_prices: dict[str, Any] = {
        "currency": currency,
        "watts": watts,
        "kilowatt_hour": kilowatt_hour,
        "person_hour": person_hour,
        "minutes_per_prompt": minutes_per_prompt,
        "minutes_per_label": minutes_per_label,
        "sharing_jobs": sharing_jobs,
    }
    prices = replace(opened.prices, **{name: price for name, price in given_prices.items() if price is not None})
    working = Working("pilot")

    def follow(record: dict[str, Any]) -> None:
        show(record)
        if "version" in record:  # it is kept, and can be measured at any time
            judged = {"inspection": inspection, "bias": bias, "policy": policy, "generator": generator}
            working.go_on_by("gate", job=job, version=record["version"], **judged)

    with working as show:
        found = candidates.pilot(
            opened, request, bias=bias, policy=policy, language=language, prices=prices, report=follow
        )
    if as_json:
        read = [one.to_dict() for one in (*given.read, *told)]
        print_json({**found, "answers": form and form.to_dict(), "read": read})
        return
    _print_checks(found["checks"])
    for finding in found["advice"]:
        print(Finding(**finding))
    if found["set_aside"]:
        print(f"{found['set_aside']} inspection examples were set aside: the adapter has learned from their inputs")
    print(f"{found['version']}: {found['verdict']}; released: {found['release'] or 'no'}")
    if found["held"]:
        print(found["held"])
    print(texts(language)[f"recommend {found['recommendation']}"])
    print(f"Report: {found['report']}")


@app.command(rich_help_panel=PLANT)
def gate(
    job: Job,
    version: Annotated[str, typer.Option(help="A version's name.")],
    policy: Annotated[Path | None, typer.Option(help="Other bounds of the gate, for this call only (TOML).")] = None,
    inspection: Annotated[Path | None, typer.Option(help="Examples to measure it on now (JSONL, CSV, Excel).")] = None,
    bias: Annotated[Path | None, typer.Option(help="Questions for the bias check (JSONL in BBQ's form).")] = None,
    generator: GeneratorOption = None,
    as_json: Json = False,
) -> None:
    """Judge a version again, perhaps by another policy; one that was never measured is measured first."""
    from prompt2lora.ground.examples import read_examples
    from prompt2lora.plant import candidates
    from prompt2lora.plant.plant import Plant

    examples, *read = read_examples(inspection) if inspection else ([],)
    tell_reading(*read)
    with Working("judging") as show:
        found = candidates.gate(
            Plant.open(generator), job, version, policy, inspection=examples, bias=bias, report=show
        )
    if as_json:
        print_json({**found, "read": [one.to_dict() for one in read]})
    else:
        _print_checks(found["checks"])
        print(f"{version}: {found['verdict']}")


def _print_checks(checks: list[dict[str, Any]]) -> None:
    from prompt2lora.custody.reports import limit_text, measured_text

    for one in checks:
        told = one["result"], one["metric"], measured_text(one, "en"), limit_text(one, "en")
        print("{:<20} {:<26} {:>12}   {}".format(*told))
