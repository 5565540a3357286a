#!/usr/bin/env bash
# Expected: an adapter for which supports_lora_conversion() is true becomes a plain LoRA by save_as_lora, the nearer
#   to it the higher the rank, and at full rank the same. KaSA, which no B A can express, is refused.
# Seen, peft 0.21.2: DoRA counts as convertible. What is written is its B A alone, without the magnitudes: at full
#   rank the logits are about as far off as the adapter moves them. The same with lora_bias=True, whose biases are
#   left out, and with aLoRA, which then acts on the whole prompt. The one warning says that a LoRA seldom needs
#   conversion.
# It matters because vLLM and llama.cpp take plain LoRA alone: the owner of a DoRA looks for a way to one, this one is
#   offered, and its folder loads everywhere. merge_and_unload is right.
# Sources: huggingface.co/docs/peft/package_reference/lora_conversion, "LoRA to LoRA conversion", and the check in its
#   example; pull request 2939, which brought it. Issue 3761 is about add_weighted_adapter. We found none about
#   conversion.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0 peft==0.21.2 accelerate==1.15.0 safetensors==0.8.0 numpy==2.4.6

cd "$work"
HF_HUB_OFFLINE=1 venv/bin/python -W ignore - <<'PYTHON'
import sys
import warnings
from importlib.metadata import version

import torch
from peft import KasaConfig, LoHaConfig, LoraConfig, PeftModel, get_peft_model, save_as_lora
from transformers import LlamaConfig, LlamaForCausalLM

WIDTH, TARGETS = 32, ["q_proj", "v_proj"]
SIZES = {"vocab_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
PROMPT = torch.arange(6)[None]
KINDS = {
    "LoRA": LoraConfig(r=4, target_modules=TARGETS),
    "LoHa": LoHaConfig(r=4, target_modules=TARGETS),
    "DoRA": LoraConfig(r=4, target_modules=TARGETS, use_dora=True),
    "lora_bias": LoraConfig(r=4, target_modules=TARGETS, lora_bias=True),
    "aLoRA": LoraConfig(r=4, target_modules=TARGETS, alora_invocation_tokens=[3, 4], task_type="CAUSAL_LM"),
}


def base():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**SIZES, hidden_size=WIDTH, num_key_value_heads=4)).eval()


def trained(config):
    """A model with an adapter, every weight of which has moved as in training: magnitudes by a tenth."""
    model = get_peft_model(base(), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                step = 0.1 * torch.randn_like(weight)
                weight += weight * step if "magnitude" in name else step
    return model


def logits(model):
    with torch.no_grad():
        return model.eval()(PROMPT).logits


print(", ".join(f"{name} {version(name)}" for name in ("peft", "transformers", "torch")))
moved, off, convertible, told = {}, {}, {}, set()
for kind, config in KINDS.items():
    model = trained(config)
    wanted = logits(model)
    convertible[kind] = model.supports_lora_conversion()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        save_as_lora(kind, model, rank=WIDTH)
    told |= {str(one.message) for one in warned}
    moved[kind] = (wanted - logits(base())).abs().max().item()
    off[kind] = (logits(PeftModel.from_pretrained(base(), kind)) - wanted).abs().max().item()

kasa = get_peft_model(base(), LoraConfig(r=4, target_modules=TARGETS, kasa_config=KasaConfig()))
dora = trained(KINDS["DoRA"])
wanted = logits(dora)
merged = (logits(dora.merge_and_unload()) - wanted).abs().max().item()
unfit = [text for text in told if any(word in text.lower() for word in ("dora", "bias", "alora"))]
print(
    "seen: logits off at full rank (moved by the adapter): "
    + ", ".join(f"{kind} {off[kind]:.4f} ({moved[kind]:.4f})" for kind in KINDS)
    + f"; DoRA merged {merged:.4f}; convertible: {all(convertible.values())}, KaSA {kasa.supports_lora_conversion()}"
    + f"; {len(unfit)} warnings of it"
)
if not (
    [kind for kind in KINDS if off[kind] < 1e-4] == ["LoRA", "LoHa"]
    and off["DoRA"] > 0.2 * moved["DoRA"]
    and all(convertible.values())
    and not kasa.supports_lora_conversion()
    and merged < 1e-4
    and not unfit
):
    sys.exit("CHANGED: save_as_lora no longer leaves out what a plain LoRA cannot hold")
print("as in the header")
PYTHON
