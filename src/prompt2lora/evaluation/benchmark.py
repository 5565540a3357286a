"""Task files and arms -> a table of scores with intervals, that says how it was made.

In: task files, arms, and the names of what they draw on. Out: a result, and its file if one is wanted. Everything is
checked before anything heavy is loaded; what answers and what scores is in `judge`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prompt2lora.base.frozen import Frozen
from prompt2lora.base.versions import origin
from prompt2lora.evaluation.judge import BenchmarkRequest, Judge
from prompt2lora.evaluation.metrics import METRICS
from prompt2lora.evaluation.named import PROMPTS_PER_TASK, Named
from prompt2lora.evaluation.results import (
    BenchmarkAsked,
    BenchmarkResult,
    Cell,
    Estimate,
    GeneratorStamp,
    Scored,
    ScoreTable,
    Summary,
)
from prompt2lora.evaluation.score_cache import KeptScores
from prompt2lora.evaluation.statistics import Interval, mean_interval, paired_difference
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.pipeline import fitting_layout
from prompt2lora.ground.files import check_new, write_json
from prompt2lora.ground.progress import Report, part, silent
from prompt2lora.training.tasks import read_tasks

OWN = "generated"  # the arm whose differences to all others are told
_Cells = dict[str, Scored]


def benchmark(
    places: Sequence[Path],
    named: Named,
    request: BenchmarkRequest,
    *,
    split: str | None = None,
    prompts_per_task: int = PROMPTS_PER_TASK,
    out: Path | None = None,
    scores: Path | None = None,
    dtype: torch.dtype = torch.float32,
    report: Report = silent,
) -> BenchmarkResult:
    """Score arms on the task files of `places`, those of the part `split` alone if one is named.

    `out` gets the result, `scores` keeps those of examples. In float32 figures do not depend on the machine. Raises
    UsageError, InputError, OutputError, LayoutError.
    """
    tasks = read_tasks(places, split=split)
    request.check(tasks)
    if out is not None:
        check_new(out, "result file")
    generator = Generator.from_pretrained(named.generator, base=named.base)
    layout = fitting_layout(generator, named.base)
    taught = read_tasks(places, split="train") if "nearest-teacher" in request.arms else ()
    resources = named.resources(
        Frozen.load(layout, dtype=dtype),
        generator,
        tasks,
        kept=KeptScores.of(scores, layout, dtype),
        prompts_per_task=prompts_per_task,
        teacher_tasks=taught,
    )
    result = BenchmarkResult(
        **dict(run(Judge(resources, request), report)),
        base=layout.base_model,
        generator=GeneratorStamp.of(generator.provenance),
        seen=seen(generator, [task.name for task in tasks]),
        **origin(dtype),
    )
    if out is not None:
        write_json(out, result.to_dict())
    return result


def seen(generator: Generator, names: Collection[str]) -> tuple[str, ...] | None:
    """Which of these tasks the generator was trained or validated on; None if it does not tell its tasks."""
    known = generator.known_tasks
    return None if known is None else tuple(sorted(known & {*names}))


def run(judge: Judge, report: Report = silent) -> ScoreTable:
    """Score every arm in every form on every task."""
    request, tasks = judge.request, judge.resources.tasks
    scores: dict[str, dict[str, _Cells]] = {}
    forms = {task.name: [form for form in request.forms if form == "full" or task.instruction] for task in tasks}
    number, count = 0, len(request.arms) * sum(map(len, forms.values()))
    for done, task in enumerate(tasks, 1):
        scores[task.name] = {}
        judge.begin()
        for form in forms[task.name]:
            scored = {}
            for arm in request.arms:
                with part(report, number / count, (number + 1) / count):
                    scored[arm] = judge.scored(task, form, arm)
                number += 1
            scores[task.name][form] = scored
            means = {arm: round(float(np.mean(one.scores["score"])), 3) for arm, one in scored.items()}
            report({"done": done, "of": len(tasks), "share": number / count, "task": task.name, "form": form, **means})
    every = [one for by_form in scores.values() for by_arm in by_form.values() for one in by_arm.values()]
    having = {form: [by[form] for by in scores.values() if form in by] for form in request.forms}
    return ScoreTable(
        tasks={
            name: {form: {arm: _cell(one) for arm, one in by_arm.items()} for form, by_arm in by_form.items()}
            for name, by_form in scores.items()
        },
        mean={form: _means(found, request.arms) for form, found in having.items() if found},
        difference={form: _differences(found, request.arms) for form, found in having.items() if found},
        request=BenchmarkAsked(**asdict(request), tasks=len(tasks), prompts_per_task=judge.resources.prompts_per_task),
        seconds=round(sum(one.seconds.adapt + one.seconds.answer for one in every), 1),
    )


def _cell(one: Scored) -> Cell:
    means: dict[str, Any] = {metric: round(float(np.mean(scores)), 4) for metric, scores in one.scores.items()}
    return Cell(**means, n=len(one.scores["score"]), seconds=one.seconds.rounded(), prompt_tokens=one.prompt_tokens)


def _means(cells: Sequence[_Cells], arms: Sequence[str]) -> dict[str, Summary]:
    return {arm: _summary([mean_interval(_scores(cells, arm, metric)) for metric in METRICS]) for arm in arms}


def _differences(cells: Sequence[_Cells], arms: Sequence[str]) -> dict[str, Summary]:
    """Arms of this product minus others, paired example by example."""
    return {
        f"{own} - {arm}": _summary(
            [paired_difference(_scores(cells, own, metric), _scores(cells, arm, metric)) for metric in METRICS]
        )
        for own, arm in product(arms, arms)
        if _compared(own, arm)
    }


def _compared(own: str, arm: str) -> bool:
    """`generated` is held against all others, `examples-k` against those that take as many labelled examples."""
    if own in (arm, OWN):
        return own != arm
    name, _, count = own.partition("-")
    return name == "examples" and count.isdecimal() and count in arm.split("-")


def _scores(cells: Sequence[_Cells], arm: str, metric: str) -> list[list[float]]:
    return [by[arm].scores[metric] for by in cells]


def _summary(intervals: Sequence[Interval]) -> Summary:
    exact, f1 = map(Estimate.of, intervals)
    return Summary(score=exact.score, low=exact.low, high=exact.high, f1=f1)
