#!/usr/bin/env bash
# Expected: safetensors writes the arrays that it is given, or refuses them, as safetensors.torch refuses a transposed
#   one; of an MLX array it writes what MLX's own mx.save_safetensors writes.
# Seen, safetensors 0.8.0 (0.7.0 was right) with mlx 0.32.4: of a transposed array, safetensors.mlx and
#   safetensors.numpy write the new shape over the old order of the numbers. PEFT loads such a file without a warning;
#   all numbers are there, most of them in the wrong places.
# It matters because MLX LM keeps the two matrices of LoRA transposed: whoever turns its adapter into one for PEFT, or the
#   other way, writes `.T`, and an MLX array does not tell its order. Use mx.save_safetensors, or mx.contiguous first.
# Sources: docstring of safetensors.mlx.save_file ("contiguous and dense", which nothing checks); mlx-lm issue 1119, the
#   shapes of both formats; safetensors issue 825, open, of arrays of NumPy. We found none about MLX, or adapters.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "mlx[cpu]==0.32.4" \
    torch==2.13.0 transformers==5.23.0 peft==0.21.2 accelerate==1.15.0 safetensors==0.8.0 numpy==2.4.6

cd "$work"
HF_HUB_OFFLINE=1 venv/bin/python -W ignore - <<'PYTHON'
import sys
import warnings
from importlib.metadata import version

import mlx.core as mx
import numpy as np
import safetensors.mlx
import safetensors.numpy
import torch
from peft import LoraConfig, PeftModel
from transformers import LlamaConfig, LlamaForCausalLM

RANK, WIDTH, TARGETS = 4, 32, ("q_proj", "v_proj")
SIZES = {"vocab_size": 48, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
PROMPT = torch.arange(6)[None]


def base():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES, hidden_size=WIDTH, num_key_value_heads=4)).eval()


def logits(model):
    with torch.no_grad():
        return model(PROMPT).logits


def numpy_file(arrays, file):
    safetensors.numpy.save_file({name: np.array(array) for name, array in arrays.items()}, file)


def contiguous_file(arrays, file):
    safetensors.mlx.save_file({name: mx.contiguous(array) for name, array in arrays.items()}, file)


WRITERS = {
    "mx.save_safetensors": lambda arrays, file: mx.save_safetensors(file, arrays),
    "safetensors.mlx": safetensors.mlx.save_file,
    "safetensors.numpy": numpy_file,
    "mx.contiguous, then safetensors.mlx": contiguous_file,
}

print(", ".join(f"{name} {version(name)}" for name in ("safetensors", "mlx", "peft", "torch")))

# As MLX LM trains it: what is added to a projection is x @ lora_a @ lora_b.
mx.random.seed(0)
mlx_adapter = {name: (mx.random.normal((WIDTH, RANK)), mx.random.normal((RANK, WIDTH))) for name in TARGETS}
peft_adapter = {}
wanted = base()
for name, (a, b) in mlx_adapter.items():
    prefix = f"base_model.model.model.layers.0.self_attn.{name}.lora_"
    peft_adapter |= {f"{prefix}A.weight": a.T, f"{prefix}B.weight": b.T}
    weight = wanted.get_submodule(f"model.layers.0.self_attn.{name}").weight
    weight.data += torch.from_numpy(np.array(a) @ np.array(b)).T

off, warned = {}, []
for writer, write in WRITERS.items():
    LoraConfig(r=RANK, lora_alpha=RANK, target_modules=list(TARGETS)).save_pretrained(writer)
    write(peft_adapter, f"{writer}/adapter_model.safetensors")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        loaded = PeftModel.from_pretrained(base(), writer)
    warned += [str(one.message) for one in told if "adapter" in str(one.message) or "keys" in str(one.message)]
    off[writer] = (logits(loaded) - logits(wanted)).abs().max().item()

change = (logits(wanted) - logits(base())).abs().max().item()
print(
    f"seen: the adapter changes the logits by {change:.2f}; loaded by PEFT, with {len(warned)} warnings, they are off "
    "by " + ", ".join(f"{distance:.2f} ({writer})" for writer, distance in off.items())
)
right = [distance < 1e-4 for distance in off.values()]
if right != [True, False, False, True] or warned:
    sys.exit("CHANGED: safetensors no longer writes a transposed array as it did in 0.8.0")
print("as in the header")
PYTHON
