"""Marks of a base (its control tokens) and texts of users: what a user writes never becomes a mark.

In: a tokenizer, and texts that a chat template has put users' texts into. Out: token ids. Marks in a user's text are
hidden before the template sees them and are letters in the end; a text without any has the ids that it always had.
It knows no templates and no roles.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

_HIDDEN = "\ufdd0"  # no character, by the standard; what follows it tells which mark was there
_FIRST = 0xF0000


class Marks:
    """`frame` is what the base's template writes around texts: of its tokens, those that no vocabulary would call
    special are marks too."""

    def __init__(self, tokenizer: Any, frame: str = "") -> None:
        self._tokenizer = tokenizer
        added = getattr(tokenizer, "added_tokens_decoder", {})
        found = {one.content: id for id, one in added.items() if one.special or _written(one.content, frame)}
        self._ids = {mark: found[mark] for mark in sorted(found, key=len, reverse=True)}
        self._hideable = [_HIDDEN, *self._ids]
        self._any_hideable = re.compile("|".join(map(re.escape, self._hideable)))
        self._mark = re.compile(f"({'|'.join(map(re.escape, self._ids)) or '(?!)'})")

    def first_in(self, text: str) -> str:
        found = self._mark.search(text)
        return found[0] if found else ""

    def hide(self, text: str) -> str:
        """A user's text as a template may have it."""
        return self._any_hideable.sub(lambda one: _HIDDEN + chr(_FIRST + self._hideable.index(one[0])), text)

    def encode(self, texts: Sequence[str], *, add_special_tokens: bool = False) -> list[list[int]]:
        """Token ids of texts in which the users' marks are hidden and those of the frame are not."""
        if not texts:  # tokenizers take no empty list
            return []
        ids: list[list[int]] = self._tokenizer(list(texts), add_special_tokens=add_special_tokens)["input_ids"]
        return [
            self._piecewise(text, add_special_tokens) if _HIDDEN in text else found
            for text, found in zip(texts, ids, strict=True)
        ]

    def _piecewise(self, text: str, add_special_tokens: bool) -> list[int]:
        ids: list[int] = []
        for piece in self._mark.split(text):
            if piece in self._ids:
                ids.append(self._ids[piece])
            elif piece:
                ids.extend(self._letters(self._shown(piece), add_special_tokens))
        return ids

    def _shown(self, text: str) -> str:
        return re.sub(f"{_HIDDEN}(.)", lambda one: self._hideable[ord(one[1]) - _FIRST], text)

    def _letters(self, text: str, add_special_tokens: bool) -> list[int]:
        """A text in which a mark is nothing but letters; one by one where the vocabulary has it as a word."""

        def ids(text: str) -> list[int]:
            given = {"add_special_tokens": add_special_tokens, "split_special_tokens": True}
            found: list[int] = self._tokenizer(text, **given)["input_ids"]
            return found

        whole, known = ids(text), {*self._ids.values()}
        if _count(whole, known) == _count(ids(""), known):
            return whole
        add_special_tokens = False
        return [one for letter in text for one in ids(letter)]


def _written(content: str, frame: str) -> bool:
    return bool(content.strip()) and content in frame


def _count(ids: Iterable[int], known: set[int]) -> int:
    return sum(one in known for one in ids)
