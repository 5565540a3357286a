"""Watching what answers a job: its canaries are asked again.

In: a plant, a job, inspection examples. Out: an alarm, if there is one. When to take a release back is custody's to
decide (`custody/monitor.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from prompt2lora.custody.monitor import Alarm
from prompt2lora.errors import UsageError
from prompt2lora.ground.pictures import Prompt
from prompt2lora.ground.profile import MAX_NEW_TOKENS
from prompt2lora.ground.progress import Report, part, tell
from prompt2lora.ground.prompts import asked_in_full
from prompt2lora.plant.plant import Plant


def replay(plant: Plant, job: str, inspection: Sequence[tuple[Prompt, str]], report: Report = tell) -> Alarm | None:
    """Ask what answers the job now the canaries again.

    A wrong answer is a bad outcome of the source canary, one that does not look like the right ones of the source
    format; what of the two was promised is told.
    """
    watching = plant.monitor()
    watch, version = watching.watching(job)
    told = [source for source in ("canary", "format") if source in watch.promised]
    if not told:
        raise UsageError(f"neither canary nor format was promised for {job}, so a replay could show nothing")
    watching.replaying(job)  # first: what fails from here on is tried again when the hours are over, not at once
    alarm = watching.check_files(job)
    if alarm:
        return alarm
    from prompt2lora.base.decoding import answers
    from prompt2lora.plant.inspection import answer_format

    origin = watching.registry.origin(version)
    with part(report, 0.0, 0.1, step="load"):
        adapter, base = plant.opened(version)
    asked = [asked_in_full(prompt, origin.instruction) for prompt, _ in inspection]
    with part(report, 0.1, 1.0, step="replay"):
        given = answers(
            base.model,
            base.chat,
            asked,
            layout=base.layout,
            grid=adapter.grid,
            form=origin.form,
            max_new_tokens=MAX_NEW_TOKENS,  # as it was inspected: an answer that is cut is a wrong one
        )
    in_format = answer_format([right for _, right in inspection], version.comparison)
    bad = [
        {"canary": 1 - version.comparison.score(answer, right), "format": float(not in_format(answer))}
        for answer, (_, right) in zip(given, inspection, strict=True)
    ]
    return watching.outcomes(job, watch.release, [{source: one[source] for source in told} for one in bad])
