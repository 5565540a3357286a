"""What the registry and the watch hold -> what a foreman, a manager and an engineer look at.

In: a service and a job. Out: plain values for the pages: a light and why it is on, the next step, an inspection in
numbers and examples. It writes nothing and says nothing: every text is a key with its values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from prompt2lora.custody import decisions
from prompt2lora.custody.access import MAKE, RELEASE, RETURN
from prompt2lora.custody.catalogue import Catalogue
from prompt2lora.custody.evaluations import Evaluation, Inspected
from prompt2lora.custody.gate import FAIL, PASS, UNKNOWN, Policy
from prompt2lora.custody.judgements import Judgement
from prompt2lora.custody.records import SourceRecord, WatchRecord
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.releases import Release
from prompt2lora.custody.reports import BARS
from prompt2lora.custody.versions import Version
from prompt2lora.errors import DamagedFile, Unavailable, UsageError
from prompt2lora.ground.comparison import Comparison
from prompt2lora.serving.service import Service

ENOUGH_EXAMPLES = 40  # labelled examples below which the interval is so wide that hardly anything passes
GOOD, WATCH, BACK, NEW = "good", "watch", "back", "new"
_BY_EXAMPLES = {"gain over the base", "p value of the gain", "answers in format", "own over wrong prompts"}  # checks
_RISING = 0.5  # of the way (in orders of magnitude) from no evidence to the limit


class Light(NamedTuple):
    """`kind` is its shape, colour and word; `why` the key of one sentence."""

    kind: str
    why: str
    values: dict[str, Any]


class NextStep(NamedTuple):
    """What to do next, where, and which verb it takes."""

    what: str
    place: str
    verb: str | None = None


@dataclass(frozen=True)
class JobStatus:
    """The present status of a job."""

    job: str
    display_name: str
    versions: list[Version]
    release: Release | None
    history: list[Release]
    watched: WatchRecord | None
    verdict: str | None  # of the version that answers
    newest: str | None  # the verdict of the newest version
    inspected: bool  # the newest version was, on labelled examples
    refused: bool  # the newest version was, by a person
    few: bool  # the newest version failed where only more examples can tell
    outdated: bool  # the newest version was judged by another policy than the one in force
    from_base: bool = False  # the newest version holds the instruction alone, for the answers are long
    policy: Policy | None = None  # the one in force; None: it cannot be read
    policy_fault: str = ""  # and why

    @property
    def answering(self) -> Version | None:
        return self.release.version if self.release else None

    @property
    def level(self) -> float:
        """How far the evidence that something got worse has come to its limit: 0 none, 1 taken back."""
        return max((nearness(one) for one in self.watched["sources"].values()), default=0.0) if self.watched else 0.0

    @property
    def tabs(self) -> tuple[str, ...]:
        """The pages that say something: what follows from a verdict or a release comes with the first of them."""
        if self.newest is None and self.release is None:
            return ("try", "inspection", "refine", "why")
        released = ("sheet",) if self.release else ()
        return ("try", *released, "inspection", "decision", "watch", "refine", "why", "report")

    @property
    def light(self) -> Light:
        last = self.release
        if last is None:
            return Light(NEW, self._not_in_use, {"number": self.versions[-1].number if self.versions else None})
        if last.version is None:
            earlier = any(release.version for release in self.history)
            return Light(BACK if earlier else NEW, "back" if earlier else "base", {"release": last})
        values = {"release": last, "number": last.version.number}
        if self.verdict != PASS:
            return Light(WATCH, "doubted", values)
        if not self.watched:
            return Light(WATCH, "unwatched", values)
        if self.level >= _RISING:
            return Light(WATCH, "rising", values)
        return Light(WATCH, "rolled", values) if last.action == "rollback" else Light(GOOD, "good", values)

    @property
    def _not_in_use(self) -> str:
        """Why nothing was ever released."""
        if not self.versions:
            return "empty"
        return "refused" if self.refused else "failed" if self.newest == FAIL else "new"

    @property
    def step(self) -> NextStep:
        newest = self.versions[-1] if self.versions else None
        if newest is None:
            return NextStep("make", "/new", MAKE)
        if self.answering is None or self.answering.id != newest.id:
            tried = any(release.version and release.version.id == newest.id for release in self.history)
            if tried and not self.refused and self.newest == PASS:
                return NextStep("again", "refine", MAKE)
            if self.from_base and self.newest == FAIL:
                return NextStep("long", "report")
            if tried or self.refused:
                return NextStep("mend", "refine", MAKE)
            if not self.inspected:
                return NextStep("inspect", "inspection", MAKE)
            if self.outdated:
                return NextStep("judge", "decision", MAKE)
            if self.newest == PASS:
                return NextStep("decide", "decision", RELEASE)
            if self.few:
                return NextStep("more", "inspection", MAKE)
            return NextStep("mend", "refine", MAKE) if self.newest == FAIL else NextStep("unsure", "decision")
        if not self.watched:
            return NextStep("watch", "watch", RETURN)
        return NextStep("alarming", "watch") if self.level >= _RISING else NextStep("nothing", "watch")


def job_status(service: Service, job: str) -> JobStatus:
    kept = service.plant.registry
    versions, release = kept.versions(job), kept.current(job)
    newest = versions[-1] if versions else None
    answering = release.version if release else None
    policy, fault = _policy_in_force(service)
    kinds = {one.kind for one in objections(kept, newest, policy, fault)} if newest else set()
    examples = len(kept.measured(newest).inspection) if newest else 0
    failed = {
        check["metric"] for check in checks(kept.judgement(newest) if newest else None) if check["result"] == FAIL
    }
    return JobStatus(
        job=job,
        display_name=kept.display_name(job),
        versions=versions,
        release=release,
        history=kept.history(job),
        watched=_watched(service, job),
        verdict=kept.verdict(answering) if answering else None,
        newest=kept.verdict(newest) if newest else None,
        inspected=bool(examples),
        refused=decisions.REFUSED in kinds,
        few=bool(failed) and failed <= _BY_EXAMPLES and examples < ENOUGH_EXAMPLES,
        outdated=decisions.OTHER_POLICY in kinds,
        from_base=_is_from_base(kept, newest),
        policy=policy,
        policy_fault=fault,
    )


def _policy_in_force(service: Service) -> tuple[Policy | None, str]:
    """The policy in force; if it cannot be read, none and why not."""
    try:
        return service.plant.policy, ""
    except UsageError as error:
        return None, str(error)


def objections(kept: Registry, version: Version, policy: Policy | None, fault: str) -> list[decisions.Objection]:
    """What stands against releasing a version. No version was judged by a policy that cannot be read."""
    if policy:
        return decisions.objections(kept, version, policy)
    others = decisions.objections(kept, version, Policy())
    return [
        *(one for one in others if one.kind != decisions.OTHER_POLICY),
        decisions.Objection(decisions.OTHER_POLICY, fault),
    ]


def _watched(service: Service, job: str) -> WatchRecord | None:
    """A watch that cannot be read watches nothing: it is begun anew on the page of the job."""
    with suppress(DamagedFile, Unavailable):
        return service.watched(job)
    return None


def _is_from_base(kept: Catalogue, version: Version | None) -> bool:
    """Nobody knows it of a version whose files are damaged or cannot be read now; other checks tell that."""
    with suppress(DamagedFile, Unavailable):
        return version is not None and kept.is_from_base(version)
    return False


def end_of_use(status: JobStatus, version: Version) -> Release | None:
    """The release that took a version's place; None of one that is in use, or never was."""
    after = None
    for release in reversed(status.history):
        if release.version and release.version.id == version.id:
            return after
        after = release
    return None


