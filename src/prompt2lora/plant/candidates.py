"""Making and judging the versions of a job: the pilot and its reports, the gate anew, candidates of a new generator.

In: a plant, prompts and inspection examples. Out: what was found, JSON-ready, with the files that tell it. The order of
a pilot and the rules of a release are custody's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prompt2lora.custody import decisions
from prompt2lora.custody.bases import check_base
from prompt2lora.custody.costs import Prices
from prompt2lora.custody.evaluator import evaluated, stored_inspection
from prompt2lora.custody.gate import judge
from prompt2lora.custody.jobs import check_name, display_name_of
from prompt2lora.custody.pilot import PilotRequest, recorded
from prompt2lora.custody.pilot import run as run_pilot
from prompt2lora.custody.regeneration import NEW, Change
from prompt2lora.custody.regeneration import regenerate as run_regeneration
from prompt2lora.custody.reports import languages, pilot_page
from prompt2lora.custody.reports import texts as page_texts
from prompt2lora.custody.versions import Version
from prompt2lora.errors import UsageError
from prompt2lora.ground.files import write_json, write_text
from prompt2lora.ground.pictures import Prompt, texts_alone
from prompt2lora.ground.progress import Report, part, tell
from prompt2lora.ground.prompts import instruction_of
from prompt2lora.plant import version_files
from prompt2lora.plant.bias_questions import read_questions
from prompt2lora.plant.plant import Plant

_TUNING = "the measured fine-tune (--measure-tuning)"
_LOADING = 0.1  # about this share of the work


def pilot(
    plant: Plant,
    request: PilotRequest,
    *,
    bias: Path | None = None,
    policy: Path | None = None,
    language: str = "en",
    prices: Prices | None = None,
    report: Report = tell,
) -> dict[str, Any]:
    """Make, measure and judge an adapter, release it if it passes and that is asked for, and write the report."""
    page_texts(language)
    check_name(request.job)
    display_name_of(request.display_name)
    if request.measure_tuning and not request.inspection:
        raise UsageError("fine-tuning is measured on labelled examples, and none are given; add --inspection")
    if request.measure_tuning:
        texts_alone([prompt for prompt, _ in request.inspection], _TUNING)
    rules, in_force = plant.rules(policy)
    if request.approve:
        decisions.check_unattended(plant.registry, rules, in_force)
    questions = read_questions(bias) if bias else []
    with part(report, 0.0, _LOADING, step="load"):
        evaluator = plant.evaluator_for(request.job, questions)
        check_base(plant.registry, request.job, *evaluator.base_stamp)
        evaluator.pipeline.check_pictures(request.prompts, request.examples)
        evaluator.check_room(instruction_of(request.prompts, request.examples), request.inspection)
    with part(report, _LOADING, 1.0) as told, tempfile.TemporaryDirectory(prefix="prompt2lora-") as place:
        found = run_pilot(
            request,
            evaluator=evaluator,
            registry=plant.registry,
            policy=rules,
            in_force=in_force,
            place=Path(place),
            prices=prices or plant.prices,
            report=told,
        )
    found.training_hours = evaluator.generator.training_hours
    folder = version_files.folder(found.version)
    result = {**found.to_dict(), "report": str(folder / f"report-{language}.html")}
    write_json(folder / version_files.MADE, result)
    for each in languages():
        write_text(folder / f"report-{each}.html", pilot_page(found, each))
    return result


def report_page(plant: Plant, version: Version, language: str) -> str | None:
    """The report of a version, however it was made, by its latest measurement and verdict; None before that."""
    found = recorded(plant.registry, version, version_files.told(plant, version))
    return pilot_page(found, language) if found else None


def gate(
    plant: Plant,
    job: str,
    version: str,
    policy: Path | None = None,
    *,
    inspection: Sequence[tuple[Prompt, str]] = (),
    bias: Path | None = None,
    report: Report = tell,
) -> dict[str, Any]:
    """Judge a version anew, perhaps by another policy; the verdict is kept.

    It is judged by what was measured of it. It is measured now if that never happened (a refined version), or if
    examples are given; without any, on those that the job's versions were measured on, but never on those it learned
    from.
    """
    kept = plant.registry
    chosen = kept.version(job, version)
    rules, in_force = plant.rules(policy)
    known = kept.evaluation(chosen)
    if known and not inspection and not bias:
        number, measured = known
    else:
        inspection = inspection or stored_inspection(kept, job)
        questions = read_questions(bias) if bias else []
        with part(report, 0.0, _LOADING, step="load"):
            evaluator = plant.evaluator_of(chosen, questions)
            evaluator.check_room(kept.origin(chosen).instruction, inspection)
        with part(report, _LOADING, 1.0, step="measure"):
            number, measured = evaluated(kept, evaluator, chosen, inspection)
    verdict = judge(measured.metrics, rules, generated=kept.origin(chosen).generated)
    kept.add_verdict(chosen, number, verdict, rules, in_force=rules.digest == in_force.digest)
    return {"version": version, "verdict": verdict.result, "policy": rules.digest, "checks": verdict.reasons}


def regenerate(
    plant: Plant,
    jobs: Sequence[str] = (),
    *,
    policy: Path | None = None,
    report: Report = tell,
) -> list[Change]:
    """Candidates of a generator for all jobs (or those named), beside what answers them; releases stay."""
    rules, in_force = plant.rules(policy)
    usual = rules.digest == in_force.digest
    for job in jobs:
        plant.registry.versions(job)  # a job that is not there is told before anything heavy is loaded
    with part(report, 0.0, _LOADING, step="load"):
        evaluator = plant.evaluator()
    stamp = evaluator.base_stamp
    with tempfile.TemporaryDirectory(prefix="prompt2lora-") as place, part(report, _LOADING, 1.0) as told:
        changes = run_regeneration(
            plant.registry,
            evaluator,
            rules,
            Path(place),
            jobs,
            told,
            ours=lambda version: version.made_for(*stamp),
            in_force=usual,
        )
    for change in changes:
        if change.candidate and change.status == NEW:
            file = version_files.folder(change.candidate) / version_files.MADE
            if not file.exists():
                write_json(file, {"seconds": change.seconds, "training_hours": evaluator.generator.training_hours})
    return changes
