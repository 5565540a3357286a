#!/usr/bin/env bash
# Expected: a request is answered from what was computed with the adapters that it names. The server sees to it: a slot
#   whose adapters change forgets its prompt.
# Seen, xllamacpp 2026.10.11549 (llama.cpp's server, settings as they come): it forgets, unless the prompt comes back
#   from the store in main memory (--cache-ram, 8192 MiB unless said), which knows prompts by their tokens alone. Asked
#   for P with adapter one, Q with two, P with two, it answers the third from the keys and values of adapter one; of 96
#   tokens two reads the last. A request without the field `lora` forgets nothing, with the store or without.
# It matters to every server of several adapters whose prompts begin alike: status 200, nothing is logged. Start it with
#   --cache-ram 0 and name every adapter in every request, or ask with cache_prompt false, which reads all anew.
# Sources: github.com/ggml-org/llama.cpp, tools/server/README.md (lora, cache_prompt, --cache-ram), pull request 16391;
#   issue 26207 there, open, tells of such answers after two requests, which this version answers rightly.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    xllamacpp==2026.10.11549 gguf==0.19.0 numpy==2.4.6 httpx==0.28.1

cd "$work"
venv/bin/python -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import gguf
import httpx
import numpy as np
import xllamacpp

WIDTH, HEADS, INNER, WORDS, LONG = 64, 2, 96, 8, 96
random = np.random.default_rng(0)


def drawn(*shape):
    return random.normal(size=shape).astype(np.float32)


def finished(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_base(file):
    writer = gguf.GGUFWriter(file, "llama")
    for add, value in (
        (writer.add_context_length, 2 * LONG),
        (writer.add_embedding_length, WIDTH),
        (writer.add_block_count, 1),
        (writer.add_feed_forward_length, INNER),
        (writer.add_head_count, HEADS),
        (writer.add_head_count_kv, HEADS),
        (writer.add_layer_norm_rms_eps, 1e-5),
        (writer.add_vocab_size, WORDS),
        (writer.add_tokenizer_model, "gpt2"),
        (writer.add_token_list, [*"abcdefg", "<end>"]),
        (writer.add_token_types, [gguf.TokenType.NORMAL] * 7 + [gguf.TokenType.CONTROL]),
        (writer.add_token_merges, ["a b"]),
        (writer.add_eos_token_id, 7),
    ):
        add(value)
    writer.add_tensor("token_embd.weight", drawn(WORDS, WIDTH))
    writer.add_tensor("output.weight", drawn(WORDS, WIDTH))
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        writer.add_tensor(f"blk.0.{name}.weight", drawn(WIDTH, WIDTH) / 8)
    for name in ("ffn_gate", "ffn_up"):
        writer.add_tensor(f"blk.0.{name}.weight", drawn(INNER, WIDTH) / 8)
    writer.add_tensor("blk.0.ffn_down.weight", drawn(WIDTH, INNER) / 8)
    finished(writer)


def write_adapter(file):
    """An adapter of the values, as they are kept for the next request."""
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 2.0)
    writer.add_tensor("blk.0.attn_v.weight.lora_a", drawn(2, WIDTH))
    writer.add_tensor("blk.0.attn_v.weight.lora_b", drawn(WIDTH, 2))
    finished(writer)


def served(**settings):
    options = xllamacpp.CommonParams()
    options.model.path, options.n_ctx, options.n_parallel = "base.gguf", 2 * LONG, 1
    options.warmup, options.verbosity, options.port = False, -1, 0
    options.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(name, 0.0) for name in ("one.gguf", "two.gguf")]
    options.lora_init_without_apply = True
    for name, value in settings.items():
        setattr(options, name, value)
    return xllamacpp.Server(options)


def strengths(one, two):
    return {"lora": [{"id": 0, "scale": one}, {"id": 1, "scale": two}]}


def answer(server, prompt, **fields):
    """(log probability of a token, tokens of the prompt that were not read again)"""
    asked = {"prompt": prompt, "n_predict": 1, "n_probs": WORDS, "temperature": 0.0, **fields}
    reply = httpx.post(f"{server.listening_address}/completion", json=asked, timeout=60)
    reply.raise_for_status()
    told = reply.json()
    found = {one["id"]: one["logprob"] for one in told["completion_probabilities"][0]["top_logprobs"]}
    return round(found[0], 2), told["timings"]["cache_n"]


def last(calls, **settings):
    """What a new server answers to the last of these calls."""
    server = served(**settings)
    return [answer(server, prompt, **fields) for prompt, fields in calls][-1]


print(f"xllamacpp {version('xllamacpp')}")
write_base("base.gguf")
for name in ("one.gguf", "two.gguf"):
    write_adapter(name)
P, Q = [0, 1] * (LONG // 2), [2, 3] * (LONG // 2)
ONE, TWO, NONE = strengths(1.0, 0.0), strengths(0.0, 1.0), strengths(0.0, 0.0)
first, second, base = (last([(P, fields)]) for fields in (ONE, TWO, NONE))
turned = last([(P, ONE), (P, TWO)])
returned = last([(P, ONE), (Q, TWO), (P, TWO)])
without = last([(P, ONE), (Q, TWO), (P, TWO)], cache_ram_mib=0)
unnamed = last([(P, ONE), (P, {})], cache_ram_mib=0)

print(
    "seen: (log probability of a token after P, tokens not read again) "
    f"by adapter one {first}, adapter two {second}, the base {base}; adapter two after P by one {turned}, after P by one "
    f"and Q by two {returned}, the same without the store {without}; no field lora after P by one {unnamed}"
)
if len({first, second, base}) != 3:
    sys.exit("the adapters of this script do not change the answer; correct the script")
kept = LONG - 1
if (turned, without) != (second, second) or (returned[1], unnamed[1]) != (kept, kept):
    sys.exit("CHANGED: when a prompt is read again is no longer as it was")
if returned[0] == second[0] or unnamed[0] == base[0]:
    sys.exit("CHANGED: what was read with another adapter no longer moves the answer")
print("as in the header")
PYTHON
