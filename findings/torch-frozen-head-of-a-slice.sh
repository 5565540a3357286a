#!/usr/bin/env bash
# Expected: a base answers as fast with an adapter beside it as alone; of the prompts of a batch only the last place goes
#   through the output layer (logits_to_keep of transformers), so that this costs next to nothing.
# Seen, torch 2.13.0 with transformers 5.23.0 and peft 0.21.2, on a CPU: PEFT freezes the base. torch multiplies a slice of
#   three dimensions by a frozen matrix as a batch of products (aten::bmm), where it folds the slice into one product if the
#   matrix asks for a gradient; and in bfloat16 it first copies the matrix, the whole vocabulary, once for every prompt.
# It matters to whoever answers batches with adapters in bfloat16 on a processor: 64 prompts of a base with 152,000 tokens
#   and 896 numbers a token take 17 GB and a minute more before the first token. A hook that makes the output layer's input
#   contiguous is enough.
# Sources: docs of torch.matmul (nothing of it); aten/src/ATen/native/LinearAlgebra.cpp, should_fold; issue 151934 of
#   pytorch/pytorch (slow bmm of bfloat16, open) and pull request 197851, open.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0 peft==0.21.2 accelerate==1.15.0 safetensors==0.8.0 numpy==2.4.6

cd "$work"
HF_HUB_OFFLINE=1 venv/bin/python -W ignore - <<'PYTHON'
import sys
import time
from importlib.metadata import version

import torch
from peft import LoraConfig, get_peft_model
from torch.profiler import ProfilerActivity, profile
from transformers import LlamaConfig, LlamaForCausalLM

PROMPTS, TOKENS, WIDTH, VOCABULARY = 32, 16, 256, 32_000
HEAD = PROMPTS * WIDTH * VOCABULARY * 2  # bytes of a copy of the output layer for every prompt


def answered(model):
    """(by which product the output layer is applied, the largest piece of memory, seconds) of one token for every prompt"""
    ids = torch.arange(2, 2 + TOKENS).repeat(PROMPTS, 1)
    ask = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "max_new_tokens": 1, "do_sample": False}
    model.generate(**ask)
    began = time.perf_counter()
    model.generate(**ask)
    seconds = time.perf_counter() - began
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True, profile_memory=True) as told:
        model.generate(**ask)
    products = [
        event.name.removeprefix("aten::")
        for event in told.events()
        if event.name in ("aten::mm", "aten::bmm") and any(VOCABULARY in shape for shape in event.input_shapes)
    ]
    return products, max(event.cpu_memory_usage for event in told.events()), seconds


print(", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft")))
torch.manual_seed(0)
sizes = {"hidden_size": WIDTH, "intermediate_size": 256, "num_hidden_layers": 1, "num_attention_heads": 4}
config = LlamaConfig(**sizes, vocab_size=VOCABULARY, eos_token_id=1, pad_token_id=0)
base = LlamaForCausalLM(config).to(torch.bfloat16).eval()
alone = answered(base)
adapted = get_peft_model(base, LoraConfig(target_modules=["q_proj"], r=4)).eval()
frozen = answered(adapted)
base.get_output_embeddings().register_forward_pre_hook(lambda _, given: (given[0].contiguous(),))
mended = answered(adapted)

found = {"the base alone": alone, "with an adapter": frozen, "with an adapter and the hook": mended}
told = (f"{who}: {'+'.join(by)}, largest piece {most / 1e6:.0f} MB, {s:.2f} s" for who, (by, most, s) in found.items())
print("seen: " + "; ".join(told))
if (alone[0], frozen[0], mended[0]) != (["mm"], ["bmm"], ["mm"]):
    sys.exit("CHANGED: the slice is folded for a frozen matrix, too")
if not max(alone[1], mended[1]) < HEAD / 10 < HEAD <= frozen[1]:
    sys.exit("CHANGED: the output layer is not copied for every prompt")
print("as in the header")
PYTHON
