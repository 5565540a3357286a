"""`adapter_model.safetensors`, judged by its own header: its matrices, and where the adapter says it comes from.

In: a file that anybody may have written, and the settings beside it. Out: what it tells of its origin, or DamagedFile
in one line. Let through are pairs of finite matrices of one rank that fill the file without a gap.
It knows neither torch nor the base model; whether the shapes fit a base is the loader's question.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prompt2lora.adapter.settings import short
from prompt2lora.errors import DamagedFile, cause
from prompt2lora.ground.files import strict_json

WEIGHTS = "adapter_model.safetensors"
_MOST_HEADER = 1 << 24
_NAME = re.compile(r"base_model\.model\.((?:\w+\.)+(\w+))\.lora_([AB])\.weight", re.ASCII)
_KINDS = {"F16": (2, 0x7C00), "BF16": (2, 0x7F80), "F32": (4, 0x7F800000)}  # bytes, and the bits of no finite number


def read_origin(file: Path) -> dict[str, Any]:
    """Where an adapter says it comes from; its matrices are not looked at. Raises DamagedFile."""
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= _MOST_HEADER:
                raise ValueError(f"a header of {length} bytes")
            return _split(stream.read(length))[1]
    except (OSError, ValueError) as error:
        raise _unsound(file, error) from error


def read(file: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Judge the safetensors file by its own header; returns where the adapter says it comes from."""
    try:
        data = file.read_bytes()
        start = 8 + int.from_bytes(data[:8], "little")
        if not 8 < start <= min(len(data), _MOST_HEADER):
            raise ValueError(f"a header of {start - 8} bytes in a file of {len(data)}")
        header, origin = _split(data[8:start])
        _check_tensors(header, memoryview(data)[start:])
        _check_names(header, settings)
    except (OSError, ValueError) as error:
        raise _unsound(file, error) from error
    return origin


def _split(header: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a header says of every matrix, and of the adapter's origin."""
    told = strict_json(header)
    if not isinstance(told, dict):
        raise ValueError("the header is no JSON object")
    return told, _origin(told.pop("__metadata__", {}))


def _origin(metadata: Any) -> dict[str, Any]:
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
            raise ValueError(f"{short(name)} needs dtype, shape and data_offsets and nothing else")
        if not isinstance(entry["dtype"], str) or entry["dtype"] not in _KINDS:
            raise ValueError(f"{short(name)} has the kind {short(entry['dtype'])}, not {', '.join(_KINDS)}")
        for key, least in (("shape", 1), ("data_offsets", 0)):
            pair = entry[key]
            if not isinstance(pair, list) or [type(n) for n in pair] != [int, int] or min(pair) < least:
                raise ValueError(f"{short(name)}: {key} must be two numbers, not {short(pair)}")
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        size, no_number = _KINDS[entry["dtype"]]
        begin, stop = entry["data_offsets"]
        if begin != end or stop - begin != size * math.prod(entry["shape"]) or stop > len(data):
            raise ValueError(f"{short(name)} does not lie where its shape says")
        bits = np.frombuffer(data[begin:stop], dtype=f"<u{size}")
        if ((bits & no_number) == no_number).any():
            raise ValueError(f"{short(name)} holds numbers that are not finite")
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
            raise ValueError(f"{short(name)} is no name of a LoRA matrix")
        path, target, side = match.groups()
        if entry["shape"]["AB".index(side)] != settings["r"]:
            raise ValueError(f"{short(name)} has the shape {entry['shape']} and not the rank {settings['r']}")
        sides.setdefault(path, set()).add(side)
        targets.add(target)
    for path, found in sides.items():
        if found != {"A", "B"}:
            raise ValueError(f"{short(path)} has only one of its two matrices")
    if targets != set(settings["target_modules"]):
        raise ValueError(f"it adapts {short(sorted(targets))} and its configuration says otherwise")


def _unsound(file: Path, error: Exception) -> DamagedFile:
    return DamagedFile(f"{file} is no sound adapter ({cause(error)}); use the base or another version")
