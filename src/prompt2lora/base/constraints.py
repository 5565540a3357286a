"""Which token may come next, so that an answer is of its form and of no other.

In: a tokenizer, the tokens that end an answer, a form. Out: a matcher for one answer, which gives a mask of the tokens
that may come next and follows those that are chosen. An end is allowed only where the form is complete. Grammars and
masks are llguidance's; it knows neither models nor prompts.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from llguidance import LLMatcher, LLTokenizer
from torch import Tensor

from prompt2lora.errors import InputError, Unavailable
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.ground.bounded_grammar import limits, on_one_line, said, trouble


def check(form: AnswerForm) -> AnswerForm:
    """The same form. Raises InputError for one that answers cannot be held to, or only at a high cost."""
    try:
        against = trouble(_grammar(form, ""))
    except (ValueError, RecursionError) as error:
        against = " ".join(str(error).split())[:200]
    if against:
        raise InputError("answer_form", f"answers cannot be held to {str(form)[:60]} ({against}); write a plainer one")
    return form


@lru_cache(maxsize=256)
def _grammar(form: AnswerForm, lead: str) -> str:
    """The grammar of a form, after `lead`."""
    if form.pattern is not None:
        return str(LLMatcher.grammar_from_regex(f"{lead}(?:{form.pattern})"))
    schema = on_one_line(json.loads(form.text))
    if not lead:
        return str(LLMatcher.grammar_from_json_schema(json.dumps(schema)))  # text: its numbers may be of any size
    return str(LLMatcher.grammar_from_lark(f'start: "{lead}" body\nbody: %json {json.dumps(schema)}'))


class Matcher:
    """One answer that is held to a form."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def mask(self, width: int) -> Bool[Tensor, " {width}"]:
        """Which tokens may come next, of a vocabulary of `width`. Raises Unavailable if the form is too much."""
        bits = np.unpackbits(np.frombuffer(self._matcher.compute_bitmask(), np.uint8), bitorder="little")
        if self._matcher.is_error():
            raise Unavailable(f"the answer cannot be held to its form ({said(self._matcher)}); declare a simpler one")
        allowed = torch.zeros(width, dtype=torch.bool)
        known = torch.from_numpy(bits[:width].astype(bool))
        allowed[: len(known)] = known
        return allowed

    def accept(self, token: int) -> None:
        self._matcher.consume_token(token)

    @property
    def complete(self) -> bool:
        """Whether nothing can follow but the end."""
        return bool(self._matcher.is_stopped())


class Constraints:
    """The tokens of one base; each of `ends` ends an answer, and `sample` are the tokens of an answer "a"."""

    def __init__(self, tokenizer: Any, ends: Sequence[int], sample: Sequence[int]) -> None:
        self._tokenizer, self._ends, self._sample = tokenizer, list(ends), list(sample)
        self._lock = threading.Lock()
        self._known: tuple[LLTokenizer, str] | None = None

    def begin(self, form: AnswerForm) -> Matcher:
        """A matcher for a new answer. Raises InputError, Unavailable."""
        tokens, lead = self._tokens()
        matcher = LLMatcher(tokens, _grammar(form, lead), log_level=0, limits=limits())
        if matcher.is_error():
            check(form)
            raise Unavailable(f"answers are not held to {str(form)[:60]} here ({said(matcher)}); declare another form")
        return Matcher(matcher)

    def _tokens(self) -> tuple[LLTokenizer, str]:
        """The vocabulary as llguidance reads it, a second's work; and what this tokenizer puts before every answer."""
        with self._lock:
            if self._known is None:
                backend = copy.copy(self._tokenizer.backend_tokenizer)
                backend.no_padding()
                backend.no_truncation()
                tokens = LLTokenizer(backend.to_str(), eos_token=self._ends)
                first = tokens.decode_bytes(self._sample)
                self._known = tokens, " " if first.startswith(b" ") else ""
            return self._known
