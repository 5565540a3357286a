"""The main job in one function: prompts in, an adapter folder out, with the seconds of every step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from prompt2lora.files import check_new
from prompt2lora.generator.reading import Reader
from prompt2lora.prompts import check_prompts
from prompt2lora.weights.adapter import Adapter
from prompt2lora.weights.layout import LoraLayout


@dataclass(frozen=True)
class Generated:
    """What `generate` wrote: the folder, its digest, and the seconds of every step."""

    adapter: str
    digest: str
    prompts: int
    parameters: int
    seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def write_adapter(reader: Reader, layout: LoraLayout, prompts: Sequence[str], out: Path) -> Generated:
    """Prompts -> a PEFT folder, with the seconds to encode, decode and write. Raises PromptsError, OutputError."""
    prompts = check_prompts(list(prompts))
    check_new(out)
    marks = [time.monotonic()]
    conditions = reader.conditions(prompts)
    marks.append(time.monotonic())
    grid = reader.generator.generate(conditions)
    marks.append(time.monotonic())
    origin = {"generator_sha256": reader.generator.provenance.get("sha256", ""), "prompts": len(prompts)}
    digest = Adapter(layout, grid, origin).save(out)
    marks.append(time.monotonic())
    seconds = dict(zip(("encode", "decode", "write"), (b - a for a, b in pairwise(marks)), strict=True))
    return Generated(str(out), digest, len(prompts), layout.parameters, seconds)
