"""One request to the console: who asks, in which language, with which form, and how it is answered.

In: an HTTP request. Out: a rendered page or a redirect. A page is data (`Page`): method, path, function, and the verbs
that open it; it only says what it shows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from prompt2lora.console.context import ROOT, ConsoleContext, templates
from prompt2lora.console.i18n import TranslatableError, Translator
from prompt2lora.custody.access import LOOK, Key
from prompt2lora.errors import Prompt2LoraError
from prompt2lora.ground.tables import File
from prompt2lora.plant.plant import Plant
from prompt2lora.serving.bodies import PICTURES
from prompt2lora.serving.refusals import describe
from prompt2lora.serving.service import Service

KEY_COOKIE, LANGUAGE_COOKIE = "p2l_key", "p2l_language"
_NO_PAGES = ("/canaries", "/cancel", "/corrections", "/name", "/revoke")  # forms are sent there from other pages
_SHOWS_ERRORS = ("error.html", "record.html")  # in their own place


class Forbidden(TranslatableError):
    """An action that the key does not allow, or a form that came from elsewhere."""


class NotFound(TranslatableError):
    """A page that is not there."""


@dataclass
class Form:
    """What was typed, and which files and pictures came along."""

    values: dict[str, str] = field(default_factory=dict)
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)


@dataclass
class PageRequest:
    """One request: who asks for what, in which language."""

    context: ConsoleContext
    http: Request
    translator: Translator
    key: Key | None = None
    form: Form = field(default_factory=Form)
    error: Prompt2LoraError | None = None
    _kept_again: dict[str, tuple[str, str] | None] = field(default_factory=dict)

    @property
    def service(self) -> Service:
        return self.context.service

    @property
    def actor(self) -> str:
        """In whose name things are done. Raises Forbidden for nobody."""
        if self.key is None:
            raise Forbidden("nobody")
        return self.key.name

    @property
    def plant(self) -> Plant:
        return self.service.plant.as_actor(self.actor)

    @property
    def job(self) -> str:
        return str(self.http.path_params["job"])

    def may(self, *verbs: str) -> bool:
        return self.key is not None and any(self.key.may(verb) for verb in verbs)

    def value(self, name: str, default: str = "") -> str:
        """What was typed into a field, or asked for in the address."""
        return self.form.values.get(name) or self.http.query_params.get(name) or default

    @property
    def seen(self) -> int:
        """The id of the release that the form was shown with; 0: none."""
        with suppress(ValueError):
            return int(self.value("seen"))
        return 0

    def file(self, name: str) -> File | None:
        """The file of a field, of this form or of the one that was refused. Raises TranslatableError if it is gone."""
        sent, token = self.form.files.get(f"{name}_file"), self.form.values.get(f"{name}_kept")
        if sent:
            return File(*sent)
        found: File | None = self._kept(token) if token else None
        return found

    @property
    def pictures(self) -> dict[str, bytes]:
        """The pictures of this form, or of the one that was refused, by name. Raises TranslatableError if they are
        gone."""
        token = self.form.values.get(f"{PICTURES}_kept")
        found: dict[str, bytes] = self.form.pictures or (self._kept(token) if token else {})
        return found

    def _kept(self, token: str) -> Any:
        kept = self.context.kept(self.actor, token)
        if kept is None:
            raise TranslatableError("file_gone")
        return kept

    def kept(self, name: str) -> tuple[str, str] | None:
        """For a form that is shown again: by what its file, or its pictures, are found, and what they are called."""
        if name not in self._kept_again:
            self._kept_again[name] = self._keep(name)
        return self._kept_again[name]

    def _keep(self, name: str) -> tuple[str, str] | None:
        try:
            sent = self.pictures if name == PICTURES else self.file(name)
        except TranslatableError:
            return None
        called = sent.name if isinstance(sent, File) else ", ".join(sent or ())
        return (self.context.keep(self.actor, sent), called) if sent else None

    @property
    def current_path(self) -> str:
        """The page that a form stands on: what the other language is shown of."""
        path = self.http.url.path
        return path.rsplit("/", 1)[0] if path.endswith(_NO_PAGES) else path

    def path_in(self, language: str) -> str:
        kept = {name: value for name, value in self.http.query_params.items() if name not in ("lang", "done")}
        return f"{self.current_path}?{urlencode({**kept, 'lang': language})}"

    def render(self, template: str, status_code: int = 200, **values: Any) -> HTMLResponse:
        done = f"done.{self.http.query_params.get('done', '')}" if self.http.method == "GET" else ""
        page = templates().get_template(template)
        text = page.render(
            request=self,
            translator=self.translator,
            say=self.translator.say,
            alert=self.translator.explain(self.error) if self.error else None,
            alert_line=str(self.error) if self.error else None,
            alert_shown=template in _SHOWS_ERRORS,
            done=self.translator.say(done) if self.translator.has(done) and not self.error else None,
            **values,
        )
        return HTMLResponse(text, status_of(self.error) if self.error else status_code)

    def redirect(self, path: str, **query: Any) -> Response:
        """On to another page, as after everything that changes something."""
        asked = urlencode({name: value for name, value in query.items() if value})
        place = f"{ROOT}{path}{'?' if asked else ''}{asked}"
        if self.http.headers.get("hx-request"):  # htmx would put the other page into this one
            return Response(headers={"HX-Redirect": place})
        return RedirectResponse(place, 303)


Show = Callable[[PageRequest], Response | Awaitable[Response]]


class Page(NamedTuple):
    """`verbs`: any of them opens it, none means everybody. `again` is shown, with what was typed, if it is refused."""

    method: str
    path: str
    show: Show
    verbs: tuple[str, ...] = (LOOK,)
    again: Show | None = None

    def is_open_to(self, request: PageRequest) -> bool:
        return not self.verbs or request.may(*self.verbs)


def status_of(error: Prompt2LoraError) -> int:
    kinds = {Forbidden: 403, NotFound: 404}
    return next((status for kind, status in kinds.items() if isinstance(error, kind)), describe(error)[0])
