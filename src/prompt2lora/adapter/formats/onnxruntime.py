"""ONNX Runtime: one `.onnx_adapter` file under the names that its model builder gives an adapter's matrices.

The builder multiplies B by alpha / rank and turns both matrices over; so does this. ONNX Runtime adds no two adapters:
a model has one place for each matrix.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prompt2lora.adapter.grid import factors
from prompt2lora.adapter.peft import Adapter
from prompt2lora.errors import UsageError

FILE = "adapter.onnx_adapter"


def write(adapter: Adapter, config: Any, folder: Path) -> str:
    """Raises UsageError if onnxruntime, which writes such files, is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UsageError("onnxruntime writes its own files and is not installed: pip install onnxruntime") from error
    layout, values = adapter.layout, {}
    for path, factor in factors(adapter.grid[None], layout).items():
        name = path.replace(".self_attn.", ".attn.")
        for side, matrix in (("A", factor.a[0].T), ("B", factor.b[0] * layout.scale)):
            values[f"{name}.lora_{side}.MatMul.weight"] = onnxruntime.OrtValue.ortvalue_from_numpy(
                matrix.float().contiguous().numpy()
            )
    file = onnxruntime.AdapterFormat()
    file.set_adapter_version(1)
    file.set_model_version(1)
    file.set_parameters(values)
    file.export_adapter(str(folder / FILE))
    return (
        f"ONNX Runtime GenAI: `og.Adapters(model).load('{FILE}', 'job')`, with a model that its builder made with the "
        "`adapter_path` of a PEFT folder of the same rank and modules, and whose LoRA matrices are inputs."
    )
