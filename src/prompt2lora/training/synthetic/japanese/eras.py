"""Families over eras of the Japanese calendar. A date of an era put into Gregorian year-month-day is held out."""

from __future__ import annotations

from datetime import date
from random import Random
from typing import NamedTuple

from prompt2lora.training.synthetic.drafts import Draft, over
from prompt2lora.training.synthetic.japanese.drafts import family, over_texts, turned


class Era(NamedTuple):
    name: str
    letter: str
    begins: date


ERAS = (  # the latest first
    Era("令和", "R", date(2019, 5, 1)),
    Era("平成", "H", date(1989, 1, 8)),
    Era("昭和", "S", date(1926, 12, 25)),
)
_TWO_ERAS = tuple(era.begins.year for era in ERAS)  # years that the first day of an era parts in two
_LAST = 2030


def era_of(day: date) -> Era:
    """Raises StopIteration for days before the first of the eras."""
    return next(era for era in ERAS if day >= era.begins)


def year_in_era(day: date) -> str:
    """The year as it is counted in its era, such as 令和3年; the first one is 元年."""
    era = era_of(day)
    number = day.year - era.begins.year + 1
    return f"{era.name}{'元' if number == 1 else number}年"


def date_in_era(day: date) -> str:
    return f"{year_in_era(day)}{day.month}月{day.day}日"


def short_date_in_era(day: date) -> str:
    """Such as R3.4.10."""
    era = era_of(day)
    return f"{era.letter}{day.year - era.begins.year + 1}.{day.month}.{day.day}"


def draw_date(random: Random, first: int = 1955) -> date:
    return date(random.randint(first, _LAST), random.randint(1, 12), random.randint(1, 28))


def _draw_year(random: Random) -> int:
    return random.choice([year for year in range(1930, _LAST + 1) if year not in _TWO_ERAS])


@family
def era_of_year(random: Random) -> Draft:
    return over_texts(
        lambda random: f"{_draw_year(random)}年",
        lambda text: year_in_era(date(int(text[:4]), 7, 1)),
        *turned("西暦の年", "和暦"),
        "西暦何年かを和暦（令和・平成・昭和）の年にしてください。",
    )


@family
def year_of_era(random: Random) -> Draft:
    unit = random.choice(["年", ""])

    def example(random: Random) -> tuple[str, str]:
        day = draw_date(random, 1930)
        return year_in_era(day), f"{day.year}{unit}"

    shown = f"「2000{unit}」のように"
    return Draft(
        (
            f"和暦の年を西暦で、{shown}書いてください。",
            f"西暦では何年ですか。{shown}答えてください。",
            f"{shown}西暦に換算してください。",
        ),
        example,
    )


@family
def date_into_era(random: Random) -> Draft:
    mark = random.choice(["年", "/", "-", "."])

    def example(random: Random) -> tuple[str, str]:
        day = draw_date(random)
        text = f"{day.year}年{day.month}月{day.day}日" if mark == "年" else mark.join(map(str, day.timetuple()[:3]))
        return text, date_in_era(day)

    return Draft((*turned("西暦の日付", "和暦の日付"), "令和・平成・昭和の年月日で書いてください。"), example)


@family
def name_of_era(random: Random) -> Draft:
    letters = random.random() < 0.4

    def example(random: Random) -> tuple[str, str]:
        day, written = draw_date(random), random.choice(["{0}年{1}月{2}日", "{0}/{1}/{2}"])
        era = era_of(day)
        return written.format(day.year, day.month, day.day), era.letter if letters else era.name

    if letters:
        return Draft(("元号をR・H・Sの記号で答えてください。", "この日の元号は？令和R、平成H、昭和S。"), example)
    return Draft(
        (
            "この日の元号を書いてください。",
            "令和・平成・昭和のどれですか。",
            "元号だけ答えて。",
            "いつの元号の日付ですか。",
        ),
        example,
    )


@family
def short_era_into_long(random: Random) -> Draft:
    return over(
        draw_date,
        short_date_in_era,
        date_in_era,
        "略した和暦の日付を、元号と年月日で書いてください。",
        "R・H・Sを令和・平成・昭和に直し、年月日で書いてください。",
        "略さない和暦の日付にして。",
    )


@family
def long_era_into_short(random: Random) -> Draft:
    return over(
        draw_date,
        date_in_era,
        short_date_in_era,
        "和暦の日付を「R5.6.7」のような形に略してください。",
        "令和はR、平成はH、昭和はSとして、日付を点区切りで短く書いてください。",
        "元号をアルファベット1文字にし、年・月・日を「.」で区切る",
    )
