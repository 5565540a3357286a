#!/usr/bin/env bash
# Expected: an adapter that PEFT saves and loads again is the same adapter (docstring of PeftModel.save_pretrained).
# Seen, peft 0.21.2: the first matching key in alpha_pattern wins, and saving sorts the keys. An exception that sorts
#   behind the general key is lost: same weights, another strength, no warning. rank_pattern is decided likewise.
# It matters because a folder that is only copied by loading and saving can answer differently from the first.
# Sources: LoraConfig, huggingface.co/docs/peft/package_reference/lora has nothing on the order; the keys are explained
#   in github.com/huggingface/peft/pull/2419. We found no thread about the order.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0 peft==0.21.2 accelerate==1.15.0 safetensors==0.8.0 numpy==2.4.6

cd "$work"
HF_HUB_OFFLINE=1 venv/bin/python -W ignore - <<'PYTHON'
import json
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

EXCEPTION, GENERAL = "layers.1.self_attn.q_proj", ".*_proj"
SIZES = {"vocab_size": 48, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
PROMPT = torch.arange(6)[None]


def base():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=4)).eval()


def config(**patterns):
    targets = ["q_proj", "v_proj"]
    return LoraConfig(r=4, lora_alpha=4, target_modules=targets, init_lora_weights=False, **patterns)


def excepted(model):
    return model.base_model.model.model.layers[1].self_attn.q_proj


def answers(model):
    with torch.no_grad():
        return model.eval()(PROMPT).logits


print(", ".join(f"{name} {version(name)}" for name in ("peft", "transformers", "torch")))

first = get_peft_model(base(), config(alpha_pattern={EXCEPTION: 64, GENERAL: 8}))
first.save_pretrained("first")
keys = list(json.loads(Path("first/adapter_config.json").read_text())["alpha_pattern"])
second = PeftModel.from_pretrained(base(), "first")
second.save_pretrained("second")
files = [load_file(f"{name}/adapter_model.safetensors") for name in ("first", "second")]
same_weights = files[0].keys() == files[1].keys() and all(torch.equal(files[0][key], files[1][key]) for key in files[0])
strengths = [excepted(model).scaling["default"] for model in (first, second)]
distance = (answers(first) - answers(second)).abs().max().item()

ranked = get_peft_model(base(), config(rank_pattern={EXCEPTION: 8, GENERAL: 2}))
ranked.peft_config["default"].save_pretrained("ranked")
rebuilt = get_peft_model(base(), PeftConfig.from_pretrained("ranked"))
ranks = [excepted(model).r["default"] for model in (ranked, rebuilt)]

print(
    f"seen: keys in the saved file {keys}; strength of the exception {strengths[0]} before saving and {strengths[1]} "
    f"after loading, weights the same: {same_weights}, logits moved by {distance:.3f}; rank {ranks[0]} before and "
    f"{ranks[1]} after"
)
if not (
    keys == [GENERAL, EXCEPTION] and same_weights and strengths == [16.0, 2.0] and ranks == [8, 2] and distance > 1e-3
):
    sys.exit("CHANGED: the order of the pattern keys no longer decides as it did in peft 0.21.2")
print("as in the header")
PYTHON
