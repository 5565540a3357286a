"""The mathematics that a pilot needs, behind the protocol of `custody/evaluator.py`.

In: prompts, inspection examples. Out: an adapter folder and an evaluation. The base's weights are loaded when first
asked for, so that making an adapter stays quick.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from prompt2lora.adapter.health import shares
from prompt2lora.adapter.hooks import probe
from prompt2lora.adapter.intruders import intruders
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.base.decoding import ScoredAnswer, scored_answers
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.weights import weights_digest
from prompt2lora.custody.costs import Tuning
from prompt2lora.custody.evaluations import Evaluation, Health, Inspected, MeasuredInterval, Metrics, Probe, Prompts
from prompt2lora.custody.evaluator import MadeAdapter, inspecting
from prompt2lora.custody.gate import Policy
from prompt2lora.custody.versions import Origin
from prompt2lora.evaluation.statistics import mean_interval, paired_difference
from prompt2lora.generator.attribution import distance
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.pipeline import Pipeline
from prompt2lora.generator.prompt_checks import Finding
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.ground.pictures import Prompt, pictures_of, rewritten, text_of, texts_alone
from prompt2lora.ground.profile import MAX_NEW_TOKENS, PROBE
from prompt2lora.ground.progress import part, steps, tell
from prompt2lora.ground.prompts import asked_in_full, split
from prompt2lora.plant.inspection import BiasQuestion, answer_format, bias, canary, gain, share
from prompt2lora.training.synthetic import synthetic_tasks
from prompt2lora.training.tasks import Example, Task
from prompt2lora.training.tuning import TuningOptions, fit

_STRANGERS = 3  # other jobs whose prompts make the adapters that the job's own has to beat
_USUAL_PROMPTS = 16  # of a job whose own are not known
MOST_EXAMPLES = 400  # that an adapter is inspected on; of more so many are drawn
_QUESTION_SECONDS = 0.1  # about, of two cores; only shares of the work follow from it


@dataclass
class ModelEvaluator:
    """`questions` are those of a bias file, if there is one."""

    pipeline: Pipeline
    questions: Sequence[BiasQuestion] = ()

    def advise(self, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
        found = [*self._far(self.pipeline.encoded(prompts)), *self.pipeline.advise(prompts)]
        return [finding.to_dict() for finding in found]

    def _far(self, conditions: torch.Tensor) -> list[Finding]:
        """What the gate will say of the prompts' distance, before anything is made of them."""
        distance, bound = self.generator.atlas.distance(conditions.mean(0)), Policy().most_prompt_distance
        if distance <= bound:
            return []
        text = f"together {distance:.1f} times as far from the training tasks as these usually are; {bound:g} is far"
        remedy = "plan for a second stage on labelled examples (`prompt2lora refine`), or keep the base"
        return [Finding("far", True, (), text, remedy)]

    def check_room(self, instruction: str, inspection: Sequence[tuple[Prompt, str]]) -> None:
        """Raises UsageError for inspection examples that the base cannot read; before anything is made."""
        asked = [asked_in_full(prompt, instruction) for prompt, _ in inspection]
        models.check_room(self.base.model.config, self.base.chat.prompt_ids(asked) if asked else [])

    def make(
        self,
        prompts: Sequence[Prompt],
        folder: Path,
        examples: Sequence[tuple[Prompt, str]] = (),
        form: AnswerForm | None = None,
    ) -> MadeAdapter:
        made = self.pipeline.write(prompts, folder, examples=examples, form=form)
        base, base_digest = self.base_stamp
        origin = Origin(
            prompts=prompts,
            generator=str(self.generator.provenance.get("sha256", "")),
            generator_name=self.generator.name or "generator",
            base=base,
            base_digest=base_digest,
            examples=examples,
            form=form,
            from_base=made.from_base,
        )
        return MadeAdapter(folder, origin, made.seconds)

    def measure(self, folder: Path, origin: Origin, inspection: Sequence[tuple[Prompt, str]]) -> Evaluation:
        began = time.monotonic()
        adapter = Adapter.load(folder, models.load_config(self.layout.base_model))
        base, grid, layout = self.base._replace(layout=adapter.layout), adapter.grid, adapter.layout
        applied = time.monotonic()
        ids = torch.tensor(base.chat.prompt_ids([PROBE]), device=base.model.device)
        usual = self.generator.health_of(adapter.provenance)
        inspection = _drawn(inspection)
        asking = _QUESTION_SECONDS * len(self.questions)
        step = steps(tell, general=6, weights=8, bias=asking, inspection=inspecting(inspection))
        with step("general"):
            general = canary(base, grid)
        with step("weights"):
            weights = _matrices(base)
            health = Health(
                score=usual.judge(grid, layout).score if origin.generated else None,
                share=max(shares(weights, grid, layout).values()),
                intruders=len(intruders(weights, grid, layout).found),
            )
            prompts = self._distance(origin.prompts) if origin.generated else None
        with step("bias"):
            biased = bias(base, grid, self.questions) if self.questions else None
        metrics = Metrics(
            probe=Probe(probe(base.model, grid, layout, ids)),
            canary=general,
            health=health,
            prompts=prompts,
            bias=biased,
        )
        found = Evaluation(metrics, seconds={"apply": applied - began})
        if inspection:
            with step("inspection"):
                found = self._inspected(found, adapter, origin, inspection)
        return replace(found, seconds={**found.seconds, "check": time.monotonic() - applied})

    def tune(self, instruction: str, inspection: Sequence[tuple[Prompt, str]]) -> Tuning:
        """Fine-tune a LoRA as one would without a generator, to know how long that takes; nothing of it is kept.

        Raises InputError for examples with pictures.
        """
        options, used = TuningOptions(), _drawn(inspection)
        texts = texts_alone([prompt for prompt, _ in used], "a fine-tune")
        examples = tuple(Example(text, right) for text, (_, right) in zip(texts, used, strict=True))
        base = Frozen.load(self.layout, training=True)
        began = time.monotonic()
        fit(base, Task("tuning", instruction, "", "", examples, ()), examples, options)
        return Tuning(time.monotonic() - began, options.steps, len(examples), True, "measured by this pilot")

    def distance(self, one: Path, other: Path) -> float | None:
        """Distance of two adapters' updates as a share of the first one's size; None if they have different shapes.

        Both are for this evaluator's base.
        """
        config = models.load_config(self.layout.base_model)
        first, second = (Adapter.load(folder, config) for folder in (one, other))
        if first.layout.digest != second.layout.digest:
            return None
        nothing = torch.zeros_like(first.grid)
        return distance(first.grid, second.grid, first.layout) / distance(first.grid, nothing, first.layout)

    def _inspected(
        self,
        found: Evaluation,
        adapter: Adapter,
        origin: Origin,
        inspection: Sequence[tuple[Prompt, str]],
    ) -> Evaluation:
        asked = [asked_in_full(prompt, origin.instruction) for prompt, _ in inspection]
        right = [answer for _, answer in inspection]

        others = self._strangers(len(origin.prompts) or _USUAL_PROMPTS)
        asks, done = 2 + len(others) + bool(origin.instruction), 0

        def ask(given: Adapter | None, prompts: Sequence[Prompt] = asked) -> list[ScoredAnswer]:
            nonlocal done
            with part(tell, done / asks, (done + 1) / asks):
                answered = scored_answers(
                    self.base.model,
                    self.base.chat,
                    prompts,
                    layout=given.layout if given else None,
                    grid=given.grid if given else None,
                    form=origin.form,
                    max_new_tokens=MAX_NEW_TOKENS,
                    scored=given is adapter,
                )
            done += 1
            return answered

        def scores(given: Sequence[ScoredAnswer]) -> list[float]:
            return [origin.comparison.score(answer.text, wanted) for answer, wanted in zip(given, right, strict=True)]

        plain = ask(None)
        began = time.monotonic()
        own = ask(adapter)
        seconds = {**found.seconds, "replay": time.monotonic() - began}
        before, after = scores(plain), scores(own)
        strangers = [scores(ask(Adapter(self.layout, self.pipeline.make(prompts).grid))) for prompts in others]
        wrong = np.mean(strangers, axis=0).tolist()
        in_format = answer_format(right, origin.comparison)
        gained = gain(before, after)
        metrics = replace(
            found.metrics,
            gain=gained,
            conditioning=MeasuredInterval(**paired_difference([after], [wrong])._asdict()),
            format=share([in_format(answer.text) for answer in own]),
        )
        arms = {"base": before, "generated": after, "wrong": wrong}
        if origin.instruction:
            arms["bare"] = scores(ask(adapter, [rewritten(prompt, lambda text: split(text)[1]) for prompt in asked]))
        scores_of = {name: mean_interval([each])._asdict() for name, each in arms.items()}
        inspected = [
            Inspected(text_of(prompt), answer, before.text, after.text, after.confidence, pictures_of(prompt))
            for (prompt, answer), before, after in zip(inspection, plain, own, strict=True)
        ]
        return Evaluation(metrics, {**scores_of, "gain": asdict(gained)}, inspected, seconds)

    def _distance(self, prompts: Sequence[Prompt]) -> Prompts:
        """How far prompts are from the generator's training tasks."""
        return Prompts(self.generator.atlas.distance(self.pipeline.encoded(prompts).mean(0)))

    def _strangers(self, count: int) -> list[list[str]]:
        """Prompts of other jobs: synthetic ones, always the same."""
        return [[task.prompt(one.input) for one in task.train[:count]] for task in _strange_tasks()]

    @property
    def layout(self) -> LoraLayout:
        return self.pipeline.layout

    @property
    def base_stamp(self) -> tuple[str, str]:
        """The base that its adapters are for: the name, and the digest of the weights."""
        return self.layout.base_model, weights_digest(self.layout.base_model)

    @property
    def generator(self) -> Generator:
        return self.pipeline.generator

    @property
    def base(self) -> Frozen:
        return self.pipeline.base

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        """The matrices of the base that its adapters are for, by module path."""
        return _matrices(self.base)


def _drawn(inspection: Sequence[tuple[Prompt, str]]) -> Sequence[tuple[Prompt, str]]:
    """At most MOST_EXAMPLES of them, always the same: the first ones of a sorted file tell of some answers only."""
    if len(inspection) <= MOST_EXAMPLES:
        return inspection
    return [inspection[i] for i in sorted(Random(0).sample(range(len(inspection)), MOST_EXAMPLES))]


def _matrices(base: Frozen) -> dict[str, torch.Tensor]:
    """The base's adapted matrices by module path."""
    return {path: base.model.get_submodule(path).weight for _, _, path in base.layout.module_paths()}


@cache
def _strange_tasks() -> tuple[Task, ...]:
    """The synthetic tasks whose prompts are those of other jobs."""
    return tuple(Random(0).sample(synthetic_tasks(40, seed=77), _STRANGERS))
