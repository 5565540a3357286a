"""The form that a job's answers have: one of some choices, a number, a date, a pattern, or JSON by a schema.

In: its parts, or JSON. Out: an `AnswerForm`, which goes with the adapter. How people declare one is for
declared_form.py, how a base is held to it for base/constraints.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from prompt2lora.errors import InputError
from prompt2lora.ground.bounded_grammar import matches
from prompt2lora.ground.prompts import is_one_line

ISO_DATE = "YYYY-MM-DD"
_DATE_PARTS = {
    "YYYY": "[0-9]{4}",
    "MM": "(?:0[1-9]|1[0-2])",
    "DD": "(?:0[1-9]|[12][0-9]|3[01])",
    "M": "(?:[1-9]|1[0-2])",
    "D": "(?:[1-9]|[12][0-9]|3[01])",
}
_DATE_PART = re.compile("YYYY|MM|DD|M|D")
_NUMBER = r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,10})?"
_MOST_CHOICES, MOST_CHARACTERS, _MOST_TEXT = 500, 200, 20_000

Kind = Literal["choices", "number", "date", "pattern", "schema"]
_TEXT_KEY = {"date": "layout", "pattern": "pattern", "schema": "schema"}


@dataclass(frozen=True)
class AnswerForm:
    """`text` is a date's layout (YYYY-MM-DD), a regular expression, or a JSON schema as JSON."""

    kind: Kind
    choices: tuple[str, ...] = ()
    text: str = ""

    @property
    def pattern(self) -> str | None:
        """What every answer matches as a whole; None for JSON."""
        if self.kind == "choices":
            return "|".join(map(re.escape, self.choices))
        if self.kind == "date":
            return _DATE_PART.sub(lambda part: _DATE_PARTS[part[0]], re.escape(self.text))
        return {"number": _NUMBER, "pattern": self.text}.get(self.kind)

    def fits(self, answer: str) -> bool:
        """Whether an answer has the form; of JSON no more is looked at than that it is JSON.

        Raises InputError for a pattern that no answer can be held to.
        """
        if self.kind == "pattern":
            return matches(_grammar(self.text), answer.strip())
        if self.pattern is not None:
            return re.fullmatch(self.pattern, answer.strip()) is not None
        try:
            json.loads(answer)
        except (ValueError, RecursionError):
            return False
        return True

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: in an adapter's origin and over HTTP."""
        if self.kind == "choices":
            return {"kind": self.kind, "choices": list(self.choices)}
        if self.kind == "schema":
            return {"kind": self.kind, "schema": json.loads(self.text)}
        return {"kind": self.kind, **({_TEXT_KEY[self.kind]: self.text} if self.text else {})}

    def __str__(self) -> str:
        """As the option --answers spells it; of a schema, its name."""
        if self.kind == "choices":
            return f"choices:{','.join(self.choices)}"
        if self.kind == "schema":
            return "schema"
        return f"{self.kind}:{self.text}" if self.text else self.kind


def choices(texts: Sequence[str]) -> AnswerForm:
    """One of these texts. Raises InputError."""
    found = tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))
    if not 2 <= len(found) <= _MOST_CHOICES:
        raise wrong(f"choices are 2 to {_MOST_CHOICES} different texts, not {len(found)}; name others")
    for text in found:
        if len(text) > MOST_CHARACTERS or not is_one_line(text):
            raise wrong(f"a choice is one line of at most {MOST_CHARACTERS} characters, not {text[:60]!r}; shorten it")
    return AnswerForm("choices", found)


def number() -> AnswerForm:
    return AnswerForm("number")


def date(layout: str = "") -> AnswerForm:
    """A date in a layout such as DD.MM.YYYY; without one, YYYY-MM-DD. Raises InputError."""
    layout = layout.strip() or ISO_DATE
    parts = sorted(part[0] for part in _DATE_PART.findall(layout))
    if len(layout) > 40 or not is_one_line(layout) or parts != ["D", "M", "Y"]:
        raise wrong(
            f"a date's layout needs YYYY, MM or M, and DD or D, each once and no other M or D, not {layout[:60]!r}; "
            f"write it as in {ISO_DATE}"
        )
    return AnswerForm("date", text=layout)


def pattern(text: str) -> AnswerForm:
    """What a regular expression matches as a whole. Raises InputError."""
    inner = re.sub(r"(?<!\\)((?:\\\\)*)\$$", r"\1", text.strip().removeprefix("^"))  # an escaped dollar stays
    try:
        re.compile(inner)
    except (re.error, RecursionError, OverflowError) as error:
        raise wrong(f"{text[:60]!r} is not a valid regular expression ({error}); correct it") from error
    if not inner or len(inner) > _MOST_TEXT:
        raise wrong(f"a pattern has 1 to {_MOST_TEXT:,} characters and this one has {len(inner):,}; write another")
    return AnswerForm("pattern", text=inner)


def schema(value: Any) -> AnswerForm:
    """JSON by a JSON schema. Raises InputError."""
    if not isinstance(value, dict):
        raise wrong("a JSON schema is a JSON object; see https://json-schema.org")
    try:
        text = json.dumps(value, ensure_ascii=False)
    except RecursionError as error:
        raise wrong("a schema has at most some hundred levels and this one has more; flatten it") from error
    if len(text) > _MOST_TEXT:
        raise wrong(f"a schema has at most {_MOST_TEXT:,} characters and this one has {len(text):,}; shorten it")
    return AnswerForm("schema", text=text)


def read(told: Any) -> AnswerForm | None:
    """A form by what `to_dict` says of it; None for None. Raises InputError."""
    if told is None:
        return None
    kind, value = (told.get("kind"), told) if isinstance(told, Mapping) else (None, {})
    if kind == "choices" and _texts(value.get("choices")):
        return choices(value["choices"])
    if kind == "number":
        return number()
    if kind == "date" and isinstance(value.get("layout", ""), str):
        return date(value.get("layout", ""))
    if kind == "pattern" and isinstance(value.get("pattern"), str):
        return pattern(value["pattern"])
    if kind == "schema":
        return schema(value.get("schema"))
    raise wrong(f"a form is choices, number, date, pattern or schema, not {json.dumps(told)[:60]}; see the docs")


def checked(form: AnswerForm, answers: Sequence[str]) -> AnswerForm:
    """The same form. Raises InputError if a labelled answer is of another."""
    for number_, answer in enumerate(answers, 1):
        if not form.fits(answer):
            raise InputError(
                "other_form",
                f"the right answer {answer[:60]!r} (example {number_}) does not have the form {str(form)[:80]}; "
                "correct the example or the form",
                number=number_,
                answer=answer[:60],
            )
    return form


def _grammar(pattern: str) -> str:
    from llguidance import LLMatcher

    return str(LLMatcher.grammar_from_regex(f"(?:{pattern})"))


def _texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)


def wrong(message: str) -> InputError:
    """What is no form of answers."""
    return InputError("answer_form", message)
