"""Watching what answers a job: the evidence against it, its canaries, corrections from the floor, its releases.

In: outcomes that people enter. Out: the state of the watch; an alarm takes the release back at once.
"""

from __future__ import annotations

from fastapi.responses import Response

from prompt2lora.console.i18n import Told
from prompt2lora.console.jobs import job_page, opened
from prompt2lora.console.views import nearness, promises
from prompt2lora.console.visits import Page, Visit
from prompt2lora.custody.access import MAKE, RELEASE, RETURN
from prompt2lora.custody.pilot import stored_rows

_MOST_CHECKED = 1000


def show_watch(visit: Visit) -> Response:
    found, version = opened(visit)
    kept = visit.service.plant.registry
    answering = found.answering or version
    measured = kept.measured(answering)
    sources = found.watched["sources"] if found.watched and found.under_watch else {}
    return job_page(
        visit,
        "watch",
        found,
        answering,
        sources={name: {**source, "nearness": nearness(source)} for name, source in sources.items()},
        promises=promises(measured),
        health=(measured.get("numbers") or {}).get("health", {}).get("score"),
        most_health=visit.service.plant.policy.most_health_score,
        sound=kept.store.is_sound(answering.adapter),
        rows=len(stored_rows(kept, visit.job)),
        most=_MOST_CHECKED,
    )


def start(visit: Visit) -> Response:
    opened(visit)
    promised = {name: _number(visit, name, 0.1, 99) / 100 for name in ("canary", "correction")}
    visit.plant.watch(visit.job, promised)
    return visit.go(f"/jobs/{visit.job}/watch", done="watched")


def replay(visit: Visit) -> Response:
    opened(visit)
    return visit.go(f"/works/{visit.service.replay(visit.name, visit.job).id}")


def correct(visit: Visit) -> Response:
    """So many answers were looked at, so many had to be corrected: each is an outcome of what answers now."""
    found, _ = opened(visit)
    if not found.under_watch or found.release is None:
        raise Told("not_watched")
    checked, corrected = int(_number(visit, "checked", 1, _MOST_CHECKED)), int(_number(visit, "corrected", 0, 10**9))
    if corrected > checked:
        raise Told("more_corrected")
    if not visit.desk.once(visit.typed("ticket")):
        return visit.go(f"/jobs/{visit.job}/watch", done="counted")
    visit.plant.tell("correct", visit.job, {"release": found.release.id, "checked": checked, "corrected": corrected})
    monitor, alarm = visit.plant.monitor(), None
    for number in range(checked):
        alarm = alarm or monitor.outcome(visit.job, found.release.id, "correction", float(number < corrected))
    return visit.go(f"/jobs/{visit.job}/watch", done="alarm" if alarm else "counted")


def _number(visit: Visit, name: str, least: float, most: float) -> float:
    try:
        value = float(visit.typed(name))
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise Told("number", least=visit.words.number(least, 1), most=visit.words.number(most, 1))
    return value


PAGES = (
    Page("GET", "/jobs/{job}/watch", show_watch),
    Page("POST", "/jobs/{job}/watch", start, (MAKE, RELEASE), show_watch),
    Page("POST", "/jobs/{job}/watch/canaries", replay, (MAKE, RELEASE), show_watch),
    Page("POST", "/jobs/{job}/watch/corrections", correct, (RETURN,), show_watch),
)
