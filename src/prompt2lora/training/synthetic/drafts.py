"""What a family of synthetic tasks is made of: drafts, their registry, and the parts that families share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import NamedTuple, TypeVar

from prompt2lora.training.synthetic import vocabulary

T = TypeVar("T")


class Draft(NamedTuple):
    """wordings of the instruction, and a function that draws one (input, output)."""

    wordings: tuple[str, ...]
    example: Callable[[Random], tuple[str, str]]


class RequestKind(NamedTuple):
    """Texts, wordings of what is asked of them at length, and wordings that ask for a short answer."""

    text: Callable[[Random], str]
    at_length: tuple[str, ...]
    brief: tuple[str, ...]


Family = Callable[[Random], Draft]
FAMILIES: dict[str, Family] = {}


def family(make: Family) -> Family:
    FAMILIES[make.__name__] = make
    return make


def text_of_any(families: Mapping[str, Family], random: Random) -> str:
    """The text of an example of one of these families."""
    return random.choice(list(families.values()))(random).example(random)[0]


ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
NUMBER_WORDS = ("one", "two", "three", "four", "five", "six")


def draw_word(random: Random) -> str:
    return random.choice(vocabulary.EVERY_WORD)


def over(draw: Callable[[Random], T], text: Callable[[T], str], answer: Callable[[T], str], *wordings: str) -> Draft:
    """A task whose text and right answer both follow from one thing that is drawn."""

    def example(random: Random) -> tuple[str, str]:
        drawn = draw(random)
        return text(drawn), answer(drawn)

    return Draft(wordings, example)


def over_kinds(
    kinds: Sequence[str], text: Callable[[str, Random], str], answer: Callable[[str], str], *wordings: str
) -> Draft:
    """A task whose right answer follows from the kind that a text is drawn of."""

    def example(random: Random) -> tuple[str, str]:
        kind = random.choice(kinds)
        return text(kind, random), answer(kind)

    return Draft(wordings, example)


def over_words(change: Callable[[str], str], *wordings: str) -> Draft:
    return over(draw_word, str, change, *wordings)


def draw_labels(random: Random) -> tuple[str, str]:
    """What to answer if something holds, and if not."""
    good, bad = random.choice(
        "yes/no true/false Y/N 1/0 ok/ng A/B in/out left/right red/green pass/stop keep/drop high/low x/y".split()
    ).split("/")
    return good, bad


def whether(random: Random, question: str, texts: Callable[[Random], str], holds: Callable[[str], bool]) -> Draft:
    """A yes-no question over texts, half of which it holds for, under drawn labels."""
    good, bad = draw_labels(random)

    def example(random: Random) -> tuple[str, str]:
        wanted = random.random() < 0.5
        text = texts(random)
        for _ in range(30):
            if holds(text) == wanted:
                break
            text = texts(random)
        return text, good if holds(text) else bad

    plain = f"{question[0].upper()}{question[1:]}"
    return Draft(
        (
            f"{plain}? Answer {good} or {bad}.",
            f"Write {good} if {_clause(question)}, otherwise {bad}.",
            f"Say {good} when {_clause(question)} and {bad} when not.",
        ),
        example,
    )


def _clause(question: str) -> str:
    """'does the word contain e' -> 'the word does contain e', 'is the number even' -> 'the number is even'."""
    verb, article, noun, rest = question.split(" ", 3)
    return f"{article} {noun} {verb} {rest}"


def some_words(random: Random, low: int = 3, high: int = 6) -> list[str]:
    return random.sample(vocabulary.EVERY_WORD, random.randint(low, high))


def draw_separator(random: Random) -> str:
    return random.choice([", ", " ", "; ", " / ", " | ", "-"])


def over_lists(
    random: Random, change: Callable[[list[str]], str], *wordings: str, low: int = 3, high: int = 6
) -> Draft:
    separator = draw_separator(random)

    def example(random: Random) -> tuple[str, str]:
        items = some_words(random, low, high)
        return separator.join(items), change(items)

    return Draft(wordings, example)


def draw_number(random: Random) -> int:
    return random.choice([random.randint(0, 20), random.randint(0, 100), random.randint(0, 999)])


def over_numbers(change: Callable[[int], str], *wordings: str, most: int = 999) -> Draft:
    return over(lambda random: min(most, draw_number(random)), str, change, *wordings)
