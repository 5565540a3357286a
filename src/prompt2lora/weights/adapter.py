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

from prompt2lora.errors import DamagedFile, LayoutError
from prompt2lora.files import new_folder, read_metadata, read_safetensors, write_json, write_safetensors
from prompt2lora.weights.layout import RANKS, TARGETS, LoraLayout
from prompt2lora.weights.tokens import decode, encode

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PROFILE: dict[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "bias": "none",
    "use_rslora": False,
    "use_dora": False,
    "fan_in_fan_out": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "alpha_pattern": {},
    "layers_to_transform": None,
}
_OURS = ("base_model_name_or_path", "r", "lora_alpha", "target_modules")
_HARMLESS = ("inference_mode", "lora_dropout", "init_lora_weights", "peft_version")  # of training, not of the weights
_DEFAULTS = {"megatron_core": "megatron.core", "qalora_group_size": 16}  # what PEFT itself writes


@dataclass(frozen=True)
class Adapter:
    """A weight grid (layers rows cols) with its layout and where it comes from."""

    layout: LoraLayout
    grid: Float[Tensor, "layers rows cols"]
    provenance: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> str:
        """Write the folder as a whole; returns its digest.

        Raises LayoutError for a rank that engines refuse, OutputError if the folder exists or cannot be
        written, DamagedFile if a weight is not finite.
        """
        layout = self.layout
        if layout.rank not in RANKS:
            raise LayoutError(f"engines load the ranks {RANKS}, not {layout.rank}; choose one of them")
        if not torch.isfinite(self.grid.half()).all():
            raise DamagedFile("an adapter must be finite and this one is not; it was not written")
        with new_folder(folder) as aside:
            state = {name: tensor.half() for name, tensor in decode(self.grid, layout).items()}
            write_safetensors(
                aside / WEIGHTS, state, {"format": "pt", "prompt2lora": json.dumps(self.provenance, sort_keys=True)}
            )
            write_json(aside / CONFIG, self._config())
        return adapter_digest(folder)

    def _config(self) -> dict[str, Any]:
        own = (
            self.layout.base_model,
            self.layout.rank,
            self.layout.alpha,
            [target.name for target in self.layout.targets],
        )
        return {**_PROFILE, **dict(zip(_OURS, own, strict=True)), "lora_dropout": 0.0, "inference_mode": True}

    @classmethod
    def load(cls, folder: Path, model_config: Any) -> Adapter:
        """Read a folder for the base whose `transformers` configuration is given.

        Raises DamagedFile if a file is missing or altered beyond the profile, or does not fit that base.
        """
        settings = read_config(folder)
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
        state, _ = read_safetensors(folder / WEIGHTS)
        grid = encode(state, layout).float()
        if not torch.isfinite(grid).all():
            raise DamagedFile(f"{folder / WEIGHTS} holds numbers that are not finite; use the base or another version")
        try:
            origin = json.loads(read_metadata(folder / WEIGHTS).get("prompt2lora", "{}"))
        except ValueError as error:
            raise DamagedFile(f"{folder / WEIGHTS}: its origin is not readable ({error}); make it anew") from error
        return cls(layout, grid, origin)


def read_config(folder: Path) -> dict[str, Any]:
    """`adapter_config.json`, refused (DamagedFile) unless every key and value is within the profile."""
    file = folder / CONFIG
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{file} cannot be read ({error}); name the folder of an adapter") from error
    if not isinstance(settings, dict):
        raise DamagedFile(f"{file} must hold one JSON object; make the adapter anew")
    for key, value in settings.items():
        if key in _OURS or key in _HARMLESS:
            continue
        if key in _PROFILE:
            allowed = value == _PROFILE[key] or (not value and not _PROFILE[key])
        else:
            allowed = not value or value == _DEFAULTS.get(key)
        if not allowed:
            raise DamagedFile(f"{file}: {key} = {json.dumps(value)[:60]} is outside the adapter profile; not loaded")
    kinds = {"base_model_name_or_path": str, "r": int, "lora_alpha": int, "target_modules": list}
    for key, kind in kinds.items():
        if not isinstance(settings.get(key), kind) or isinstance(settings.get(key), bool):
            raise DamagedFile(f"{file}: {key} must be a {kind.__name__}; make the adapter anew")
    if settings.get("peft_type") != "LORA":
        raise DamagedFile(f"{file}: peft_type must be LORA; make the adapter anew")
    if settings["lora_alpha"] < 1:
        raise DamagedFile(f"{file}: lora_alpha must be at least 1, not {settings['lora_alpha']}; make the adapter anew")
    if settings["r"] not in RANKS or not set(map(str, settings["target_modules"])) <= set(TARGETS):
        raise DamagedFile(f"{file}: rank or target modules are outside the adapter profile; not loaded")
    return settings


def adapter_digest(folder: Path) -> str:
    """SHA-256 over both files of an adapter folder."""
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        digest.update(hashlib.sha256((folder / name).read_bytes()).digest())
    return digest.hexdigest()
