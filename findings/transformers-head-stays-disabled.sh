#!/usr/bin/env bash
# Expected: enable_adapters() takes disable_adapters() back: a model with an adapter loaded by transformers itself
#   (load_adapter, or from_pretrained on the adapter's folder) answers again as before.
# Seen, transformers 5.23.0 with peft 0.21.2: the LoRA matrices are back, the trained head (modules_to_save, which a
#   task type such as SEQ_CLS adds by itself) is not: the base's head answers, without a warning. set_adapter does not
#   bring it back; active_adapters() names the adapter all the while. enable_adapters(True) on every
#   ModulesToSaveWrapper does. In PEFT's own model the context disable_adapter restores both.
# It matters to whoever compares a classifier or a reward model with its base in between: from then on the head that
#   scores is the untrained one. Saving is right, so the fault is gone with the next start.
# Sources: huggingface.co/docs/transformers/peft; integrations/peft.py: both kinds of modules are disabled, one kind is
#   enabled. PEFT pull request 2936 made setting and enabling two things. We found no thread about it.
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
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import ModulesToSaveWrapper
from transformers import AutoModelForSequenceClassification, LlamaConfig, LlamaForSequenceClassification, logging

logging.disable_progress_bar()
SIZES = {"vocab_size": 48, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
PROMPT = torch.arange(1, 7)[None]


def base():
    return AutoModelForSequenceClassification.from_pretrained("base")


def logits(model):
    with torch.no_grad():
        return model.eval()(PROMPT).logits


def off(model, wanted):
    return (logits(model) - wanted).abs().max().item()


print(", ".join(f"{name} {version(name)}" for name in ("transformers", "peft", "torch")))
torch.manual_seed(0)
config = LlamaConfig(**SIZES, num_key_value_heads=4, num_labels=3, pad_token_id=0)
LlamaForSequenceClassification(config).save_pretrained("base")
lora = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
trained = get_peft_model(base(), lora)
torch.nn.init.normal_(trained.base_model.model.score.modules_to_save["default"].weight)
trained.save_pretrained("adapter")
wanted = logits(trained)

with trained.disable_adapter():
    logits(trained)
in_peft = off(trained, wanted)

by_load_adapter = base()
by_load_adapter.load_adapter("adapter")
by_from_pretrained = AutoModelForSequenceClassification.from_pretrained("adapter")

found = {}
for way, model in {"load_adapter": by_load_adapter, "from_pretrained": by_from_pretrained}.items():
    steps = [off(model, wanted)]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model.disable_adapters()
        as_base = off(model, logits(base()))
        model.enable_adapters()
        steps.append(off(model, wanted))
        model.set_adapter("default")
        steps.append(off(model, wanted))
    spoken = [str(one.message) for one in told if "adapter" in str(one.message).lower()]
    named = model.active_adapters()
    model.save_pretrained("again")
    steps.append(off(PeftModel.from_pretrained(base(), "again"), wanted))
    for module in model.modules():
        if isinstance(module, ModulesToSaveWrapper):
            module.enable_adapters(True)
    found[way] = (*steps, off(model, wanted), as_base, named, len(spoken))

print(
    "seen: logits off when loaded, when disabled and enabled again, after set_adapter, saved and loaded by PEFT, after "
    "enabling the head by itself: "
    + "; ".join(f"{way} {', '.join(f'{far:.2f}' for far in steps[:5])}" for way, steps in found.items())
    + f"; in PEFT's own model {in_peft:.2f}; active all the while: {found['load_adapter'][6]}"
)
for *steps, as_base, named, spoken in found.values():
    right = [distance < 1e-4 for distance in (*steps, as_base, in_peft)]
    if right != [True, False, False, True, True, True, True] or named != ["default"] or spoken:
        sys.exit("CHANGED: a head that was disabled with its adapter is enabled with it, or says that it is not")
print("as in the header")
PYTHON
