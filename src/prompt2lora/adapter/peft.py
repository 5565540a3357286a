"""An adapter as an immutable PEFT folder: `adapter_config.json` and `adapter_model.safetensors`, nothing else.

In: a weight grid and its layout. Out: a folder that PEFT, vLLM, SGLang, LoRAX and the GGUF converter load.
It knows neither prompts nor models. Where the adapter comes from stands in the safetensors metadata.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter import folder as adapter_folder
from prompt2lora.adapter.card import CARD
from prompt2lora.adapter.grid import decode, encode, factors, inner
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.settings import CONFIG, OURS, OUTSIDE, PROFILE, outside
from prompt2lora.adapter.tensors import WEIGHTS
from prompt2lora.errors import DamagedFile, LayoutError
from prompt2lora.ground.files import new_folder, read_safetensors, write_json, write_safetensors
from prompt2lora.ground.profile import PICTURE_BASES, RANKS

_DTYPES = (torch.float16, torch.bfloat16, torch.float32)  # the fewest bytes first


@dataclass(frozen=True)
class Adapter:
    """A weight grid (layers rows cols) with its layout and where it comes from."""

    layout: LoraLayout
    grid: Float[Tensor, "layers rows cols"]
    provenance: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path, card: str = "", dtype: torch.dtype = torch.float16) -> str:
        """Write the folder as a whole, its numbers as `dtype`, with a model card if there is one; returns its digest.

        Raises LayoutError for a rank that engines refuse, UsageError if the folder exists, OutputError if it cannot be
        written, DamagedFile if a weight is not finite.
        """
        layout = self.layout
        if layout.rank not in RANKS:
            raise LayoutError(f"engines load the ranks {RANKS}, not {layout.rank}; choose one of them")
        if not torch.isfinite(self.grid.to(dtype)).all():
            kind = str(dtype).removeprefix("torch.")
            raise DamagedFile(f"an adapter must be finite and this one is not in {kind}; it was not written")
        with new_folder(folder) as aside:
            state = {name: tensor.to(dtype) for name, tensor in decode(self.grid, layout).items()}
            write_safetensors(
                aside / WEIGHTS, state, {"format": "pt", "prompt2lora": json.dumps(self.provenance, sort_keys=True)}
            )
            write_json(aside / CONFIG, self._config())
            if card:
                (aside / CARD).write_text(card, encoding="utf-8")
        return adapter_digest(folder)

    @property
    def changes_something(self) -> bool:
        """Whether any module's update B A is not zero; with all of them zero the base itself would answer."""
        given = factors(self.grid[None], self.layout)
        return bool((inner(given, given) > 0).any())

    def _config(self) -> dict[str, Any]:
        own = (
            self.layout.base_model,
            self.layout.rank,
            self.layout.alpha,
            [target.name for target in self.layout.targets],
        )
        tower = {OUTSIDE: outside(self.layout.tower)} if self.layout.tower else {}
        return {**PROFILE, **tower, **dict(zip(OURS, own, strict=True)), "lora_dropout": 0.0, "inference_mode": True}

    @classmethod
    def load(cls, folder: Path, model_config: Any) -> Adapter:
        """Read a folder for the base whose `transformers` configuration is given.

        Raises DamagedFile if a file is missing or altered beyond the profile, or does not fit that base.
        """
        settings, provenance = adapter_folder.read(folder)
        told = (settings.get("auto_mapping") or {}).get("base_model_class")
        check_class(str(folder), told, model_config)
        try:
            layout = LoraLayout.from_config(
                model_config,
                base_model=settings["base_model_name_or_path"],
                rank=settings["r"],
                alpha=settings["lora_alpha"],
                targets=settings["target_modules"],
            )
        except LayoutError as error:
            raise DamagedFile(
                f"{folder} does not fit the base {settings['base_model_name_or_path']}: {error}"
            ) from error
        elsewhere = settings.get(OUTSIDE)
        if elsewhere and elsewhere != outside(layout.tower):
            raise DamagedFile(
                f"{folder} leaves out {elsewhere} and its base has its layers in {layout.stem}; name its own base"
            )
        state, _ = read_safetensors(folder / WEIGHTS)
        grid = encode(state, layout).float()
        return cls(layout, grid, provenance)


def lossless(grid: Float[Tensor, "layers rows cols"]) -> torch.dtype:
    """The dtype of the fewest bytes that holds every number as it is."""
    return next(dtype for dtype in _DTYPES if torch.equal(grid.to(dtype).float(), grid))


def check_class(adapter: str, told: str | None, model_config: Any) -> None:
    """Raises DamagedFile if the class of model that an adapter says it was trained on is another than the base's."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )

    kind = model_config.model_type
    classes = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES if kind in PICTURE_BASES else MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    own = classes.get(kind)
    if told not in (None, own):
        raise DamagedFile(f"{adapter} was trained on the class {told} and the base is a {own}; name its own base")


def adapter_digest(folder: Path) -> str:
    """SHA-256 over both files of an adapter folder."""
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()
