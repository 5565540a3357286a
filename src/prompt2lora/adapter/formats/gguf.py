"""llama.cpp: one GGUF file with the factors under that engine's names.

llama.cpp takes alpha / rank as the strength, and 1 where alpha is missing; alpha is always written. Bases of the Llama
kind have the rows of q and k in another order there (pairs of a rotation beside each other), so B has, too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.grid import factors
from prompt2lora.adapter.peft import Adapter
from prompt2lora.errors import UsageError

FILE = "adapter.gguf"
# transformers' kind of model: (llama.cpp's, whether it has the rows of q and k in another order)
_ARCHITECTURES = {
    "gemma3_text": ("GEMMA3", False),
    "llama": ("LLAMA", True),
    "mistral": ("LLAMA", True),
    "qwen2": ("QWEN2", False),
    "qwen3": ("QWEN3", False),
}
_HEADS = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}


def check(config: Any) -> None:
    """Raises UsageError for a kind of base whose names in llama.cpp are not known here."""
    if config.model_type not in _ARCHITECTURES:
        known = ", ".join(_ARCHITECTURES)
        raise UsageError(
            f"bases of the kind {config.model_type} cannot be exported to gguf, only {known}; export to peft"
        )


def write(adapter: Adapter, config: Any, folder: Path) -> str:
    """Raises UsageError for a kind of base whose names in llama.cpp are not known here."""
    import gguf

    check(config)
    kind, reordered = _ARCHITECTURES[config.model_type]
    layout = adapter.layout
    architecture = gguf.MODEL_ARCH[kind]
    names = gguf.get_tensor_name_map(architecture, layout.layers)
    writer = gguf.GGUFWriter(folder / FILE, gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, layout.alpha)
    given = factors(adapter.grid[None], layout)
    for _, target, path in layout.module_paths():
        a, b = given[path].a[0], given[path].b[0].T
        if reordered and target.name in _HEADS:
            b = _pairs_beside_each_other(b, getattr(config, _HEADS[target.name]))
        name = names.get_name(path)
        for side, matrix in (("a", a), ("b", b)):
            writer.add_tensor(f"{name}.weight.lora_{side}", matrix.half().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return (
        f"llama.cpp: `llama-server -m BASE.gguf --lora {FILE}`, at strength 1 (the file holds alpha). To choose an "
        "adapter in each request, add `--lora-init-without-apply --cache-ram 0`, and "
        '`"lora": [{"id": 0, "scale": 1.0}]` to every request (scale 0 for the base); otherwise a prompt can be '
        "answered by the adapter that read it before."
    )


def _pairs_beside_each_other(b: Float[Tensor, "out rank"], heads: int) -> Float[Tensor, "out rank"]:
    """Rows of a head from (first halves, second halves) of its rotations to pair after pair."""
    out, rank = b.shape
    return torch.reshape(b.reshape(heads, 2, out // heads // 2, rank).transpose(1, 2), (out, rank))
