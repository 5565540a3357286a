"""What a pilot costs, step by step, and what fine-tuning would cost instead. In: counts, seconds, the user's prices.
Out: rows of hours, energy and money. A step whose time is not known is left out, never guessed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from prompt2lora.errors import UsageError
from prompt2lora.ground.files import read_toml, refuse_unknown

MAKING = ("encode", "decode", "align", "write")  # the steps of making an adapter, as their seconds are named
_REPLAYS = 30  # of the canary rows, one a day for a month
_LONGEST_CURRENCY = 8
_OTHERS = {"refine": "refining", "apply": "applying", "check": "checking"}


@dataclass(frozen=True)
class Prices:
    """What the user's money, power and people cost; the defaults are round figures to be replaced.

    per_hour           of a person who collects prompts and labels rows
    minutes_per_prompt, minutes_per_label   of that person
    jobs               over which the generator's training is spread
    """

    currency: str = "EUR"
    watts: float = 60.0
    per_kilowatt_hour: float = 0.30
    per_hour: float = 30.0
    minutes_per_prompt: float = 0.5
    minutes_per_label: float = 2.0
    jobs: int = 100


def read_prices(file: Path) -> Prices:
    """Read a plant's prices. Raises UsageError that names the file and the unknown or wrong key."""
    data = read_toml(file, "a list of prices")
    refuse_unknown(file, data, Prices)
    for key, value in data.items():
        if key == "currency":
            if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_CURRENCY:
                raise UsageError(f"{file}: currency must be a short text, not {value!r}; mend it")
        elif type(value) not in (int, float) or not math.isfinite(value) or value < 0:
            raise UsageError(f"{file}: {key} must be a number that is not negative, not {value!r}; mend it")
    if type(data.get("jobs", 1)) is not int or data.get("jobs", 1) < 1:
        raise UsageError(f"{file}: jobs must be a whole number from 1 on, not {data['jobs']!r}; mend it")
    return Prices(**data)


class Tuning(NamedTuple):
    """A LoRA fine-tune of one job: how long it took, with how many labelled rows, and whether it was measured here."""

    seconds: float
    steps: int
    rows: int
    measured: bool
    source: str


# For a pilot that does not measure it: two teachers of the released base took 40 s each on two cores; the rows are what
# we assume that somebody would label for it.
RECORDED = Tuning(40.0, 48, 40, False, "docs/log.md, 2026-11-24")


class Cost(NamedTuple):
    """One step: seconds of the machine, hours of people, energy, money."""

    step: str
    seconds: float
    people_hours: float
    kilowatt_hours: float
    money: float


def costs(
    prices: Prices, *, prompts: int, labelled: int, seconds: Mapping[str, float], training_hours: float | None
) -> list[Cost]:
    """Every step of a job's life whose time is known, in its order.

    `seconds` may hold: those of MAKING, refine, apply, check, and replay (answering the rows once).
    """
    found = [_cost(prices, "collecting", minutes=prompts * prices.minutes_per_prompt)]
    if labelled:
        found.append(_cost(prices, "labelling", minutes=labelled * prices.minutes_per_label))
    if training_hours is not None:
        found.append(_cost(prices, "training", seconds=training_hours * 3600 / prices.jobs))
    making = [seconds[name] for name in MAKING if name in seconds]
    if making:
        found.append(_cost(prices, "generating", seconds=sum(making)))
    found += [_cost(prices, name, seconds=seconds[key]) for key, name in _OTHERS.items() if key in seconds]
    if "replay" in seconds:
        found.append(_cost(prices, "monitoring", seconds=seconds["replay"] * _REPLAYS))
    return found


def tuning_cost(prices: Prices, tuning: Tuning) -> Cost:
    """What it costs to fine-tune instead: the rows have to be labelled first."""
    return _cost(prices, "tuning", seconds=tuning.seconds, minutes=tuning.rows * prices.minutes_per_label)


def _cost(prices: Prices, step: str, *, seconds: float = 0.0, minutes: float = 0.0) -> Cost:
    energy = seconds / 3600 * prices.watts / 1000
    money = energy * prices.per_kilowatt_hour + minutes / 60 * prices.per_hour
    return Cost(step, seconds, minutes / 60, energy, money)
