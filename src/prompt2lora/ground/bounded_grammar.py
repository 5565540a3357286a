"""Grammars at a bounded cost, for they come from outside: `re` may take for ever over a pattern of ten characters.

In: a grammar of llguidance, a text, whole or in pieces. Out: what speaks against the grammar, whether the text is of it
as a whole, or may still become so; time grows with the text's length, and what would take more than `limits` is
refused. It knows no tokenizer of a base: here every byte is a token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from prompt2lora.errors import InputError

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLParserLimits, LLTokenizer


_ONE_SPACE = {"whitespace_flexible": True, "whitespace_pattern": " ?"}  # as JSON is usually written on one line
_TRIED = 8  # bytes of a text; some grammars show only after the first what they cost


@lru_cache(maxsize=1)
def limits() -> LLParserLimits:
    """What reading a grammar, and one step through it, may cost: a tenth of a second and more than any form needs."""
    from llguidance import LLParserLimits

    return LLParserLimits(initial_lexer_fuel=50_000, step_lexer_fuel=50_000)


def trouble(grammar: str) -> str:
    """Why no text can be held to a grammar, or only at too high a cost; empty if nothing is wrong."""
    matcher = _begun(grammar).deep_copy()
    for _ in range(_TRIED):
        mask = b"" if matcher.is_error() else matcher.compute_bitmask()
        allowed = [byte for byte in range(256) if mask and mask[byte // 8] >> byte % 8 & 1]
        if not allowed:
            break
        matcher.consume_token(allowed[-1])
    return said(matcher) if matcher.is_error() else ""


def matches(grammar: str, text: str) -> bool:
    """Whether a text is of a grammar as a whole. Raises InputError for a grammar that `trouble` would tell of."""
    matcher = _begun(grammar).deep_copy()
    fits = _follows(matcher, text)
    if matcher.is_error():
        raise InputError(
            "answer_form", f"answers cannot be held to this pattern ({said(matcher)}); write a plainer one"
        )
    return fits and bool(matcher.is_accepting())


class Followed:
    """A text of JSON that comes in pieces, held against a schema."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        from llguidance import LLMatcher

        text = json.dumps({**schema, "x-guidance": {}})  # where a number may be of any size
        self._matcher = _begun(str(LLMatcher.grammar_from_json_schema(text))).deep_copy()

    def takes(self, piece: str) -> bool:
        """Whether the text may still become JSON by the schema, or what would tell it costs too much."""
        return self._matcher.is_error() or _follows(self._matcher, piece) or self._matcher.is_error()


def on_one_line(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON schema that llguidance, also that of llama.cpp, reads as of JSON on one line."""
    return {**schema, "x-guidance": _ONE_SPACE}


def _follows(matcher: LLMatcher, text: str) -> bool:
    """Whether a text may come next; it is taken, and if it costs too much the matcher has an error."""
    given = list(text.encode(errors="surrogatepass"))
    fitting = 0 if matcher.is_error() else matcher.validate_tokens(given)
    if fitting > 0:
        matcher.consume_tokens(given[:fitting])
    if fitting < len(given) and not matcher.is_error():
        matcher.compute_bitmask()  # tells a text of another kind from a grammar that costs too much
    return fitting == len(given)


def said(matcher: LLMatcher) -> str:
    """What a matcher says of its error, in one line."""
    return " ".join(matcher.get_error().split("<state>")[0].split())[:200]


@lru_cache(maxsize=64)
def _begun(grammar: str) -> LLMatcher:
    """At the beginning of a text; never moved on."""
    from llguidance import LLMatcher

    return LLMatcher(_bytes(), grammar, log_level=0, limits=limits())


@lru_cache(maxsize=1)
def _bytes() -> LLTokenizer:
    from llguidance import LLTokenizer

    return LLTokenizer("byte")
