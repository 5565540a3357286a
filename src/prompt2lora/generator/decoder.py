"""The hyper-convolutional decoder: a small condition grid grows into the weight grid of all layers.

In: a condition grid (batch, layers, rows, cols), which may be as small as (batch, 1, 1, n).
Out: a grid of the last stage's shape. It knows neither text nor LoRA.

After Drag-and-Drop (arXiv 2506.16406, section 3.4 and A.3): every block convolves along each axis of
the grid in turn. "Along an axis" means that this axis is the channels, mixed completely, while the
kernel slides over the other two. With kernel 9 and stages of their sizes this is the published shape.
Ours is the same code as data: kernel 1, smaller stages, and a grouped last convolution that lets every
row of the weight grid (one piece of one rank vector) have columns of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Shape = tuple[int, int, int]
Activation = Literal["tanh", "gelu"]


@dataclass(frozen=True)
class DecoderConfig:
    """stages      shapes (layers, rows, cols) from the condition grid on
    kernel      size of the kernel over the two other axes, odd
    activation  of the second path of a block; the published one is tanh
    fan         for every row of the output grid, the row of the last stage it grows from; empty: no head
    head_cols   columns of the output grid if there is a head
    """

    stages: tuple[Shape, ...]
    kernel: int = 1
    activation: Activation = "gelu"
    fan: tuple[int, ...] = ()
    head_cols: int = 0

    @property
    def output(self) -> Shape:
        layers, rows, cols = self.stages[-1]
        return (layers, len(self.fan), self.head_cols) if self.fan else (layers, rows, cols)


_PUBLISHED_TOKEN = (10, 130)
_PUBLISHED_STAGES = (
    (128, 384, 384),
    (128, 200, 300),
    (128, 100, 256),
    (256, 50, 200),
    (512, 50, 200),
    (1024, 25, 200),
    (1024, 10, 200),
    (2048, 10, 200),
)


def published(parameters: int) -> DecoderConfig:
    """The reference: Drag-and-Drop's 0.5B commonsense decoder, its last stage as long as `parameters` need.

    Its condition is 128 prompts of 384 word pieces with 384 numbers each; its output, weight tokens of 10 x 130.
    """
    tokens = math.ceil(parameters / math.prod(_PUBLISHED_TOKEN))
    return DecoderConfig((*_PUBLISHED_STAGES, (tokens, *_PUBLISHED_TOKEN)), kernel=9, activation="tanh")


class AxisConv(nn.Module):
    """A convolution along one axis of a grid: that axis is the channels, the kernel slides over the others."""

    def __init__(self, axis: int, size_in: int, size_out: int, kernel: int, bias: bool = False) -> None:
        super().__init__()
        self.axis, self.kernel = axis, kernel
        self.conv = nn.Conv2d(size_in, size_out, kernel, padding=kernel // 2, bias=bias)

    def forward(self, grid: Float[Tensor, "batch layers rows cols"]) -> Float[Tensor, "batch layers2 rows2 cols2"]:
        if self.kernel == 1:  # the same numbers as one matrix product, several times faster
            weight, bias = self.conv.weight.flatten(1), self.conv.bias
            if self.axis == 3:
                return nn.functional.linear(grid, weight, bias)
            if self.axis == 2:
                return weight @ grid if bias is None else weight @ grid + bias[:, None]
        moved: Tensor = self.conv(grid.transpose(1, self.axis))
        return moved.transpose(1, self.axis)


class HyperConvBlock(nn.Module):
    """One stage to the next: rows and cols in both orders, then layers; a residual where the shape stays."""

    def __init__(self, before: Shape, after: Shape, config: DecoderConfig) -> None:
        super().__init__()
        kernel = config.kernel
        self.norm = nn.LayerNorm(list(before[1:]))
        self.cols_first = AxisConv(3, before[2], after[2], kernel)
        self.then_rows = AxisConv(2, before[1], after[1], kernel)
        self.rows_first = AxisConv(2, before[1], after[1], kernel)
        self.then_cols = AxisConv(3, before[2], after[2], kernel)
        self.bias = nn.Parameter(torch.empty(after[1:]).uniform_(-1, 1) / (after[1] * after[2]))
        self.layers = AxisConv(1, before[0], after[0], kernel, bias=True)
        self.activation = torch.tanh if config.activation == "tanh" else nn.functional.gelu
        self.residual = before == after

    def forward(self, grid: Float[Tensor, "batch layers rows cols"]) -> Float[Tensor, "batch layers2 rows2 cols2"]:
        normed = self.norm(grid)
        straight = self.then_rows(self.cols_first(normed))
        bent = self.activation(self.then_cols(self.rows_first(normed)))
        fused: Tensor = self.layers((straight + bent + self.bias) / 3)
        return grid + fused if self.residual else fused


class RowHead(nn.Module):
    """A grouped convolution along cols: every output row has its own columns, shared by all layers."""

    fan: Tensor

    def __init__(self, stage: Shape, fan: Sequence[int], cols: int) -> None:
        super().__init__()
        self.register_buffer("fan", torch.tensor(fan), persistent=False)
        self.norm = nn.LayerNorm(stage[2])
        self.weight = nn.Parameter(torch.randn(len(fan), stage[2], cols) / stage[2] ** 0.5)

    def forward(self, grid: Float[Tensor, "batch layers rows cols"]) -> Float[Tensor, "batch layers rows2 cols2"]:
        batch, layers = grid.shape[:2]
        source = self.norm(grid).flatten(0, 1).transpose(0, 1)[self.fan]
        product = torch.bmm(source, self.weight.to(source.dtype))
        return product.transpose(0, 1).reshape(batch, layers, len(self.fan), -1)


class HyperConvDecoder(nn.Module):
    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        pairs = zip(config.stages, config.stages[1:], strict=False)
        self.blocks = nn.ModuleList(HyperConvBlock(before, after, config) for before, after in pairs)
        self.head = RowHead(config.stages[-1], config.fan, config.head_cols) if config.fan else None

    def forward(self, grid: Float[Tensor, "batch layers rows cols"]) -> Float[Tensor, "batch layers2 rows2 cols2"]:
        for block in self.blocks:
            grid = block(grid)
        return self.head(grid) if self.head else grid
