"""What a new generator would change: a candidate version for every job, beside the one that is there.

In: the registry, an evaluator with the new generator. Out: per job the candidate, how far its weights are from the old
ones, and what was measured of both. Releases stay what they are: a candidate answers nobody until it is promoted. It
reaches the mathematics through the pilot's protocol, and one distance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from prompt2lora.custody.bases import newest_of_its_own
from prompt2lora.custody.evaluator import Evaluator, evaluated, making, measuring, stored_inspection
from prompt2lora.custody.gate import Policy, judge
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.versions import REGENERATED, Version
from prompt2lora.errors import Prompt2LoraError
from prompt2lora.ground.pictures import identity
from prompt2lora.ground.progress import Report, part, steps, tell

NEW, SAME, EMPTY, ELSEWHERE, FAILED = "new", "same", "no version", "another base", "failed"


class ComparingEvaluator(Evaluator, Protocol):
    """A pilot's evaluator that can also tell how far two adapters are apart."""

    def distance(self, one: Path, other: Path) -> float | None: ...


class Change(NamedTuple):
    """What the new generator would change for one job.

    status    new: there is a candidate; same: the new generator makes what is there; no version; another base: it
              belongs to one, and was not named; failed
    distance  of the weights' updates, as a share of the old one's size; None if they do not fit the same base
    checks    per metric of the gate: before, after (None: not measured), and whether the new value keeps its bound
    score     share of right answers on the stored inspection examples, before and after, with intervals
    answers   (changed, of so many) on those examples
    seconds   that making the candidate took, step by step
    """

    job: str
    status: str
    source: str | None = None
    candidate: str | None = None
    generators: tuple[str, str] | None = None
    distance: float | None = None
    verdict: str | None = None
    checks: Sequence[dict[str, Any]] = ()
    score: dict[str, Any] | None = None
    answers: tuple[int, int] | None = None
    seconds: dict[str, float] | None = None
    trouble: str = ""


def regenerate(
    registry: Registry,
    evaluator: ComparingEvaluator,
    policy: Policy,
    place: Path,
    jobs: Sequence[str] = (),
    report: Report = tell,
    *,
    ours: Callable[[Version], bool] = lambda version: True,
    in_force: bool = True,
) -> list[Change]:
    """A candidate for each of `jobs` (none given: all of the evaluator's base); if one cannot be made, the others are.

    `ours` says whether a version is of the evaluator's base, `in_force` whether the policy is the one in force. Every
    job begins with a record of those that are left (`jobs_left`), itself among them:
    what is to be asked for after an interruption.
    """
    chosen, ours = list(jobs) or registry.jobs(), ours if not jobs else lambda version: True
    concerned = [job for job in chosen if (source := _source(registry, job)) and ours(source)]
    found = []
    for number, job in enumerate(chosen):
        with part(report, number / len(chosen), (number + 1) / len(chosen)):
            tell({"share": 0.0, "jobs_left": [one for one in concerned if one in chosen[number:]]})
            try:
                found.append(_change(registry, evaluator, policy, place / str(number), job, ours, in_force))
            except Prompt2LoraError as error:
                found.append(Change(job, FAILED, trouble=str(error)))
    return found


def _change(
    registry: Registry,
    evaluator: ComparingEvaluator,
    policy: Policy,
    place: Path,
    job: str,
    ours: Callable[[Version], bool],
    in_force: bool,
) -> Change:
    source = _source(registry, job)
    if source is None:
        return Change(job, EMPTY)
    if not ours(source):
        return Change(job, ELSEWHERE, source.name, trouble=f"{source.base}; named by --job, it gets a candidate too")
    origin = registry.origin(source)
    before = registry.measured(source)
    inspection = before.pairs or stored_inspection(registry, job)
    step = steps(tell, make=making(origin.examples), measure=measuring(inspection))
    with step("make"):
        made = evaluator.make(origin.prompts, place, origin.examples, origin.form)
    digest = registry.store.put(made.folder)
    generators = (origin.generator, made.origin.generator)
    if digest == source.adapter:
        return Change(job, SAME, source.name, source.name, generators, 0.0, registry.verdict(source))
    known = [version for version in registry.versions(job) if version.adapter == digest]
    lineage = replace(made.origin, parent=source.id, kind=REGENERATED, comparison=source.comparison)
    candidate = known[-1] if known else registry.add_version(job, made.folder, lineage)
    with step("measure"):
        number, measured = evaluated(registry, evaluator, candidate, inspection)
    verdict = judge(measured.metrics, policy)
    registry.add_verdict(candidate, number, verdict, policy, in_force=in_force)
    old = {check.metric: check.value for check in judge(before.metrics, policy).checks}
    scores = (before.scores.get("generated"), measured.scores.get("generated"))
    answers = {identity(one.prompt): one.generated for one in before.inspection}
    asked = [(identity(one.prompt), one.generated) for one in measured.inspection]
    again = [(answers[known], answer) for known, answer in asked if known in answers]
    changed = sum(not source.comparison.same(*pair) for pair in again)
    distance = None
    if source.made_for(made.origin.base, made.origin.base_digest):
        distance = evaluator.distance(registry.store.path(source.adapter), registry.store.path(digest))
    return Change(
        job=job,
        status=NEW,
        source=source.name,
        candidate=candidate.name,
        generators=generators,
        distance=distance,
        verdict=verdict.result,
        checks=[
            {"metric": check.metric, "before": old[check.metric], "after": check.value, "result": check.result}
            for check in verdict.checks
        ],
        score={"before": scores[0], "after": scores[1]} if any(scores) else None,
        answers=(changed, len(answers)) if answers else None,
        seconds=made.seconds,
    )


def _source(registry: Registry, job: str) -> Version | None:
    """What answers the job now, or else its newest version that is no candidate itself."""
    current = registry.current(job)
    if current and current.version:
        return current.version
    return newest_of_its_own(registry, job)
