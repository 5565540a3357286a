"""An adapter folder that was made elsewhere, read as PEFT would read it: what it asks for, and its tensors.

In: a folder that anybody may have written: `adapter_config.json`, and weights as safetensors, as a pickle (read with
weights only) or as shards of either with their index. Out: the settings that say what the adapter is, and its tensors
by the names that PEFT knows; or DamagedFile in one line. Refused is what is more than a product B A beside every
weight, and what stands on a base that PEFT changes first. It knows no base: which modules the settings mean is the
question of `placement.py`.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.settings import CONFIG, leaves_the_base_alone, read_object, short
from prompt2lora.adapter.tensors import WEIGHTS, read_origin
from prompt2lora.errors import DamagedFile, cause
from prompt2lora.ground.files import file_digest, read_safetensors, strict_json

PREFIX = "base_model.model."
_PICKLE = "adapter_model.bin"
_INDEXED = (f"{WEIGHTS}.index.json", f"{_PICKLE}.index.json")
# What says which modules are adapted, and how strongly: PEFT gets these and no others.
READ = (
    "r",
    "lora_alpha",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "rank_pattern",
    "alpha_pattern",
    "use_rslora",
)
# What says nothing of the weights, or no more than their names and shapes say.
_PASSED_OVER = {
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "fan_in_fan_out",  # PEFT takes it back for linear modules
    "inference_mode",
    "init_lora_weights",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "task_type",
}
_MERGE = "merge it into its base (PEFT's merge_and_unload), or train without"
# Of aLoRA, biases and DoRA PEFT's save_as_lora writes B A as if it were all (findings/peft-conversion-drops-dora.sh).
_MORE_THAN_A_PRODUCT = {
    "alora_invocation_tokens": ("aLoRA acts from its invocation tokens on and not before", "train a plain LoRA"),
    "arrow_config": ("Arrow chooses among adapters token by token", "import each of them by itself"),
    "kasa_config": ("KaSA takes directions out of the base's weights", _MERGE),
    "layer_replication": ("it repeats layers of the base", "save the base with those layers, and train on that"),
    "lora_bias": ("it adds biases beside B A", "train without: most layers have no bias for PEFT to merge them into"),
    "megatron_config": ("it was made for Megatron's layers", "save it again from the base in transformers"),
    # Of several loaded adapters PEFT merges the modules of the active one (findings/peft-merge-keeps-active-head.sh).
    "modules_to_save": ("it brings whole modules beside B A", f"load it alone, {_MERGE}"),
    "monteclora_config": ("MonteCLoRA draws its weights", "save its means as a plain LoRA"),
    "target_parameters": ("it adapts parameters and not modules", _MERGE),
    "trainable_token_indices": ("it brings rows of the embedding beside B A", _MERGE),
    "use_bdlora": ("BD-LoRA cuts A or B into blocks", _MERGE),
    "use_dora": (
        "DoRA scales every row of the new weight",
        # findings/transformers-dora-magnitudes.sh
        f"{_MERGE} (PEFT's save_as_lora, and transformers' load_adapter, would leave the magnitudes out)",
    ),
    "use_qalora": ("QA-LoRA averages groups of inputs of a quantised base", _MERGE),
}


class Foreign(NamedTuple):
    """settings  those of READ that the folder has
    base      the name of the base that it says it was made for; may be empty
    base_class  the class of that base, if it is told
    state     its tensors by PEFT's names, on the CPU
    digest    SHA-256 over its files
    origin    what prompt2lora said of an adapter that it made itself
    """

    settings: dict[str, Any]
    base: str
    base_class: str
    state: dict[str, Tensor]
    digest: str
    origin: dict[str, Any]


def read(folder: Path) -> Foreign:
    """Raises DamagedFile for what cannot be read, or is no plain LoRA on an unchanged base."""
    settings = read_settings(folder)
    files = _weight_files(folder)
    state: dict[str, Tensor] = {}
    digest = hashlib.sha256((folder / CONFIG).read_bytes())
    for file in files:
        tensors, told = _tensors(file)
        digest.update(bytes.fromhex(told))
        for name, tensor in tensors.items():
            if name in state:
                raise DamagedFile(f"{folder} holds {name} twice, in two shards; save the adapter again")
            state[name] = _checked(file, name, tensor)
    if not any(name.startswith(PREFIX) for name in state):  # as transformers' own load_adapter reads them
        state = {PREFIX + name: tensor for name, tensor in state.items()}
    made_of = settings.get("auto_mapping") or {}
    return Foreign(
        {key: settings[key] for key in READ if settings.get(key) is not None},
        settings.get("base_model_name_or_path") or "",
        str(made_of.get("base_model_class") or "") if isinstance(made_of, Mapping) else "",
        state,
        digest.hexdigest(),
        _origin(files),
    )


def read_settings(folder: Path) -> dict[str, Any]:
    """Its `adapter_config.json`. Raises DamagedFile for anything but a plain LoRA."""
    settings = read_object(
        folder, "name the folder of an adapter, as PEFT's save_pretrained writes it", "save the adapter again"
    )
    _check_kind(folder / CONFIG, settings)
    return settings


def _check_kind(file: Path, settings: Mapping[str, Any]) -> None:
    kind, task = settings.get("peft_type"), settings.get("task_type")
    if kind != "LORA":
        raise DamagedFile(
            f"{file}: adapters of the kind LORA can be imported and this is {short(kind)}; let PEFT turn it into one "
            f"(save_as_lora) if it can, or {_MERGE}"
        )
    if task not in (None, "CAUSAL_LM"):
        raise DamagedFile(
            f"{file}: adapters of language models that answer can be imported and this is of {short(task)}"
        )
    start = settings.get("init_lora_weights")
    if not leaves_the_base_alone(start):
        raise DamagedFile(
            f"{file}: with init_lora_weights = {short(start)} it stands on a base that PEFT changes; save it again "
            "with PEFT's path_initial_model_for_weight_conversion"
        )
    for key, value in settings.items():
        if key in READ or key in _PASSED_OVER or not value:
            continue
        if key in _MORE_THAN_A_PRODUCT:
            why, remedy = _MORE_THAN_A_PRODUCT[key]
            raise DamagedFile(f"{file}: {key} = {short(value)}: {why}, which no LoRA can; {remedy}")
        raise DamagedFile(f"{file}: {short(key)} = {short(value)} is not known here; {_MERGE}")
    named = settings.get("base_model_name_or_path")
    if named is not None and not isinstance(named, str):
        raise DamagedFile(f"{file}: base_model_name_or_path must be a name, not {short(named)}; correct it")


def _weight_files(folder: Path) -> list[Path]:
    """Where the tensors are, in the order in which PEFT looks; it knows no shards, as transformers writes them."""
    for name in (WEIGHTS, _PICKLE):
        if (folder / name).is_file():
            return [folder / name]
    for name in _INDEXED:
        if (folder / name).is_file():
            return _shards(folder / name)
    raise DamagedFile(f"{folder} holds no weights; there must be {WEIGHTS}, {_PICKLE}, or shards with {_INDEXED[0]}")


def _shards(index: Path) -> list[Path]:
    try:
        places = strict_json(index.read_bytes())["weight_map"]
        names = sorted({str(name) for name in places.values()})
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise DamagedFile(f"{index} is no index of shards ({cause(error)}); save the adapter again") from error
    for name in names:
        file = index.parent / name
        if file.name != name or not file.is_file():
            raise DamagedFile(f"{index} names the shard {short(name)}, which is no file beside it; copy it there")
    return [index.parent / name for name in names]


def _tensors(file: Path) -> tuple[dict[str, Tensor], str]:
    """(tensors, SHA-256)."""
    if file.suffix == ".safetensors":
        return read_safetensors(file)
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, LookupError, pickle.UnpicklingError) as error:
        raise DamagedFile(
            f"{file} holds more than tensors, or is damaged, and a pickle of that kind may run anything; save the "
            "adapter again with safe_serialization=True"
        ) from error
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise DamagedFile(f"{file} holds no tensors by name; save the adapter again with safe_serialization=True")
    return found, file_digest(file)


def _checked(file: Path, name: str, tensor: Any) -> Float[Tensor, "*_"]:
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        kind = str(tensor.dtype).removeprefix("torch.") if isinstance(tensor, Tensor) else type(tensor).__name__
        raise DamagedFile(f"{file}: {name} must hold floating-point numbers and is {kind}; save the adapter again")
    if not torch.isfinite(tensor.float()).all():
        raise DamagedFile(f"{file}: {name} holds numbers that are not finite; take an earlier checkpoint")
    return tensor.detach()


def _origin(files: list[Path]) -> dict[str, Any]:
    """What prompt2lora wrote of its own adapter; of anybody else's it says nothing."""
    if [file.name for file in files] != [WEIGHTS]:
        return {}
    try:
        return read_origin(files[0])
    except DamagedFile:
        return {}
