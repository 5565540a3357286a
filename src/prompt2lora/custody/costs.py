"""What a pilot costs, step by step, and what fine-tuning would cost instead. In: counts, seconds, the user's prices.
Out: hours, energy and money of every step. A step whose time is not known is left out, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import Field, Strict, TypeAdapter, ValidationError

from prompt2lora.errors import UsageError
from prompt2lora.ground.files import read_toml, refuse_unknown

# The steps of making an adapter, as their seconds are named: of prompts the first three, of examples the fourth.
MAKING = ("encode", "decode", "align", "examples", "write")
_REPLAYS = 30  # of the known examples, one a day for a month
_LONGEST_CURRENCY = 8
_OTHERS = {"refine": "refining", "apply": "applying", "check": "checking"}


_NEEDED = {"currency": "a short text", "sharing_jobs": "a whole number from 1 on"}  # of a key that is no amount
_Whole = Annotated[int, Strict(), Field(ge=0)]  # 4500 stays 4500 in the report
Amount = _Whole | Annotated[float, Strict(), Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Prices:
    """What the user's money, power and people cost; the defaults are round figures to be replaced.

    kilowatt_hour      of the machine, which draws `watts`
    person_hour        of whoever collects prompts and labels examples
    minutes_per_prompt, minutes_per_label   of that person
    sharing_jobs       over which the generator's training is spread
    """

    currency: Annotated[str, Strict(), Field(min_length=1, max_length=_LONGEST_CURRENCY)] = "EUR"
    watts: Amount = 60.0
    kilowatt_hour: Amount = 0.30
    person_hour: Amount = 30.0
    minutes_per_prompt: Amount = 0.5
    minutes_per_label: Amount = 2.0
    sharing_jobs: Annotated[int, Strict(), Field(ge=1)] = 100

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Prices:
        """Prices by what is stored of them; some had other names before 0.1.0."""
        former = {"per_hour": "person_hour", "per_kilowatt_hour": "kilowatt_hour", "jobs": "sharing_jobs"}
        return cls(**{former.get(name, name): value for name, value in stored.items()})


_PRICES = TypeAdapter(Prices)


def read_prices(file: Path) -> Prices:
    """Read a plant's prices. Raises UsageError that names the file and the unknown or wrong key."""
    data = read_toml(file, "a list of prices")
    refuse_unknown(file, data, Prices)
    try:
        return _PRICES.validate_python(data)
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
        needed = _NEEDED.get(key, "a number that is not negative")
        raise UsageError(f"{file}: {key} must be {needed}, not {data[key]!r}; correct it") from error


class Tuning(NamedTuple):
    """A LoRA fine-tune of one job: how long it took, with how many examples, and whether it was measured here."""

    seconds: float
    steps: int
    examples: int
    measured: bool
    source: str

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Tuning:
        """A fine-tune by what is stored of it; its examples were `rows` before 0.1.0."""
        told = {"examples": stored.get("rows"), **stored}
        return cls(**{name: told[name] for name in cls._fields})


# For a pilot that does not measure it: two teachers of the released base took 40 s each on two cores; the examples are
# what we assume that somebody would label for it.
RECORDED = Tuning(40.0, 48, 40, False, "docs/log.md, 2026-11-24")


class Cost(NamedTuple):
    """One step: seconds of the machine, hours of people, energy, money."""

    step: str
    seconds: float
    people_hours: float
    kilowatt_hours: float
    money: float


def costs(
    prices: Prices, *, prompts: int, examples: int, seconds: Mapping[str, float], training_hours: float | None
) -> list[Cost]:
    """Every step of a job's life whose time is known, in its order.

    `seconds` may hold: those of MAKING, refine, apply, check, and replay (answering the inspection examples once).
    """
    found = [_cost(prices, "collecting", minutes=prompts * prices.minutes_per_prompt)]
    if examples:
        found.append(_cost(prices, "labelling", minutes=examples * prices.minutes_per_label))
    if training_hours is not None:
        found.append(_cost(prices, "training", seconds=training_hours * 3600 / prices.sharing_jobs))
    making = [seconds[name] for name in MAKING if name in seconds]
    if making:
        found.append(_cost(prices, "generating", seconds=sum(making)))
    found += [_cost(prices, name, seconds=seconds[key]) for key, name in _OTHERS.items() if key in seconds]
    if "replay" in seconds:
        found.append(_cost(prices, "monitoring", seconds=seconds["replay"] * _REPLAYS))
    return found


def tuning_cost(prices: Prices, tuning: Tuning) -> Cost:
    """What it costs to fine-tune instead: the examples have to be labelled first."""
    return _cost(prices, "tuning", seconds=tuning.seconds, minutes=tuning.examples * prices.minutes_per_label)


def _cost(prices: Prices, step: str, *, seconds: float = 0.0, minutes: float = 0.0) -> Cost:
    energy = seconds / 3600 * prices.watts / 1000
    money = energy * prices.kilowatt_hour + minutes / 60 * prices.person_hour
    return Cost(step, seconds, minutes / 60, energy, money)
