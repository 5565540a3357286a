#!/usr/bin/env bash
# Expected: where a library is missing, transformers names it (utils/import_utils.py, requires_backends).
# Seen, transformers 5.23.0: the processor of Qwen2-VL cannot be built or loaded without torchvision although its
#   picture part has a form for Pillow alone; what is raised is an AttributeError about VIDEO_PROCESSOR_MAPPING that
#   names no library. That of LLaVA, which has no part for videos, needs no torchvision.
# It matters because whoever only sends pictures is told of a private attribute, and not what to install.
# Sources: transformers/processing_utils.py, check_argument_for_proper_class, which asks for the class of a part that is
#   None; transformers/utils/import_utils.py, the placeholder of a missing library. We found no thread about it.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    torch==2.13.0 transformers==5.23.0 tokenizers==0.23.3 pillow==13.0.0 safetensors==0.8.0 numpy==2.4.6

cd "$work"
HF_HUB_OFFLINE=1 venv/bin/python -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

from tokenizers import Tokenizer, models
from transformers import (
    CLIPImageProcessorPil,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
)

print(", ".join(f"{name} {version(name)}" for name in ("transformers", "tokenizers", "pillow")))

words = Tokenizer(models.WordLevel({"<image>": 0, "x": 1}, unk_token="x"))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, extra_special_tokens={"image_token": "<image>"})
LlavaProcessor(CLIPImageProcessorPil(), tokenizer, patch_size=14)
try:
    Qwen2VLProcessor(image_processor=Qwen2VLImageProcessorPil(), tokenizer=tokenizer)
    raised = None
except Exception as error:
    raised = error

print(f"seen: LLaVA's processor is built; Qwen2-VL's: {type(raised).__name__}: {raised}")
if not isinstance(raised, AttributeError) or "torchvision" in str(raised).lower():
    sys.exit("CHANGED: the processor of Qwen2-VL is built without torchvision, or names what it needs")
print("as in the header")
PYTHON
