"""The progress of what is queued: how far it is, a way to stop it, and on to its result once it is done.

In: the id of a queued job. Out: pages. Every kind of work has its steps here, in their order.
"""

from __future__ import annotations

from fastapi.responses import Response

from prompt2lora.console.page_request import Page, PageRequest
from prompt2lora.custody.access import MAKE
from prompt2lora.errors import Conflict
from prompt2lora.ground.progress import share_of
from prompt2lora.serving.job_queue import DONE, QueuedJob

STEPS = {  # of every kind of work, in their order
    "generate": ("load", "advise", "make", "measure", "judge"),
    "inspect": ("load", "measure"),
    "refine": ("load", "refine", "measure"),
    "explain": ("load", "read", "answer", "leave_out"),
    "answer": ("rows",),
    "replay": ("load", "replay"),
    "regenerate": ("load", "make", "measure"),
}


def show_queued(request: PageRequest) -> Response:
    """The progress of a queued job; once it is done, on to its result."""
    queued = request.service.queue.get(str(request.http.path_params["queued"]))
    if queued.state == DONE:
        return _onward(request, queued)
    waiting = [other for other in request.service.queue.recent() if not other.over]
    ahead = len(waiting) - 1 - waiting.index(queued) if queued in waiting else 0
    steps, step = STEPS[queued.kind], queued.progress.get("step")
    return request.render(
        "queued.html",
        queued=queued,
        called=request.service.plant.registry.display_names().get(queued.job, queued.job),
        ahead=ahead,
        steps=steps,
        step=steps.index(step) if step in steps else 0,
        share=share_of(queued.progress),
        left=queued.progress.get("seconds_left"),
        read=request.context.readings.get(queued.id, []),
    )


def cancel(request: PageRequest) -> Response:
    """Stop what is queued; what has ended meanwhile is shown as it is."""
    id = str(request.http.path_params["queued"])
    try:
        request.service.cancel(request.actor, id)
    except Conflict:
        return request.redirect(f"/queue/{id}")
    return request.redirect(f"/queue/{id}", done="cancelled")


def _onward(request: PageRequest, queued: QueuedJob) -> Response:
    result, place = queued.result or {}, f"/jobs/{queued.job}"
    if queued.kind == "generate":
        return request.redirect(f"{place}/try", version=result["version"], done="made")
    if queued.kind == "inspect":
        return request.redirect(f"{place}/inspection", version=result["version"], done="inspected")
    if queued.kind == "refine":
        return request.redirect(f"{place}/refine", version=result["version"], queued=queued.id)
    if queued.kind == "explain":
        return request.redirect(f"{place}/why", version=result["version"])
    if queued.kind == "answer":
        return request.redirect(f"{place}/sheet", file=result["file"], done="answered")
    if queued.kind == "regenerate":
        return request.redirect("", done="regenerated")
    return request.redirect(f"{place}/watch", done="alarm" if result.get("alarm") else "replayed")


PAGES = (
    Page("GET", "/queue/{queued}", show_queued),
    Page("POST", "/queue/{queued}/cancel", cancel, (MAKE,)),
)
