"""An adapter folder, judged without loading it: the hinge between the mathematics and custody.

In: a folder that anybody may have written. Out: its settings and where it says it comes from; or DamagedFile in one
line, before any library has parsed it. Let through is the profile that every engine loads: strict JSON, known keys,
one rank, explicit targets, finite numbers, and nothing beside the two files. A key that says nothing (null, false,
empty) is let through whatever its name, for folders of older and newer versions of PEFT.
It knows neither torch nor the base model; whether the shapes fit a base is the loader's question.
"""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from prompt2lora.adapter.card import CARD
from prompt2lora.errors import DamagedFile, InputError, cause
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.ground.answer_form import read as read_answer_form
from prompt2lora.ground.files import strict_json
from prompt2lora.ground.profile import RANKS, TARGETS

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
LEARNED = "learned"  # in the origin: digests of the inputs whose right answers are in the weights
ANSWERS = "answers"  # in the origin: the form that the job's answers have
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
_MOST_ALPHA = 1 << 16
_MOST_CONFIG = 1 << 18  # bytes
_MOST_HEADER = 1 << 24
_NAME = re.compile(r"base_model\.model\.((?:\w+\.)+(\w+))\.lora_([AB])\.weight", re.ASCII)
_OUTSIDE = re.compile(r"\(\?!(?:\w+\\\.)+\)\.\*", re.ASCII)
_KINDS = {"F16": (2, 0x7C00), "BF16": (2, 0x7F80), "F32": (4, 0x7F800000)}  # bytes, and the bits of no finite number


def outside(tower: str) -> str:
    """The pattern of all modules that are not within the tower, as PEFT matches names: it would adapt every module of a
    target's name, those of a vision tower too."""
    return f"(?!{re.escape(tower)}\\.).*"


class Contents(NamedTuple):
    """What a sound folder says: its settings, and where it comes from."""

    settings: dict[str, Any]
    provenance: dict[str, Any]


def check(folder: Path) -> Contents:
    """Judge a folder that must hold the two files and nothing else but a model card. Raises DamagedFile."""
    check_files(folder, (CONFIG, WEIGHTS, *beside(folder)))
    return read(folder)


def beside(folder: Path) -> tuple[str, ...]:
    """The model card, which may lie beside the two files where people keep them."""
    return (CARD,) if (folder / CARD).is_file() else ()


def check_files(folder: Path, names: Collection[str]) -> None:
    """The folder holds exactly these names, and each is a plain file: no link, no pipe, no device."""
    try:
        found = {place.name: place.lstat().st_mode for place in folder.iterdir()}
    except OSError as error:
        raise DamagedFile(f"{folder} cannot be read as an adapter ({cause(error)}); name the folder of one") from error
    wrong = found.keys() ^ set(names)
    if wrong:
        raise DamagedFile(f"{folder} must hold {' and '.join(names)} only; {min(wrong)!r} is missing or too many")
    for name, mode in found.items():
        if not stat.S_ISREG(mode):
            raise DamagedFile(f"{folder / name} is a link or no plain file; copy the file itself")


def read(folder: Path) -> Contents:
    """Judge the two files of a folder, whatever lies beside them (PEFT writes a README). Raises DamagedFile."""
    settings = read_config(folder)
    return Contents(settings, _read_weights(folder / WEIGHTS, settings))


def read_form(folder: Path) -> AnswerForm | None:
    """The form of the job's answers, by an adapter's origin; its weights are not looked at. Raises DamagedFile."""
    file = folder / WEIGHTS
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= _MOST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            header = strict_json(stream.read(length))
        if not isinstance(header, dict):
            raise ValueError("the header is no JSON object")
        return form_of(_provenance(header.get("__metadata__", {})))
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{file} is no sound adapter ({cause(error)}); use the base or another version") from error


