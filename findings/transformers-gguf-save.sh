#!/usr/bin/env bash
# Expected: a model loaded from GGUF can be saved: the GGUF page of transformers 4 loads one and calls save_pretrained.
# Seen, transformers 5.23.0: all weights are plain float32, even of a file without a quantised one, yet save_pretrained
#   refuses, also after a LoRA is merged, and dequantize() does not exist for GGUF. With GgufConfig(dequantize=True) the
#   same weights are loaded, and saved. It matters to whoever merges an adapter and is refused at the very end.
# Sources: docs/source/en/gguf.md in github.com/huggingface/transformers at 03b6862, and quantization/gguf.md there now,
#   which has the option, and not that saving needs it. We found no thread about it.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0 peft==0.21.2 accelerate==1.15.0 safetensors==0.8.0 gguf==0.19.0 numpy==2.4.6

cd "$work"
HF_HUB_OFFLINE=1 TQDM_DISABLE=1 venv/bin/python -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import gguf
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, GgufConfig
from transformers.utils import logging

WORDS, WIDTH, INNER, HEADS = 48, 32, 64, 4
logging.set_verbosity_error()
logging.disable_progress_bar()


def write(file, kind):
    """A random Llama of one layer, its matrices of this kind and its norms float32."""
    numbers = np.random.default_rng(0)
    shapes = {"token_embd": (WORDS, WIDTH), "output": (WORDS, WIDTH), "blk.0.ffn_down": (WIDTH, INNER)}
    shapes |= {f"blk.0.attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
    shapes |= {f"blk.0.ffn_{name}": (INNER, WIDTH) for name in ("gate", "up")}
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_vocab_size(WORDS)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_block_count(1)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    for name, shape in shapes.items():
        matrix = numbers.normal(0, 0.1, shape).astype(np.float32)
        writer.add_tensor(f"{name}.weight", gguf.quants.quantize(matrix, kind), raw_dtype=kind)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def saves(model, folder):
    try:
        model.save_pretrained(folder)
    except ValueError as error:
        return "refused" if "not serializable" in str(error) else f"{error}"
    return "saved"


print(", ".join(f"{name} {version(name)}" for name in ("transformers", "gguf", "peft", "torch")))

seen = {}
for kind in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.Q8_0):
    file = f"{kind.name}.gguf"
    write(file, kind)
    source = {"pretrained_model_name_or_path": ".", "gguf_file": file, "dtype": torch.float32}
    marked = AutoModelForCausalLM.from_pretrained(**source)
    dense = AutoModelForCausalLM.from_pretrained(**source, quantization_config=GgufConfig(dequantize=True))
    seen[kind.name] = saves(marked, "marked")
    seen[f"{kind.name}, dequantize=True"] = saves(dense, kind.name)
    again = AutoModelForCausalLM.from_pretrained(kind.name)
    for name, weight in marked.state_dict().items():
        others = (dense.state_dict()[name], again.state_dict()[name])
        if weight.dtype != torch.float32 or not all(torch.equal(weight, other) for other in others):
            sys.exit(f"CHANGED: {name} is {weight.dtype}, or not the same however it is loaded")
try:
    marked.dequantize()
    seen["dequantize()"] = "done"
except NotImplementedError:
    seen["dequantize()"] = "not implemented"
merged = get_peft_model(marked, LoraConfig(r=2, target_modules=["q_proj"])).merge_and_unload()
seen["LoRA merged"] = saves(merged, "marked")

print("seen: all weights float32 and the same; " + "; ".join(f"{name}: {result}" for name, result in seen.items()))
if seen != {
    "F32": "refused",
    "F32, dequantize=True": "saved",
    "Q8_0": "refused",
    "Q8_0, dequantize=True": "saved",
    "dequantize()": "not implemented",
    "LoRA merged": "refused",
}:
    sys.exit("CHANGED: saving a model loaded from GGUF no longer behaves as it did in transformers 5.23.0")
print("as in the header")
PYTHON
