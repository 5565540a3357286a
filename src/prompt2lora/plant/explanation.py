"""Why an adapter is what it is: how far it is from what every job gets, which prompts it depends on, and what the base
answers with and without it.

In: an evaluator, prompts, texts to ask, perhaps a version. Out: an `Explanation`. It judges nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.folder import FROM_BASE, holds_instruction_alone
from prompt2lora.adapter.health import FEATURES, Reference, shares
from prompt2lora.adapter.intruders import intruders
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base.decoding import answers
from prompt2lora.base.models import load_config
from prompt2lora.custody.explanations import (
    AnsweredText,
    Explanation,
    NearTask,
    PromptInfluence,
    Spectrum,
    WeightHealth,
)
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.versions import Origin, Version
from prompt2lora.errors import UsageError
from prompt2lora.generator.attribution import changes, distance, influences
from prompt2lora.generator.pipeline import MadeGrid
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.ground.pictures import Prompt, identity, pictures_of, text_of
from prompt2lora.ground.progress import Report, part, steps, tell
from prompt2lora.ground.prompts import asked_in_full, instruction_of
from prompt2lora.plant.measurement import ModelEvaluator

_ASKED, _LEFT_OUT = 12, 16  # texts that are asked; most prompts whose absence is tried on the answers
_MAX_NEW_TOKENS = 48
_TINY, _ROUNDING = 1e-12, 0.02
_SPECTRA = 3  # modules whose spectrum is shown, the most unusual first


class Kept(NamedTuple):
    """A version's adapter, as it is kept, and where it comes from."""

    adapter: Adapter
    origin: Origin


def kept(registry: Registry, version: Version, base: str) -> Kept:
    """A version; `base` is where its base is found now. Raises DamagedFile, ModelNotFound."""
    return Kept(Adapter.load(registry.store.path(version.adapter), load_config(base)), registry.origin(version))


def explain(
    evaluator: ModelEvaluator,
    prompts: Sequence[Prompt],
    texts: Sequence[Prompt],
    version: Kept | None = None,
    report: Report = tell,
) -> Explanation:
    """Everything about the adapter that `prompts` make, or about a version that was made of them; the base answers only
    if there are texts to ask it. Raises UsageError for a version of another rank or of other modules."""
    generator, layout, pipeline = evaluator.generator, evaluator.layout, evaluator.pipeline
    form = version.origin.form if version else None
    step = steps(report, read=4, answer=2 if texts else 0, leave_out=min(_LEFT_OUT, len(prompts)))
    with step("read"):
        condition = pipeline.encoded(prompts).mean(0)
        made = pipeline.make(prompts, form=form)
    grid, provenance = made.grid, {FROM_BASE: made.from_base}
    if version:
        if version.adapter.layout.digest != layout.digest:
            raise UsageError(
                "it has another rank or other modules than the generator makes, so it cannot be held against it"
            )
        grid, provenance = version.adapter.grid, dict(version.adapter.provenance)
    asked = [asked_in_full(text, instruction_of(prompts)) for text in texts[:_ASKED]]
    with step("answer"):
        answered = _answered(evaluator, texts, asked, grid, form) if asked else []
    with step("leave_out"):
        told = version is None or _is_made_so(version, made, layout)
        influential = _influences(evaluator, prompts, made, asked, answered, form) if told else []
    return Explanation(
        generator=str(generator.provenance.get("sha256", "")),
        from_base=holds_instruction_alone(provenance),
        neighbours=[NearTask(*one) for one in generator.atlas.neighbours(condition)],
        distance=generator.atlas.distance(condition),
        influences=influential,
        modules=[target.name for target in layout.targets],
        changes=changes(grid, generator.start.detach(), layout).tolist(),
        health=_health(evaluator, grid, generator.health_of(provenance), with_base=bool(answered)),
        texts=answered,
    )


def _is_made_so(version: Kept, made: MadeGrid, layout: LoraLayout) -> bool:
    """Whether a version is what is made of its prompts alone now, but for rounding."""
    size = distance(made.grid, 0.0 * made.grid, layout)
    return distance(made.grid, version.adapter.grid, layout) < _ROUNDING * size


def _influences(
    evaluator: ModelEvaluator,
    prompts: Sequence[Prompt],
    made: MadeGrid,
    asked: Sequence[Prompt],
    answered: Sequence[AnsweredText],
    form: AnswerForm | None,
) -> list[PromptInfluence]:
    """What every prompt does, the largest share first; without texts only to the weights.

    The adapter is made anew without each of those that the decoder was given; leaving out another changes nothing.
    Where many were given and none was aligned, the decoder alone is asked for the weights.
    """
    if not made.decoded:
        return []
    pipeline, layout, shared = evaluator.pipeline, evaluator.layout, evaluator.generator.start.detach()
    conditions = None if made.instruction else pipeline.conditions(prompts)
    if conditions is not None:
        found = [PromptInfluence(*one) for one in influences(evaluator.generator, conditions)]
        tried = [one.prompt for one in found[:_LEFT_OUT]] if answered else []
    else:
        given = {identity(prompt) for prompt in made.decoded}
        tried = [i for i, prompt in enumerate(prompts) if identity(prompt) in given]
        found = [PromptInfluence(i, 0.0, 0.0 if answered else None) for i in range(len(prompts)) if i not in tried]
    size = max(distance(made.grid, shared, layout), _TINY)
    known = {one.prompt: one for one in found}
    for done, i in enumerate(tried):
        others = [*prompts[:i], *prompts[i + 1 :]]
        if not others:
            known[i] = PromptInfluence(i, 1.0)
            continue
        with part(tell, done / len(tried), (done + 1) / len(tried)):
            rest = None if conditions is None else torch.cat([conditions[:i], conditions[i + 1 :]])
            grid = pipeline.make(others, rest, form=form).grid
            share = distance(grid, made.grid, layout) / size
            known[i] = PromptInfluence(i, share, _changed(evaluator, asked, answered, grid, form) if answered else None)
    return sorted(known.values(), key=lambda one: -one.share)


def _answered(
    evaluator: ModelEvaluator,
    texts: Sequence[Prompt],
    asked: Sequence[Prompt],
    grid: Tensor,
    form: AnswerForm | None,
) -> list[AnsweredText]:
    """Every text with what the base and the adapter answer."""
    with part(tell, 0.0, 0.5):
        before = _answers(evaluator, asked, None, form)
    with part(tell, 0.5, 1.0):
        after = _answers(evaluator, asked, grid, form)
    return [
        AnsweredText(text_of(one), base, generated, [picture.digest for picture in pictures_of(one)])
        for one, base, generated in zip(texts, before, after, strict=False)
    ]


def _changed(
    evaluator: ModelEvaluator,
    asked: Sequence[Prompt],
    answered: Sequence[AnsweredText],
    grid: Float[Tensor, "layers rows cols"],
    form: AnswerForm | None,
) -> float:
    """Share of the answers that are others with another adapter."""
    given = _answers(evaluator, asked, grid, form)
    return sum(answer != one.generated for answer, one in zip(given, answered, strict=True)) / len(given)


def _answers(
    evaluator: ModelEvaluator, asked: Sequence[Prompt], grid: Tensor | None, form: AnswerForm | None
) -> list[str]:
    return answers(
        evaluator.base.model,
        evaluator.base.chat,
        asked,
        layout=evaluator.layout,
        grid=grid,
        form=form,
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
