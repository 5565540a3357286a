"""Where every request of the console arrives: language, sign-in, verbs, the origin and size of a form, every error.

In: pages as data. Out: routes. All of that is dealt with here, once. Nothing of a page is shown to whoever may not do
what the page is for, whatever goes wrong.
"""

from __future__ import annotations

import inspect
import json
import logging
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.routing import Route

from prompt2lora.console.context import ROOT, ConsoleContext
from prompt2lora.console.i18n import LANGUAGES, TranslatableError, Translator, choose
from prompt2lora.console.page_request import KEY_COOKIE, LANGUAGE_COOKIE, Forbidden, Form, Page, PageRequest, Show
from prompt2lora.errors import Prompt2LoraError
from prompt2lora.serving.bodies import MOST_FILES, PICTURES

_YEAR = 365 * 24 * 3600
_DRAINED = 32  # times the limit: so much of a body that is too large is read, so that the browser hears the answer
_MAY_LOAD = "default-src 'self'; img-src 'self' data:; frame-ancestors 'self'; form-action 'self'; base-uri 'none'"
_log = logging.getLogger(__name__)


def route(context: ConsoleContext, page: Page) -> Route:
    """A plain route: where FastAPI's would look for parameters and models, a page has none."""

    async def answer(request: Request) -> Response:
        request.scope["route"] = made  # FastAPI tells it of its own routes alone; the log reads it
        asked = PageRequest(context, request, _translator(request))
        response = await _guarded(page, asked)
        response.headers.setdefault("Content-Security-Policy", _MAY_LOAD)
        if request.query_params.get("lang") in LANGUAGES:
            response.set_cookie(LANGUAGE_COOKIE, asked.translator.language, max_age=_YEAR, samesite="lax")
        return response

    made = Route(f"{ROOT}{page.path}", answer, methods=[page.method], name=f"{page.method} {page.path}")
    return made


def _translator(request: Request) -> Translator:
    kept = request.cookies.get(LANGUAGE_COOKIE)
    return Translator(choose(request.query_params.get("lang"), kept, request.headers.get("accept-language", "")))


async def _guarded(page: Page, request: PageRequest) -> Response:
    try:
        token = request.http.cookies.get(KEY_COOKIE, "")
        request.key = await run_in_threadpool(request.service.access.find, token) if token else None
        if request.key and (record := request.http.scope.get("state", {}).get("record")):
            record.key = request.key.name  # for the log
        if page.method == "POST":
            _same_origin(request.http)
            request.form = await _read_form(request.http, request.service.limits.body)
        if page.verbs and request.key is None:
            return signed_out(request)
        if not page.is_open_to(request):
            raise Forbidden("verb", name=request.actor)
        return await _call(page.show, request)
    except Prompt2LoraError as error:
        request.error = error
        if page.again and page.is_open_to(request) and not isinstance(error, Forbidden):
            try:
                return await _call(page.again, request)
            except Prompt2LoraError as worse:
                request.error = worse
    except Exception:
        _log.exception("%s %s failed", page.method, request.http.url.path)
        request.error = Prompt2LoraError("this failed for a reason that is in the log; look at the job first")
    return request.render("error.html")


async def _call(show: Show, request: PageRequest) -> Response:
    """A page that reads the registry or files does not hold up the others."""
    found = await run_in_threadpool(show, request)
    return await found if inspect.isawaitable(found) else found


def signed_out(request: PageRequest) -> Response:
    """The sign-in page; what was typed goes through it and comes out on the other side.

    A part of a page that htmx asks for says that one has to sign in, above what it held, and the page keeps what was
    typed and chosen; of a form, console.js asks for the sign-in page then.
    """
    if request.http.headers.get("hx-request"):
        lost = request.render("signed_out.html", 401)
        lost.headers["HX-Reswap"] = "afterbegin"
        return lost
    path = request.http.url.path + (f"?{request.http.url.query}" if request.http.url.query else "")
    kept = json.dumps(request.form.values) if request.form.values else ""
    return request.render(
        "sign_in.html", 401, after=path, kept=kept, files=bool(request.form.files or request.form.pictures)
    )


def _same_origin(request: Request) -> None:
    """Raises Forbidden for a form that another site's page sent: the second lock after the cookie's SameSite."""
    said = request.headers.get("origin") or request.headers.get("referer")
    if said is not None and urlsplit(said).netloc != request.headers.get("host", ""):
        raise Forbidden("origin")


async def _read_form(request: Request, most: int) -> Form:
    """What a form holds. Raises TranslatableError if it is larger than `most` bytes."""
    seen = 0

    async def receive() -> Any:
        nonlocal seen
        message = await request.receive()
        seen += len(message.get("body", b""))
        if seen > most:
            while message.get("more_body") and seen < _DRAINED * most:
                message = await request.receive()
                seen += len(message.get("body", b""))
            raise TranslatableError("huge", most=most // 2**20 or 1)
        return message

    try:
        read = await Request(request.scope, receive).form(max_files=MOST_FILES, max_fields=50, max_part_size=most)
    except HTTPException as error:
        raise TranslatableError("form") from error
    form = Form()
    for name, value in read.multi_items():
        if isinstance(value, UploadFile):
            if value.filename and name == f"{PICTURES}_file":
                form.pictures[value.filename] = await value.read()
            elif value.filename:
                form.files[name] = (value.filename, await value.read())
        else:
            form.values[name] = value.replace("\r\n", "\n")
    await read.close()
    return form
