"""What a result depends on besides its inputs: versions and hardware, for every file that states a figure."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from prompt2lora import __version__
from prompt2lora.base import models


def versions() -> dict[str, str]:
    packages = ("torch", "transformers", "peft")
    return {"prompt2lora": __version__, "python": platform.python_version()} | {one: _version(one) for one in packages}


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def command() -> str:
    """The command line that is running, as it can be typed again."""
    program, *words = sys.argv
    script = ["python", os.path.relpath(program)] if program.endswith(".py") else [Path(program).name]
    return shlex.join([*script, *words])


def origin(dtype: Any = None) -> dict[str, Any]:
    """How a result came about; part of every file that states a figure. `dtype` if it is not the processor's own."""
    return {"command": command(), "versions": versions(), "hardware": hardware(dtype)}


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hardware(dtype: Any = None) -> dict[str, str | int]:
    """Processor, usable cores, system and the dtype computed with, without names of this machine."""
    used = str(dtype or models.default_dtype(models.default_device())).removeprefix("torch.")
    return {"machine": platform.machine(), "system": platform.system(), "cores": usable_cores(), "dtype": used}
