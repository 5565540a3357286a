"""The console: all its pages as one router. In: a service. Out: routes below /console, and its few static files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.routing import Route

from prompt2lora.console import (
    audit_log,
    decisions,
    inspections,
    job_pages,
    new_jobs,
    people,
    queue_pages,
    sheets,
    watching,
)
from prompt2lora.console.context import ROOT, ConsoleContext
from prompt2lora.console.handling import route
from prompt2lora.console.page_request import Page
from prompt2lora.serving.service import Service

PAGES: tuple[Page, ...] = (
    *job_pages.PAGES,
    *new_jobs.PAGES,
    *queue_pages.PAGES,
    *inspections.PAGES,
    *sheets.PAGES,
    *decisions.PAGES,
    *watching.PAGES,
    *audit_log.PAGES,
    *people.PAGES,
)
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def router(service: Service, metrics: Callable[[], bytes]) -> APIRouter:
    """Everything below /console; `metrics` tells what /metrics tells."""
    context = ConsoleContext(service, metrics)
    pages = (route(context, page) for page in (*PAGES, job_pages.ANYWHERE_ELSE))
    return APIRouter(routes=[Route(f"{ROOT}/static/{{name}}", _static), *pages])


async def _static(request: Request) -> Response:
    """A file of this package; names are looked up and never joined to a path."""
    found = _files().get(request.path_params["name"])
    if found is None:
        return Response(status_code=404)
    data, kind, tag = found
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"ETag": tag})
    return Response(data, media_type=kind, headers={"ETag": tag, "Cache-Control": "no-cache"})


def _htmx() -> Path:
    """htmx, of the package that ships it; nothing else of that package is used, and Django is never imported."""
    spec = find_spec("django_htmx")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the package django-htmx is missing; install prompt2lora again")
    return Path(spec.submodule_search_locations[0]) / "static" / "django_htmx" / "htmx-2.min.js"


@cache
def _files() -> dict[str, tuple[bytes, str, str]]:
    found = {}
    files = {file.name: file for file in (Path(__file__).parent / "static").iterdir()} | {"htmx.js": _htmx()}
    for name, file in files.items():
        data = file.read_bytes()
        found[name] = (data, _KINDS[file.suffix], f'"{hashlib.sha256(data).hexdigest()[:16]}"')
    return found
