"""A generator's sizes: everything that makes it but its weights.

In: a layout, or what was saved of a generator. Out: the sizes of its parts. It knows no tensors.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base.models import DEFAULT_ENCODER
from prompt2lora.generator.decoder import Activation, DecoderConfig, Shape

_WIDEST, _NARROWEST = 128, 16  # columns of the last stage
_HEAD = 10_500_000  # weights of the decoder's head at most, so that a generator for a large base can still be passed on


@dataclass(frozen=True)
class GeneratorConfig:
    """Everything that makes a generator but its weights.

    width   numbers that the text encoder gives of a prompt
    states  numbers per layer that the base itself gives of a prompt; 0: it is not asked
    hidden  width of the layer between the pooled text and the condition grid
    grid    shape of the condition grid (layers, rows, cols), the decoder's first stage
    trunk   the further stages of the decoder, the last one with a row for every rank vector
    kernel, activation  of the decoder's blocks; the published ones are 9 and tanh
    step    factor on the decoder's output
    dropout share of the pooled prompts' numbers left out in training, so that no job is known by a few of them
    """

    layout: LoraLayout
    encoder: str = DEFAULT_ENCODER
    width: int = 1536
    states: int = 0
    hidden: int = 384
    grid: Shape = (4, 8, 256)
    trunk: tuple[Shape, ...] = ()
    kernel: int = 1
    activation: Activation = "gelu"
    step: float = 1 / 32
    dropout: float = 0.2

    @property
    def decoder(self) -> DecoderConfig:
        stages = (self.grid, *self.trunk)
        return DecoderConfig(stages, self.kernel, self.activation, self.layout.vectors, self.layout.cols)

    @classmethod
    def sized(cls, layout: LoraLayout, *, asks_base: bool = False, **changes: Any) -> GeneratorConfig:
        """The default sizes for a layout: layers and rank vectors are the layout's, the widths are ours.

        The last stage is as wide as the head allows, of which every column takes a whole weight grid of one layer.
        With `asks_base` the generator also listens to the base's own states (see hidden_states.py).
        """
        vectors = 2 * layout.rank * len(layout.targets)
        wide = _HEAD // (len(layout.vectors) * layout.cols) // 8 * 8
        last = (layout.layers, vectors, min(max(wide, _NARROWEST), _WIDEST))
        sizes: dict[str, Any] = {"trunk": ((12, 32, 192), last, last)}
        if asks_base:
            sizes = {"grid": (layout.layers, 8, 128), "trunk": (last, last), "states": layout.hidden}
        return cls(layout=layout, **_as_shapes({**sizes, **changes}))

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "layout": self.layout.to_dict()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> GeneratorConfig:
        return cls(**{**_as_shapes(data), "layout": LoraLayout.from_dict(data["layout"])})


def _as_shapes(data: dict[str, Any]) -> dict[str, Any]:
    """The same settings with the lists that TOML and JSON give turned into tuples."""
    shapes = {"trunk": tuple(tuple(stage) for stage in data["trunk"])}
    if "grid" in data:
        shapes["grid"] = tuple(data["grid"])
    return {**data, **shapes}
