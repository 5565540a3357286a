"""A form of answers as people declare it: spelled as for `--answers`, in a file, as JSON, or shown by labelled answers.

In: one of these. Out: an `AnswerForm` that the labelled answers have, or None where answers are free.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prompt2lora.errors import cause
from prompt2lora.ground.answer_form import (
    ISO_DATE,
    MOST_CHARACTERS,
    AnswerForm,
    checked,
    choices,
    date,
    number,
    pattern,
    read,
    schema,
    wrong,
)
from prompt2lora.ground.prompts import is_one_line

AUTO, FREE = "auto", "free"
_LAYOUTS = (ISO_DATE, "YYYY/MM/DD", "YYYY/M/D", "YYYY年M月D日", "DD.MM.YYYY", "D.M.YYYY", "DD/MM/YYYY", "MM/DD/YYYY")
_MOST_FOUND = 20  # choices that are found by themselves; more can be declared
_UNSEEN = 0.05  # share of answers that occur once: about as likely as a choice that no example shows (Good 1953)


def declared(told: str | Mapping[str, Any], answers: Sequence[str] = (), *, files: bool = False) -> AnswerForm | None:
    """A form as a user writes it, or as JSON has it; None: free. With `auto`, what the labelled `answers` show.

    Only with `files` may it name one. Raises InputError for what is no form, or if an answer is of another.
    """
    form = told if isinstance(told, str) else read(told)
    if isinstance(form, str):
        form = _spelled(form, answers, files)
    return checked(form, answers) if form else None


def _spelled(spelling: str, answers: Sequence[str], files: bool) -> AnswerForm | None:
    kind, _, rest = spelling.strip().partition(":")
    if kind in ("", FREE) and not rest:
        return None
    if kind == AUTO and not rest:
        if not answers:
            raise wrong("auto finds the form in the examples to learn from, and there are none; name the form")
        return found(answers)
    if kind == "choices" and rest:
        return choices(rest.replace("、", ",").split(","))
    if kind == "number" and not rest:
        return number()
    if kind == "date":
        return date(rest)
    if kind == "pattern" and rest:
        return pattern(rest)
    if kind == "schema" and rest.lstrip().startswith("{"):
        return schema(_json("the schema", rest))
    if kind == "schema" and rest and files:
        return schema(_json(rest, _text(Path(rest))))
    if files and Path(spelling).is_file():
        return _from_file(Path(spelling))
    beside = ", schema:FILE, or a file with a choice a line" if files else ", schema:{...}"
    raise wrong(
        f"{spelling[:60]!r} names no form of answers: write auto, choices:a,b,c, number, date, date:DD.MM.YYYY, "
        f"pattern:...{beside}"
    )


def found(answers: Sequence[str]) -> AnswerForm | None:
    """The form that labelled answers show: a few that recur, numbers, dates of one layout; None if they show none, as
    01/02/2026 alone does not tell the day from the month."""
    texts = [answer.strip() for answer in answers]
    counts = Counter(texts)
    once = sum(times == 1 for times in counts.values())
    few = 2 <= len(counts) <= min(_MOST_FOUND, len(texts) // 2) and once <= _UNSEEN * len(texts)
    if few and all(is_one_line(text) and 0 < len(text) <= MOST_CHARACTERS for text in counts):
        return choices(sorted(counts, key=lambda text: -counts[text]))
    fitting = [form for form in (number(), *map(date, _LAYOUTS)) if all(map(form.fits, counts))]
    return fitting[0] if len(counts) > 1 and len(fitting) == 1 else None


def _from_file(file: Path) -> AnswerForm:
    """A form as JSON (as an adapter's origin has it), or a choice a line."""
    if file.suffix.lower() == ".json":
        form = read(_json(str(file), _text(file)))
        if form is None:
            raise wrong(f"{file} holds no form of answers; see the docs")
        return form
    return choices(_text(file).split("\n"))


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise wrong(f"{name} must be JSON ({error}); correct it") from error


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise wrong(f"{file} cannot be read as UTF-8 text ({cause(error)}); check the path") from error
