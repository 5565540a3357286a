"""Looking at jobs: all of them, trying one, its report, why it is as it is, and everything for an engineer.

In: a visit. Out: pages; nothing here changes a job. Reports are found through the registry's own names.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import Any

from fastapi.responses import HTMLResponse, Response
from starlette.concurrency import run_in_threadpool

from prompt2lora.console import pdf
from prompt2lora.console.i18n import Told
from prompt2lora.console.views import Standing, attention, heat, standing
from prompt2lora.console.visits import Gone, Page, Visit, remember
from prompt2lora.custody.registry import Release, Version
from prompt2lora.errors import Prompt2LoraError, TooLate, Unavailable
from prompt2lora.ground.prompts import instruction_of
from prompt2lora.serving.job_queue import DONE
from prompt2lora.serving.protocol import Ask, Message

_LONGEST_TRY = 4000
_PAPER = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'; "
    "sandbox allow-same-origin allow-modals",
    "X-Frame-Options": "SAMEORIGIN",  # the report page shows it in a frame
}


def opened(visit: Visit) -> tuple[Standing, Version]:
    """The job of the address and the version asked for, else its newest. Raises Gone, UsageError."""
    if visit.job not in visit.service.plant.registry.jobs():
        raise Gone("no_job", job=visit.job[:80])
    found = standing(visit.service, visit.job)
    if not found.versions:
        raise Told("no_version", job=visit.job)
    name = visit.typed("version")
    return found, visit.service.plant.registry.version(visit.job, name) if name else found.versions[-1]


def job_page(visit: Visit, tab: str, found: Standing, version: Version, /, **values: Any) -> HTMLResponse:
    """A page of a job, under its heading, light, next step and tabs."""
    return visit.page(f"{tab}.html", tab=tab, standing=found, version=version, **values)


def overview(visit: Visit) -> Response:
    service = visit.service
    busy = {work.job: work for work in service.works.recent() if not work.over}
    found = sorted((standing(service, job) for job in service.plant.registry.jobs()), key=attention)
    return visit.page("overview.html", jobs=found, busy=busy)


def job(visit: Visit) -> Response:
    if visit.job not in visit.service.plant.registry.jobs():
        raise Gone("no_job", job=visit.job[:80])
    found = standing(visit.service, visit.job)
    if not found.versions:
        return visit.go("/new", job=visit.job)
    place = found.step.place
    return visit.go(f"/jobs/{visit.job}/{place if not place.startswith('/') else 'try'}")


def show_try(visit: Visit) -> Response:
    found, version = opened(visit)
    prompts = list(visit.service.plant.registry.origin(version).prompts)
    opening = instruction_of(prompts)
    example = prompts[0].removeprefix(opening).strip() if prompts else ""
    return job_page(visit, "try", found, version, example=visit.typed("text", example), opening=opening, answers=None)


async def try_out(visit: Visit) -> Response:
    """The base and the version answer the same text, side by side; if one cannot, the other is shown all the same."""
    found, version = await run_in_threadpool(opened, visit)
    text = visit.typed("text").strip()
    if not text:
        raise Told("no_text")
    if len(text) > _LONGEST_TRY:
        raise Told("long_text", most=_LONGEST_TRY)
    prompts = await run_in_threadpool(lambda: list(visit.service.plant.registry.origin(version).prompts))
    opening = instruction_of(prompts)
    seconds = visit.service.limits.seconds
    asked = text if not opening or text.startswith(opening) else f"{opening}\n\n{text}"
    ask = Ask(visit.job, messages=(Message("user", asked),), seconds=seconds)

    async def answer(which: Version | None) -> str:
        try:
            return await asyncio.wait_for(visit.service.try_out(which, ask), seconds + 1)
        except TimeoutError as error:
            raise TooLate("the engine did not answer in time") from error

    given = await asyncio.gather(answer(None), answer(version), return_exceptions=True)
    for one in given:
        if isinstance(one, BaseException) and not isinstance(one, Prompt2LoraError):
            raise one
    if isinstance(given[0], Prompt2LoraError) and isinstance(given[1], Prompt2LoraError):
        raise given[0]
    answers = [
        {"text": "", "error": visit.words.told(one)}
        if isinstance(one, Prompt2LoraError)
        else {"text": one, "error": None}
        for one in given
    ]
    return job_page(visit, "try", found, version, example=text, opening=opening, answers=answers)


def show_why(visit: Visit) -> Response:
    found, version = opened(visit)
    kept = [work for work, name in visit.desk.explained.items() if name == version.name]
    works = [work for work in visit.service.works.recent() if work.id in kept and work.state == DONE and work.result]
    result = works[0].result if works else None
    prompts = list(visit.service.plant.registry.origin(version).prompts)
    squares = heat(result) if result else None
    return job_page(
        visit,
        "why",
        found,
        version,
        work=works[0] if works else None,
        found=result,
        heat=squares,
        prompts=prompts,
        opening=instruction_of(prompts),
    )


def explain(visit: Visit) -> Response:
    _, version = opened(visit)
    work = visit.service.explain(visit.name, visit.job, version.name, visit.words.language)
    remember(visit.desk.explained, work.id, version.name)
    return visit.go(f"/works/{work.id}")


def explanation(visit: Visit) -> Response:
    """The page that an explanation made, as it is."""
    work = visit.service.works.get(str(visit.request.path_params["work"]))
    page = (work.result or {}).get("page")
    if not isinstance(page, str):
        raise Gone("no_page")
    return HTMLResponse(page, headers=_PAPER)


def show_report(visit: Visit) -> Response:
    found, version = opened(visit)
    there = visit.service.plant.registry.judgement(version) is not None
    return job_page(visit, "report", found, version, there=there, pdf=pdf.can_write())


def report_page(visit: Visit) -> Response:
    return HTMLResponse(_report_text(visit), headers=_PAPER)


def report_pdf(visit: Visit) -> Response:
    text = _report_text(visit)
    if not pdf.can_write():
        raise Gone("no_pdf")
    name = f"report-{visit.job}-{visit.words.language}.pdf"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(pdf.pdf(text), media_type="application/pdf", headers=headers)


def _report_text(visit: Visit) -> str:
    _, version = opened(visit)
    page = visit.service.plant.report_page(version, visit.words.language)
    if page is None:
        raise Gone("no_report")
    return page


def engineer(visit: Visit) -> Response:
    found, version = opened(visit)
    kept = visit.service.plant.registry
    data = {
        "job": visit.job,
        "release": found.release and _told(found.release),
        "watch": found.watched,
        "versions": [{"name": one.name, **one._asdict(), "verdict": kept.verdict(one)} for one in found.versions],
        "origin": asdict(kept.origin(version)),
        "checks": judged.verdict.reasons if (judged := kept.judgement(version)) else [],
        "measured": {name: value for name, value in kept.measured(version).items() if name != "rows"},
        "history": [_told(release) for release in found.history],
        "engine": {"base": visit.service.engine.base, **_figures(visit)},
        "limits": asdict(visit.service.limits),
    }
    text = json.dumps(data, indent=2, ensure_ascii=False, default=str)
    return job_page(visit, "engineer", found, version, data=text, metrics=_metrics(visit))


def _metrics(visit: Visit) -> str:
    """The lines of /metrics that are about this job, or about the whole service."""
    lines = visit.desk.metrics().decode().splitlines()
    return "\n".join(line for line in lines if 'job="' not in line or f'job="{visit.job}"' in line)


def _told(release: Release) -> dict[str, Any]:
    return {**release._asdict(), "version": release.version and release.version.name}


def _figures(visit: Visit) -> dict[str, Any]:
    try:
        return dict(visit.service.engine.figures())
    except Unavailable as error:
        return {"error": str(error)}


def nowhere(visit: Visit) -> Response:
    raise Gone("no_page")


ANYWHERE_ELSE = Page("GET", "/{rest:path}", nowhere, ())
PAGES = (
    Page("GET", "", overview),
    Page("GET", "/jobs/{job}", job),
    Page("GET", "/jobs/{job}/try", show_try),
    Page("POST", "/jobs/{job}/try", try_out, again=show_try),
    Page("GET", "/jobs/{job}/why", show_why),
    Page("POST", "/jobs/{job}/why", explain, again=show_why),
    Page("GET", "/works/{work}/page", explanation),
    Page("GET", "/jobs/{job}/report", show_report),
    Page("GET", "/jobs/{job}/report/page", report_page),
    Page("GET", "/jobs/{job}/report/pdf", report_pdf),
    Page("GET", "/jobs/{job}/engineer", engineer),
)
