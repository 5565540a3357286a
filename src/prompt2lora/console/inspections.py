"""What labelled examples are for once an adapter is made: the inspection, and the second stage.

In: forms with examples. Out: queued jobs, and the pages of what came of them; pictures of examples, made small.
"""

from __future__ import annotations

from fastapi.responses import Response

from prompt2lora.console.form_fields import pairs_of, started
from prompt2lora.console.job_pages import job_page, opened
from prompt2lora.console.page_request import NotFound, Page, PageRequest
from prompt2lora.console.views import ENOUGH_EXAMPLES, checks, inspection
from prompt2lora.custody.access import LOOK, MAKE
from prompt2lora.errors import DamagedFile
from prompt2lora.ground.examples import check_named
from prompt2lora.ground.tables import TAKEN
from prompt2lora.serving.job_queue import DONE


def show_inspection(request: PageRequest) -> Response:
    found, version = opened(request)
    kept = request.service.plant.registry
    judged, measured = kept.judgement(version), kept.measured(version)
    return job_page(
        request,
        "inspection",
        found,
        version,
        verdict=judged.verdict.result if judged else None,
        checks=checks(judged),
        inspected=inspection(measured, version.comparison),
        set_aside=measured.set_aside,
        taken=TAKEN,
        reads_pictures=request.context.reads_pictures,
        enough=ENOUGH_EXAMPLES,
        examples=request.value("inspection"),
    )


def inspect(request: PageRequest) -> Response:
    """Measure on examples, or (`anew`) judge what was measured before by the policy in force."""
    _, version = opened(request)
    pairs, read = ([], []) if request.value("anew") else pairs_of(request, "inspection", needed=True)
    check_named(request.pictures, [prompt for prompt, _ in pairs])
    return started(request, request.service.inspect(request.actor, request.job, version.name, pairs), read)


def show_refine(request: PageRequest) -> Response:
    found, version = opened(request)
    refined = request.service.queue.of_job("refine", request.job)
    ended = next(
        (queued for queued in refined if queued.state == DONE and request.value("queued") in ("", queued.id)), None
    )
    return job_page(
        request,
        "refine",
        found,
        version,
        taken=TAKEN,
        reads_pictures=request.context.reads_pictures,
        examples=request.value("examples"),
        result=ended.result if ended else None,
    )


def refine(request: PageRequest) -> Response:
    _, version = opened(request)
    pairs, read = pairs_of(request, "examples", needed=True)
    check_named(request.pictures, [prompt for prompt, _ in pairs])
    return started(request, request.service.refine(request.actor, request.job, version.name, pairs), read)


def show_picture(request: PageRequest) -> Response:
    """A picture of what versions were made of and measured on, small."""
    try:
        found = request.service.plant.registry.store.picture(str(request.http.path_params["digest"])).thumbnail()
    except DamagedFile as error:
        raise NotFound("no_page") from error
    return Response(found, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400, immutable"})


PAGES = (
    Page("GET", "/pictures/{digest}", show_picture, (LOOK,)),
    Page("GET", "/jobs/{job}/inspection", show_inspection, (LOOK,)),
    Page("POST", "/jobs/{job}/inspection", inspect, (MAKE,), show_inspection),
    Page("GET", "/jobs/{job}/refine", show_refine, (LOOK,)),
    Page("POST", "/jobs/{job}/refine", refine, (MAKE,), show_refine),
)
