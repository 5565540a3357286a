"""Published tasks and arms -> scores with intervals, kept a few examples at a time, so that hours of work go on.

In: suites with what the arms draw on (a generator may be another one for every suite: the one that was trained without
it), a request. Out: scores by suite, arm and metric. Prompts and labelled examples come from a suite's train part
alone. The key of what is kept holds all that it depends on, and the revisions of the code.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from prompt2lora.errors import UsageError
from prompt2lora.evaluation.arms import ARMS
from prompt2lora.evaluation.attempts import Attempt, make
from prompt2lora.evaluation.judge import by_seed, mean_scores
from prompt2lora.evaluation.published.mathematics import check_installed
from prompt2lora.evaluation.published.results import ArmScores, SuiteScores
from prompt2lora.evaluation.published.runner import shut_off_by
from prompt2lora.evaluation.published.scoring import FEWEST_SAMPLES, METRICS, Asking, score
from prompt2lora.evaluation.resources import Resources
from prompt2lora.evaluation.results import Estimate, ExampleScores, GeneratorStamp, Seconds
from prompt2lora.evaluation.statistics import mean_interval, paired_difference
from prompt2lora.generator.generator import Generator
from prompt2lora.ground.progress import Report, part, tell
from prompt2lora.training.suites import SUITES, PublishedTask, SuiteKind, never_trained_on
from prompt2lora.training.tasks import Task

PROMPTS_PER_TASK, SAMPLES = 128, 10
_BASE = "base"
_AT_ONCE = 32  # test examples whose scores are kept together
_EARLIER = ("start", "shared", "examples")  # of a generator's provenance: that of what it went on from
_CODE = ("answers", "prompts", "published")
_CODE_OF_KIND = {SuiteKind.MATHEMATICS: ("mathematics",)}


@dataclass(frozen=True)
class PublishedRequest:
    """
    samples  programs that are drawn for each test example for pass@5; fewer than five: none
    metrics  what is measured; none named: all that there is of a suite
    """

    arms: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    limit: int | None = None
    samples: int = SAMPLES
    metrics: tuple[str, ...] = ()

    def measurable(self, kind: SuiteKind) -> list[str]:
        """All metrics of a kind of suite that there are samples enough for."""
        return [metric for metric in METRICS[kind] if self.samples >= FEWEST_SAMPLES.get(metric, 0)]

    def wanted(self, kind: SuiteKind) -> list[str]:
        """Those of them that are asked for."""
        return [metric for metric in self.measurable(kind) if not self.metrics or metric in self.metrics]

    def check(self, suites: Sequence[PublishedTask]) -> None:
        """Raises UsageError for an unknown arm or metric, or what this machine lacks for a suite."""
        if not self.arms or not suites:
            raise UsageError(f"at least one arm and one suite are needed; the arms are {', '.join(ARMS)}")
        for name in self.arms:
            if name not in ARMS:
                raise UsageError(f"unknown arm {name!r}; there are {', '.join(ARMS)}")
        known = {metric: kind for kind, metrics in METRICS.items() for metric in metrics}
        for metric in self.metrics:
            if metric not in known:
                raise UsageError(f"unknown metric {metric!r}; there are {', '.join(known)}")
        for published in suites:
            if not self.wanted(published.suite.kind):
                raise UsageError(
                    f"{published.task.name} has none of the metrics {', '.join(self.metrics)}; "
                    f"add one of {', '.join(METRICS[published.suite.kind])}, or leave the suite out"
                )
        kinds = {published.suite.kind for published in suites}
        if SuiteKind.MATHEMATICS in kinds:
            check_installed()
        if SuiteKind.CODE in kinds:
            shut_off_by()


@dataclass
class SuiteJudge:
    """Scores the arms on one suite."""

    resources: Resources
    published: PublishedTask
    request: PublishedRequest

    def measured(self, report: Report) -> dict[str, ExampleScores]:
        """What every arm has."""
        arms, found = self.request.arms, dict[str, ExampleScores]()
        for number, arm in enumerate(arms):
            with part(report, number / len(arms), (number + 1) / len(arms)):
                found[arm] = self._arm(arm)
            means = {metric: round(float(np.mean(each)), 3) for metric, each in found[arm].scores.items()}
            report({"share": (number + 1) / len(arms), "suite": self.published.task.name, "arm": arm, **means})
        return found

    def _arm(self, arm: str) -> ExampleScores:
        return mean_scores(by_seed(self.resources, self.published.task, arm, self.request.seeds, self._attempted))

    def _attempted(self, attempt: Attempt) -> ExampleScores:
        count = min(self.request.limit or len(self.published.task.test), len(self.published.task.test))
        parts = []

        @cache
        def made() -> tuple[Asking, float]:
            base, grid, seconds = make(attempt, self.resources.base)
            return Asking(base, grid, attempt.examples, self.request.samples, self.request.metrics), seconds

        for start in range(0, count, _AT_ONCE):
            end = min(count, start + _AT_ONCE)
            with part(tell, start / count, end / count):
                parts.append(self._some(attempt, start, end, made))
        return ExampleScores(
            scores={metric: [each for one in parts for each in one.scores[metric]] for metric in parts[0].scores},
            seconds=Seconds(
                adapt=max(one.seconds.adapt for one in parts), answer=sum(one.seconds.answer for one in parts)
            ),
        )

    def _some(self, attempt: Attempt, start: int, end: int, made: Callable[[], tuple[Asking, float]]) -> ExampleScores:
        """Scores of a few examples, kept or new; `made` gives who is asked, and the seconds that adapting took."""
        wanted = self.request.wanted(self.published.suite.kind)
        key, whole = self._key(attempt, start, end, wanted), self._key(attempt, start, end, [])
        cache = self.resources.kept.cache
        if known := cache.get(key) or cache.get(whole):
            seconds = Seconds(adapt=known["adapt"], answer=known["answer"])
            return ExampleScores(scores={metric: known["scores"][metric] for metric in wanted}, seconds=seconds)
        asking, adapting = made()
        began = time.monotonic()
        scores = score(asking, self.published, start, end)
        found = ExampleScores(
            scores={metric: [round(one, 4) for one in each] for metric, each in scores.items()},
            seconds=Seconds(adapt=adapting, answer=time.monotonic() - began).rounded(),
        )
        cache.add(key, {"scores": found.scores, **found.seconds.to_dict()})
        return found

    def _key(self, attempt: Attempt, start: int, end: int, wanted: Sequence[str]) -> str:
        """Of these metrics, or of all that there are, whose scores serve those who want some of them."""
        suite, task, against = self.published
        samples = self.request.samples if suite.kind is SuiteKind.CODE else 0
        some = [wanted] if wanted and wanted != self.request.measurable(suite.kind) else []
        asked = [[one.input, one.output, what] for one, what in zip(task.test, against, strict=True)][start:end]
        told = [
            suite.kind,
            suite.stem,
            suite.completes,
            suite.max_new_tokens,
            task.instruction,
            start,
            samples,
            asked,
            *some,
        ]
        code = [*_CODE, *_CODE_OF_KIND.get(suite.kind, ()), *attempt.code]
        return self.resources.kept.key(code, told, attempt.depends)


def measure(
    suites: Sequence[PublishedTask],
    resources: Callable[[PublishedTask], Resources],
    request: PublishedRequest,
    report: Report,
) -> tuple[dict[str, SuiteScores], dict[str, dict[str, Estimate]]]:
    """(scores by suite, means by arm and metric over the commonsense suites)."""
    found: dict[str, SuiteScores] = {}
    commonsense: list[dict[str, ExampleScores]] = []
    for number, published in enumerate(suites):
        with part(report, number / len(suites), (number + 1) / len(suites)) as inside:
            own = resources(published)
            by_arm = SuiteJudge(own, published, request).measured(inside)
        found[published.task.name] = _suite_scores(published, own.generator, by_arm)
        if published.suite.kind is SuiteKind.COMMONSENSE:
            commonsense.append(by_arm)
    means = {
        arm: {
            metric: Estimate.of(mean_interval([by_arm[arm].scores[metric] for by_arm in commonsense]))
            for metric in request.wanted(SuiteKind.COMMONSENSE)
        }
        for arm in (request.arms if commonsense else ())
    }
    return found, means


def seen(generator: Generator, suite: str) -> tuple[str, ...] | None:
    """Tasks of the generator's training that are forbidden to it where it is measured on a suite; None: not told."""
    known = generator.known_tasks
    if known is None:
        return None
    recipes, forbidden = list(_recipes(generator.provenance)), never_trained_on(suite)
    published = set().union(*(set(recipe.get("published", ())) - _left_out(recipe) for recipe in recipes))
    found = forbidden & (known | published)
    if not found and SUITES[suite].made_from_it and not all(forbidden <= _left_out(recipe) for recipe in recipes[1:]):
        return None  # of earlier runs nobody knows the task files
    return tuple(sorted(found))