def form_of(provenance: Mapping[str, Any]) -> AnswerForm | None:
    """The form of answers that an origin tells. Raises DamagedFile."""
    try:
        return read_answer_form(provenance.get(ANSWERS))
    except InputError as error:
        raise DamagedFile(
            f"an adapter's origin tells a form of answers that is none ({error}); make it anew"
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """`adapter_config.json`, refused (DamagedFile) unless every key and value is within the profile."""
    file = folder / CONFIG
    if not file.exists():
        found = f"holds no {CONFIG}" if folder.is_dir() else "is no folder"
        raise DamagedFile(f"{folder} {found}; name an adapter's folder, as `prompt2lora generate --out` writes it")
    try:
        if file.stat().st_size > _MOST_CONFIG:
            raise ValueError(f"{file.stat().st_size} bytes, and {_MOST_CONFIG} are enough for any")
        settings = strict_json(file.read_bytes())
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{file} cannot be read ({cause(error)}); name the folder of an adapter") from error
    if not isinstance(settings, dict):
        raise DamagedFile(f"{file} must hold one JSON object; make the adapter anew")
    for key, value in settings.items():
        if key == "init_lora_weights" and not leaves_the_base_alone(value):
            raise DamagedFile(
                f"{file}: with init_lora_weights = {_short(value)} the adapter stands on a base that PEFT changes; "
                "save it again with PEFT's path_initial_model_for_weight_conversion"
            )
        if key not in OURS and not _allowed(key, value):
            raise DamagedFile(f"{file}: {_short(key)} = {_short(value)} is outside the adapter profile; not loaded")
    if settings.get("peft_type") != "LORA":
        raise DamagedFile(f"{file}: peft_type must be LORA; make the adapter anew")
    rules = {
        "base_model_name_or_path": _is_base,
        "r": lambda value: type(value) is int and value in RANKS,
        "lora_alpha": lambda value: type(value) is int and 1 <= value <= _MOST_ALPHA,
        "target_modules": _are_targets,
    }
    for key, holds in rules.items():
        if not holds(settings.get(key)):
            wanted = f"; {' or '.join(map(str, RANKS))} is taken" if key == "r" else ""
            raise DamagedFile(f"{file}: {key} must not be {_short(settings.get(key))}{wanted}; make the adapter anew")
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


def _read_weights(file: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Judge the safetensors file by its own header; returns where the adapter says it comes from."""
    try:
        data = file.read_bytes()
        start = 8 + int.from_bytes(data[:8], "little")
        if not 8 < start <= min(len(data), _MOST_HEADER):
            raise ValueError(f"a header of {start - 8} bytes in a file of {len(data)}")
        header = strict_json(data[8:start])
        if not isinstance(header, dict):
            raise ValueError("the header is no JSON object")
        provenance = _provenance(header.pop("__metadata__", {}))
        _check_tensors(header, memoryview(data)[start:])
        _check_names(header, settings)
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{file} is no sound adapter ({cause(error)}); use the base or another version") from error
    return provenance


def _provenance(metadata: Any) -> dict[str, Any]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("its metadata must be texts")
    told = strict_json(metadata.get("prompt2lora", "{}").encode())
    if not isinstance(told, dict):
        raise ValueError("its origin must be a JSON object")
    return told


def _check_tensors(header: Mapping[str, Any], data: memoryview) -> None:
    """Every tensor is a finite matrix of a known kind, and together they fill the file without a gap."""
    import numpy as np

    for name, entry in header.items():
        if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
            raise ValueError(f"{_short(name)} needs dtype, shape and data_offsets and nothing else")
        if not isinstance(entry["dtype"], str) or entry["dtype"] not in _KINDS:
            raise ValueError(f"{_short(name)} has the kind {_short(entry['dtype'])}, not {', '.join(_KINDS)}")
        for key, least in (("shape", 1), ("data_offsets", 0)):
            pair = entry[key]
            if not isinstance(pair, list) or [type(n) for n in pair] != [int, int] or min(pair) < least:
                raise ValueError(f"{_short(name)}: {key} must be two numbers, not {_short(pair)}")
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        size, no_number = _KINDS[entry["dtype"]]
        begin, stop = entry["data_offsets"]
        if begin != end or stop - begin != size * math.prod(entry["shape"]) or stop > len(data):
            raise ValueError(f"{_short(name)} does not lie where its shape says")
        bits = np.frombuffer(data[begin:stop], dtype=f"<u{size}")
        if ((bits & no_number) == no_number).any():
            raise ValueError(f"{_short(name)} holds numbers that are not finite")
        end = stop
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes belong to no tensor")


def _check_names(header: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Every adapted module has its pair, A (rank, in) and B (out, rank), and the modules are the targets."""
    sides: dict[str, set[str]] = {}
    targets = set()
    for name, entry in header.items():
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(f"{_short(name)} is no name of a LoRA matrix")
        path, target, side = match.groups()
        if entry["shape"]["AB".index(side)] != settings["r"]:
            raise ValueError(f"{_short(name)} has the shape {entry['shape']} and not the rank {settings['r']}")
        sides.setdefault(path, set()).add(side)
        targets.add(target)
    for path, found in sides.items():
        if found != {"A", "B"}:
            raise ValueError(f"{_short(path)} has only one of its two matrices")
    if targets != set(settings["target_modules"]):
        raise ValueError(f"it adapts {_short(sorted(targets))} and its configuration says otherwise")


def _short(value: Any) -> str:
    return json.dumps(value)[:80]
