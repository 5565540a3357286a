#!/usr/bin/env bash
# Expected: adapters can be changed from one call to the next without building the pipeline anew (guide "LoRA adapters",
#   whose example asks one prompt twice, with other adapters the second time).
# Seen, openvino-genai 2026.4.1 (CPU, LLMPipeline as it comes): the keys and values of every prompt are kept, and taken
#   for any prompt that begins alike, whatever adapter they were computed with. Of a prompt that was asked before, only
#   the last token is read by the adapter that is named: the answer is the earlier adapter's. An empty AdapterConfig,
#   for the base, fares no better; a prompt that shares a half is answered by neither. Nothing is said.
# It matters to whoever compares adapters with each other or with the base on one pipeline, or serves several jobs with
#   one. With enable_prefix_caching off (scheduler_config), or ATTENTION_BACKEND=SDPA, every answer is right.
# Sources: openvinotoolkit.github.io/openvino.genai/docs/guides/lora-adapters; scheduler_config.hpp (LLMPipeline turns
#   prefix caching on) and sequence_group.cpp (a block is known by its tokens alone) in
#   github.com/openvinotoolkit/openvino.genai. We found no thread about it; of other engines: llama.cpp issue 26207,
#   LMCache issue 2961.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    openvino-genai==2026.4.1.0 openvino==2026.4.1 openvino-tokenizers==2026.4.1.0 safetensors==0.8.0 numpy==2.4.6

cd "$work"
venv/bin/python -W ignore - <<'PYTHON'
import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import openvino as ov
import openvino_genai as genai
from openvino import opset15 as op
from safetensors.numpy import save_file

WORDS, WIDTH = 8, 64
PROJECTION = "model.layers.0.self_attn.v_proj"


def whole(value):
    return op.constant(np.array(value, np.int64))


def cached(name, new, beams, rows):
    """Keys or values of the text so far: those of the calls before, and the new ones."""
    nothing = op.broadcast(op.constant(np.float32(0)), op.concat([rows, whole([1, 0, WIDTH])], 0))
    past = op.read_value(nothing, name, ov.Type.f32, ov.PartialShape([-1, 1, -1, WIDTH]))
    whole_text = op.concat([op.gather(past, beams, whole(0)), new], 2)
    return whole_text, op.assign(whole_text, name)


def write_model(folder):
    """A language model of one attention head that looks at all tokens alike.

    Every value is (1, strength of the adapter), so what the head sees is the mean strength over the text; the next
    token is the nearest whole number: token k scores k * strength - k * k / 2.
    """
    names = {"input_ids": (2, np.int64), "attention_mask": (2, np.int64), "position_ids": (2, np.int64)}
    names["beam_idx"] = (1, np.int32)
    inputs = {name: op.parameter([-1] * axes, kind, name=name) for name, (axes, kind) in names.items()}
    for name, node in inputs.items():
        node.output(0).get_tensor().set_names({name})
    rows = op.gather(op.shape_of(inputs["input_ids"]), whole([0]), whole(0))

    embedding = np.eye(1, WIDTH, dtype=np.float32).repeat(WORDS, 0)
    hidden = op.gather(op.constant(embedding), inputs["input_ids"], whole(0))
    value = op.matmul(hidden, op.constant(np.eye(WIDTH, dtype=np.float32)), False, True)
    value.friendly_name = f"__module.{PROJECTION}/ov_ext::linear/MatMul"

    def head(matrix):
        return op.transpose(op.reshape(matrix, whole([0, 0, 1, WIDTH]), True), whole([0, 2, 1, 3]))

    keys, kept_keys = cached("past_key_values.0.key", head(hidden), inputs["beam_idx"], rows)
    values, kept_values = cached("past_key_values.0.value", head(value), inputs["beam_idx"], rows)
    length = op.gather(op.shape_of(inputs["attention_mask"]), whole(1), whole(0))
    places = op.range(whole(0), length, whole(1), "i64")
    seen = op.less_equal(op.unsqueeze(places, whole([0, 1, 2])), op.unsqueeze(inputs["position_ids"], whole([1, 3])))
    mask = op.select(seen, op.constant(np.float32(0)), op.constant(np.float32(-1e9)))
    out = op.scaled_dot_product_attention(head(hidden), keys, values, mask)
    out = op.reshape(op.transpose(out, whole([0, 2, 1, 3])), whole([0, 0, WIDTH]), True)

    tokens = np.arange(WORDS, dtype=np.float32)
    scoring = np.zeros((WORDS, WIDTH), np.float32)
    scoring[:, 0], scoring[:, 1] = -tokens * tokens / 2, tokens
    scores = op.matmul(out, op.constant(scoring), False, True)
    scores.output(0).get_tensor().set_names({"logits"})
    model = ov.Model([op.result(scores)], [kept_keys, kept_values], list(inputs.values()), "mean strength")
    folder.mkdir()
    ov.save_model(model, folder / "openvino_model.xml", compress_to_fp16=False)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 99}))


def adapter(file, strength):
    down, up = np.eye(1, WIDTH, dtype=np.float32), np.zeros((WIDTH, 1), np.float32)
    up[1] = strength
    prefix = f"base_model.model.{PROJECTION}.lora_"
    save_file({f"{prefix}A.weight": down, f"{prefix}B.weight": up}, file)
    return genai.AdapterConfig(genai.Adapter(file))


def answers(**options):
    """What a new pipeline answers to each of these calls, one after the other."""
    pipe = genai.LLMPipeline("model", tokenizer, "CPU", adapters=one, **options)
    found = []
    for prompt, adapters in CALLS:
        ids = genai.TokenizedInputs(ov.Tensor(np.array([prompt])), ov.Tensor(np.ones((1, len(prompt)), np.int64)))
        found.append(int(pipe.generate(ids, max_new_tokens=1, adapters=adapters).tokens[0][0]))
    return found


print(", ".join(f"{name} {version(name)}" for name in ("openvino-genai", "openvino")))
write_model(Path("model"))
tokenizer = genai.Tokenizer("model")  # a folder without one: token numbers go in and out
one, five, base = adapter("one.safetensors", 1), adapter("five.safetensors", 5), genai.AdapterConfig()
LONG, OTHER, SHORT = [1, 2] * 32, [3, 4] * 32, [5, 6, 7, 5]
HALF = LONG[:32] + OTHER[:32]
CALLS = [(LONG, one), (LONG, five), (LONG, base), (HALF, five), (OTHER, five), (SHORT, one), (SHORT, five)]
uncached = genai.SchedulerConfig()
uncached.enable_prefix_caching = False

seen, sdpa = answers(), answers(ATTENTION_BACKEND="SDPA")
off = answers(scheduler_config=uncached)
print(
    "seen: a prompt of 64 tokens with strength 1, strength 5, no adapter; with strength 5 one that shares its first "
    "half, one that shares nothing; one of 4 tokens with strength 1, strength 5: answers "
    f"{seen} as the pipeline comes, {off} without prefix caching, {sdpa} with SDPA"
)
if off != [1, 5, 0, 5, 5, 1, 5] or sdpa != off:
    sys.exit("without prefix caching these answers should be the strengths; correct the script")
if seen != [1, 1, 1, 3, 5, 1, 2]:
    sys.exit("CHANGED: which adapter's keys and values are reused is no longer as it was in openvino-genai 2026.4.1")
print("as in the header")
PYTHON
