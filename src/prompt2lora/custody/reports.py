"""Pages that people read and print: a pilot, and an explanation, in English or Japanese.

In: what was found. Out: HTML in one file. Texts are in `texts/`, one file a language, with the same keys (a test);
nothing of the user's is ever taken for HTML.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from babel.dates import format_datetime
from babel.numbers import format_decimal, get_currency_name
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from prompt2lora.custody.costs import MAKING
from prompt2lora.custody.explanations import Explanation, Spectrum
from prompt2lora.custody.gate import FAIL, PASS, UNKNOWN, direction
from prompt2lora.custody.pilot import Pilot
from prompt2lora.errors import UsageError
from prompt2lora.ground.pictures import Prompt, pictures_of, text_of

_HERE = Path(__file__).parent
_MARKS = {PASS: "pass", FAIL: "fail", UNKNOWN: "unknown"}
BARS = {"base": "#999999", "generated": "#0a6ebd", "bare": "#5aa9e6", "wrong": "#d9a441"}
_FAR = 2.0  # distance of prompts above which it is said
_SPREADS = 3.0  # of the band in which a spectrum usually lies
# Checks of shares, told in percent, or in percentage points if they are differences.
_DIFFERENCES = ("gain over the base", "own over wrong prompts")
_SHARES = (*_DIFFERENCES, "answers in format")
_SIGNED = "signature"
_LEAST = 0.001  # of a value, so that what is nearly nothing is not told as nothing
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 560, 30, 165  # of a plot


def languages() -> list[str]:
    return sorted(file.stem for file in (_HERE / "texts").glob("*.toml"))


@cache
def texts(language: str) -> dict[str, str]:
    """All texts of a language. Raises UsageError if there are none."""
    if language not in languages():
        raise UsageError(f"reports can be in {', '.join(languages())}, not in {language!r}; name one of these")
    found: dict[str, str] = tomllib.loads((_HERE / "texts" / f"{language}.toml").read_text(encoding="utf-8"))
    return found


def value_text(value: float) -> str:
    return f"< {_LEAST}" if 0 < value < _LEAST else format_decimal(value, "#,##0.####", locale="en")


def measured_text(check: Mapping[str, Any], language: str) -> str:
    """What was measured for a check, as every page and the command line say it."""
    if check["value"] is None:
        return texts(language)["not measured"]
    if check["metric"] in _SHARES:
        return _hundredths(check["value"], check["metric"], language)
    if check["metric"] == _SIGNED:
        return texts(language)["yes" if check["value"] else "no"]
    return value_text(check["value"])


def limit_text(check: Mapping[str, Any], language: str) -> str:
    """What that is held against, with the direction."""
    if check["metric"] == _SIGNED and check["bound"]:
        return texts(language)["yes"]
    bound = format_decimal(check["bound"], "#,##0.########", locale="en")
    if check["metric"] in _SHARES:
        bound = _hundredths(check["bound"], check["metric"], language)
    return texts(language)[f"limit {direction(check['metric'])}"].format(bound=bound)


def _hundredths(share: float, metric: str, language: str) -> str:
    unit = texts(language)["points"] if metric in _DIFFERENCES else "%"
    if 0 < share < _LEAST:
        return f"< {100 * _LEAST:g} {unit}"
    return format_decimal(round(100 * share, 2) + 0.0, "#,##0.##", locale="en") + f" {unit}"


def _money(amount: float) -> str:
    return format_decimal(amount, "#,##0.0000" if amount < 1 else "#,##0.00", locale="en")


def _render(name: str, language: str, **values: Any) -> str:
    said = texts(language)
    template = _templates(language).get_template(name)
    return template.render(language=language, say=lambda key, **found: said[key].format(**found), **values)


@cache
def _templates(language: str) -> Environment:
    loader = FileSystemLoader(_HERE / "templates")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["inc"] = lambda number: number + 1
    environment.filters["when"] = lambda at: _when(at, language)
    environment.filters["measured"] = lambda check: measured_text(check, language)
    environment.filters["limit"] = lambda check: limit_text(check, language)
    environment.filters["money"] = _money
    return environment


def _when(at: str, language: str) -> str:
    moment = datetime.fromisoformat(at).astimezone()
    return f"{format_datetime(moment, locale=language)} {moment.tzname()}"


def pilot_page(pilot: Pilot, language: str) -> str:
    """A pilot for a manager."""
    made = sum(pilot.seconds.get(name, 0.0) for name in (*MAKING, "refine"))
    tuning = pilot.tuning
    return _render(
        "pilot.html",
        language,
        pilot=pilot.to_dict(),
        mark=_MARKS[pilot.verdict.result],
        gain=_gain(pilot),
        currency=get_currency_name(pilot.prices.currency, count=2, locale=language),
        bars=[
            {"name": name, "colour": colour, **pilot.scores[name]}
            for name, colour in BARS.items()
            if name in pilot.scores
        ],
        pictures=[one.pictures for one in pilot.inspection],
        versus={
            **tuning._asdict(),
            "tuning": tuning.seconds,
            "made": made,
            "times": tuning.seconds / made if made else 0.0,
        },
    )


def _gain(pilot: Pilot) -> dict[str, Any] | None:
    if "gain" not in pilot.scores:
        return None
    gain, examples = pilot.scores["gain"], len(pilot.inspection)
    right = {name: round(examples * pilot.scores[name]["score"]) for name in ("base", "generated")}
    return {**right, "examples": examples, "low": f"{100 * gain['low']:.0f}", "high": f"{100 * gain['high']:.0f}"}


def explanation_page(found: Explanation, prompts: Sequence[Prompt], language: str, texts: Sequence[Prompt] = ()) -> str:
    """What `plant.explain` found of prompts and of texts that were asked, for whoever has to trust the adapter."""
    heat = [list(values) for values in zip(*found.changes, strict=True)]  # modules x layers
    return _render(
        "explanation.html",
        language,
        found=found,
        prompts=[text_of(prompt) for prompt in prompts],
        pictures=[pictures_of(prompt) for prompt in prompts],
        asked=[pictures_of(text) for text in texts] or [()] * len(found.texts),
        distance="far" if found.distance > _FAR else "near",
        widest=max((one.share for one in found.influences), default=0.0) or 1.0,
        modules=found.modules,
        heat=heat,
        hottest=max(map(max, heat)) or 1.0,
        spectra=[_spectrum(one) for one in found.health.spectra],
        changed=sum(one.changed for one in found.texts),
    )


def _spectrum(found: Spectrum) -> dict[str, Any]:
    """Points of one plot: log10 of the singular values, and the band in which they usually lie."""
    values, mean, spread = found.values, found.mean, found.spread
    lows = [m - _SPREADS * s for m, s in zip(mean, spread, strict=True)]
    highs = [m + _SPREADS * s for m, s in zip(mean, spread, strict=True)]
    low, high = min([*values, *lows]), max([*values, *highs])

    def place(number: int, value: float) -> str:
        x = _LEFT + (_RIGHT - _LEFT) * number / max(1, len(values) - 1)
        y = _BOTTOM - (_BOTTOM - _TOP) * (value - low) / ((high - low) or 1.0)
        return f"{x:.1f},{y:.1f}"

    line = [place(*one) for one in enumerate(values)]
    band = [place(*one) for one in enumerate(highs)] + [place(*one) for one in enumerate(lows)][::-1]
    return {
        "module": found.module,
        "line": " ".join(line),
        "band": " ".join(band),
        "points": [(*point.split(","), number) for number, point in enumerate(line, 1)],
        "low": f"{10**low:.2g}",
        "high": f"{10**high:.2g}",
    }
