"""Requests whose answers run to lines: programs, queries, explanations, worked problems.

In: a random generator. Out: an instruction, and what draws requests under it. There are no right answers here; a
request knows which answers of a base are worth keeping (self_answered.py). None is taken from a published problem,
though small functions are like one another: HumanEval, too, has one that removes vowels.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from prompt2lora.training.synthetic import mathematics, vocabulary
from prompt2lora.training.synthetic.problems import MARKS

_FENCED = re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL)
_NUMBER = re.compile(r"-?\d+(?:[.,/]\d+)*")


class Request(NamedTuple):
    """A text, and what of an answer to it is kept; of none that is not worth it: an empty text."""

    text: str
    kept: Callable[[str], str]


class Asking(NamedTuple):
    """An instruction, and a function that draws a request under it."""

    instruction: str
    request: Callable[[Random], Request]


Kind = Callable[[Random], Asking]
KINDS: dict[str, Kind] = {}


def kind(make: Kind) -> Kind:
    KINDS[make.__name__] = make
    return make


def draw_asking(number: int, random: Random) -> tuple[str, Asking]:
    """(name of the kind, what is asked): the kinds in turn."""
    name = list(KINDS)[number % len(KINDS)]
    return name, KINDS[name](random)


class _Aim(NamedTuple):
    """What a function does: `said` follows "a function that", `result` is of the example `given`."""

    name: str
    said: str
    given: str
    result: str


def _of_numbers(random: Random) -> _Aim:
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
    return _Aim(name, said.format(which), repr(items), repr(result))


def _of_texts(random: Random) -> _Aim:
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
    return _Aim(name, said, repr(text), repr(result))


def _every_second(words: Sequence[str]) -> str:
    return " ".join(word.upper() if at % 2 else word for at, word in enumerate(words))


def _of_tables(random: Random) -> _Aim:
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
    return _Aim(name, said, repr(stock), repr(result))


def _grouped(names: Sequence[str]) -> dict[str, list[str]]:
    return {initial: [name for name in names if name[0] == initial] for initial in dict.fromkeys(n[0] for n in names)}


def _aim(random: Random) -> _Aim:
    return random.choice([_of_numbers, _of_texts, _of_tables])(random)


def _program(answer: str) -> str:
    """An answer whose program parses."""
    found = _FENCED.search(answer)
    try:
        return answer if ast.parse(found[1] if found else answer).body else ""
    except (SyntaxError, ValueError):
        return ""


@kind
def functions(random: Random) -> Asking:
    shows = random.random() < 0.5
    instruction = random.choice(
        [
            "Write a Python function for this.",
            "Write the Python function that is described.",
            "Implement it in Python.",
            "Write Python code that does what is asked.",
            "Programme the function in Python, without tests.",
        ]
    )

    def request(random: Random) -> Request:
        aim = _aim(random)
        said = f"{random.choice(['Write a function that', 'I need a function that', 'A function that'])} {aim.said}."
        return Request(f"{said}\nassert {aim.name}({aim.given}) == {aim.result}" if shows else said, _program)

    return Asking(instruction, request)


@kind
def completions(random: Random) -> Asking:
    instruction = random.choice(
        [
            "Complete the function.",
            "Finish the Python function.",
            "Write the body of this function.",
            "Fill in the missing code.",
        ]
    )

    def request(random: Random) -> Request:
        aim, argument = _aim(random), random.choice(["items", "value", "data", "given"])
        shown = f"\n    >>> {aim.name}({aim.given})\n    {aim.result}\n    " if random.random() < 0.6 else ""
        said = f"{aim.said[0].upper()}{aim.said[1:]}."
        return Request(f'def {aim.name}({argument}):\n    """{said}{shown}"""', _program)

    return Asking(instruction, request)


@kind
def queries(random: Random) -> Asking:
    instruction = random.choice(["Write the SQL query.", "Answer with an SQL query.", "Write this as SQL."])

    def request(random: Random) -> Request:
        table = random.choice(["orders", "parts", "deliveries", "machines", "invoices"])
        column = random.choice(["supplier", "city", "status", "product"])
        value = random.choice(
            {"supplier": vocabulary.SUPPLIERS, "city": vocabulary.CITIES, "status": vocabulary.STATUSES}.get(
                column, vocabulary.PRODUCTS
            )
        )
        said = random.choice(
            [
                f"the number of rows of {table} for each {column}",
                f"all {table} whose {column} is {value}, the newest first (column date)",
                f"the total of the column amount of {table} where {column} is {value}",
                f"the {random.randint(3, 10)} {table} with the largest amount",
                f"the {column}s of {table} with more than {random.randint(2, 20)} rows",
            ]
        )
        return Request(f"Table {table}(id, {column}, amount, date): {said}", _whole)

    return Asking(instruction, request)


def _whole(answer: str) -> str:
    return answer


@kind
def explanations(random: Random) -> Asking:
    instruction = random.choice(
        [
            "Explain it in two sentences.",
            "Explain this to a new colleague in a short paragraph.",
            "Write three short tips about it.",
            "Give a short checklist.",
        ]
    )

    def request(random: Random) -> Request:
        machine, product, defect = (
            random.choice(some) for some in (vocabulary.MACHINES, vocabulary.PRODUCTS, vocabulary.DEFECTS)
        )
        return Request(
            random.choice(
                [
                    f"What a {product} is for",
                    f"How to look after a {machine}",
                    f"Why a {product} can have a {defect}",
                    f"What to do before starting a {machine}",
                    f"How to report a {defect} on a {product}",
                ]
            ),
            _whole,
        )

    return Asking(instruction, request)


@kind
def worked(random: Random) -> Asking:
    mark = random.choice(MARKS)

    def request(random: Random) -> Request:
        problem = random.choice(mathematics.PROBLEMS)(random)
        end = mark.format(problem.result)

        def kept(answer: str) -> str:
            """An answer with the right result; with the mark, if that is missing."""
            if answer.endswith(end):
                return answer
            numbers = _NUMBER.findall(answer)
            return f"{answer}\n{end}" if numbers and numbers[-1].replace(",", "") == problem.result else ""

        return Request(problem.text, kept)

    wordings = mathematics.WORDINGS
    return Asking(random.choice(wordings.worked).format(mark.format(wordings.number)), request)