def _recipes(provenance: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The recipe of a run, and those of the runs before it from whose generators or adapters it went on."""
    yield provenance.get("recipe", {})
    for earlier in map(provenance.get, _EARLIER):
        if isinstance(earlier, Mapping):
            yield from _recipes(earlier)


def _left_out(recipe: Mapping[str, Any]) -> set[str]:
    return set().union(*map(never_trained_on, recipe.get("without", ())))


def others(published: PublishedTask, suites: Sequence[PublishedTask]) -> list[Task]:
    """The suite's task and those whose prompts are wrong ones for it: of other files, with another instruction."""
    own = published.suite.test, published.task.instruction
    wrong = [one.task for one in suites if one.suite.test != own[0] and one.task.instruction != own[1]]
    return [published.task, *wrong]


def _suite_scores(published: PublishedTask, generator: Generator, by_arm: dict[str, ExampleScores]) -> SuiteScores:
    arms = {}
    for arm, one in by_arm.items():
        gain = {}
        if _BASE in by_arm and arm != _BASE:
            before = by_arm[_BASE].scores
            gain = {
                metric: Estimate.of(paired_difference([each], [before[metric]])) for metric, each in one.scores.items()
            }
        scores = {metric: Estimate.of(mean_interval([each])) for metric, each in one.scores.items()}
        arms[arm] = ArmScores(scores=scores, gain=gain, seconds=one.seconds.rounded())
    return SuiteScores(
        kind=published.suite.kind,
        examples=len(next(iter(next(iter(by_arm.values())).scores.values()))),
        of=len(published.task.test),
        arms=arms,
        generator=GeneratorStamp.of(generator.provenance),
        seen=seen(generator, published.task.name),
    )
