"""OpenVINO GenAI: the names of PEFT. It does not read alpha: the strength is what the caller gives, 1 unless said.

So alpha / rank goes into B, and alpha = rank into the configuration, for whatever does read it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from prompt2lora.adapter.grid import decode, encode
from prompt2lora.adapter.peft import Adapter
from prompt2lora.adapter.tensors import WEIGHTS


def write(adapter: Adapter, config: Any, folder: Path) -> str:
    layout = adapter.layout
    state = decode(adapter.grid, layout)
    scaled = {name: matrix * layout.scale if ".lora_B." in name else matrix for name, matrix in state.items()}
    plain = replace(layout, alpha=layout.rank)
    Adapter(plain, encode(scaled, plain), adapter.provenance).save(folder / "adapter")
    return (
        f"OpenVINO GenAI: `openvino_genai.AdapterConfig(openvino_genai.Adapter('adapter/{WEIGHTS}'))`, without another "
        "alpha (the strength is in the weights). The base must be in OpenVINO's own format: one that it read from GGUF "
        "answers as if there were no adapter. Give one adapter to the constructor of the pipeline, and name the "
        "adapters in every call: without any, those of the call before stay. Where calls name different adapters, or "
        "none, also give it a `scheduler_config` whose `enable_prefix_caching` is False: otherwise a prompt that "
        "begins like an earlier one is answered by the adapter of that one."
    )
