"""Why an adapter is what it is, all of it: what `generator/attribution.py` tells from the weights alone, and what the
base answers with and without the adapter, and without each prompt.

In: an evaluator, prompts, texts to ask. Out: an `Explanation`. It judges nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.folder import FROM_BASE
from prompt2lora.adapter.health import FEATURES, Reference, shares
from prompt2lora.adapter.intruders import intruders
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base.decoding import answers
from prompt2lora.custody.explanations import (
    AnsweredText,
    Explanation,
    NearTask,
    PromptInfluence,
    Spectrum,
    WeightHealth,
)
from prompt2lora.generator.attribution import changes, influences
from prompt2lora.ground.pictures import Prompt, pictures_of, text_of
from prompt2lora.ground.progress import Report, part, steps, tell
from prompt2lora.ground.prompts import asked_in_full, instruction_of
from prompt2lora.plant.measurement import ModelEvaluator

_ASKED, _LEFT_OUT = 12, 16  # texts that are asked; prompts whose absence is tried, those with the most influence first
_MAX_NEW_TOKENS = 48
_SPECTRA = 3  # modules whose spectrum is shown, the most unusual first


def explain(
    evaluator: ModelEvaluator, prompts: Sequence[Prompt], texts: Sequence[Prompt], report: Report = tell
) -> Explanation:
    """Everything about the adapter of `prompts`; the base is loaded only if there are texts to ask it."""
    generator, layout = evaluator.generator, evaluator.layout
    step = steps(report, read=4, answer=2 if texts else 0, leave_out=min(_LEFT_OUT, len(prompts)) if texts else 0)
    with step("read"):
        conditions = evaluator.pipeline.conditions(prompts)
    condition = evaluator.pipeline.encoded(prompts).mean(0)
    made = evaluator.pipeline.make(prompts, conditions)
    grid, usual = made.grid, generator.health_of({FROM_BASE: made.from_base})
    influential = [] if made.from_base else [PromptInfluence(*one) for one in influences(generator, conditions)]
    asked = [asked_in_full(text, instruction_of(prompts)) for text in texts[:_ASKED]]
    with step("answer"):
        answered = _answered(evaluator, texts, asked, grid) if asked else []
    left_out = min(_LEFT_OUT, len(influential)) if answered else 0
    with step("leave_out") as told:
        for i in range(left_out):
            with part(told, i / left_out, (i + 1) / left_out):
                changed = _changed(evaluator, conditions, prompts, influential[i].prompt, asked, answered)
                influential[i] = replace(influential[i], answers=changed)
    return Explanation(
        generator=str(generator.provenance.get("sha256", "")),
        from_base=made.from_base,
        neighbours=[NearTask(*one) for one in generator.atlas.neighbours(condition)],
        distance=generator.atlas.distance(condition),
        influences=influential,
        modules=[target.name for target in layout.targets],
        changes=changes(grid, generator.start.detach(), layout).tolist(),
        health=_health(evaluator, grid, usual, with_base=bool(answered)),
        texts=answered,
    )


def _answered(
    evaluator: ModelEvaluator, texts: Sequence[Prompt], asked: Sequence[Prompt], grid: Tensor
) -> list[AnsweredText]:
    """Every text with what the base and the adapter answer."""
    with part(tell, 0.0, 0.5):
        before = _answers(evaluator, asked, None)
    with part(tell, 0.5, 1.0):
        after = _answers(evaluator, asked, grid)
    return [
        AnsweredText(text_of(one), base, generated, [picture.digest for picture in pictures_of(one)])
        for one, base, generated in zip(texts, before, after, strict=False)
    ]


def _changed(
    evaluator: ModelEvaluator,
    conditions: Float[Tensor, "prompts width"],
    prompts: Sequence[Prompt],
    left_out: int,
    asked: Sequence[Prompt],
    answered: Sequence[AnsweredText],
) -> float | None:
    """Share of the answers that are others if one prompt is left out; None for the only prompt."""
    if len(conditions) == 1:
        return None
    rest = torch.cat([conditions[:left_out], conditions[left_out + 1 :]])
    others = [*prompts[:left_out], *prompts[left_out + 1 :]]
    given = _answers(evaluator, asked, evaluator.pipeline.make(others, rest).grid)
    return sum(answer != one.generated for answer, one in zip(given, answered, strict=True)) / len(given)


def _answers(evaluator: ModelEvaluator, asked: Sequence[Prompt], grid: Tensor | None) -> list[str]:
    return answers(
        evaluator.base.model,
        evaluator.base.chat,
        asked,
        layout=evaluator.layout,
        grid=grid,
        max_new_tokens=_MAX_NEW_TOKENS,
    )


def _health(
    evaluator: ModelEvaluator, grid: Float[Tensor, "layers rows cols"], usual: Reference, *, with_base: bool
) -> WeightHealth:
    judged = usual.judge(grid, evaluator.layout)
    found = intruders(evaluator.weights, grid, evaluator.layout) if with_base else None
    share = shares(evaluator.weights, grid, evaluator.layout) if with_base else {}
    return WeightHealth(
        score=judged.score,
        worst=judged.worst,
        share=max(share.items(), key=lambda one: one[1]) if share else None,
        intruders=len(found.found) if found else None,
        looked_at=len(found.looked_at) if found else 0,
        spectra=_spectra(usual, grid, evaluator.layout),
    )


def _spectra(reference: Reference, grid: Tensor, layout: LoraLayout) -> list[Spectrum]:
    """log10 of the singular values of the most unusual modules, and where they usually lie (see adapter/health.py)."""
    first, last = len(FEATURES), len(FEATURES) + layout.rank
    if reference.mean.shape[-1] < last:
        return []  # a reference of an earlier version holds no spectra
    values = reference.features(grid, layout)[:, first:last]
    paths = [path for _, _, path in layout.module_paths()]
    unusual = reference.deviations(grid, layout)[:, first:last].amax(1).argsort(descending=True).tolist()
    return [
        Spectrum(
            module=paths[index],
            values=values[index].tolist(),
            mean=reference.mean[index, first:last].tolist(),
            spread=reference.spread[index, first:last].tolist(),
        )
        for index in unusual[:_SPECTRA]
    ]
