#!/usr/bin/env bash
# Expected: with layers_to_transform, "PEFT will transform only the layers indexes that are specified inside this list"
#   (help of LoraConfig), whether target_modules names a module by its whole path or by the end of it.
# Seen, peft 0.21.2: it is passed over, without a warning, for every module that is named by its whole path. From 20
#   names on PEFT shortens the list of targets if it can, and then it counts: a model of 9 layers gets adapters in all
#   of them, the same request for a model of 10 layers gets them in one.
# It matters because whole paths are what PEFT itself writes for `all-linear`, and what tools list; an adapter is then
#   trained, or loaded, in layers that were left out. We found no thread about it (#1024 and #2658 are of other kinds).
# Source: huggingface.co/docs/peft/package_reference/lora
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0 peft==0.21.2 accelerate==1.15.0 safetensors==0.8.0 numpy==2.4.6

cd "$work"
HF_HUB_OFFLINE=1 venv/bin/python -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

SIZES = {"vocab_size": 16, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}


def adapted_layers(layers, whole_paths):
    """In which layers of a model there are adapters, if q_proj and v_proj of layer 1 were asked for."""
    names = ["q_proj", "v_proj"]
    if whole_paths:
        names = [f"model.layers.{layer}.self_attn.{name}" for layer in range(layers) for name in names]
    model = LlamaForCausalLM(LlamaConfig(**SIZES, num_hidden_layers=layers))
    adapted = get_peft_model(model, LoraConfig(target_modules=names, layers_to_transform=[1]))
    return sorted({int(name.split(".")[2]) for name in adapted.base_model.targeted_module_names})


print(f"peft {version('peft')}, transformers {version('transformers')}, torch {version('torch')}")
ends = [adapted_layers(layers, whole_paths=False) for layers in (9, 10)]
paths = [adapted_layers(layers, whole_paths=True) for layers in (9, 10)]
print(
    f"seen: layers_to_transform [1] on models of 9 and 10 layers adapts layers {ends[0]} and {ends[1]} by the ends of "
    f"the names, {paths[0]} and {paths[1]} by whole paths"
)
if (ends, paths) != ([[1], [1]], [list(range(9)), [1]]):
    sys.exit("CHANGED: layers_to_transform no longer depends on how the modules are named")
print("as in the header")
PYTHON
