"""Families over counters, units of measure and ways to write numbers."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from random import Random

from prompt2lora.training.synthetic.drafts import Draft
from prompt2lora.training.synthetic.japanese import vocabulary
from prompt2lora.training.synthetic.japanese.drafts import family, listed, over_texts, turned

_COUNTER_OF = {thing: counter for counter, things in vocabulary.COUNTED.items() for thing in things}
_THINGS = sorted(_COUNTER_OF)
_NOT_OF_PEOPLE = sorted(set(vocabulary.COUNTED) - {"名"})
_KANJI_DIGITS = "〇一二三四五六七八九"
_LENGTHS = (("cm", "mm", 10), ("m", "cm", 100), ("m", "mm", 1000), ("km", "m", 1000))
_WEIGHTS = (("kg", "g", 1000), ("t", "kg", 1000), ("g", "mg", 1000))
_VOLUMES = (("L", "mL", 1000), ("リットル", "ミリリットル", 1000), ("m³", "L", 1000))
_SPANS = (("時間", "分", 60), ("分", "秒", 60), ("日", "時間", 24), ("週間", "日", 7), ("年", "か月", 12))


def kanji_number(number: int) -> str:
    """1 to 9999 as one writes it in kanji: 三百二十五."""
    said = ""
    for unit, name in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit, number = divmod(number, unit)
        if digit:
            said += ("" if digit == 1 and name else _KANJI_DIGITS[digit]) + name
    return said


def plain(number: Decimal) -> str:
    """Without zeros at the end: 12.5, 300."""
    return f"{number.normalize():f}"


@family
def quantity_with_counter(random: Random) -> Draft:
    form = random.choice(["{thing}{number}{counter}", "{number}{counter}", "{thing} {number}{counter}"])

    def example(random: Random) -> tuple[str, str]:
        thing, number = random.choice(_THINGS), random.randint(2, 200)
        return f"{thing} {number}", form.format(thing=thing, number=number, counter=_COUNTER_OF[thing])

    shown = form.format(thing="鉄板", number=5, counter="枚")
    return Draft(
        (
            f"品物に合う数え方を付けて「{shown}」のように書いてください。",
            f"本・枚・台などの助数詞を付けてください。例：鉄板 5→{shown}",
            f"助数詞を付けて、{shown}の形で答えて。",
        ),
        example,
    )


@family
def counter_of_thing(random: Random) -> Draft:
    counters = random.sample(_NOT_OF_PEOPLE, 3)
    things = [thing for counter in counters for thing in vocabulary.COUNTED[counter]]

    def example(random: Random) -> tuple[str, str]:
        thing = random.choice(things)
        text = random.choice(["{}を数える", "{}はいくつありますか", "{}の棚卸し", "{} {}", "{}、数量{}"])
        return text.format(thing, random.randint(2, 99)), _COUNTER_OF[thing]

    return Draft(
        (
            f"数え方は{'、'.join(counters)}のどれですか。",
            f"品物の助数詞を{listed(counters)}から選んでください。",
            f"何と数える？{'/'.join(counters)}",
        ),
        example,
    )


@family
def number_with_counter(random: Random) -> Draft:
    """Of several quantities the one that is counted in one way."""
    asked, *others = random.sample(_NOT_OF_PEOPLE, 3)
    unit = random.choice(["", asked])

    def example(random: Random) -> tuple[str, str]:
        said, number = [], random.randint(2, 90)
        for counter in (asked, *random.sample(others, random.randint(1, 2))):
            amount = number if counter == asked else random.randint(2, 90)
            said.append(f"{random.choice(vocabulary.COUNTED[counter])}{amount}{counter}")
        random.shuffle(said)
        ending = random.choice(["を用意する", "を発注", "があります。", "を受け取りました。"])
        return "と".join(said) + ending, f"{number}{unit}"

    shown = f"「8{unit}」のように"
    return Draft(
        (
            f"「{asked}」で数える品物の数を{shown}書いてください。",
            f"何{asked}ですか。{shown}答えてください。",
            f"助数詞が「{asked}」の数を{shown}抜き出してください。",
        ),
        example,
    )


def _converted(random: Random, units: tuple[tuple[str, str, int], ...], name: str, parts: int) -> Draft:
    """Between two units, either way; `parts` is how finely the larger unit is divided in the inputs."""
    large, small, factor = random.choice(units)
    down = random.random() < 0.6

    def example(random: Random) -> tuple[str, str]:
        amount = Decimal(random.randint(1, 40 * parts if parts > 1 else 120)) / parts
        texts = f"{plain(amount)}{large}", f"{plain(amount * factor)}{small}"
        return texts if down else texts[::-1]

    before, after = (large, small) if down else (small, large)
    return Draft(
        (
            *turned(before, after)[:-1],
            f"{name}：{before}→{after}",
            f"{name}を{after}に換算してください。",
            f"何{after}ですか。単位も書くこと。",
        ),
        example,
    )


@family
def length_in_other_unit(random: Random) -> Draft:
    return _converted(random, _LENGTHS, "長さ", 10)


@family
def weight_in_other_unit(random: Random) -> Draft:
    return _converted(random, _WEIGHTS, "重さ", 10)


@family
def volume_in_other_unit(random: Random) -> Draft:
    return _converted(random, _VOLUMES, "容量", 10)


@family
def span_in_other_unit(random: Random) -> Draft:
    return _converted(random, _SPANS, "時間の長さ", 1)


@family
def number_out_of_kanji(random: Random) -> Draft:
    most, unit = random.choice([99, 999, 9999]), random.choice(["", "個", "枚", "本", "円"])
    return _numbers(
        lambda number: (f"{kanji_number(number)}{unit}", f"{number}{unit}"), most, turned("漢数字", "算用数字")
    )


@family
def number_into_kanji(random: Random) -> Draft:
    most, unit = random.choice([99, 999, 9999]), random.choice(["", "個", "枚", "本", "円"])
    return _numbers(
        lambda number: (f"{number}{unit}", f"{kanji_number(number)}{unit}"), most, turned("算用数字", "漢数字")
    )


def _numbers(pair: Callable[[int], tuple[str, str]], most: int, wordings: tuple[str, ...]) -> Draft:
    return Draft(wordings, lambda random: pair(random.randint(1, most)))


@family
def number_with_commas(random: Random) -> Draft:
    into, unit = random.random() < 0.5, random.choice(["", "円", "個"])

    def texts(random: Random) -> str:
        number = random.randint(1, 9999) * random.choice([1, 10, 1000]) + 1000
        return f"{number}{unit}" if into else f"{number:,}{unit}"

    def answer(text: str) -> str:
        number = int(text.removesuffix(unit).replace(",", ""))
        return f"{number:,}{unit}" if into else f"{number}{unit}"

    if into:
        return over_texts(
            texts, answer, "3桁ごとにコンマを入れてください。", "数字を3桁区切りにして。", "桁区切りのカンマを付ける"
        )
    return over_texts(
        texts,
        answer,
        "数字のコンマを取ってください。",
        "桁区切りをなくして書いてください。",
        "カンマなしの数字にして。",
    )


@family
def total_of_quantities(random: Random) -> Draft:
    counter = random.choice(["本", "枚", "台", "個", "冊"])

    def texts(random: Random) -> str:
        things = random.sample(vocabulary.COUNTED[counter], 2)
        return "、".join(f"{thing}{random.randint(1, 50)}{counter}" for thing in things)

    def answer(text: str) -> str:
        numbers = ("".join(filter(str.isdigit, part)) for part in text.split("、"))
        return f"{sum(map(int, numbers))}{counter}"

    return over_texts(
        texts,
        answer,
        f"合わせて何{counter}ですか。",
        f"合計の数を「10{counter}」のように書いてください。",
        f"全部で何{counter}になるか答えて。",
    )


@family
def number_without_unit(random: Random) -> Draft:
    units = random.choice([["mm", "cm", "m"], ["kg", "g", "t"], ["個", "枚", "本"], ["℃"], ["MPa", "kPa"], ["V", "A"]])
    label = random.choice(["測定値", "実績", "記録", "結果"])

    def example(random: Random) -> tuple[str, str]:
        amount = f"{random.randint(1, 999) / random.choice([1, 10]):g}"
        return f"{label}:{amount}{random.choice(units)}", amount

    return Draft(
        ("単位を除いて数値だけ書いてください。", "数値のみ答えて。", f"{label}の数値を単位なしで書いてください。"),
        example,
    )
