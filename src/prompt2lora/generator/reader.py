"""A generator with all that it needs to make an adapter of prompts: text encoder, base, decoder, alignment.

In: prompts. Out: a weight grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.generator.alignment import alignable, aligned
from prompt2lora.generator.conditions import Encoder
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.reading import Frozen, states
from prompt2lora.weights.layout import LoraLayout


class Reader:
    """A generator with all that reads prompts for it. The base is loaded at first use, if the generator needs it."""

    def __init__(self, generator: Generator, encoder: Encoder, base: Frozen | LoraLayout) -> None:
        """`base` is a loaded one, or the layout of adapters for the base to be loaded."""
        self.generator, self.encoder, self._base = generator, encoder, base

    @cached_property
    def base(self) -> Frozen:
        return self._base if isinstance(self._base, Frozen) else Frozen.load(self._base)

    def load(self) -> None:
        """Load now what would be loaded at first use."""
        self.encoder.load()
        if self.generator.config.states:
            _ = self.base

    def conditions(self, prompts: Sequence[str]) -> Float[Tensor, "prompts width"]:
        text = self.encoder.conditions(prompts)
        if not self.generator.config.states:
            return text
        return torch.cat([text, states(self.base, self.generator.start.detach(), prompts).cpu()], 1)

    def aligned(self, grid: Float[Tensor, "layers rows cols"], prompts: Sequence[str]) -> Tensor:
        """The grid after alignment if the generator asks the base and the prompts share an instruction, else itself."""
        return aligned(self.base, grid, prompts) if self.aligns(prompts) else grid

    def aligns(self, prompts: Sequence[str]) -> bool:
        return bool(self.generator.config.states) and alignable(self.generator.config.layout, prompts)

    def generate(self, prompts: Sequence[str]) -> Float[Tensor, "layers rows cols"]:
        """The weight grid for one job's prompts."""
        return self.aligned(self.generator.generate(self.conditions(prompts)), prompts)
