"""A frozen base model that answers with LoRA adapters given as plain tensors, one per sequence of a batch.

In: a base model and the factors of a batch of adapters. Out: the same model, W x + scale * B A x in
every target. Nothing is copied or merged; gradients flow into the factors, never into the base. The
same mechanism trains the generator (a different adapter for every sequence), evaluates it and answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from prompt2lora.adapter.grid import Factors, factors
from prompt2lora.adapter.layout import LoraLayout


@contextmanager
def adapted(model: nn.Module, grid: Float[Tensor, "batch layers rows cols"], layout: LoraLayout) -> Iterator[nn.Module]:
    """Apply the adapters of `grid` to `model` while the context lasts.

    A grid of batch 1 serves any number of sequences. The model is as before afterwards, whatever happens.
    """
    first = next(model.parameters())
    handles = []
    try:
        for path, factor in factors(grid.to(first.device, first.dtype), layout).items():
            handles.append(model.get_submodule(path).register_forward_hook(_LowRank.of(factor, layout.scale)))
        yield model
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True)
class _LowRank:
    """A forward hook: adds x @ a @ b to what a linear map gives, sequence by sequence."""

    a: Float[Tensor, "batch features rank"]
    b: Float[Tensor, "batch rank out"]

    @classmethod
    def of(cls, factor: Factors, scale: float) -> _LowRank:
        return cls(factor.a.transpose(1, 2).contiguous(), factor.b * scale)

    def __call__(
        self,
        _module: Any,
        inputs: tuple[Float[Tensor, "sequences length features"], ...],
        output: Float[Tensor, "sequences length out"],
    ) -> Float[Tensor, "sequences length out"]:
        count = len(output)
        inner = torch.bmm(inputs[0], self.a.expand(count, -1, -1))
        return output.baddbmm_(inner, self.b.expand(count, -1, -1))  # in place: a sixth of a training step less


def probe(
    model: nn.Module,
    grid: Float[Tensor, "layers rows cols"],
    layout: LoraLayout,
    input_ids: Int[Tensor, "sequences length"],
) -> float:
    """Largest absolute change of the logits that one adapter makes; 0 means "not applied"."""
    with torch.inference_mode():
        plain = model(input_ids=input_ids, use_cache=False).logits.float()
        with adapted(model, grid[None], layout):
            moved = model(input_ids=input_ids, use_cache=False).logits.float()
    return float((moved - plain).abs().max())


def frozen(model: nn.Module) -> nn.Module:
    """The model in evaluation mode with no parameter asking for a gradient."""
    return model.eval().requires_grad_(False)
