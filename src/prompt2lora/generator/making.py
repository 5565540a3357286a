"""The main job in one function: prompts in, an adapter folder out, with the seconds of every step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from prompt2lora.files import check_new
from prompt2lora.generator.reader import Reader
from prompt2lora.prompts import check_prompts, instruction_of
from prompt2lora.weights.adapter import Adapter
from prompt2lora.weights.layout import LoraLayout


@dataclass(frozen=True)
class Generated:
    """What `generate` wrote: the folder, its digest, the instruction in the weights, the seconds of every step.

    `instruction` is empty if the prompts share none, or the generator cannot put it there.
    """

    adapter: str
    digest: str
    prompts: int
    parameters: int
    instruction: str
    seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def write_adapter(reader: Reader, layout: LoraLayout, prompts: Sequence[str], out: Path) -> Generated:
    """Prompts -> a PEFT folder, with the seconds of every step. Raises PromptsError, OutputError."""
    prompts = check_prompts(list(prompts))
    check_new(out)
    marks = {"begin": time.monotonic()}
    conditions = reader.conditions(prompts)
    marks["encode"] = time.monotonic()
    grid = reader.generator.generate(conditions)
    marks["decode"] = time.monotonic()
    grid = reader.aligned(grid, prompts)
    marks["align"] = time.monotonic()
    origin = {"generator_sha256": reader.generator.provenance.get("sha256", ""), "prompts": len(prompts)}
    digest = Adapter(layout, grid, origin).save(out)
    marks["write"] = time.monotonic()
    seconds = {name: end - begin for (_, begin), (name, end) in pairwise(marks.items())}
    instruction = instruction_of(prompts) if reader.aligns(prompts) else ""
    return Generated(str(out), digest, len(prompts), layout.parameters, instruction, seconds)