def attention(one: JobStatus) -> tuple[int, str]:
    """By what the jobs of the overview are sorted: what needs a look comes first."""
    return (WATCH, BACK, NEW, GOOD).index(one.light.kind), one.job


def nearness(source: SourceRecord) -> float:
    """Evidence as a share of the way to its limit, in orders of magnitude."""
    return min(1.0, max(0.0, math.log(max(source["evidence"], 1.0)) / math.log(source["limit"])))


class Inspection(NamedTuple):
    """What was measured on labelled examples, as a person reads it; points of `low` and `high` are percent."""

    examples: int
    right_before: int
    right_after: int
    low: float
    high: float
    meaning: str
    better: list[Inspected]
    worse: list[Inspected]
    both_wrong: list[Inspected]
    arms: list[dict[str, Any]]


def inspection(measured: Evaluation, comparison: Comparison) -> Inspection | None:
    """None for a version that was never measured on labelled examples."""
    scores = measured.scores
    examples = measured.inspection
    if not examples or "gain" not in scores:
        return None
    gain = scores["gain"]
    before = [comparison.same(one.base, one.right) for one in examples]
    after = [comparison.same(one.generated, one.right) for one in examples]
    pairs = list(zip(examples, before, after, strict=True))
    return Inspection(
        examples=len(examples),
        right_before=sum(before),
        right_after=sum(after),
        low=100 * gain["low"],
        high=100 * gain["high"],
        meaning="better" if gain["low"] > 0 else "worse" if gain["high"] < 0 else "unclear",
        better=[one for one, was, now in pairs if now and not was],
        worse=[one for one, was, now in pairs if was and not now],
        both_wrong=[one for one, was, now in pairs if not was and not now],
        arms=[{"name": name, **scores[name]} for name in BARS if name in scores],
    )


def checks(judged: Judgement | None) -> list[dict[str, Any]]:
    """The checks of a verdict, what needs a look first."""
    order = {FAIL: 0, UNKNOWN: 1, PASS: 2}
    return sorted(judged.verdict.reasons if judged else [], key=lambda check: order[check["result"]])


def promises(measured: Evaluation) -> dict[str, float]:
    """Percent of bad outcomes that a watch may be promised: what the inspection leaves open, rounded up to fives."""
    scores = measured.scores
    wrong = 100 * (1 - scores["generated"]["low"]) if "generated" in scores else 20.0
    return {"canary": float(min(50, max(5, 5 * math.ceil(wrong / 5)))), "correction": 5.0}


def heat(found: Mapping[str, Any]) -> dict[str, Any]:
    """What changed, as squares: modules down, layers across, each from 0 to 1."""
    changes = [list(values) for values in zip(*found["changes"], strict=True)]
    most = max(map(max, changes)) or 1.0
    return {"modules": list(found["modules"]), "changes": [[value / most for value in one] for one in changes]}
