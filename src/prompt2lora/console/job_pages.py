"""The pages of the jobs: all of them, trying one, its report, its explanation, and everything for an engineer.

In: a page request. Out: pages; nothing here changes a job. Reports are found through the registry's own names.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import Any

from fastapi.responses import HTMLResponse, Response
from starlette.concurrency import run_in_threadpool

from prompt2lora.console import pdf
from prompt2lora.console.i18n import TranslatableError
from prompt2lora.console.page_request import NotFound, Page, PageRequest
from prompt2lora.console.views import JobStatus, attention, heat, job_status
from prompt2lora.custody.access import MAKE
from prompt2lora.custody.records import release_record, version_record
from prompt2lora.custody.versions import Version
from prompt2lora.errors import Prompt2LoraError, Unavailable
from prompt2lora.ground.pictures import MOST_TOGETHER, Pictured, check_together, checked, pictures_of, text_of
from prompt2lora.ground.prompts import asked_in_full, instruction_of
from prompt2lora.plant import candidates
from prompt2lora.serving.job_queue import DONE, FAILED
from prompt2lora.serving.protocol import GenerationRequest, Message

_LONGEST_TRY = 4000
_PAPER = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'; "
    "sandbox allow-same-origin allow-modals",
    "X-Frame-Options": "SAMEORIGIN",  # the report page shows it in a frame
}


def opened(request: PageRequest) -> tuple[JobStatus, Version]:
    """The job of the address and the version asked for, else its newest. Raises NotFound, UsageError."""
    if not request.service.plant.registry.has_job(request.job):
        raise NotFound("no_job", job=request.job[:80])
    found = job_status(request.service, request.job)
    if not found.versions:
        raise TranslatableError("no_version", job=request.job)
    name = request.value("version")
    return found, request.service.plant.registry.version(request.job, name) if name else found.versions[-1]


def job_page(request: PageRequest, tab: str, found: JobStatus, version: Version, /, **values: Any) -> HTMLResponse:
    """A page of a job, under its heading, light, next step and tabs."""
    return request.render(f"{tab}.html", tab=tab, status=found, version=version, **values)


def overview(request: PageRequest) -> Response:
    service = request.service
    queued = service.queue.recent()
    busy = {one.job: one for one in queued if not one.over}
    latest = {one.job: one for one in reversed(queued)}
    failed = {job: one for job, one in latest.items() if one.state == FAILED}
    found = sorted((job_status(service, job) for job in service.plant.registry.jobs()), key=attention)
    return request.render("overview.html", jobs=found, busy=busy, failed=failed)


def job(request: PageRequest) -> Response:
    if not request.service.plant.registry.has_job(request.job):
        raise NotFound("no_job", job=request.job[:80])
    found = job_status(request.service, request.job)
    if not found.versions:
        return request.redirect("/new", job=request.job)
    place = found.step.place
    return request.redirect(f"/jobs/{request.job}/{place if not place.startswith('/') else 'try'}")


def call(request: PageRequest) -> Response:
    """Change what people call the job."""
    opened(request)
    request.plant.registry.call_job(request.job, request.value("display_name"))
    return request.redirect(f"/jobs/{request.job}/try", done="named")


def show_try(request: PageRequest) -> Response:
    found, version = opened(request)
    origin = request.service.plant.registry.origin(version)
    prompts, opening = [*origin.prompts, *(prompt for prompt, _ in origin.examples)], origin.instruction
    example = text_of(prompts[0]).removeprefix(opening).strip() if prompts else ""
    return job_page(
        request,
        "try",
        found,
        version,
        example=request.value("text", example),
        opening=opening,
        form=origin.form,
        reads_pictures=request.context.reads_pictures,
        answers=None,
    )


async def try_out(request: PageRequest) -> Response:
    """The base and the version answer the same text, side by side; if one cannot, the other is shown all the same."""
    found, version = await run_in_threadpool(opened, request)
    text = request.value("text").strip()
    if not text:
        raise TranslatableError("no_text")
    if len(text) > _LONGEST_TRY:
        raise TranslatableError("long_text", most=_LONGEST_TRY)
    origin = await run_in_threadpool(request.service.plant.registry.origin, version)
    opening = origin.instruction
    seconds = request.service.limits.seconds
    seen = await run_in_threadpool(lambda: tuple(checked(data, name) for name, data in request.pictures.items()))
    check_together(seen, MOST_TOGETHER)
    asked = asked_in_full(Pictured(text, seen) if seen else text, opening)
    generation = GenerationRequest(request.job, messages=(Message("user", asked),), seconds=seconds, form=origin.form)
    given = await asyncio.gather(
        *(request.service.try_out(which, generation) for which in (None, version)), return_exceptions=True
    )
    for one in given:
        if isinstance(one, BaseException) and not isinstance(one, Prompt2LoraError):
            raise one
    if isinstance(given[0], Prompt2LoraError) and isinstance(given[1], Prompt2LoraError):
        raise given[0]
    answers = [
        {"text": "", "error": request.translator.explain(one)}
        if isinstance(one, Prompt2LoraError)
        else {"text": one, "error": None}
        for one in given
    ]
    shown = {"reads_pictures": request.context.reads_pictures, "form": origin.form, "answers": answers}
    return job_page(request, "try", found, version, example=text, opening=opening, **shown)


def show_why(request: PageRequest) -> Response:
    found, version = opened(request)
    explained = next(
        (
            queued
            for queued in request.service.queue.of_job("explain", request.job)
            if queued.state == DONE and queued.result and queued.result["version"] == version.name
        ),
        None,
    )
    result = explained.result if explained else None
    prompts = list(request.service.plant.registry.origin(version).prompts)
    squares = heat(result) if result else None
    return job_page(
        request,
        "why",
        found,
        version,
        queued=explained,
        found=result,
        heat=squares,
        prompts=[text_of(prompt) for prompt in prompts],
        pictures=[pictures_of(prompt) for prompt in prompts],
        opening=instruction_of(prompts),
    )


def explain(request: PageRequest) -> Response:
    _, version = opened(request)
    queued = request.service.explain(request.actor, request.job, version.name, request.translator.language)
    return request.redirect(f"/queue/{queued.id}")


def explanation(request: PageRequest) -> Response:
    """The page that an explanation made, as it is."""
    queued = request.service.queue.get(str(request.http.path_params["queued"]))
    page = (queued.result or {}).get("page")
    if not isinstance(page, str):
        raise NotFound("no_page")
    return HTMLResponse(page, headers=_PAPER)


def show_report(request: PageRequest) -> Response:
    found, version = opened(request)
    there = request.service.plant.registry.judgement(version) is not None
    return job_page(request, "report", found, version, there=there, pdf=pdf.can_write())


def report_page(request: PageRequest) -> Response:
    return HTMLResponse(_report_text(request), headers=_PAPER)


def report_pdf(request: PageRequest) -> Response:
    text = _report_text(request)
    if not pdf.can_write():
        raise NotFound("no_pdf")
    name = f"report-{request.job}-{request.translator.language}.pdf"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(pdf.pdf(text), media_type="application/pdf", headers=headers)


def _report_text(request: PageRequest) -> str:
    _, version = opened(request)
    page = candidates.report_page(request.service.plant, version, request.translator.language)
    if page is None:
        raise NotFound("no_report")
    return page


def engineer(request: PageRequest) -> Response:
    found, version = opened(request)
    kept = request.service.plant.registry
    data = {
        "job": request.job,
        "release": found.release and release_record(found.release),
        "watch": found.watched,
        "versions": [version_record(kept, one) for one in found.versions],
        "origin": kept.origin(version).to_dict(),
        "checks": judged.verdict.reasons if (judged := kept.judgement(version)) else [],
        "measured": {name: value for name, value in kept.measured(version).to_dict().items() if name != "inspection"},
        "history": [release_record(release) for release in found.history],
        "engine": {"base": request.service.engine.base, **_engine_stats(request)},
        "limits": asdict(request.service.limits),
    }
    text = json.dumps(data, indent=2, ensure_ascii=False, default=str)
    return job_page(request, "engineer", found, version, data=text, metrics=_metrics(request))


def _metrics(request: PageRequest) -> str:
    """The lines of /metrics that are about this job, or about the whole service."""
    lines = request.context.metrics().decode().splitlines()
    return "\n".join(line for line in lines if 'job="' not in line or f'job="{request.job}"' in line)


def _engine_stats(request: PageRequest) -> dict[str, Any]:
    try:
        return dict(request.service.engine.stats())
    except Unavailable as error:
        return {"error": str(error)}


def not_found(request: PageRequest) -> Response:
    raise NotFound("no_page")


ANYWHERE_ELSE = Page("GET", "/{rest:path}", not_found, ())
PAGES = (
    Page("GET", "", overview),
    Page("GET", "/jobs/{job}", job),
    Page("POST", "/jobs/{job}/name", call, (MAKE,), show_try),
    Page("GET", "/jobs/{job}/try", show_try),
    Page("POST", "/jobs/{job}/try", try_out, again=show_try),
    Page("GET", "/jobs/{job}/why", show_why),
    Page("POST", "/jobs/{job}/why", explain, (MAKE,), show_why),
    Page("GET", "/queue/{queued}/page", explanation),
    Page("GET", "/jobs/{job}/report", show_report),
    Page("GET", "/jobs/{job}/report/page", report_page),
    Page("GET", "/jobs/{job}/report/pdf", report_pdf),
    Page("GET", "/jobs/{job}/engineer", engineer),
)
