"""An adapter in the files of other engines, at the strength that it has in PEFT.

In: an adapter, the configuration of its base, the name of an engine. Out: a folder with that engine's files and a note
of how to load them. It runs no engine (evaluation/engines.py does).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from prompt2lora.adapter.formats import gguf, mlx, onnxruntime, openvino
from prompt2lora.adapter.peft import Adapter, lossless
from prompt2lora.errors import UsageError
from prompt2lora.ground.files import new_folder, write_text

NOTE = "README.md"
_LOSSLESS = ("onnxruntime", "peft")  # take numbers that float16 does not hold


def _peft(adapter: Adapter, config: Any, folder: Path) -> str:
    adapter.save(folder / "adapter", dtype=lossless(adapter.grid))
    return "PEFT: `PeftModel.from_pretrained(model, 'adapter')`. vLLM, SGLang and LoRAX load the same folder."


FORMATS: dict[str, Callable[[Adapter, Any, Path], str]] = {
    "gguf": gguf.write,
    "mlx": mlx.write,
    "onnxruntime": onnxruntime.write,
    "openvino": openvino.write,
    "peft": _peft,
}


def check_format(to: str) -> None:
    """Raises UsageError for an engine that is not known."""
    if to not in FORMATS:
        raise UsageError(f"an adapter can be exported to {', '.join(FORMATS)}, not to {to!r}; name one of these")


def export(adapter: Adapter, config: Any, to: str, folder: Path) -> str:
    """Write `folder` as a whole for the engine `to`; returns the note that stands in it, too.

    `config` is the base's, as transformers has it. Raises UsageError for an engine or a kind of base that is not known
    or a folder that exists, OutputError if it cannot be written.
    """
    check_format(to)
    layout = adapter.layout
    if layout.tower and to != "peft":
        raise UsageError(f"an adapter for a base that reads pictures cannot be exported to {to}; export to peft")
    if to not in _LOSSLESS and not torch.isfinite(adapter.grid.half()).all():
        raise UsageError(f"{to} takes numbers in float16, and some of this adapter's are larger; export to peft")
    with new_folder(folder) as aside:
        loading = FORMATS[to](adapter, config, aside)
        note = f"A LoRA adapter (rank {layout.rank}) for {layout.base_model} and for no other base.\n\n{loading}\n"
        write_text(aside / NOTE, note)
    return note
