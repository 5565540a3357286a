"""`adapter_config.json`, judged without any library: the settings that every engine loads.

In: a folder that anybody may have written. Out: its settings, or DamagedFile in one line. Let through is strict JSON
with known keys, one rank and explicit targets. A key that says nothing (null, false, empty) is let through whatever its
name, for folders of older and newer versions of PEFT.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from prompt2lora.errors import DamagedFile, NoAdapter, cause
from prompt2lora.ground.files import strict_json
from prompt2lora.ground.profile import RANKS, TARGETS

CONFIG = "adapter_config.json"
PROFILE: dict[str, Any] = {
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
_TASK, _CLASS = "task_type", "auto_mapping"  # PEFT writes the second where the first is null
OUTSIDE = "exclude_modules"  # of a base that reads pictures: all but its language tower
OURS = ("base_model_name_or_path", "r", "lora_alpha", "target_modules")
# Of training, not of the weights: key -> the types that it may have.
_HARMLESS: dict[str, tuple[type, ...]] = {
    "inference_mode": (bool,),
    "lora_dropout": (int, float),
    "peft_version": (str,),
}
# What PEFT itself writes where nothing is asked for.
_DEFAULTS: dict[str, Any] = {"megatron_core": "megatron.core", "qalora_group_size": 16, "revision": "main"}
# How training may have begun: PEFT leaves the base alone when it loads these. With any other it changes the base first.
_INITIAL = ("gaussian", "eva", "orthogonal", "mica")
MOST_ALPHA = 1 << 16
_MOST_CONFIG = 1 << 18  # bytes
_OUTSIDE = re.compile(r"\(\?!(?:\w+\\\.)+\)\.\*", re.ASCII)


def outside(tower: str) -> str:
    """The pattern of all modules that are not within the tower, as PEFT matches names: it would adapt every module of a
    target's name, those of a vision tower too."""
    return f"(?!{re.escape(tower)}\\.).*"


def read_object(folder: Path, missing: str, damaged: str, most: int | None = None) -> dict[str, Any]:
    """The JSON object of `adapter_config.json`, of at most so many bytes if that is said, whatever it holds.

    Raises NoAdapter or DamagedFile, which end with what to do if the file is `missing` or `damaged`.
    """
    file = folder / CONFIG
    if not file.is_file():
        found = f"holds no {CONFIG}" if folder.is_dir() else "is no folder"
        raise NoAdapter(f"{folder} {found}; {missing}")
    try:
        if most is not None and file.stat().st_size > most:
            raise ValueError(f"{file.stat().st_size} bytes, and {most} are enough for any")
        settings = strict_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{file} cannot be read ({cause(error)}); {damaged}") from error
    if not isinstance(settings, dict):
        raise DamagedFile(f"{file} must hold one JSON object; {damaged}")
    return settings


def read_config(folder: Path) -> dict[str, Any]:
    """`adapter_config.json`, refused (DamagedFile) unless every key and value is within the profile."""
    file = folder / CONFIG
    settings = read_object(
        folder,
        "name an adapter's folder, as `prompt2lora generate --out` writes it",
        "make the adapter again",
        _MOST_CONFIG,
    )
    for key, value in settings.items():
        if key == "init_lora_weights" and not leaves_the_base_alone(value):
            raise DamagedFile(
                f"{file}: with init_lora_weights = {short(value)} the adapter stands on a base that PEFT changes; "
                "save it again with PEFT's path_initial_model_for_weight_conversion"
            )
        if key not in OURS and not _allowed(key, value):
            raise DamagedFile(f"{file}: {short(key)} = {short(value)} is outside the adapter profile; not loaded")
    if settings.get("peft_type") != "LORA":
        raise DamagedFile(f"{file}: peft_type must be LORA; make the adapter again")
    rules = {
        "base_model_name_or_path": _is_base,
        "r": lambda value: type(value) is int and value in RANKS,
        "lora_alpha": lambda value: type(value) is int and 1 <= value <= MOST_ALPHA,
        "target_modules": _are_targets,
    }
    for key, holds in rules.items():
        if not holds(settings.get(key)):
            wanted = f"; {' or '.join(map(str, RANKS))} is taken" if key == "r" else ""
            raise DamagedFile(f"{file}: {key} must not be {short(settings.get(key))}{wanted}; make the adapter again")
    return settings


def _allowed(key: str, value: Any) -> bool:
    if key in PROFILE:
        return bool(value == PROFILE[key]) or (not value and (not PROFILE[key] or (key, value) == (_TASK, None)))
    if not value or key == "init_lora_weights":
        return True
    if key == _CLASS:
        return _is_class(value)
    if key == OUTSIDE:
        return isinstance(value, str) and _OUTSIDE.fullmatch(value) is not None
    return isinstance(value, _HARMLESS[key]) if key in _HARMLESS else bool(value == _DEFAULTS.get(key, ...))


def leaves_the_base_alone(value: Any) -> bool:
    return not value or value is True or (isinstance(value, str) and value.lower() in _INITIAL)


def _is_class(value: Any) -> bool:
    """What PEFT tells of the base's class; whether it is this base's is the loader's question."""
    return (
        isinstance(value, dict)
        and value.keys() == {"base_model_class", "parent_library"}
        and all(isinstance(name, str) for name in value.values())
        and re.fullmatch(r"transformers\.models(\.\w+)+", value["parent_library"], re.ASCII) is not None
    )


def _is_base(value: Any) -> bool:
    """A hub id or a folder, printable and no address."""
    if not isinstance(value, str) or not 0 < len(value) <= 1000 or not value.isprintable():
        return False
    return "://" not in value and value[0] not in "~-"


def _are_targets(value: Any) -> bool:
    return (
        isinstance(value, list) and 0 < len(value) == len({*map(str, value)}) and all(name in TARGETS for name in value)
    )


def short(value: Any) -> str:
    """As a message shows it."""
    return json.dumps(value)[:80]
