"""Jobs whose answers run to lines, and short jobs on the same texts: prompts alone, for nothing is trained on them.

In: a seed. Out: groups of prompts, of programs, queries, explanations and worked problems. None is taken from a
published problem.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from prompt2lora.ground.prompts import full_prompt
from prompt2lora.training.synthetic import mathematics, vocabulary
from prompt2lora.training.synthetic.aims import draw_aim

_PROMPTS = 8  # of every job


class RequestKind(NamedTuple):
    """Texts, wordings of what is asked of them at length, and wordings that ask for a short answer."""

    text: Callable[[Random], str]
    at_length: tuple[str, ...]
    brief: tuple[str, ...]


def prompt_groups(seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """(prompts of jobs that are answered at length, of short jobs): a group a job, a job a wording."""
    long = [_group(kind, wording, seed) for kind in KINDS for wording in kind.at_length]
    brief = [_group(kind, wording, seed) for kind in KINDS for wording in kind.brief]
    return long, brief


def _group(kind: RequestKind, wording: str, seed: int) -> list[str]:
    random = Random(f"{seed} {wording}")
    return [full_prompt(wording, kind.text(random)) for _ in range(_PROMPTS)]


def _described(random: Random) -> str:
    aim = draw_aim(random)
    said = f"{random.choice(['Write a function that', 'I need a function that', 'A function that'])} {aim.said}."
    return f"{said}\nassert {aim.name}({aim.given}) == {aim.result}" if random.random() < 0.5 else said


def _begun(random: Random) -> str:
    aim, argument = draw_aim(random), random.choice(["items", "value", "data", "given"])
    shown = f"\n    >>> {aim.name}({aim.given})\n    {aim.result}\n    " if random.random() < 0.6 else ""
    return f'def {aim.name}({argument}):\n    """{aim.said[0].upper()}{aim.said[1:]}.{shown}"""'


def _wanted_of_a_table(random: Random) -> str:
    table = random.choice(["orders", "parts", "deliveries", "machines", "invoices"])
    column, values = random.choice(
        [("supplier", vocabulary.SUPPLIERS), ("product", vocabulary.PRODUCTS), ("material", vocabulary.MATERIALS)]
    )
    said = random.choice(
        [
            f"the number of rows for each {column}",
            f"all rows whose {column} is {random.choice(values)}, the newest first",
            f"the total amount where {column} is {random.choice(values)}",
            f"the {random.randint(3, 10)} rows with the largest amount",
            f"every {column} with more than {random.randint(2, 20)} rows",
        ]
    )
    return f"Table {table}(id, {column}, amount, date): {said}"


def _topic(random: Random) -> str:
    machine, product = random.choice(vocabulary.MACHINES), random.choice(vocabulary.PRODUCTS)
    return random.choice(
        [
            f"What a {product} is for",
            f"How to look after a {machine}",
            f"Why a {product} wears out",
            f"What to do before starting a {machine}",
            f"How to report a damaged {product}",
        ]
    )


def _problem(random: Random) -> str:
    family = random.choice(list(mathematics.FAMILIES.values()))
    return family(random).example(random)[0]


KINDS = (
    RequestKind(
        _described,
        (
            "Write a Python function for this.",
            "Write the Python function that is described.",
            "Implement it in Python.",
            "Write code that does what is asked.",
        ),
        (
            "Is this about numbers, texts or a table? Answer with one word.",
            "Write the name of the function alone, or none.",
            "Which type has the result: number, text, list or truth value?",
            "Classify the request as easy, medium or hard.",
        ),
    ),
    RequestKind(
        _begun,
        (
            "Complete the function.",
            "Finish the Python function.",
            "Write the body of this function.",
            "Fill in the missing code.",
        ),
        (
            "Write the name of its argument.",
            "Does it have an example? Answer yes or no.",
            "How many words are in its description?",
            "Which built-in function does the same? Answer with its name.",
            "Grade the description from 1 to 10.",
        ),
    ),
    RequestKind(
        _wanted_of_a_table,
        ("Write the SQL query.", "Answer with an SQL query.", "Write this as SQL.", "Write a query for the database."),
        (
            "Write the name of the table.",
            "Which column is meant? Answer with its name.",
            "Does it need a sum? Answer yes or no.",
            "Name the SQL keyword that it needs.",
            "Is it about one row or many? Answer one or many.",
        ),
    ),
    RequestKind(
        _topic,
        (
            "Explain it in two sentences.",
            "Explain this to a new colleague in a short paragraph.",
            "Write three short tips about it.",
            "Give a short checklist.",
        ),
        (
            "Which machine or part is named? Answer with one word.",
            "Is it a question of why, what or how? Answer with that word.",
            "Route it to maintenance, purchasing or safety.",
            "Sum it up in one word.",
            "Write a title of four words at most.",
            "Write a tip of six words at most.",
        ),
    ),
    RequestKind(
        _problem,
        (
            "Solve the problem step by step and end with #### and the result.",
            "Show every step. Put the result into \\boxed{}.",
            "Work it out line by line.",
            "Explain how you solve it, then give the result.",
        ),
        (
            "Give the final number, nothing else.",
            "Which unit has the result? Answer with one word.",
            "Write the result.",
            "Which kind of arithmetic does it need? Answer with one word.",
            "Write the numbers in it, separated by commas.",
            "Is it about time, money, length or a count?",
        ),
    ),
)
