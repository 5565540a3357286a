"""Memory: what this machine has, what is free of it, and what a base needs.

In: the name of a base. Out: bytes, or None where this system does not tell. Nothing is loaded to find out.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from prompt2lora.base.packaged import PACKAGED
from prompt2lora.base.weights import weight_files

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container
_PROCESS = 1e9  # Python with its libraries, and the text encoder
_A_PARAMETER = 6  # bytes: float32, and half as much again while an adapter is made
_STORED = 2  # bytes of a parameter in most weight files


def machine_memory() -> float | None:
    """Bytes that this machine, or the container that we are in, has."""
    found = []
    with suppress(ValueError, OSError, AttributeError):  # no Unix
        found.append(float(os.sysconf("SC_PAGE_SIZE")) * os.sysconf("SC_PHYS_PAGES"))
    for file in _LIMITS:
        with suppress(OSError, ValueError):  # no such limit, or "max"
            found.append(float(Path(file).read_text(encoding="ascii")))
    return min(found, default=None)


def free_memory() -> float | None:
    """Bytes that can be had now."""
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024.0
    return None


def needed_memory(base: str) -> float:
    """Bytes that making adapters for a base takes at most. Raises ModelNotFound for one that is not on this machine."""
    package = PACKAGED.get(base)
    if package and package.parameters:
        parameters = float(package.parameters)
    else:
        parameters = sum(file.stat().st_size for file in weight_files(base, fetch=False)) / _STORED
    return _PROCESS + _A_PARAMETER * parameters
