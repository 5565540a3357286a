"""Conditions of a job's prompts, as many as there are -> one condition grid, the decoder's first stage.

In: condition vectors and a mask. Out: a grid. It knows neither where conditions come from nor what a grid becomes.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from prompt2lora.generator.config import GeneratorConfig
from prompt2lora.generator.decoder import AxisConv

_TEXT_LAYERS = 4  # patterns over the layers that the text may take where the base gives every layer its own


class SetPooling(nn.Module):
    """A set of condition vectors -> a condition grid, whatever their order and number.

    The set enters as its mean, standardised by what the training tasks look like, so that one prompt and
    a hundred look alike. A two-layer perceptron makes a grid of what the text encoder gave; what the base gave
    keeps its layers, and one linear map for all of them makes the rest.
    """

    center: Tensor
    spread: Tensor

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        layers, rows, cols = config.grid
        self.grid, self.width = config.grid, config.width
        width = config.width + layers * config.states
        self.register_buffer("center", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))
        basis = _TEXT_LAYERS if config.states else layers
        self.perceptron = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(config.width, config.hidden),
            nn.GELU(),
            nn.LayerNorm(config.hidden),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, basis * rows * cols),
        )
        self.spread_text = AxisConv(1, basis, layers, 1) if config.states else nn.Identity()
        if config.states:
            self.listen = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(config.states, rows * cols))

    @staticmethod
    def mean(
        conditions: Float[Tensor, "batch prompts width"], mask: Bool[Tensor, "batch prompts"]
    ) -> Float[Tensor, "batch width"]:
        weight = mask.unsqueeze(-1).to(conditions.dtype)
        return (conditions * weight).sum(1) / weight.sum(1)

    def standardise(self, means: Float[Tensor, "tasks width"]) -> None:
        """Take center and spread from the training tasks."""
        self.center.copy_(means.mean(0))
        self.spread.copy_(means.std(0).clamp_min(1e-4))

    def standard(self, mean: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
        """Mean conditions in units of what the training tasks look like."""
        return ((mean - self.center) / self.spread).clamp(-6, 6)

    def forward(
        self, conditions: Float[Tensor, "batch prompts width"], mask: Bool[Tensor, "batch prompts"]
    ) -> Float[Tensor, "batch layers rows cols"]:
        layers, rows, cols = self.grid
        seen = self.standard(self.mean(conditions, mask))
        text, states = seen[:, : self.width], seen[:, self.width :]
        pooled: Tensor = self.spread_text(self.perceptron(text).reshape(len(seen), -1, rows, cols))
        if states.shape[1]:
            pooled = pooled + self.listen(states.reshape(len(seen), layers, -1)).reshape(-1, layers, rows, cols)
        return pooled
