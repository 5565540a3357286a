"""How two answers are compared: whether an answer is the right one.

In: two texts. Out: whether they count as the same. Canonical equivalence never decides (ポ in one letter or in two),
nor do case and space around a text. Beyond that a job chooses:

exact       nothing else is passed over
compatible  full and half width, ligatures and squared letters are those that they stand for (㎏ is kg); spaces of any
            kind and number are one space, hyphens of any kind (and the ー of a keyboard in Japanese) are one hyphen.
            Superscripts, subscripts and fractions stay: 10² is not 102
number      as `compatible`, and every number in the text counts by its value: 5.0 is 5, 007 is 7, ▲5 is -5. What
            stands around it, such as a unit, stays text, and must be the same: 5 kg is neither 5 nor 5000 g

How a number is read. Of a point and a comma, the last is the decimal mark: 1.234,5 and 1,234.5 are the same. A point
alone is a decimal mark (1.234 is one and a bit, not the German thousand; .5 is 0.5); a comma alone marks thousands
before each three digits (1,234), else decimals (12,5 and 0,125). Marks that come several times, apostrophes, and single
spaces before three digits mark thousands. 千, 百, 十 and 万, 億, 兆, 京 multiply what stands before them, in Arabic or
Chinese figures: 1億2,000万, 12.5万, 三百二十, 一〇五. Anything else with marks in it (28.11.2026, 1,2,3) stays text.

Standard library only.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from decimal import Context, Decimal
from enum import StrEnum

Key = tuple[str | Decimal, ...]  # texts and numbers in turn; two texts are the same if their keys are

_MEANING = ("<super>", "<sub>", "<fraction>")  # what Unicode calls compatible although it means something else
_HYPHENS = "−⁃˗ー─"  # and all that Unicode calls a dash, but:
_WAVES = "〜〰"  # Japanese encodings confuse them with the full-width tilde
_FIGURES = {figure: str(value) for value, figure in enumerate("〇一二三四五六七八九")} | {"零": "0"}
_SMALL = {"十": 10, "百": 100, "千": 1000}
_LARGE = {"万": 10**4, "億": 10**8, "兆": 10**12, "京": 10**16}
_ARABIC = r"(?:\d{1,3}(?: \d{3}(?!\d))+(?:[.,]\d+)?|\d+(?:[.,'’]\d+)*)"
_POINTED = r"(?:(?<![\w.])\.\d+(?![.,'’]?\d))"  # .5
_FIRST, _LATER = "".join([*_FIGURES, *_SMALL]), "".join([*_FIGURES, *_SMALL, *_LARGE])
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w)])[-+▲△])?(?<![a-z\d])(?<!\d[.,'’])"
    rf"(?P<figures>(?:{_ARABIC}|{_POINTED}|[{_FIRST}])(?:{_ARABIC}|[{_LATER}])*)"
)
_PIECE = re.compile(rf"{_ARABIC}|{_POINTED}|[{''.join(_FIGURES)}]+|.")


class Comparison(StrEnum):
    """A way to compare; the words are those of files, options and fields."""

    EXACT = "exact"
    COMPATIBLE = "compatible"
    NUMBER = "number"

    def same(self, answer: str, right: str) -> bool:
        """Whether an answer counts as the right one."""
        return self.key(answer) == self.key(right)

    def score(self, answer: str, right: str) -> float:
        """1 for the right answer, else 0."""
        return float(self.same(answer, right))

    def key(self, text: str) -> Key:
        """What remains of a text when all is gone that does not count."""
        plain = composed(text)
        if self is not Comparison.EXACT:
            plain = _compatible(plain)
        plain = composed(plain.strip().lower())
        return tuple(_valued(plain)) if self is Comparison.NUMBER else (plain,)


def composed(text: str) -> str:
    """The same text with every letter in its one composed form (NFC)."""
    return unicodedata.normalize("NFC", text)


def _compatible(text: str) -> str:
    return " ".join("".join(map(_plain, text)).split())


def _plain(letter: str) -> str:
    """What a letter stands for."""
    if not unicodedata.decomposition(letter).startswith(_MEANING):
        letter = unicodedata.normalize("NFKC", letter)
    return "".join(map(_dash, letter))


def _dash(letter: str) -> str:
    if letter in _WAVES:
        return "~"
    return "-" if letter in _HYPHENS or unicodedata.category(letter) == "Pd" else letter


def _valued(text: str) -> Iterator[str | Decimal]:
    """A text with the value of every number in it: text, number, text, ..., text; space beside a number is none."""
    rest, seen = "", 0
    for found in _NUMBER.finditer(text):
        value = _value(found["figures"])
        rest += text[seen : found.start()]
        seen = found.end()
        if value is None:
            rest += found[0]
        else:
            yield rest.strip()
            yield value.copy_negate() if found["sign"] in ("-", "▲", "△") else value
            rest = ""
    yield (rest + text[seen:]).strip()


def _value(figures: str) -> Decimal | None:
    """The value of figures, exactly; None for what is no number."""
    exact = Context(prec=len(figures) + 60)
    total, section, number = Decimal(0), Decimal(0), None  # of 1億2千3: 1億, 2千, 3
    large, small = Decimal("inf"), Decimal("inf")  # what was multiplied by last: it only goes down
    for piece in _PIECE.findall(figures):
        if (factor := _SMALL.get(piece)) and factor < small:
            section = exact.add(section, exact.multiply(Decimal(1) if number is None else number, Decimal(factor)))
            number, small = None, Decimal(factor)
        elif (factor := _LARGE.get(piece)) and factor < large and (section or number is not None):
            total = exact.add(total, exact.multiply(exact.add(section, number or Decimal(0)), Decimal(factor)))
            section, number, small, large = Decimal(0), None, Decimal("inf"), Decimal(factor)
        elif number is None and (read := _read(piece)):
            number = Decimal(read)
        else:
            return None
    return exact.add(exact.add(total, section), number or Decimal(0))


def _read(piece: str) -> str | None:
    """Figures without marks but a decimal point; None for what no notation writes."""
    if piece in _SMALL or piece in _LARGE:  # out of its order: 十十
        return None
    if piece[0] in _FIGURES:
        return "".join(_FIGURES[figure] for figure in piece)
    groups, marks = re.split(r"[., '’]", piece), re.findall(r"[., '’]", piece)
    if not marks:
        return piece
    grouped = all(len(group) == 3 for group in groups[1:]) and len(groups[0]) <= 3
    if len(set(marks)) == 1 and (len(marks) > 1 or marks != ["."]):  # marks of one kind: thousands, if they can be
        if grouped and (len(marks) > 1 or not groups[0].startswith("0")):
            return "".join(groups)
        return f"{groups[0]}.{groups[1]}" if marks == [","] else None
    *thousands, decimal = marks
    whole = groups[:-1]
    if decimal not in ".," or len(set(thousands)) > 1 or decimal in thousands:
        return None
    if (len(whole[0]) > 3 and thousands) or any(len(group) != 3 for group in whole[1:]):
        return None
    return f"{''.join(whole)}.{groups[-1]}"
