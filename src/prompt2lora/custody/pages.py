"""A pilot as a page that a manager reads and prints, in English or Japanese. In: a pilot. Out: HTML in one file.

Texts are in `texts/`, one file a language, with the same keys (a test); nothing of the user's is ever taken for HTML.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from prompt2lora.custody.gate import FAIL, PASS, UNKNOWN
from prompt2lora.custody.pilot import Pilot
from prompt2lora.errors import UsageError

_HERE = Path(__file__).parent
_MARKS = {PASS: "pass", FAIL: "fail", UNKNOWN: "unknown"}
_COLOURS = {"base": "#999999", "generated": "#0a6ebd", "wrong": "#d9a441"}


def languages() -> list[str]:
    return sorted(file.stem for file in (_HERE / "texts").glob("*.toml"))


@cache
def texts(language: str) -> dict[str, str]:
    """All texts of a language. Raises UsageError if there are none."""
    if language not in languages():
        raise UsageError(f"reports are written in {', '.join(languages())}, not in {language!r}; name one of them")
    found: dict[str, str] = tomllib.loads((_HERE / "texts" / f"{language}.toml").read_text(encoding="utf-8"))
    return found


def pilot_page(pilot: Pilot, language: str) -> str:
    said = texts(language)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["inc"] = lambda number: number + 1
    template = environment.from_string((_HERE / "page.html").read_text(encoding="utf-8"))
    return template.render(
        language=language,
        pilot=pilot.to_dict(),
        mark=_MARKS[pilot.verdict.result],
        gain=_gain(pilot),
        bars=[
            {"name": name, "colour": _COLOURS[name], **pilot.scores[name]} for name in _COLOURS if name in pilot.scores
        ],
        versus=_versus(pilot),
        say=lambda key, **values: said[key].format(**values),
    )


def _gain(pilot: Pilot) -> dict[str, Any] | None:
    if "gain" not in pilot.scores:
        return None
    gain, rows = pilot.scores["gain"], len(pilot.rows)
    right = {name: round(rows * pilot.scores[name]["score"]) for name in ("base", "generated")}
    return {**right, "rows": rows, "low": f"{100 * gain['low']:.0f}", "high": f"{100 * gain['high']:.0f}"}


def _versus(pilot: Pilot) -> dict[str, float] | None:
    made = sum(pilot.seconds.values())
    if not pilot.tuning_seconds or not made:
        return None
    return {"tuning": pilot.tuning_seconds, "made": made, "times": pilot.tuning_seconds / made}
