"""Where every request of the console arrives: who it is, what they may, what they typed, and what they are told.

In: pages as data (`Page`), each with the verbs that open it. Out: routes. Language, sign-in, verbs, the origin of a
form, its size and every error are dealt with here, once; a page only says what it shows. What is kept in memory
(invitations, which explanation belongs to which version, how files were read) is lost at a restart, nothing else is.
"""

from __future__ import annotations

import inspect
import json
import logging
import secrets
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from prompt2lora.console.i18n import LANGUAGES, Told, Words, choose
from prompt2lora.console.typing_checks import Adviser
from prompt2lora.custody.access import LOOK, Key
from prompt2lora.errors import Busy, Conflict, NotAllowed, Prompt2LoraError, TooLate, Unavailable, UsageError
from prompt2lora.ground.examples import Reading
from prompt2lora.plant.plant import Plant
from prompt2lora.serving.service import Service

ROOT = "/console"
KEY_COOKIE, LANGUAGE_COOKIE = "p2l_key", "p2l_language"
_YEAR = 365 * 24 * 3600
_DRAINED = 32  # times the limit: so much of a body that is too large is read, so that the browser hears the answer
_REMEMBERED = 500
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'self'; form-action 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_SHOWS_ERRORS = ("error.html", "record.html")  # in their own place
_log = logging.getLogger(__name__)


class Forbidden(Told):
    """A verb that the key has not, or a form that came from elsewhere."""


class Gone(Told):
    """A page that is not there."""


@dataclass
class Form:
    """What was typed and which files came along."""

    values: dict[str, str] = field(default_factory=dict)
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)


class Invitation(NamedTuple):
    name: str
    role: str | None
    infer: bool
    by: str
    until: str


