#!/usr/bin/env bash
# Expected: load_adapter(..., hotswap=True) puts a new adapter in the place of one that is loaded, and the model answers as the
#   new one; where their alphas differ, after enable_peft_hotswap (docstring of load_adapter).
# Seen, transformers 5.23.0 with peft 0.21.2: with and without that call the new matrices are multiplied by alpha / r of
#   the adapter before. No error, no warning. With use_rslora or an alpha_pattern it is the same, where PEFT's own
#   hotswap_adapter refuses; of another alpha alone that function makes the right model.
# It matters to whoever serves many adapters in one place: each answers at the strength of the first. Load by another name
#   and delete the old adapter, or let PEFT swap them.
# Sources: huggingface.co/docs/transformers/peft; integrations/peft.py, where hotswap only keeps load_adapter from adding
#   layers. Pull request 41297 brought hot-swapping by PEFT's function; 45682, open, is to restore it.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0 peft==0.21.2 accelerate==1.15.0 safetensors==0.8.0 numpy==2.4.6

cd "$work"
HF_HUB_OFFLINE=1 venv/bin/python -W ignore - <<'PYTHON'
import io
import logging as python_logging
import sys
import warnings
from importlib.metadata import version

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.hotswap import hotswap_adapter
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, logging

logging.disable_progress_bar()
SIZES = {"vocab_size": 48, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
PROMPT = torch.arange(1, 7)[None]
SECOND = {  # what the second adapter has beside r = 4 and, unless it says so, lora_alpha = 4
    "same": {},
    "alpha": {"lora_alpha": 32},
    "rslora": {"use_rslora": True},
    "pattern": {"alpha_pattern": {"q_proj": 32}},
}


def base():
    return AutoModelForCausalLM.from_pretrained("base")


def logits(model):
    with torch.no_grad():
        return model.eval()(PROMPT).logits


def train(name, seed, **settings):
    """An adapter as after training; what it answers."""
    settings = {"r": 4, "lora_alpha": 4, **settings}
    torch.manual_seed(seed)
    config = LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False, **settings)
    model = get_peft_model(base(), config)
    model.save_pretrained(name)
    return logits(model)


def by_transformers(name, prepared):
    model = base()
    if prepared:
        model.enable_peft_hotswap(target_rank=4)
    model.load_adapter("first", adapter_name="default")
    model.load_adapter(name, adapter_name="default", hotswap=True)
    return model


def by_peft(name):
    model = PeftModel.from_pretrained(base(), "first")
    try:
        hotswap_adapter(model, name, adapter_name="default")
    except ValueError:
        return None
    return model


print(", ".join(f"{name} {version(name)}" for name in ("transformers", "peft", "torch")))
torch.manual_seed(0)
LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=4)).save_pretrained("base")
train("first", seed=1)
wanted = {kind: train(kind, seed=2, **settings) for kind, settings in SECOND.items()}

told = io.StringIO()
logging.add_handler(python_logging.StreamHandler(told))
off, refused = {}, []
with warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    for kind, right in wanted.items():
        swapped = [by_transformers(kind, prepared) for prepared in (False, True)]
        # All four have the same matrices: those of "same" are at the strength of the first adapter.
        off[kind] = [
            (logits(model) - answers).abs().max().item() for model in swapped for answers in (right, wanted["same"])
        ]
spoken = told.getvalue() + "".join(str(one.message) for one in warned if "adapter" in str(one.message).lower())
for kind, right in wanted.items():
    model = by_peft(kind)
    if model is None:
        refused.append(kind)
    elif (logits(model) - right).abs().max() > 1e-5:
        sys.exit(f"CHANGED: PEFT's own hotswap_adapter does not make the right model of {kind}")

print(
    "seen: logits of the swapped model off from the second adapter's, and from its matrices at the first one's strength: "
    + "; ".join(f"{kind} {new:.2f}, {old:.2f}" for kind, (_, _, new, old) in off.items())
    + f"; warnings {len(spoken)}; PEFT's own function refuses {refused} and swaps the others rightly"
)
right = {kind: [distance < 1e-5 for distance in found] for kind, found in off.items()}
if right["same"] != [True] * 4 or any(right[kind] != [False, True] * 2 for kind in ("alpha", "rslora", "pattern")):
    sys.exit("CHANGED: an adapter that is swapped in has its own strength")
if spoken or refused != ["rslora", "pattern"]:
    sys.exit("CHANGED: transformers says that the strength is another one, or PEFT swaps more than it did")
print("as in the header")
PYTHON
