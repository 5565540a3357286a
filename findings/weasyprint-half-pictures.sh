#!/usr/bin/env bash
# Expected: a library that makes PDFs leaves the settings of Pillow as they are for the rest of a process. Without a
#   change of those, Pillow raises OSError for a picture of which the end is missing (Pillow's ImageFile,
#   LOAD_TRUNCATED_IMAGES, False).
# Seen, weasyprint 70.0, pillow 13.0.0: `import weasyprint` sets ImageFile.LOAD_TRUNCATED_IMAGES to True. From then on
#   every part of the process reads half a picture without an error, with black where the rest should be.
# It matters because whoever checks uploaded pictures by loading them takes half ones after the first PDF.
# Sources: weasyprint/images.py, one line after the imports. We found no thread about it.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check weasyprint==70.0 pillow==13.0.0

cd "$work"
venv/bin/python -W ignore - <<'PYTHON'
import io
import os
import sys
from importlib.metadata import version

from PIL import Image

print(", ".join(f"{name} {version(name)}" for name in ("weasyprint", "pillow")))

whole = io.BytesIO()
Image.frombytes("RGB", (60, 60), os.urandom(60 * 60 * 3)).save(whole, "PNG")
half = whole.getvalue()[: len(whole.getvalue()) // 2]


def read() -> str:
    try:
        Image.open(io.BytesIO(half)).load()
    except OSError as error:
        return type(error).__name__
    return "no error"


before = read()
import weasyprint  # noqa: E402, F401

after = read()
print(f"seen: half a picture before the import: {before}; after it: {after}")
if (before, after) != ("OSError", "no error"):
    sys.exit("CHANGED: half a picture is read alike before and after weasyprint is imported")
print("as in the header")
PYTHON
