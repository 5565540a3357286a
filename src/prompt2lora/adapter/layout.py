"""Which LoRA matrices an adapter has, and where each lies in the weight grid.

In: the configuration of any Hugging Face causal language model, or of one that reads pictures too, a rank and the
target modules.
Out: a `LoraLayout`, derived by building the model on the meta device (no weights are read).
It knows no text, no file format and no training.

The weight grid of an adapter has the axes (layers, rows, cols). One layer's rows are, target after
target, the `rank` rows of `lora_A` (rank, in) and then the `rank` columns of `lora_B` (out, rank),
each cut into pieces of `cols` numbers. `cols` divides every in and out, so nothing is padded:
the grid holds exactly the numbers of the adapter.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from prompt2lora.errors import LayoutError
from prompt2lora.ground.profile import PICTURE_BASES, RANKS, TARGETS

_ATTENTIONS = {"full_attention", "sliding_attention"}  # as transformers names kinds of layers
_LAYER = re.compile(r"^(?P<stem>.*\.layers)\.(?P<index>\d+)\.(?P<module>.+)$")


@dataclass(frozen=True)
class Target:
    """One linear module of a transformer layer, the same in every layer."""

    path: str  # inside the layer, for instance self_attn.q_proj
    in_features: int
    out_features: int

    @property
    def name(self) -> str:
        return self.path.rsplit(".", 1)[-1]


@dataclass(frozen=True)
class Block:
    """The rows of one layer's grid that hold one matrix: `lora_A`, or `lora_B` transposed."""

    target: Target
    side: str  # "A" or "B"
    start: int
    stop: int
    width: int  # in_features for A, out_features for B


@dataclass(frozen=True)
class LoraLayout:
    """The shape of an adapter for one base model.

    base_model   the name that goes into `base_model_name_or_path`
    stem         the module path of the layers, for instance model.layers or model.language_model.layers
    layers       number of transformer layers
    targets      adapted modules of a layer, in the order of the model
    rank, alpha  as in LoRA (Hu et al. 2021): W' = W + alpha / rank * B A
    cols         numbers per row of the grid
    """

    base_model: str
    stem: str
    layers: int
    targets: tuple[Target, ...]
    rank: int
    alpha: int
    cols: int

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise LayoutError(f"rank must be at least 1, got {self.rank}; engines accept {RANKS}")
        for target in self.targets:
            for side, features in (("in", target.in_features), ("out", target.out_features)):
                if features % self.cols:
                    fit = math.gcd(features, self.cols)
                    raise LayoutError(
                        f"{target.name}: {side}_features {features} is not a multiple of "
                        f"token width {self.cols}; {fit} would fit"
                    )

    @classmethod
    def from_config(
        cls,
        config: Any,
        *,
        base_model: str,
        rank: int = 8,
        alpha: int | None = None,
        targets: Sequence[str] = TARGETS,
        cols: int | None = None,
    ) -> LoraLayout:
        """Derive the layout of a `transformers` configuration.

        alpha defaults to twice the rank, cols to the greatest common divisor of all in and out features.
        Raises LayoutError for an unknown target, a module the model has not got, or uneven layers.
        """
        unknown = [name for name in targets if name not in TARGETS]
        if unknown or not targets:
            raise LayoutError(f"targets must be out of {', '.join(TARGETS)}; got {unknown or 'none'}")
        stem, found = _linear_modules(config, frozenset(targets))
        missing = set(targets) - {target.name for target in found[0]}
        if missing:
            raise LayoutError(f"the base has no module named {', '.join(sorted(missing))}; leave it out of the targets")
        for index, layer in enumerate(found):
            if layer != found[0]:
                raise LayoutError(f"layers must be alike and layer {index} differs from layer 0; name another base")
        widths = [n for target in found[0] for n in (target.in_features, target.out_features)]
        return cls(
            base_model=base_model,
            stem=stem,
            layers=len(found),
            targets=tuple(found[0]),
            rank=rank,
            alpha=2 * rank if alpha is None else alpha,
            cols=cols or math.gcd(*widths),
        )

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        blocks, start = [], 0
        for target in self.targets:
            for side, width in (("A", target.in_features), ("B", target.out_features)):
                stop = start + self.rank * width // self.cols
                blocks.append(Block(target, side, start, stop, width))
                start = stop
        return tuple(blocks)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(layers, rows, cols) of the weight grid."""
        return self.layers, self.blocks[-1].stop, self.cols

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)

    @property
    def hidden(self) -> int:
        """Width of the base's states between its layers."""
        target = self.targets[0]
        return target.out_features if target.name in ("o_proj", "down_proj") else target.in_features

    @property
    def tower(self) -> str:
        """The module path of the language model within a larger base, for instance model.language_model; else empty."""
        within = self.stem.rpartition(".")[0]
        return within if "." in within else ""

    @property
    def scale(self) -> float:
        return self.alpha / self.rank

    @cached_property
    def vectors(self) -> tuple[int, ...]:
        """For every row of the grid, which rank vector of its layer it is a piece of.

        A layer has 2 * rank vectors per target: the rows of `lora_A`, then the columns of `lora_B`.
        """
        index: list[int] = []
        for number, block in enumerate(self.blocks):
            pieces = block.width // self.cols
            index += [number * self.rank + r for r in range(self.rank) for _ in range(pieces)]
        return tuple(index)

    def module_paths(self) -> Iterator[tuple[int, Target, str]]:
        """(layer, target, full module path) in the order of the grid."""
        for layer in range(self.layers):
            for target in self.targets:
                yield layer, target, f"{self.stem}.{layer}.{target.path}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> LoraLayout:
        return cls(**{**data, "targets": tuple(Target(**target) for target in data["targets"])})

    @property
    def digest(self) -> str:
        """SHA-256 of everything but the base's name: two bases with one digest take the same adapters."""
        shape = {key: value for key, value in self.to_dict().items() if key != "base_model"}
        return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()


