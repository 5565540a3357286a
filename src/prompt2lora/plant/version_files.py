"""What the work said that made a version: a folder of files for each, below `pilots` of the home.

In: a version. Out: its folder, and what the pilot and the second stages told; empty for a version without files.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from prompt2lora.custody.versions import REGENERATED, Version
from prompt2lora.ground.home import home
from prompt2lora.plant.plant import Plant

MADE, REFINED = "pilot.json", "refined.json"


def folder(version: str) -> Path:
    """The folder of a version's files, by its name."""
    return home() / "pilots" / version


def told(plant: Plant, version: Version) -> dict[str, Any]:
    """What the pilot said that made a version, or the one that it began from; and what second stages took since. A
    candidate of another generator has the advice of the version before it, but the times of its own making."""
    made, refined = (folder(version.name) / name for name in (MADE, REFINED))
    start = plant.registry.parent(version)
    earlier = told(plant, start) if start else {}
    if version.kind == REGENERATED:
        earlier |= {"seconds": {}, "training_hours": None}
    found = {**earlier, **_read(made)}
    seconds = found.get("seconds", {})
    spent = _read(refined).get("seconds", 0.0) + seconds.get("refine", 0.0)
    return {"prices": asdict(plant.prices), **found, "seconds": {**seconds, **({"refine": spent} if spent else {})}}


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found
