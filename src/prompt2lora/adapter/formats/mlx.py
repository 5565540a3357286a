"""MLX LM: factors transposed, x A B, times `scale`, which stands in its configuration and is alpha / rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prompt2lora.adapter.grid import factors
from prompt2lora.adapter.peft import Adapter
from prompt2lora.ground.files import write_json, write_safetensors

_WEIGHTS, _CONFIG = "adapters.safetensors", "adapter_config.json"


def write(adapter: Adapter, config: Any, folder: Path) -> str:
    layout = adapter.layout
    state = {}
    for path, factor in factors(adapter.grid[None], layout).items():
        state[f"{path}.lora_a"] = factor.a[0].T.half().contiguous()
        state[f"{path}.lora_b"] = factor.b[0].half().contiguous()
    write_safetensors(folder / _WEIGHTS, state, {"format": "mlx"})
    parameters = {
        "rank": layout.rank,
        "scale": layout.scale,
        "dropout": 0.0,
        "keys": [target.path for target in layout.targets],
    }
    told = {"fine_tune_type": "lora", "num_layers": layout.layers, "lora_parameters": parameters}
    write_json(folder / _CONFIG, {**told, "model": layout.base_model})
    return f"MLX LM: `mlx_lm.generate --model {layout.base_model} --adapter-path FOLDER`, the folder of this file."
