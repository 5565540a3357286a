"""What small functions of Python are asked to do: over numbers, texts and tables, each with an example.

In: a random generator. Out: an aim. None is taken from a published problem, though small functions resemble one
another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

from prompt2lora.training.synthetic import vocabulary


class Aim(NamedTuple):
    """What a function does: `said` follows "a function that", `result` is what it makes of `given`."""

    name: str
    said: str
    given: str
    result: str


def _of_numbers(random: Random) -> Aim:
    n, items = random.randint(2, 9), random.sample(range(1, 60), random.randint(4, 6))
    which, chosen = random.choice(
        [
            ("even", [item for item in items if item % 2 == 0]),
            ("odd", [item for item in items if item % 2 == 1]),
            (f"over {n * 3}", [item for item in items if item > n * 3]),
            (f"below {n * 5}", [item for item in items if item < n * 5]),
            (f"divisible by {n}", [item for item in items if item % n == 0]),
            ("two-digit", [item for item in items if 10 <= item < 100]),
        ]
    )
    name, said, result = random.choice(
        [
            ("total", "adds up the numbers of a list that are {}", sum(chosen)),
            ("how_many", "counts the numbers of a list that are {}", len(chosen)),
            ("pick", "returns the numbers of a list that are {}, sorted", sorted(chosen)),
            (
                "largest",
                "returns the largest number of a list that is {}, or None if there is none",
                max(chosen, default=None),
            ),
            (
                "squares",
                "returns the squares of those numbers of a list that are {}",
                [item * item for item in chosen],
            ),
            ("without", "leaves out of a list the numbers that are {}", [item for item in items if item not in chosen]),
        ]
    )
    return Aim(name, said.format(which), repr(items), repr(result))


def _of_texts(random: Random) -> Aim:
    words = random.sample(vocabulary.WORDS, random.randint(3, 5))
    letter, text = random.choice("aeiorst"), " ".join(words)
    name, said, result = random.choice(
        [
            ("count_letter", f"counts how often the letter {letter} stands in a text", text.count(letter)),
            ("shout", "writes every second word of a text in capitals", _every_second(words)),
            (
                "longest_word",
                "returns the longest word of a text, the first of them if there are several",
                max(words, key=len),
            ),
            (
                "initials",
                "returns the first letters of the words of a text as one text",
                "".join(word[0] for word in words),
            ),
            (
                "words_with",
                f"returns the list of the words of a text that hold the letter {letter}",
                [w for w in words if letter in w],
            ),
            (
                "swap_ends",
                "exchanges the first and the last word of a text",
                " ".join([words[-1], *words[1:-1], words[0]]),
            ),
            (
                "by_length",
                "sorts the words of a text by their length and joins them with commas",
                ",".join(sorted(words, key=len)),
            ),
            ("no_vowels", "removes all vowels from a text", re.sub("[aeiou]", "", text)),
            (
                "lengths",
                "returns a dictionary from each word of a text to its length",
                {word: len(word) for word in words},
            ),
        ]
    )
    return Aim(name, said, repr(text), repr(result))


def _every_second(words: Sequence[str]) -> str:
    return " ".join(word.upper() if at % 2 else word for at, word in enumerate(words))


def _of_tables(random: Random) -> Aim:
    names, least = random.sample(vocabulary.PRODUCTS, random.randint(3, 4)), random.randint(5, 30)
    stock = {name: random.randint(1, 60) for name in names}
    name, said, result = random.choice(
        [
            (
                "scarce",
                f"returns the names of a dictionary whose count is below {least}, sorted",
                sorted(n for n, c in stock.items() if c < least),
            ),
            ("most", "returns the name with the largest count of a dictionary", max(stock, key=lambda one: stock[one])),
            ("doubled", "returns a dictionary with every count doubled", {n: 2 * c for n, c in stock.items()}),
            (
                "ranked",
                "returns the pairs of a dictionary as a list, the largest count first",
                sorted(stock.items(), key=lambda pair: -pair[1]),
            ),
            ("total_of", "adds up the counts of a dictionary", sum(stock.values())),
            ("by_initial", "groups the keys of a dictionary by their first letter", _grouped(names)),
        ]
    )
    return Aim(name, said, repr(stock), repr(result))


def _grouped(names: Sequence[str]) -> dict[str, list[str]]:
    return {initial: [name for name in names if name[0] == initial] for initial in dict.fromkeys(n[0] for n in names)}


def draw_aim(random: Random) -> Aim:
    return random.choice([_of_numbers, _of_texts, _of_tables])(random)
