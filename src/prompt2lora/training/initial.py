"""The generator that a run begins with: new, or an earlier one that is trained further.

In: a recipe. Out: a generator with its gradients on, and what is known of the training that it has behind it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.errors import UsageError
from prompt2lora.generator.config import GeneratorConfig
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.text_encoder import width_of
from prompt2lora.training.recipe import Recipe


class Initial(NamedTuple):
    """A generator with the provenance of the one that it goes on from (none: empty), the hours of its training, and
    the provenance of the adapter that the shared one begins with (none: empty)."""

    generator: Generator
    earlier: dict[str, Any]
    hours: float
    shared: dict[str, Any]


def initial_generator(recipe: Recipe) -> Initial:
    """Raises UsageError if what the recipe names does not fit together."""
    config = models.load_config(recipe.base)
    layout = LoraLayout.from_config(config, base_model=recipe.base, rank=recipe.rank, targets=recipe.targets)
    found = _further(recipe, layout) if recipe.start else Initial(_new(recipe, layout), {}, 0.0, {})
    if recipe.shared:
        adapter = Adapter.load(Path(recipe.shared), config)
        if adapter.layout.digest != layout.digest:
            raise UsageError(
                f"shared names {recipe.shared}, of another rank, alpha or targets than the recipe; name another adapter"
            )
        found.generator.start.data.copy_(adapter.grid)
        return found._replace(shared=adapter.provenance)
    return found


def _further(recipe: Recipe, layout: LoraLayout) -> Initial:
    start = Generator.from_pretrained(recipe.start)
    if start.config.layout.digest != layout.digest:
        raise UsageError(f"{recipe.start} makes adapters of another layout than the recipe; name another start")
    if start.config.encoder != recipe.encoder:
        raise UsageError(f"{recipe.start} reads prompts by {start.config.encoder}; name that encoder")
    return Initial(start.train().requires_grad_(True), start.provenance, start.training_hours or 0.0, {})


def _new(recipe: Recipe, layout: LoraLayout) -> Generator:
    width = width_of(recipe.encoder)
    sized = GeneratorConfig.sized(layout, encoder=recipe.encoder, **{"width": width, **recipe.generator})
    rows, last = max(layout.vectors) + 1, (sized.grid, *sized.trunk)[-1]
    if sized.width != width:
        raise UsageError(
            f"[generator] width must be that of {recipe.encoder}, {width}, not {sized.width}; leave it out"
        )
    if sized.states and (sized.grid[0], sized.states) != (layout.layers, layout.hidden):
        raise UsageError(
            f"[generator] grid must begin with the base's {layout.layers} layers and states be {layout.hidden} where "
            f"the base is asked, not {sized.grid[0]} and {sized.states}; leave them out"
        )
    if last[:2] != (layout.layers, rows):
        raise UsageError(
            f"[generator] trunk must end with a stage of ({layout.layers}, {rows}, columns) for these adapters, not "
            f"{last}; change it or leave it out"
        )
    return Generator(sized, seed=recipe.seed)
