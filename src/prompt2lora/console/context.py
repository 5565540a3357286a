"""What all pages share while the service runs: the templates, open invitations, and forms that were sent once already.

In: a service. Out: one value for every request of the console. All of it is lost at a restart; what lasts is in the
registry.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from prompt2lora.console.i18n import LANGUAGES
from prompt2lora.console.models_at_hand import Models, models_at_hand
from prompt2lora.console.typing_checks import TypingChecker
from prompt2lora.ground.reading import Reading
from prompt2lora.serving.service import Service

ROOT = "/console"
_REMEMBERED = 500
_FILES_KEPT = 20


class Invitation(NamedTuple):
    name: str
    role: str | None
    infer: bool
    by: str
    until: str


@dataclass
class ConsoleContext:
    service: Service
    metrics: Callable[[], bytes]
    invitations: dict[str, Invitation] = field(default_factory=dict)
    readings: OrderedDict[str, list[Reading]] = field(default_factory=OrderedDict)  # id of a queued job -> of its files
    _kept: OrderedDict[str, tuple[str, Any]] = field(default_factory=OrderedDict)  # of forms that were refused
    _spent: OrderedDict[str, None] = field(default_factory=OrderedDict)

    @cached_property
    def typing_checks(self) -> TypingChecker:
        return TypingChecker(self.service.plant.check_prompts)

    @cached_property
    def models(self) -> tuple[Models, list[Models]] | None:
        return models_at_hand(self.service)

    def invite(self, invitation: Invitation) -> str:
        code = secrets.token_urlsafe(24)
        self.invitations[code] = invitation
        return code

    def until(self, days: int) -> str:
        return (self.service.plant.registry.clock() + timedelta(days=days)).isoformat(timespec="minutes")

    def keep(self, actor: str, sent: Any) -> str:
        """By what a form that was refused finds its file, or its pictures, again."""
        token = secrets.token_urlsafe(16)
        remember(self._kept, token, (actor, sent), _FILES_KEPT)
        return token

    def kept(self, actor: str, token: str) -> Any:
        """What the same person sent, unless many others have come since; None if it is gone."""
        owner, sent = self._kept.get(token, ("", None))
        return sent if owner == actor else None

    @cached_property
    def reads_pictures(self) -> bool:
        """Whether the base of this service does."""
        return self.service.reads_pictures

    @contextmanager
    def once(self, ticket: str) -> Iterator[bool]:
        """Whether a form is sent for the first time: a double click sends it twice. If what it asks for fails, it may
        be sent again."""
        first = ticket not in self._spent
        if ticket:
            remember(self._spent, ticket, None)
        try:
            yield first
        except BaseException:
            self._spent.pop(ticket, None)
            raise


@cache
def templates() -> Environment:
    """Of all consoles of this process: to compile them takes seconds."""
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.policies["json.dumps_kwargs"] = {"sort_keys": True, "ensure_ascii": False}
    made.globals.update(languages=LANGUAGES, root=ROOT, ticket=lambda: secrets.token_hex(8))
    return made


def remember(kept: OrderedDict[str, Any], name: str, value: Any, most: int = _REMEMBERED) -> None:
    kept[name] = value
    while len(kept) > most:
        kept.popitem(last=False)
