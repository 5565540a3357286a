#!/usr/bin/env bash
# Expected: an adapter that PEFT saved answers the same when transformers loads it by itself (load_adapter, or from_pretrained on
#   its folder): its page supports LoRA, and every other method that is not prompt learning.
# Seen, transformers 5.23.0 with peft 0.21.2: of a DoRA adapter the magnitudes that were trained are not loaded, those of the
#   base stand in their place, and saving writes them. A table lists the vectors as UNEXPECTED, which "can be ignored when
#   loading from different task/architecture", and as MISSING. An adapter of aLoRA never acts: the base answers, without a
#   word. Plain LoRA, rsLoRA and trained tokens are right, and PeftModel.from_pretrained is right for all.
# It matters because such a model is neither the base nor what was measured, and is saved like that.
# Sources: huggingface.co/docs/transformers/peft; build_peft_weight_mapping in peft/utils/transformers_weight_conversion.py adds
#   the adapter's name to such keys and leaves the ".weight" of magnitudes out; the offsets of aLoRA are counted in
#   PeftModel.forward, which is not called. We found no thread about either.
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
from importlib.metadata import version

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, logging

logging.disable_progress_bar()
SIZES = {"vocab_size": 48, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
PROMPT = torch.arange(1, 7)[None]
KINDS = {
    "LoRA": {},
    "rsLoRA": {"use_rslora": True},
    "tokens": {"trainable_token_indices": [2, 3]},
    "DoRA": {"use_dora": True},
    "aLoRA": {"alora_invocation_tokens": [3, 4]},
}


def base():
    return AutoModelForCausalLM.from_pretrained("base")


def logits(model):
    with torch.no_grad():
        return model.eval()(PROMPT).logits


def off(model, wanted):
    return (logits(model) - wanted).abs().max().item()


def train(kind):
    """An adapter as after training; what it answers."""
    torch.manual_seed(1)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"], **KINDS[kind])
    model = get_peft_model(base(), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name or "trainable_tokens" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(kind)
    return logits(model)


def loaded(kind):
    """(loaded, saved and read by PEFT) by transformers' two ways, and what it said meanwhile"""
    told = io.StringIO()
    handler = python_logging.StreamHandler(told)
    logging.add_handler(handler)
    by_name, by_folder = base(), AutoModelForCausalLM.from_pretrained(kind)
    by_name.load_adapter(kind)
    logging.remove_handler(handler)
    by_name.save_pretrained(f"{kind} again")
    return (by_name, by_folder, PeftModel.from_pretrained(base(), f"{kind} again")), told.getvalue()


print(", ".join(f"{name} {version(name)}" for name in ("transformers", "peft", "torch")))
torch.manual_seed(0)
LlamaForCausalLM(LlamaConfig(**SIZES, num_key_value_heads=4)).save_pretrained("base")

found, spoken = {}, {}
for kind in KINDS:
    wanted = train(kind)
    models, spoken[kind] = loaded(kind)
    peft = off(PeftModel.from_pretrained(base(), kind), wanted)
    change = off(base(), wanted)
    found[kind] = [*(off(model, wanted) for model in models), peft, change, off(models[0], logits(base()))]

print(
    "seen: logits off in transformers, saved again, in PEFT, of all that the adapter changes: "
    + "; ".join(
        f"{kind} {one:.2f}, {saved:.2f}, {peft:.2f}, {whole:.2f}"
        for kind, (one, _, saved, peft, whole, _) in found.items()
    )
    + f"; said of {[kind for kind, text in spoken.items() if text]}"
)
right = {kind: [distance < 1e-4 for distance in distances] for kind, distances in found.items()}
wrong = {  # by load_adapter, by from_pretrained, saved again, in PEFT; what the adapter changes; load_adapter and the base
    "DoRA": [False, False, False, True, False, False],
    "aLoRA": [False, False, True, True, False, True],
}
if right != {kind: [True] * 4 + [False] * 2 for kind in ("LoRA", "rsLoRA", "tokens")} | wrong:
    sys.exit("CHANGED: which adapters of PEFT transformers loads rightly by itself")
if any(spoken[kind] for kind in KINDS if kind != "DoRA") or not all(
    word in spoken["DoRA"] for word in ("magnitude", "UNEXPECTED", "MISSING", "can be ignored")
):
    sys.exit("CHANGED: what transformers says of adapters that it does not load rightly")
print("as in the header")
PYTHON
