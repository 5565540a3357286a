"""A frozen base model that answers with LoRA adapters given as plain tensors, one per batch row.

In: a base model and the factors of a batch of adapters. Out: the same model, W x + scale * B A x in
every target. Nothing is copied or merged; gradients flow into the factors, never into the base. The
same mechanism trains the generator (a different adapter in every row), evaluates it and answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from prompt2lora.adapter.grid import Factors, factors
from prompt2lora.adapter.layout import LoraLayout


@contextmanager
def adapted(model: nn.Module, grid: Tensor, layout: LoraLayout) -> Iterator[nn.Module]:
    """Apply the adapters of `grid` (batch layers rows cols) to `model` while the context lasts.

    A grid of batch 1 serves any number of rows. The model is as before afterwards, whatever happens.
    """
    dtype = next(model.parameters()).dtype
    handles = []
    try:
        for path, factor in factors(grid.to(dtype), layout).items():
            hook = _low_rank(factor, layout.scale)
            handles.append(model.get_submodule(path).register_forward_hook(hook))
        yield model
    finally:
        for handle in handles:
            handle.remove()


def _low_rank(factor: Factors, scale: float) -> Any:
    a, b = factor.a.transpose(1, 2).contiguous(), factor.b * scale

    def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        rows = len(output)
        inner = torch.bmm(inputs[0], a.expand(rows, -1, -1))
        return output.baddbmm_(inner, b.expand(rows, -1, -1))  # in place: a sixth of a training step less

    return hook


def probe(model: nn.Module, grid: Tensor, layout: LoraLayout, input_ids: Tensor) -> float:
    """Largest absolute change of the logits that one adapter (layers rows cols) makes; 0 means "not applied"."""
    with torch.inference_mode():
        plain = model(input_ids=input_ids, use_cache=False).logits.float()
        with adapted(model, grid[None], layout):
            moved = model(input_ids=input_ids, use_cache=False).logits.float()
    return float((moved - plain).abs().max())


def frozen(model: nn.Module) -> nn.Module:
    """The model in evaluation mode with no parameter asking for a gradient."""
    return model.eval().requires_grad_(False)
