"""Tokens of a growing answer -> text that may be sent: whole characters, and nothing that may yet become a stop text.

In: one token after the other. Out: the text that each of them releases. It knows neither models nor requests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Detokenizer:
    """`stop` are texts that end the answer and are not part of it; `stopped` tells that one of them was met."""

    tokenizer: Any
    stop: tuple[str, ...]
    ids: list[int] = field(default_factory=list)
    stopped: bool = False
    _context: int = 0  # tokens from here to `_sent` are decoded again, for they decide how the next ones read
    _sent: int = 0
    _held: str = ""

    def add(self, token: int) -> str:
        """The text that this token releases."""
        self.ids.append(token)
        new = self._new_text()
        if not new or new.endswith("\ufffd"):
            return ""
        self._context, self._sent = self._sent, len(self.ids)
        return self._before_stop(new)

    def read_alone(self, token: int) -> str:
        """What a token reads as after those that are there: U+FFFD for a part of a character."""
        before = self.ids[-1:]
        lead = self.tokenizer.decode(before, skip_special_tokens=True)
        if lead.endswith("\ufffd"):
            before, lead = [], ""
        return str(self.tokenizer.decode([*before, token], skip_special_tokens=True)[len(lead) :])

    def rest(self) -> str:
        """What was held back, when the answer ends without a stop text."""
        return "" if self.stopped else self._held + self._new_text()

    def _new_text(self) -> str:
        sent, text = (
            self.tokenizer.decode(self.ids[self._context : end], skip_special_tokens=True)
            for end in (self._sent, len(self.ids))
        )
        return str(text[len(sent) :])

    def _before_stop(self, new: str) -> str:
        held: str = self._held + new
        places = [place for place in (held.find(stop) for stop in self.stop) if place >= 0]
        if places:
            self.stopped = True
            self._held = ""
            return held[: min(places)]
        keep = max((n for stop in self.stop for n in range(1, len(stop)) if held.endswith(stop[:n])), default=0)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]
