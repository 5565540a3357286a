"""What the console says, in English or Japanese: texts, numbers, dates, and errors in plain words.

In: a key and values, or an error. Out: a text. Texts are in `texts/`, one file a language, with the same keys (a test);
which error is told by which text stands in `texts/known.toml`. It knows neither pages nor the service.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from babel.core import negotiate_locale
from babel.dates import format_date, format_time, format_timedelta
from babel.lists import format_list
from babel.numbers import format_decimal, format_percent

from prompt2lora.custody.reports import limit_text, measured_text
from prompt2lora.custody.reports import texts as report_texts
from prompt2lora.errors import InputError, Prompt2LoraError, UsageError
from prompt2lora.ground.delimited import DELIMITERS
from prompt2lora.ground.reading import TEXTS, Reading

LANGUAGES = {"ja": "日本語", "en": "English"}
_LOCALES = {"ja": "ja_JP", "en": "en_GB"}
_HERE = Path(__file__).parent / "texts"


@cache
def texts(language: str) -> dict[str, str]:
    """All texts of a language by `section.name`."""
    read = tomllib.loads((_HERE / f"{language}.toml").read_text(encoding="utf-8"))
    return {f"{section}.{name}": text for section, said in read.items() for name, text in said.items()}


@cache
def known() -> dict[str, re.Pattern[str]]:
    """Name of a text in the section `error` -> the messages that it is for; a group is a value of the text."""
    read = tomllib.loads((_HERE / "known.toml").read_text(encoding="utf-8"))
    return {name: re.compile(pattern) for name, pattern in read.items()}


class TranslatableError(UsageError):
    """A refusal with a text of its own in every language, looked up by name and filled in with values."""

    def __init__(self, name: str, /, **values: Any) -> None:
        self.name, self.values = name, values
        super().__init__(texts("en")[f"error.{name}"].format(**values))


def choose(asked: str | None, kept: str | None, accepted: str) -> str:
    """The language asked for, else the one chosen before, else the one that the browser prefers."""
    for language in (asked, kept):
        if language in LANGUAGES:
            return language
    wishes = sorted(_wishes(accepted), key=lambda wish: -wish[1])
    found = negotiate_locale([language for language, share in wishes if share], list(LANGUAGES), sep="-")
    return found or "en"


def _wishes(accepted: str) -> Iterator[tuple[str, float]]:
    for part in accepted[:200].split(","):
        language, _, share = part.strip().partition(";q=")
        if re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", language):
            yield language, float(share) if re.fullmatch(r"[01](\.\d{1,3})?", share) else 0.0 if share else 1.0


@dataclass(frozen=True)
class Translator:
    """Texts, numbers and dates in one language."""

    language: str

    @property
    def locale(self) -> str:
        return _LOCALES[self.language]

    def say(self, key: str, /, **values: Any) -> str:
        return texts(self.language)[key].format(**values)

    def has(self, key: str) -> bool:
        return key in texts(self.language)

    def report_text(self, key: str) -> str:
        """A text that the pilot's reports share with the console."""
        return report_texts(self.language)[key]

    def measured(self, check: Mapping[str, Any]) -> str:
        return measured_text(check, self.language)

    def limit(self, check: Mapping[str, Any]) -> str:
        return limit_text(check, self.language)

    def number(self, value: float | None, digits: int = 0) -> str:
        return self.say("word.unknown") if value is None else format_decimal(round(value, digits), locale=self.locale)

    def percent(self, value: float | None, digits: int = 0) -> str:
        if value is None:
            return self.say("word.unknown")
        return format_percent(value, "#,##0" + "." * bool(digits) + "#" * digits + "%", locale=self.locale)

    def when(self, at: str) -> str:
        """A moment of the record, by this machine's clock and calendar, with its time zone."""
        moment = datetime.fromisoformat(at).astimezone()
        day = format_date(moment, "long" if self.language == "ja" else "medium", locale=self.locale)
        return f"{day} {format_time(moment, 'short', tzinfo=moment.tzinfo, locale=self.locale)} {moment.tzname()}"

    def duration(self, seconds: float) -> str:
        """About so long, in the one unit that fits."""
        rounded = 5 * max(1, round(seconds / 5)) if seconds < 90 else seconds
        return format_timedelta(timedelta(seconds=rounded), threshold=1.5, locale=self.locale)

    def explain(self, error: Prompt2LoraError) -> str:
        """An error as a text that says what to do: by its name, by its message, or by its kind."""
        if isinstance(error, TranslatableError):
            return self.say(f"error.{error.name}", **error.values)
        if isinstance(error, InputError) and self.has(f"error.{error.rule}"):
            numbers = {name: self.number(value) for name, value in error.values.items() if isinstance(value, int)}
            return self.say(f"error.{error.rule}", **error.values | numbers)
        kinds = [f"error.{kind.__name__}" for kind in type(error).__mro__]
        return self.explain_line(str(error), next((key for key in kinds if self.has(key)), "error.Prompt2LoraError"))

    def explain_line(self, line: str, otherwise: str = "error.UsageError") -> str:
        """The same for an error of which only the message is left."""
        for name, pattern in known().items():
            found = pattern.search(line)
            if found:
                return self.say(f"error.{name}", **found.groupdict())
        return self.say(otherwise)

    def read(self, reading: Reading) -> str:
        """How a file was read: its kind, its columns, how much was taken of it, and what was not."""
        form = [self.say(f"read.{reading.format}")]
        if reading.delimiter:
            form.append(self.say(f"read.{DELIMITERS[reading.delimiter]}"))
        if reading.encoding:
            form.append(reading.encoding)
        if reading.sheets > 1:
            form.append(self.say("read.sheet", name=reading.sheet, of=self.number(reading.sheets)))
        said = [self.say("read.form", name=reading.name[:80], form=format_list(form, "unit", locale=self.locale))]
        if reading.columns:
            names = [self.say("read.column", name=name[:80]) for name in reading.columns]
            key = "read.columns" if reading.headed else "read.first_columns"
            said.append(self.say(key, columns=format_list(names, locale=self.locale), of=self.number(reading.width)))
        if reading.pictures:
            key = "read.pictures_of_texts" if reading.what == TEXTS else "read.pictures"
            said.append(self.say(key, name=reading.pictures[:80]))
        if reading.no_pictures:
            said.append(self.say("read.no_pictures", name=reading.no_pictures[:80]))
        said.append(self.say(f"read.{reading.what}", count=self.number(reading.count)))
        said += [self.say(f"read.{why.replace(' ', '_')}", count=self.number(count)) for why, count in reading.skipped]
        return ("" if self.language == "ja" else " ").join(said)
