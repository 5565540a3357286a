"""The second stage: a short fine-tune from a version's adapter on a few labelled examples.

In: a plant, a job, labelled examples. Out: a new version if held-out examples are answered better, else none. It judges
nothing and releases nothing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prompt2lora.adapter.folder import LEARNED
from prompt2lora.custody.versions import Origin
from prompt2lora.errors import UsageError
from prompt2lora.ground.answer_form import checked
from prompt2lora.ground.files import write_json
from prompt2lora.ground.pictures import Prompt
from prompt2lora.ground.progress import Report, part, tell
from prompt2lora.ground.prompts import learned_digests
from prompt2lora.plant import version_files
from prompt2lora.plant.plant import Plant


def check_start(version: str, origin: Origin) -> None:
    """Raises UsageError for a version that is no start for a second stage."""
    if origin.from_base:
        raise UsageError(
            f"{version} holds only the instruction, because the answers are long, and cannot be refined; make an "
            "adapter of the right answers instead (`prompt2lora pilot --examples`)"
        )


def refine(
    plant: Plant,
    job: str,
    examples: Sequence[tuple[Prompt, str]],
    *,
    version: str = "",
    steps: int = 48,
    report: Report = tell,
) -> dict[str, Any]:
    """A short fine-tune from a version's adapter; a new version if held-out examples are answered better, else none.

    It takes `steps` at most, or as many as it takes to ask every example.
    Raises UsageError for a version that holds the instruction alone.
    """
    kept = plant.registry
    known = kept.versions(job)
    if not known:
        raise UsageError(f"the job {job} has no version to start from; run a pilot first")
    start = kept.version(job, version) if version else known[-1]
    from prompt2lora.adapter.peft import Adapter
    from prompt2lora.generator.examples import ExampleOptions
    from prompt2lora.training.tuning import refine as tune

    began = time.monotonic()
    come_from = kept.origin(start)
    check_start(start.name, come_from)
    if come_from.form:
        checked(come_from.form, [right for _, right in examples])
    with part(report, 0.0, 0.1, step="load"):
        adapter, base = plant.opened(start, training=True)
    instruction, options = come_from.instruction, ExampleOptions(least=steps, most=steps)
    with part(report, 0.1, 1.0, step="refine") as told:
        refined = tune(
            base,
            adapter.grid,
            instruction,
            examples,
            options,
            comparison=come_from.comparison,
            form=come_from.form,
            report=told,
        )
    made = start
    if refined.steps:
        with tempfile.TemporaryDirectory(prefix="prompt2lora-") as place:
            folder = Path(place) / "adapter"
            learned = {*adapter.provenance.get(LEARNED, ()), *learned_digests(examples, instruction)}
            source = {**adapter.provenance, "refined_from": start.adapter, LEARNED: sorted(learned)}
            Adapter(adapter.layout, refined.grid, source).save(folder)
            made = kept.add_version(job, folder, replace(come_from, parent=start.id, kind="refined"))
    found = {
        "job": job,
        "start": start.name,
        "version": made.name,
        "improved": bool(refined.steps),
        "steps": refined.steps,
        "held_out": refined.held_out,
        "before": refined.before[0],
        "after": refined.after[0],
        "seconds": round(time.monotonic() - began, 1),
    }
    if refined.steps:
        write_json(version_files.folder(made.name) / version_files.REFINED, found)
    return found
