"""A base in the format of an engine, made by that engine's own converter, for a check of what was exported to it.

In: a base, a folder that is new. Out: the folder, filled; or UsageError that says what the engine wants instead. The
models answer one token after a prompt, which is all that a check asks; they are no good for serving.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.base.frozen import Frozen
from prompt2lora.errors import UsageError

_STATE = "past_key_values.0.key"


class _Plain(nn.Module):
    """A base as OpenVINO can read it: no cache, and the mask made of the positions alone."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.lm_head = model.model, model.lm_head

    def forward(
        self, input_ids: Int[Tensor, "sequences length"], position_ids: Int[Tensor, "sequences length"]
    ) -> Float[Tensor, "sequences length vocabulary"]:
        seen = position_ids[:, None, :, None] >= position_ids[:, None, None, :]
        mask = torch.where(seen, 0.0, -1e9)
        asked = {"input_ids": input_ids, "position_ids": position_ids, "attention_mask": mask}
        logits: Tensor = self.lm_head(self.model(**asked, use_cache=False).last_hidden_state)
        return logits


def openvino(base: Frozen, folder: Path) -> Path:
    """By OpenVINO's reader of PyTorch, with the inputs and the state that a pipeline of OpenVINO GenAI asks of a model.

    `openvino.convert_model` would do as well, and send a record of its use to the net.
    """
    import numpy as np
    import openvino as ov
    from openvino import opset15 as op
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = {"input_ids": torch.ones(1, 4, dtype=torch.long), "position_ids": torch.arange(4)[None]}
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # of tracing: what is a constant in it is so for every prompt
            reader = FrontEndManager().load_by_framework("pytorch")
            read = TorchScriptPythonDecoder(_Plain(_in_float32(base.model)), example_input=example)
            converted = reader.convert(reader.load(read))
            converted.reshape({name: [-1, -1] for name in example})
    except (RuntimeError, AttributeError, TypeError, ValueError) as error:
        name = base.layout.base_model
        raise UsageError(
            f"OpenVINO cannot convert {name} by itself; convert it by optimum-intel (optimum-cli export openvino "
            f"--model {name} FOLDER), and name that folder by --model"
        ) from error

    def whole(*value: int) -> Any:
        return op.constant(np.array(value, np.int64))

    mask, beams = op.parameter([-1, -1], np.int64, name="attention_mask"), op.parameter([-1], np.int32, name="beam_idx")
    for parameter in (mask, beams):
        parameter.output(0).get_tensor().set_names({parameter.friendly_name})
    # A pipeline wants a cache that grows with the text; nothing reads this one.
    ids = converted.input("input_ids").get_node()
    count = op.gather(op.shape_of(ids), whole(0), whole(0))
    nothing = op.broadcast(op.constant(np.float32(0)), op.concat([count, whole(1, 0, 1)], 0))
    past = op.read_value(nothing, _STATE, ov.Type.f32, ov.PartialShape([-1, 1, -1, 1]))
    grown = op.concat([op.gather(past, beams, whole(0)), op.convert(op.unsqueeze(ids, whole(1, 3)), ov.Type.f32)], 2)
    logits = op.result(converted.outputs[0].get_node().input_value(0))
    logits.input_value(0).get_tensor().set_names({"logits"})
    model = ov.Model([logits], [op.assign(grown, _STATE)], [*converted.get_parameters(), mask, beams], "base")
    folder.mkdir()
    ov.save_model(model, folder / "openvino_model.xml", compress_to_fp16=False)
    (folder / "config.json").write_text(json.dumps({"model_type": base.model.config.model_type}), encoding="utf-8")
    (folder / "generation_config.json").write_text("{}", encoding="utf-8")
    return folder


def _in_float32(model: Any) -> Any:
    """The model on the CPU in float32; a copy unless it is so already."""
    ready = (model.device.type, model.dtype) == ("cpu", torch.float32)
    return model if ready else copy.deepcopy(model).cpu().float()


def onnxruntime(adapter: Adapter, folder: Path) -> Path:
    """By the model builder of ONNX Runtime GenAI, with the matrices of the adapter as inputs."""
    missing = [name for name in ("onnx", "onnx_ir") if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"ONNX Runtime GenAI needs {' and '.join(missing)} to convert a base: pip install onnx onnx-ir; or name a "
            "converted one, whose LoRA matrices are inputs, by --model"
        )
    import onnx

    adapter.save(folder.parent / "peft")
    place = models.locate(adapter.layout.base_model)
    named = ["-i" if Path(place).is_dir() else "-m", place]
    options = ["-p", "fp32", "-e", "cpu", "--extra_options", f"adapter_path={folder.parent / 'peft'}"]
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", *named, "-o", str(folder)]
    built = subprocess.run([*command, "-c", str(folder.parent / "cache"), *options], capture_output=True, text=True)
    if built.returncode or not (folder / "model.onnx").is_file():
        said = (built.stderr.strip() or "no reason given").splitlines()[-1][:200]
        raise UsageError(
            f"ONNX Runtime GenAI cannot convert {place} ({said}); name a folder of its model builder by --model"
        )
    model = onnx.load(folder / "model.onnx")
    for weight in [one for one in model.graph.initializer if ".lora_" in one.name]:
        model.graph.input.append(onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims))
        model.graph.initializer.remove(weight)
    (folder / "model.onnx.data").unlink()
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location="model.onnx.data")
    return folder
