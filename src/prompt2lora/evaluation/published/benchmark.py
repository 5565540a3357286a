"""The published tasks by one call: folders and names -> a result file.

In: the folder of the suites, names of generators and rivals; where a name holds `{suite}`, it is another one for every
suite, such as the generator that was trained without it. Out: a `PublishedResult`. Everything is checked before
anything heavy is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

import torch

from prompt2lora.base.frozen import Frozen
from prompt2lora.base.versions import origin
from prompt2lora.errors import LayoutError
from prompt2lora.evaluation.named import Named
from prompt2lora.evaluation.published.measuring import PROMPTS_PER_TASK, PublishedRequest, measure, others
from prompt2lora.evaluation.published.results import PublishedAsked, PublishedResult
from prompt2lora.evaluation.published.runner import shut_off_by
from prompt2lora.evaluation.resources import Resources
from prompt2lora.evaluation.score_cache import KeptScores
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.pipeline import fitting_layout
from prompt2lora.ground.files import check_new, write_json
from prompt2lora.ground.progress import Report
from prompt2lora.training.suites import (
    SUITES,
    PublishedTask,
    SuiteKind,
    check_names,
    never_trained_on,
    read_suites,
    training_part,
)
from prompt2lora.training.tasks import Task, read_tasks


def benchmark(
    folder: Path,
    names: Sequence[str],
    named: Named,
    request: PublishedRequest,
    *,
    tasks: Sequence[Path] = (),
    prompts_per_task: int = PROMPTS_PER_TASK,
    out: Path | None = None,
    scores: Path | None = None,
    dtype: torch.dtype = torch.float32,
    report: Report,
) -> PublishedResult:
    """Measure arms on suites of a folder; see `measuring`. `out` gets the result, `scores` keeps those of examples.

    `tasks` are the files of other tasks that teachers may have been trained on.
    """
    check_names(names)
    every = read_suites(folder)
    known_suites = {published.task.name: published for published in every}
    suites = [known_suites[name] for name in names or tuple(SUITES)]
    request.check(suites)
    if out is not None:
        check_new(out, "result file")
    loaded = cache(Generator.from_pretrained)  # once, where several suites have the same one
    generators = {
        published.task.name: loaded(named.of(published.task.name).generator, base=named.base) for published in suites
    }
    layouts = {name: fitting_layout(made, named.base) for name, made in generators.items()}
    layout = next(iter(layouts.values()))
    for name, other in layouts.items():
        if (other.digest, other.base_model) != (layout.digest, layout.base_model):
            raise LayoutError(
                f"the generator for {name} makes adapters of another layout or base; name generators alike"
            )
        named.of(name).rivals(generators[name], layout)  # refused now and not after hours
    known: list[Task] = []
    if "nearest-teacher" in request.arms:
        known = [*(read_tasks(tasks, split="train") if tasks else []), *map(training_part, every)]

    kept = KeptScores.of(scores, layout, dtype)

    @cache
    def base() -> Frozen:
        return Frozen.load(layout, dtype=dtype)

    def resources(published: PublishedTask) -> Resources:
        name = published.task.name
        return named.of(name).resources(
            base(),
            generators[name],
            others(published, every),
            kept=kept,
            prompts_per_task=prompts_per_task,
            teacher_tasks=known,
            without=never_trained_on(name),
        )

    found, mean = measure(suites, resources, request, report)
    result = PublishedResult(
        published=found,
        mean=mean,
        request=PublishedAsked(**asdict(request), prompts_per_task=prompts_per_task),
        base=layout.base_model,
        shut_off_by=shut_off_by() if any(one.suite.kind is SuiteKind.CODE for one in suites) else "",
        **origin(dtype),
    )
    if out is not None:
        write_json(out, result.to_dict())
    return result
