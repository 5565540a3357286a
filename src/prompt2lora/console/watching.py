"""Watching what answers a job: the evidence against it, its canaries, corrections from the floor, its releases.

In: outcomes that people enter, of the release that they saw. Out: the state of the watch; an alarm takes the release
back at once.
"""

from __future__ import annotations

from fastapi.responses import Response

from prompt2lora.console.i18n import TranslatableError
from prompt2lora.console.job_pages import job_page, opened
from prompt2lora.console.page_request import Page, PageRequest
from prompt2lora.console.views import JobStatus, nearness, promises
from prompt2lora.custody.access import RETURN
from prompt2lora.custody.evaluator import canaries
from prompt2lora.custody.releases import changed

_MOST_CHECKED = 1000


def show_watch(request: PageRequest) -> Response:
    found, version = opened(request)
    kept = request.service.plant.registry
    answering = found.answering or version
    measured = kept.measured(answering)
    sources = found.watched["sources"] if found.watched else {}
    return job_page(
        request,
        "watch",
        found,
        answering,
        sources={name: {**source, "nearness": nearness(source)} for name, source in sources.items()},
        promises=promises(measured),
        health=measured.metrics.health.score if measured.metrics.health else None,
        most_health=found.policy.most_health_score if found.policy else None,
        sound=kept.store.is_sound(answering.adapter),
        examples=len(canaries(kept, request.job)),
        most=_MOST_CHECKED,
    )


def start(request: PageRequest) -> Response:
    _still(request)
    promised = {name: _number(request, name, 0.1, 99) / 100 for name in ("canary", "correction")}
    request.plant.watch(request.job, promised)
    return request.redirect(f"/jobs/{request.job}/watch", done="watched")


def replay(request: PageRequest) -> Response:
    opened(request)
    return request.redirect(f"/queue/{request.service.replay(request.actor, request.job).id}")


def correct(request: PageRequest) -> Response:
    """So many answers were looked at, so many had to be corrected: each is an outcome of what answers now."""
    found = _still(request)
    sources = found.watched["sources"] if found.watched else {}
    if "correction" not in sources or found.release is None:
        raise TranslatableError("not_watched")
    checked, corrected = (
        int(_number(request, "checked", 1, _MOST_CHECKED)),
        int(_number(request, "corrected", 0, 10**9)),
    )
    if corrected > checked:
        raise TranslatableError("more_corrected")
    told = [{"correction": float(number < corrected)} for number in range(checked)]
    with request.context.once(request.value("ticket")) as first:
        numbers = {"checked": checked, "corrected": corrected}
        alarm = request.plant.monitor().outcomes(request.job, found.release.id, told, numbers) if first else None
    return request.redirect(f"/jobs/{request.job}/watch", done="alarm" if alarm else "counted")


def _still(request: PageRequest) -> JobStatus:
    """The job, still answered by the release that the form was shown with: what somebody saw of one release says
    nothing of the next. Raises Conflict."""
    found, _ = opened(request)
    if found.release and found.release.id != request.seen:
        raise changed(request.job)
    return found


def _number(request: PageRequest, name: str, least: float, most: float) -> float:
    try:
        value = float(request.value(name))
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise TranslatableError(
            "number", least=request.translator.number(least, 1), most=request.translator.number(most, 1)
        )
    return value


PAGES = (
    Page("GET", "/jobs/{job}/watch", show_watch),
    Page("POST", "/jobs/{job}/watch", start, (RETURN,), show_watch),
    Page("POST", "/jobs/{job}/watch/canaries", replay, (RETURN,), show_watch),
    Page("POST", "/jobs/{job}/watch/corrections", correct, (RETURN,), show_watch),
)
