"""The pilot: prompts of a job in; an adapter, its measurements, a verdict and (if asked) a release out, all on record.

The order is fixed: advice, generate, keep, measure, judge, and only then, if the verdict is *pass* and a person said
so, promote. It reaches the mathematics through the protocol `Evaluator` alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from prompt2lora.custody import decisions
from prompt2lora.custody.costs import RECORDED, Cost, Prices, Tuning, costs, tuning_cost
from prompt2lora.custody.evaluations import Inspected
from prompt2lora.custody.evaluator import Evaluator, evaluated, learned, making, measuring
from prompt2lora.custody.gate import PASS, UNKNOWN, Policy, Verdict, judge
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.versions import Origin, Version
from prompt2lora.errors import Prompt2LoraError
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.ground.comparison import Comparison
from prompt2lora.ground.pictures import Prompt
from prompt2lora.ground.progress import Report, steps, tell

_TUNING = 60.0  # seconds, about, of the fine-tune that is measured
LONG_ANSWERS: dict[str, Any] = {
    "kind": "long answers",
    "grave": False,
    "prompts": [],
    "text": "answers to such prompts are long, so the base writes them, and only the instruction goes into the weights",
    "remedy": "expect no gain if requests carry the instruction; if the answers are in fact short, declare their form",
}

_ROUND_PRICES = Prices()


@dataclass(frozen=True)
class PilotRequest:
    """What a pilot is asked for.

    inspection examples that judge the adapter
    examples  (prompt, right answer) that go into the weights and never judge them; there may be no prompts beside them
    form      what answers have to be, of the base and of the adapter
    comparison how answers are compared with the right ones; None: as for the job's newest version, else exactly
    display_name what people call the job from now on; empty: as before
    approve   whether the adapter is released if every check passes
    measure_tuning whether a LoRA is fine-tuned on the inspection examples, only to know how long that takes
    """

    job: str
    prompts: Sequence[Prompt]
    inspection: Sequence[tuple[Prompt, str]] = ()
    examples: Sequence[tuple[Prompt, str]] = ()
    form: AnswerForm | None = None
    comparison: Comparison | None = None
    display_name: str = ""
    approve: bool = False
    measure_tuning: bool = False


@dataclass
class Pilot:
    """Everything that a report says; JSON-ready by `to_dict`.

    comparison how answers are compared with the right ones
    display_name what people call the job; its name, if nothing else
    held      why a version that passed and was approved is not released all the same; empty: nothing held it
    refused   whether a person said no to the version, or to the same adapter before
    returned  whether the version was in use and is not any more
    learned   how many examples are in its weights
    set_aside how many inspection examples were left out because their inputs are in its weights
    """

    job: str
    verdict: Verdict
    version: str
    release: str | None
    approved: bool
    at: str
    prompts: int
    advice: list[dict[str, Any]]
    scores: Mapping[str, Mapping[str, float]]
    inspection: Sequence[Inspected]
    seconds: dict[str, float]
    prices: Prices
    tuning: Tuning = RECORDED
    training_hours: float | None = None
    learned: int = 0
    held: str = ""
    refused: bool = False
    returned: bool = False
    set_aside: int = 0
    comparison: Comparison = Comparison.EXACT
    display_name: str = ""

    @property
    def unknown(self) -> list[str]:
        """What could not be measured."""
        return [check.metric for check in self.verdict.checks if check.result == UNKNOWN]

    @property
    def recommendation(self) -> str:
        """released already, refused by a person, returned, promote, gather examples, or keep the base."""
        if self.release:
            return "released"
        if self.refused:
            return "refused"
        if self.verdict.result == PASS:
            return "returned" if self.returned else "promote"
        return "gather" if self.verdict.result == UNKNOWN else "keep base"

    @property
    def costs(self) -> list[Cost]:
        """What every step costs; one whose time is not known is left out."""
        return costs(
            self.prices,
            prompts=self.prompts,
            examples=len(self.inspection) + self.learned,
            seconds=self.seconds,
            training_hours=self.training_hours,
        )

    def to_dict(self) -> dict[str, Any]:
        data = {key: value for key, value in asdict(self).items() if key not in ("verdict", "inspection")}
        return {
            **data,
            "verdict": self.verdict.result,
            "checks": self.verdict.reasons,
            "unknown": self.unknown,
            "inspected": len(self.inspection),
            "inspection": [one.to_dict() for one in self.inspection],
            "recommendation": self.recommendation,
            "costs": [cost._asdict() for cost in self.costs],
            "tuning": {**self.tuning._asdict(), "cost": tuning_cost(self.prices, self.tuning)._asdict()},
        }


def run(
    request: PilotRequest,
    *,
    evaluator: Evaluator,
    registry: Registry,
    policy: Policy,
    place: Path,
    in_force: Policy | None = None,
    prices: Prices = _ROUND_PRICES,
    report: Report = tell,
) -> Pilot:
    """Run a pilot; adapters are made below `place` and kept in the registry's store.

    Nothing answers the job but what answered before, unless the verdict is *pass*, `approve` is asked for and nothing
    else stands against it (see `decisions`, whose `check_unattended` tells before the work). `in_force` is the policy
    in force, if `policy` is another one.
    """
    in_force = in_force or policy
    job, inspection, examples = request.job, request.inspection, request.examples
    registry.add_job(job, request.display_name)
    prompts = request.prompts or [prompt for prompt, _ in examples]
    seen = registry.current(job)
    tuning = _TUNING if request.measure_tuning else 0.0
    step = steps(report, advise=2, make=making(examples), measure=measuring(inspection), tune=tuning, judge=1)
    with step("advise"):
        advice = evaluator.advise(prompts)
    with step("make"):
        made = evaluator.make(prompts, place / "adapter", examples, request.form)
    earlier = registry.versions(job)
    comparison = request.comparison or (earlier[-1].comparison if earlier else Comparison.EXACT)
    version = registry.add_version(job, made.folder, replace(made.origin, comparison=comparison))
    with step("measure") as told:
        told({"version": version.name})
        number, measured = evaluated(registry, evaluator, version, inspection)
    tuned = RECORDED
    if request.measure_tuning:  # before a release: what can still be stopped has decided nothing
        with step("tune"):
            tuned = evaluator.tune(made.origin.instruction, inspection)
    with step("judge"):
        verdict = judge(measured.metrics, policy)
        registry.add_verdict(version, number, verdict, policy, in_force=policy.digest == in_force.digest)
    released, held = None, ""
    if request.approve and verdict.result == PASS:
        expected = seen.id if seen else None
        try:
            released = decisions.approve(registry, version, "pilot passed", policy=in_force, expected=expected).version
        except Prompt2LoraError as error:  # it was refused before, or another was released meanwhile: there is a report
            held = str(error)
    return Pilot(
        job=job,
        verdict=verdict,
        version=version.name,
        release=released.name if released else None,
        approved=request.approve,
        at=version.at,
        prompts=len(prompts),
        advice=[*advice, *_on_long_answers(made.origin)],
        scores=measured.scores,
        inspection=measured.inspection,
        seconds={**made.seconds, **measured.seconds},
        prices=prices,
        tuning=tuned,
        learned=len(learned(registry, version)),
        held=held,
        refused=registry.refusal(version) is not None,
        set_aside=measured.set_aside,
        comparison=version.comparison,
        display_name=registry.display_name(version.job),
    )


def _on_long_answers(origin: Origin) -> list[dict[str, Any]]:
    """What has to be said of an adapter that holds the instruction alone."""
    return [LONG_ANSWERS] if origin.from_base else []


def recorded(registry: Registry, version: Version, told: Mapping[str, Any]) -> Pilot | None:
    """The report of a version by its latest measurement and verdict; None if it is not judged.

    `told` is what the pilot said that made the adapter, or made the one that this version began from; it may be empty.
    """
    found, judgement = registry.evaluation(version), registry.judgement(version)
    if found is None or judgement is None:
        return None
    measured, origin = found[1], registry.origin(version)
    current = registry.current(version.job)
    answers = bool(current and current.version and current.version.id == version.id)
    return Pilot(
        job=version.job,
        verdict=judgement.verdict,
        version=version.name,
        release=version.name if answers else None,
        approved=answers,
        at=version.at,
        prompts=len(origin.prompts),
        advice=[one for one in told.get("advice", []) if one["kind"] != LONG_ANSWERS["kind"]]
        + _on_long_answers(origin),
        scores=measured.scores,
        inspection=measured.inspection,
        seconds={**told.get("seconds", {}), **measured.seconds},
        prices=Prices.read(told.get("prices", {})),
        tuning=Tuning.read(told["tuning"]) if told.get("tuning") else RECORDED,
        training_hours=told.get("training_hours"),
        refused=registry.refusal(version) is not None,
        returned=not answers
        and any(one.version and one.version.id == version.id for one in registry.history(version.job)),
        learned=len(learned(registry, version)),
        set_aside=measured.set_aside,
        comparison=version.comparison,
        display_name=registry.display_name(version.job),
    )
