"""What becomes of a trained run: the generator folder at its best strength, with what it knows about itself.

In: a run whose steps are made. Out: `generator/` and `shared-adapter/` in its folder; for a release, also what adapters
made of labelled examples begin with. Their bytes depend on the recipe, the tasks and this machine's arithmetic, not on
the time that it took or on where anything lies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.health import Reference
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base.versions import versions
from prompt2lora.base.weights import weights_digest
from prompt2lora.generator.atlas import Atlas
from prompt2lora.generator.examples import taught
from prompt2lora.generator.generator import ExamplesStart, Generator
from prompt2lora.generator.pipeline import Pipeline
from prompt2lora.ground.progress import Report, part, silent
from prompt2lora.training.lengths import lengths_of
from prompt2lora.training.recipe import Recipe
from prompt2lora.training.run import Run
from prompt2lora.training.validation import AFTER, ALONE, PROMPTS

GENERATOR, SHARED = "generator", "shared-adapter"
_FEWEST_ADAPTERS, _MOST_ADAPTERS = 16, 140  # that tell what an adapter of this generator usually looks like
_MOST_TAUGHT = 60  # that tell it of adapters made of labelled examples
_EXAMPLES = (2, 4, 8, 16, 32, 64)  # how many each of those is made of, in turn


def train(recipe: Recipe, folder: Path, report: Report = silent) -> Generator:
    """Train by a recipe, or go on with the run that `folder` holds; returns the finished generator.

    `report` gets one dictionary per logged step. Raises UsageError for a folder of another recipe or of other tasks.
    """
    run = Run(recipe, folder, report)
    if (folder / GENERATOR).exists() and (folder / SHARED).exists():
        return Generator.from_pretrained(folder / GENERATOR)
    if recipe.decodes:
        run.prepare()
    run.train()
    return finish(run)


def finish(run: Run) -> Generator:
    """The generator of a trained run; kept in its folder."""
    strength = _strength(run)
    came_from = {name: outline(known) for name, known in (("start", run.earlier), ("shared", run.shared)) if known}
    generator = run.generator.eval().requires_grad_(False).cpu()
    generator.provenance = {
        "recipe": run.origin,
        "base_weights_sha256": weights_digest(run.recipe.base),
        "fit_tasks": len(run.fit),
        "validation_tasks": [task.name for task in run.validation],
        "steps": run.step,
        "strength": strength,
        "versions": versions(),
        **came_from,
    }
    generator.training_hours = run.earlier_hours + run.seconds / 3600
    if run.recipe.decodes or run.recipe.start:
        generator.atlas = _atlas(run, generator)
    if run.recipe.start and (run.recipe.shared or not torch.equal(generator.start, run.began.cpu())):
        generator.examples = None  # it began near an adapter that is another one now
        if run.recipe.practises:
            begin_examples_with(run, generator, generator.start.detach())
    target, shared = run.folder / GENERATOR, run.folder / SHARED
    if not target.exists():
        generator.save_pretrained(target)
    if not shared.exists():
        Adapter(run.layout, generator.start, {"recipe": run.origin, **came_from}).save(shared)
    return generator


def outline(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What stays of an earlier run's provenance in that of a later one: which tasks it held out follows from its recipe
    and its tasks' digest."""
    kept = {key: told for key, told in provenance.items() if key not in ("validation_tasks", "versions")}
    return {key: outline(told) if isinstance(told, Mapping) else told for key, told in kept.items()}


@torch.no_grad()
def _strength(run: Run) -> float:
    """Scale what was learned by what serves the held-out training tasks best; returns the factor.

    That is the decoder's output or, where the shared adapter alone was trained, its way from where the run began
    (interpolated weights generalise better than either end: WiSE-FT, arXiv 2109.01903).
    """
    generator, strengths = run.generator, run.recipe.strengths
    if run.recipe.decodes:
        weight, origin = generator.head.weight, torch.zeros_like(generator.head.weight)
    else:
        weight, origin = generator.start, run.began
    alone = f"{AFTER}_bare" if run.recipe.practises else f"{ALONE}_full"
    arms = ("own_full", "own_bare") if run.recipe.decodes else (alone,)
    trained = weight.clone()
    if len(strengths) == 1 or not run.validation:
        best = strengths[0]
    else:
        losses = {}
        for strength in strengths:
            weight.copy_(origin.lerp(trained, strength))
            found = run.validate(arms)
            losses[strength] = sum(found[f"{arm}_loss"] for arm in arms)
            run.report({"strength": strength, **found})
        best = min(losses, key=lambda strength: losses[strength])
    weight.copy_(origin.lerp(trained, best))
    return best


@torch.no_grad()
def _atlas(run: Run, generator: Generator) -> Atlas:
    """Where the real training tasks lie and how their adapters look; for a few tasks, of several draws each.

    Where only the shared adapter was trained, jobs with long answers are left to the base as they were before.
    """
    left = run.recipe.long_answers_from_base or (not run.recipe.decodes and generator.lengths is not None)
    del generator.atlas  # of the generator that it goes on from: nothing is left to the base, or judged, by that
    tasks = run.fit
    usual = [run.prompts.usual(task, PROMPTS) for task in tasks]
    means = torch.stack([run.encoder.conditions(group).mean(0) for group in usual])
    drawn = [
        run.prompts.draw(tasks[i % len(tasks)], Random(f"{run.recipe.seed} atlas {i}"))
        for i in range(_FEWEST_ADAPTERS - len(usual))
    ]
    pipeline = Pipeline(generator, run.encoder, run.base if generator.config.states else run.layout)
    groups = usual + drawn
    every = math.ceil(len(groups) / _MOST_ADAPTERS)  # so that all families are among them
    grids = torch.stack([pipeline.make(group).grid for group in groups[::every]])
    health = Reference.of(grids, generator.start.detach(), run.layout)
    names, instructions = zip(*((task.name, task.instruction) for task in tasks), strict=True)
    lengths = lengths_of(pipeline, usual, run.recipe.seed, run.report) if left and generator.config.states else None
    return Atlas(names, instructions, means, health, lengths)


def begin_examples_with(run: Run, generator: Generator, start: Float[Tensor, "layers rows cols"]) -> None:
    """Let adapters made of labelled examples begin with `start`, and find what they then usually look like.

    These are made of examples of fit tasks, 2 to 64 of each; never of those held out.
    """
    adapters = max(_FEWEST_ADAPTERS, min(_MOST_TAUGHT, len(run.fit)))
    grids = []
    for i in range(adapters):
        task = run.fit[i * len(run.fit) // adapters]
        count = min(_EXAMPLES[i % len(_EXAMPLES)], len(task.train))
        chosen = Random(f"{run.recipe.seed} examples {i}").sample(task.train, count)
        with part(run.report, i / adapters, (i + 1) / adapters):
            grids.append(taught(run.base, start, [], [(task.prompt(one.input), one.output) for one in chosen]))
        run.report({"done": i + 1, "of": adapters})
    generator.examples = ExamplesStart(start, Reference.of(torch.stack(grids), start, run.layout))