_FOUND: dict[tuple[str, frozenset[str]], tuple[str, list[list[Target]]]] = {}
_LOOKING = threading.Lock()  # transformers sets torch's default dtype meanwhile: two threads would restore each other's


def _linear_modules(config: Any, names: frozenset[str]) -> tuple[str, list[list[Target]]]:
    """The linear modules of such names in every layer; every configuration is looked at once."""
    key = f"{type(config).__name__} {config.to_json_string(use_diff=False)}", names
    with _LOOKING:
        if key not in _FOUND:
            _FOUND[key] = _look(config, names)
        return _FOUND[key]


def factory(kind: str) -> Any:
    """The class of transformers that makes bases of a kind (`model_type`)."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    return AutoModelForImageTextToText if kind in PICTURE_BASES else AutoModelForCausalLM


def skeleton(config: Any) -> Any:
    """The model of a configuration without its weights, on the meta device. Raises LayoutError if it is no base."""
    import torch

    try:
        with torch.device("meta"):
            return factory(getattr(config, "model_type", "")).from_config(config)
    except ValueError as error:
        kind = type(config).__name__
        raise LayoutError(f"a base must be a causal language model, and {kind} is not; name another base") from error


def _look(config: Any, names: frozenset[str]) -> tuple[str, list[list[Target]]]:
    import torch

    kinds = set(getattr(config.get_text_config(), "layer_types", None) or ()) - _ATTENTIONS
    if kinds:
        raise LayoutError(
            f"every layer must have plain attention, since others (recurrent, linear) heed no masks, and the base has "
            f"{', '.join(sorted(kinds))}; name another base"
        )
    model = skeleton(config)
    pictures = config.model_type in PICTURE_BASES
    layers: dict[int, list[Target]] = {}
    stems: set[str] = set()
    tower = _path_of(model.get_decoder(), model) if pictures else ""  # a vision tower has modules of the same names
    for path, module in model.named_modules():
        match = path.startswith(tower) and _LAYER.match(path)
        if match and isinstance(module, torch.nn.Linear) and path.rsplit(".", 1)[-1] in names:
            if "expert" in path:
                raise LayoutError(
                    f"experts ({path}) cannot be adapted; leave gate_proj, up_proj and down_proj out of the targets, "
                    "or name a base without experts"
                )
            stems.add(match["stem"])
            target = Target(match["module"], module.in_features, module.out_features)
            layers.setdefault(int(match["index"]), []).append(target)
    if not layers:
        raise LayoutError(f"the base has none of the modules {', '.join(sorted(names))}; name a causal language model")
    if len(stems) > 1:
        raise LayoutError(
            f"a base must have its layers in one place and this one has them in {' and '.join(sorted(stems))}, as "
            "models of pictures or sound do; name one that reads text alone"
        )
    stem = stems.pop()
    count = len(model.get_submodule(stem))
    if len(layers) < count:
        raise LayoutError(f"layers must be alike and {len(layers)} of {count} have the targets; name another base")
    return stem, [layers[index] for index in range(count)]


def _path_of(module: Any, model: Any) -> str:
    """The module path of a part of a model, with the dot behind it."""
    return next(f"{path}." for path, one in model.named_modules() if one is module)
