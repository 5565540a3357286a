#!/usr/bin/env bash
# Expected: a library that makes PDFs leaves the settings of Pillow as they are for the rest of a process. Pillow raises
#   OSError for a picture of which the end is missing, unless ImageFile.LOAD_TRUNCATED_IMAGES is set (its page on ImageFile).
# Seen, weasyprint 70.0, pillow 13.0.0: `import weasyprint` sets ImageFile.LOAD_TRUNCATED_IMAGES to True, for every part of the
#   process and before any PDF is made.
# It matters because whoever checks uploaded pictures by loading them is told of no missing end after the first PDF.
# Sources: weasyprint/images.py, one line after the imports. We found no thread about it.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check weasyprint==70.0 pillow==13.0.0

cd "$work"
venv/bin/python -W ignore - <<'PYTHON'
import sys
from importlib.metadata import version

from PIL import ImageFile

print(", ".join(f"{name} {version(name)}" for name in ("weasyprint", "pillow")))

before = ImageFile.LOAD_TRUNCATED_IMAGES
import weasyprint  # noqa: E402, F401

after = ImageFile.LOAD_TRUNCATED_IMAGES
print(f"seen: LOAD_TRUNCATED_IMAGES before the import: {before}; after it: {after}")
if (before, after) != (False, True):
    sys.exit("CHANGED: importing weasyprint leaves this setting of Pillow as it was")
print("as in the header")
PYTHON
