#!/usr/bin/env bash
# Expected: a model loaded with gguf_file answers as the one that the file was made of, and as llama.cpp does with it: the page
#   on GGUF calls it a single file with the model's metadata and tensors.
# Seen, transformers 5.23.0: how the file scales the rotary positions is passed over without a word: rope.scaling.* (linear,
#   YaRN) and the tensor rope_freqs.weight (Llama 3.1 and later). The configuration says "default". llama.cpp (xllamacpp
#   2026.10.11549) scales as the original does. A file without scaling is read rightly by both.
# It matters because such a base answers differently from every other engine's, and an adapter trained on it is trained on
#   other positions. With the original's configuration, from_pretrained(..., config=...), the model is right.
# Sources: huggingface.co/docs/transformers/gguf; integrations/ggml.py: of the keys of RoPE its tables know the base and the
#   dimension. llama.cpp pull request 8676 brought rope_freqs. We found no thread about transformers.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check xllamacpp==2026.10.11549 \
    torch==2.13.0 transformers==5.23.0 gguf==0.19.0 accelerate==1.15.0 safetensors==0.8.0 numpy==2.4.6

cd "$work"
HF_HUB_OFFLINE=1 venv/bin/python -W ignore - > told 2>&1 <<'PYTHON' || { tail -n 5 told; exit 1; }
import sys
from importlib.metadata import version

import gguf
import numpy as np
import torch
import xllamacpp
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

WORDS, WIDTH, INNER, LAYERS, HEADS, LENGTH = 64, 64, 128, 2, 4, 4096
BASE = {"rope_theta": 10000.0}
KINDS = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 512,
    },
}
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
PROMPT = [(7 * place) % (WORDS - 2) + 2 for place in range(200)]


def original(kind):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=LENGTH,
        rope_parameters={**BASE, **KINDS[kind]},
    )
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data *= 6  # so that attention looks at places, not at the mean of all
    return model


def interleaved(weight):
    """Rows of queries or keys in the order of GGUF, where the two halves of a pair stand side by side."""
    return weight.reshape(HEADS, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write(kind, model):
    """The file that llama.cpp's convert_hf_to_gguf.py makes, as far as it matters here."""
    file = gguf.GGUFWriter(f"{kind}.gguf", "llama")
    file.add_context_length(LENGTH)
    file.add_embedding_length(WIDTH)
    file.add_block_count(LAYERS)
    file.add_feed_forward_length(INNER)
    file.add_head_count(HEADS)
    file.add_head_count_kv(HEADS)
    file.add_layer_norm_rms_eps(model.config.rms_norm_eps)
    file.add_rope_freq_base(BASE["rope_theta"])
    file.add_rope_dimension_count(WIDTH // HEADS)
    file.add_vocab_size(WORDS)
    file.add_tokenizer_model("gpt2")
    file.add_tokenizer_pre("gpt-2")
    file.add_token_list([chr(ord("!") + word) for word in range(WORDS)])
    file.add_token_types([gguf.TokenType.NORMAL] * WORDS)
    file.add_token_merges(["! !"])
    file.add_bos_token_id(0)
    file.add_eos_token_id(1)
    scaling = KINDS[kind]
    if kind in ("linear", "yarn"):
        file.add_rope_scaling_type(gguf.RopeScalingType(kind))
        file.add_rope_scaling_factor(scaling["factor"])
    if kind == "yarn":
        file.add_rope_scaling_orig_ctx_len(scaling["original_max_position_embeddings"])
    if kind == "llama3":
        plain = BASE["rope_theta"] ** (-np.arange(0, WIDTH // HEADS, 2) / (WIDTH // HEADS))
        factors = plain / model.model.rotary_emb.inv_freq.numpy()
        file.add_tensor("rope_freqs.weight", factors.astype(np.float32))
    outside = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    for name, tensor in model.state_dict().items():
        path, weight = name.removesuffix(".weight"), tensor.numpy()
        if path in outside:
            file.add_tensor(f"{outside[path]}.weight", weight)
            continue
        _, _, layer, part = path.split(".", 3)
        if part in ("self_attn.q_proj", "self_attn.k_proj"):
            weight = np.ascontiguousarray(interleaved(weight))
        file.add_tensor(f"blk.{layer}.{NAMES[part]}.weight", weight)
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


def of_torch(model):
    """The log probabilities of all words after the prompt."""
    with torch.no_grad():
        return model(torch.tensor([PROMPT])).logits[0, -1].log_softmax(-1).numpy()


def of_llama_cpp(kind):
    options = xllamacpp.CommonParams()
    options.model.path, options.n_ctx, options.n_parallel, options.warmup = f"{kind}.gguf", LENGTH, 1, False
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
    asked = {"prompt": PROMPT, "n_predict": 1, "n_probs": WORDS, "logprobs": WORDS, "temperature": 0}
    told = xllamacpp.Server(options).handle_completions(asked)["choices"][0]["logprobs"]["content"][0]
    found = {one["id"]: one["logprob"] for one in told["top_logprobs"]}
    return np.array([found[word] for word in range(WORDS)])


print(", ".join(f"{name} {version(name)}" for name in ("transformers", "gguf", "xllamacpp", "torch")))
seen, said = {}, set()
for kind in KINDS:
    model = original(kind)
    write(kind, model)
    loaded = AutoModelForCausalLM.from_pretrained(".", gguf_file=f"{kind}.gguf", dtype=torch.float32)
    said.add(loaded.config.rope_parameters["rope_type"])
    told_how = AutoModelForCausalLM.from_pretrained(
        ".", gguf_file=f"{kind}.gguf", dtype=torch.float32, config=model.config
    )
    found = of_torch(loaded.eval()), of_llama_cpp(kind), of_torch(told_how.eval())
    wanted = of_torch(model)
    seen[kind] = [float(abs(one - wanted).max()) for one in found]

print(
    "seen: log probabilities after 200 tokens off from the original's, in transformers, in llama.cpp, in transformers with "
    "the original's configuration: "
    + "; ".join(f"{kind} {', '.join(f'{distance:.2f}' for distance in three)}" for kind, three in seen.items())
    + f"; rope_type of the four configurations: {sorted(said)}"
)
right = [[distance < 0.05 for distance in three] for three in seen.values()]
if right != [[True] * 3] + [[False, True, True]] * 3 or said != {"default"}:
    sys.exit("CHANGED: transformers reads how a GGUF file scales the rotary positions")
print("as in the header")
PYTHON
grep -E "^(transformers|seen|as in)" told
