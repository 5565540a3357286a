"""A version of a job that was made elsewhere: an adapter is brought into the profile, and kept beside the others.

In: a plant, a job, an adapter's folder, perhaps the job's prompts. Out: a version, which answers nobody until it is
released, like every other; what no generator made is not held against one. It judges nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prompt2lora.custody.bases import check_base
from prompt2lora.custody.jobs import check_name, display_name_of
from prompt2lora.custody.versions import IMPORTED, Origin
from prompt2lora.ground.pictures import Prompt
from prompt2lora.plant.plant import Plant


def import_version(
    plant: Plant,
    job: str,
    folder: Path,
    *,
    prompts: Sequence[Prompt] = (),
    out: Path | None = None,
    approximate: bool = False,
    display_name: str = "",
) -> dict[str, Any]:
    """Keep an adapter as the job's next version; with `out` its folder is written there, too.

    The base is the one that the plant was opened with, else the one that the folder names. The job's `prompts`, as it
    is asked, tell the instruction of its requests.
    """
    check_name(job)
    display_name = display_name_of(display_name)
    from prompt2lora.base.imported import import_adapter
    from prompt2lora.base.weights import weights_digest

    kept = plant.registry
    with tempfile.TemporaryDirectory(prefix="prompt2lora-") as place:
        made = import_adapter(folder, out or Path(place) / "adapter", plant.base, approximate=approximate)
        stamp = made.base, weights_digest(made.base)
        check_base(kept, job, *stamp)
        earlier = kept.versions(job) if kept.has_job(job) else []
        origin = Origin(prompts, IMPORTED, IMPORTED, *stamp, kind=IMPORTED)
        if earlier:
            origin = replace(origin, comparison=earlier[-1].comparison)
        kept.add_job(job, display_name)
        version = kept.add_version(job, Path(made.adapter), origin)
    return {**made.to_dict(), "adapter": str(out) if out else None, "job": job, "version": version.name}
