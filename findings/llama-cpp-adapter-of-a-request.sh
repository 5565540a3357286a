#!/usr/bin/env bash
# Expected: a server whose adapters are loaded "without applying them" (`--lora-init-without-apply`) answers a request
#   that names none as the base, and refuses one that names an adapter it does not have.
# Seen, xllamacpp 2026.10.11549 (llama.cpp's server): a request without the field `lora`, or with an empty list, is
#   answered by every adapter at the strength it was loaded with; one that names an unknown id gets status 200 and the
#   answer of the base.
# It matters because a job without an adapter of its own is answered by those of all the others, and a job whose adapter
#   a restarted server lacks by the base. Name every adapter with its strength, 0 included, and load them at strength 0.
# Source of the fields: tools/server/README.md in github.com/ggml-org/llama.cpp
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check xllamacpp==2026.10.11549 gguf==0.19.0 numpy==2.4.6 httpx==0.28.1

cd "$work"
venv/bin/python -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import gguf
import httpx
import numpy as np
import xllamacpp

WIDTH, HEADS, INNER, WORDS = 64, 2, 96, 8
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
        (writer.add_context_length, 64),
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
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 2.0)
    writer.add_tensor("blk.0.attn_output.weight.lora_a", drawn(2, WIDTH))
    writer.add_tensor("blk.0.attn_output.weight.lora_b", drawn(WIDTH, 2))
    finished(writer)


print(f"xllamacpp {version('xllamacpp')}")
write_base("base.gguf")
for name in ("one.gguf", "two.gguf"):
    write_adapter(name)
options = xllamacpp.CommonParams()
options.model.path, options.n_ctx, options.n_parallel = "base.gguf", 64, 1
options.warmup, options.verbosity, options.port = False, -1, 0
options.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(name, 1.0) for name in ("one.gguf", "two.gguf")]
options.lora_init_without_apply = True
server = xllamacpp.Server(options)
ask = {"prompt": [0, 1, 2], "n_predict": 1, "n_probs": WORDS, "temperature": 0.0, "cache_prompt": False}
statuses = set()


def likelihood(**fields):
    reply = httpx.post(f"{server.listening_address}/completion", json={**ask, **fields}, timeout=60)
    statuses.add(reply.status_code)
    found = {one["id"]: one["logprob"] for one in reply.json()["completion_probabilities"][0]["top_logprobs"]}
    return round(found[0], 4)


def strengths(one, two):
    return {"lora": [{"id": 0, "scale": one}, {"id": 1, "scale": two}]}


base, both, first = (likelihood(**strengths(*given)) for given in ((0.0, 0.0), (1.0, 1.0), (1.0, 0.0)))
none, empty, unknown = likelihood(), likelihood(lora=[]), likelihood(lora=[{"id": 5, "scale": 1.0}])
print(
    f"seen: log probability of a token: base {base}, first adapter {first}, both {both}; no field {none}, an empty list "
    f"{empty}, an unknown id {unknown}; statuses {sorted(statuses)}"
)
if len({base, both, first}) != 3:
    sys.exit("the adapters of this script do not change the answer; correct the script")
if (none, empty, unknown, statuses) != (both, both, base, {200}):
    sys.exit("CHANGED: which adapters answer a request that names none, or an unknown one, is no longer as it was")
print("as in the header")
PYTHON
