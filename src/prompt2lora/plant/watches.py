"""Watching what answers a job: begin it, and ask the canaries again.

In: a plant, a job, inspection examples. Out: watches and alarms. When to take a release back is custody's to decide
(`custody/monitor.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from prompt2lora.custody.monitor import Alarm, Monitor, Watch
from prompt2lora.errors import UsageError
from prompt2lora.ground.home import home
from prompt2lora.ground.pictures import Prompt
from prompt2lora.ground.profile import MAX_NEW_TOKENS
from prompt2lora.ground.progress import Report, part, tell
from prompt2lora.ground.prompts import asked_in_full
from prompt2lora.plant.alarms import notify
from prompt2lora.plant.installation import Installation


def monitor(plant: Installation) -> Monitor:
    """The monitor of this installation: alarms go to `alarms.jsonl`, and to the webhook PROMPT2LORA_WEBHOOK."""
    return Monitor(plant.registry, home() / "watch", notify)


def watch(plant: Installation, job: str, promised: dict[str, float], alpha: float = 0.01) -> Watch:
    """Watch what answers a job from now on, by these promises; that stands in the record."""
    begun = monitor(plant).watch(job, promised, alpha)
    plant.tell("watch", job, {"release": begun.release, "promised": promised, "alpha": alpha})
    return begun


def replay(
    plant: Installation, job: str, inspection: Sequence[tuple[Prompt, str]], report: Report = tell
) -> Alarm | None:
    """Ask what answers the job now the canaries again.

    A wrong answer is a bad outcome of the source canary, one that does not look like the right ones of the source
    format; what of the two was promised is told.
    """
    watching = monitor(plant)
    watch, version = watching.watching(job)
    told = [source for source in ("canary", "format") if source in watch.promised]
    if not told:
        raise UsageError(f"neither canary nor format was promised of {job}, so a replay could tell nothing")
    alarm = watching.check_files(job)
    if alarm:
        return alarm
    watching.replaying(job)
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