@dataclass
class Desk:
    service: Service
    metrics: Callable[[], bytes]
    invitations: dict[str, Invitation] = field(default_factory=dict)
    explained: OrderedDict[str, str] = field(default_factory=OrderedDict)  # work -> version
    readings: OrderedDict[str, list[Reading]] = field(default_factory=OrderedDict)  # work -> how its files were read
    _spent: OrderedDict[str, None] = field(default_factory=OrderedDict)

    @cached_property
    def adviser(self) -> Adviser:
        return Adviser(self.service.plant.check_prompts)

    @cached_property
    def templates(self) -> Environment:
        loader = FileSystemLoader(Path(__file__).parent / "templates")
        made = Environment(
            loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        made.globals.update(languages=LANGUAGES, root=ROOT, ticket=lambda: secrets.token_hex(8))
        return made

    def invite(self, invitation: Invitation) -> str:
        code = secrets.token_urlsafe(24)
        self.invitations[code] = invitation
        return code

    def until(self, days: int) -> str:
        return (self.service.plant.registry.clock() + timedelta(days=days)).isoformat(timespec="minutes")

    def once(self, ticket: str) -> bool:
        """Whether a form is sent for the first time: a double click sends it twice."""
        if not ticket or ticket in self._spent:
            return not ticket
        remember(self._spent, ticket, None)
        return True


def remember(kept: OrderedDict[str, Any], name: str, value: Any) -> None:
    kept[name] = value
    while len(kept) > _REMEMBERED:
        kept.popitem(last=False)


@dataclass
class Visit:
    """One request: who asks for what, in which language."""

    desk: Desk
    request: Request
    words: Words
    key: Key | None = None
    form: Form = field(default_factory=Form)
    error: Prompt2LoraError | None = None

    @property
    def service(self) -> Service:
        return self.desk.service

    @property
    def name(self) -> str:
        """In whose name things are done. Raises Forbidden for nobody."""
        if self.key is None:
            raise Forbidden("nobody")
        return self.key.name

    @property
    def plant(self) -> Plant:
        return self.service.plant.as_actor(self.name)

    @property
    def job(self) -> str:
        return str(self.request.path_params["job"])

    def may(self, *verbs: str) -> bool:
        return self.key is not None and any(self.key.may(verb) for verb in verbs)

    def typed(self, name: str, default: str = "") -> str:
        """What was typed into a field, or asked for in the address."""
        return self.form.values.get(name) or self.request.query_params.get(name) or default

    @property
    def here(self) -> str:
        """The page that a form stands on: what the other language is shown of."""
        path = self.request.url.path
        return path.rsplit("/", 1)[0] if path.endswith(("/canaries", "/corrections", "/revoke")) else path

    def here_in(self, language: str) -> str:
        kept = {name: value for name, value in self.request.query_params.items() if name not in ("lang", "done")}
        return f"{self.here}?{urlencode({**kept, 'lang': language})}"

    def page(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        done = f"done.{self.request.query_params.get('done', '')}" if self.request.method == "GET" else ""
        text = self.desk.templates.get_template(template).render(
            visit=self,
            words=self.words,
            say=self.words.say,
            alert=self.words.told(self.error) if self.error else None,
            alert_line=str(self.error) if self.error else None,
            alert_shown=template in _SHOWS_ERRORS,
            done=self.words.say(done) if self.words.knows(done) and not self.error else None,
            **values,
        )
        return HTMLResponse(text, status_of(self.error) if self.error else status)

    def go(self, path: str, **query: Any) -> Response:
        """On to another page, as after everything that changes something."""
        asked = urlencode({name: value for name, value in query.items() if value})
        place = f"{ROOT}{path}{'?' if asked else ''}{asked}"
        if self.request.headers.get("hx-request"):  # htmx would put the other page into this one
            return Response(headers={"HX-Redirect": place})
        return RedirectResponse(place, 303)


Show = Callable[[Visit], Response | Awaitable[Response]]


class Page(NamedTuple):
    """`verbs`: any of them opens it, none means everybody. `again` is shown, with what was typed, if it is refused."""

    method: str
    path: str
    show: Show
    verbs: tuple[str, ...] = (LOOK,)
    again: Show | None = None


def mount(router: APIRouter, desk: Desk, page: Page) -> None:
    async def answer(request: Request) -> Response:
        visit = Visit(desk, request, _words(request))
        response = await _guarded(page, visit)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        if request.query_params.get("lang") in LANGUAGES:
            response.set_cookie(LANGUAGE_COOKIE, visit.words.language, max_age=_YEAR, samesite="lax")
        return response

    router.add_api_route(page.path, answer, methods=[page.method], name=f"{page.method} {page.path}")


def _words(request: Request) -> Words:
    kept = request.cookies.get(LANGUAGE_COOKIE)
    return Words(choose(request.query_params.get("lang"), kept, request.headers.get("accept-language", "")))


async def _guarded(page: Page, visit: Visit) -> Response:
    try:
        if page.method == "POST":
            _same_origin(visit.request)
            visit.form = await _read(visit.request, visit.service.limits.body)
        token = visit.request.cookies.get(KEY_COOKIE, "")
        visit.key = await run_in_threadpool(visit.service.access.find, token) if token else None
        if visit.key and (note := visit.request.scope.get("state", {}).get("note")):
            note.key = visit.key.name  # for the log
        if page.verbs and visit.key is None:
            return signed_out(visit)
        if page.verbs and not visit.may(*page.verbs):
            raise Forbidden("verb", name=visit.name)
        return await _call(page.show, visit)
    except Prompt2LoraError as error:
        visit.error = error
        if page.again and not isinstance(error, Forbidden):
            try:
                return await _call(page.again, visit)
            except Prompt2LoraError as worse:
                visit.error = worse
    except Exception:
        _log.exception("%s %s failed", page.method, visit.request.url.path)
        visit.error = Prompt2LoraError("this failed for a reason that the log tells; nothing was changed")
    return visit.page("error.html")


async def _call(show: Show, visit: Visit) -> Response:
    """A page that reads the registry or files does not hold up the others."""
    found = await run_in_threadpool(show, visit)
    return await found if inspect.isawaitable(found) else found


def signed_out(visit: Visit) -> Response:
    """The sign-in page; what was typed goes through it and comes out on the other side."""
    path = visit.request.url.path + (f"?{visit.request.url.query}" if visit.request.url.query else "")
    kept = json.dumps(visit.form.values) if visit.form.values else ""
    return visit.page("sign_in.html", 401, after=path, kept=kept, files=bool(visit.form.files))


def status_of(error: Prompt2LoraError) -> int:
    kinds: list[tuple[type[Prompt2LoraError], int]] = [
        (Forbidden, 403),
        (NotAllowed, 403),
        (Gone, 404),
        (Conflict, 409),
        (Busy, 503),
        (TooLate, 408),
        (Unavailable, 503),
        (UsageError, 400),
    ]
    return next((status for kind, status in kinds if isinstance(error, kind)), 500)


def _same_origin(request: Request) -> None:
    """Raises Forbidden for a form that another site's page sent: the second lock after the cookie's SameSite."""
    said = request.headers.get("origin") or request.headers.get("referer")
    if said is not None and urlsplit(said).netloc != request.headers.get("host", ""):
        raise Forbidden("origin")


async def _read(request: Request, most: int) -> Form:
    """What a form holds. Raises Told if it is larger than `most` bytes."""
    seen = 0

    async def receive() -> Any:
        nonlocal seen
        message = await request.receive()
        seen += len(message.get("body", b""))
        if seen > most:
            while message.get("more_body") and seen < _DRAINED * most:
                message = await request.receive()
                seen += len(message.get("body", b""))
            raise Told("huge", most=most // 2**20 or 1)
        return message

    try:
        read = await Request(request.scope, receive).form(max_files=2, max_fields=50, max_part_size=most)
    except HTTPException as error:
        raise Told("huge", most=most // 2**20 or 1) if error.status_code == 413 else Told("form") from error
    form = Form()
    for name, value in read.multi_items():
        if isinstance(value, UploadFile):
            if value.filename:
                form.files[name] = (value.filename, await value.read())
        else:
            form.values[name] = value.replace("\r\n", "\n")
    await read.close()
    return form
