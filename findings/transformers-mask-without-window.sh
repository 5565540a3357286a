#!/usr/bin/env bash
# Expected: a model whose layers look back 8 tokens (sliding_window) looks back 8 tokens, whoever makes the mask. A causal mask
#   of four axes, which is what one gives to keep packed examples apart, says who may be seen at all, and the layers keep
#   their window.
# Seen, transformers 5.23.0: such a mask takes the window's place, without a word. Up to 8 tokens the logits are those of a call
#   without a mask; beyond, every layer sees everything. In models with layers of both kinds (Gemma 3) the one mask is used for
#   all; only a dictionary with a mask for each kind of layer, or a window drawn into the mask, gives the model's own answers.
# It matters to whoever trains on packed sequences or scores by them: a Mistral or Gemma 3 base is then trained and measured as
#   another model than the one that answers, for every sequence longer than its window.
# Sources: masking_utils.py, which returns a mask of four axes as it is; modeling_gemma3.py, which takes a dictionary.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$work/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0

cd "$work"
HF_HUB_OFFLINE=1 venv/bin/python -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, MistralConfig, MistralForCausalLM

WINDOW, LENGTH = 8, 24
SIZES = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 16, "vocab_size": 100, "sliding_window": WINDOW, "initializer_range": 0.3,
}
KINDS = ["sliding_attention", "full_attention"]
torch.manual_seed(0)
mistral = MistralForCausalLM(MistralConfig(**SIZES)).eval()
gemma = Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, layer_types=KINDS)).eval()
ids = torch.randint(3, 100, (1, LENGTH))
at = torch.arange(LENGTH)
distance = at[:, None] - at
everything = (distance >= 0)[None, None]
near = everything & (distance < WINDOW)[None, None]


def apart(model, mask):
    """How far logits are from those of a call without a mask: within the window, and beyond it."""
    with torch.no_grad():
        gap = (model(ids, attention_mask=mask).logits - model(ids).logits).abs().amax(-1)[0]
    return float(gap[:WINDOW].max()), float(gap[WINDOW:].max())


print(f"transformers {version('transformers')}, torch {version('torch')}")
found = {
    "Mistral, causal mask": apart(mistral, everything),
    "Mistral, window in the mask": apart(mistral, near),
    "Gemma 3, causal mask": apart(gemma, everything),
    "Gemma 3, a mask for each kind": apart(gemma, dict(zip(KINDS, (near, everything)))),
}
print("seen: " + "; ".join(f"{what}: {inside:.4f} within, {beyond:.4f} beyond" for what, (inside, beyond) in found.items()))
if max(inside for inside, _ in found.values()) > 1e-3:
    sys.exit("CHANGED: not even within the window are the logits alike")
if any((beyond > 0.05) != ("causal" in what) for what, (_, beyond) in found.items()):
    sys.exit("CHANGED: a mask of four axes no longer takes the window's place, or what helped does not help")
print("as in the header")
PYTHON
