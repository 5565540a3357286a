"""Jobs whose answers run to lines, and short jobs on the same texts: prompts alone, for nothing is trained on them.

In: a seed. Out: groups of prompts, of programs, queries, explanations, letters and worked problems, in English and
Japanese. None is taken from a published problem.
"""

from __future__ import annotations

from functools import partial
from random import Random

from prompt2lora.ground.prompts import full_prompt
from prompt2lora.training.synthetic import mathematics, vocabulary
from prompt2lora.training.synthetic.aims import draw_aim
from prompt2lora.training.synthetic.drafts import RequestKind, text_of_any
from prompt2lora.training.synthetic.japanese import requests as japanese_requests
from prompt2lora.training.synthetic.messages import message_text

_PROMPTS = 8  # of every job


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


def _function(random: Random) -> str:
    argument, n = random.choice(["items", "value", "data", "given"]), random.randint(2, 9)
    name = random.choice(["work_out", "choose", "reduced", "check_all", "measure", "prepare"])
    body = random.choice(
        [
            f"    return [one for one in {argument} if one > {n}]",
            f"    total = 0\n    for one in {argument}:\n        total += one * {n}\n    return total",
            f"    return sorted({argument})[:{n}]",
            f"    if not {argument}:\n        return None\n    return {argument}[0]",
            f"    seen = set()\n    for one in {argument}:\n        seen.add(one % {n})\n    return len(seen)",
            f"    return {argument}.strip().lower().split()[-{n}:]",
        ]
    )
    return f"def {name}({argument}):\n{body}"


def _exercise(random: Random) -> str:
    a, b, c, n = random.randint(2, 9), random.randint(2, 12), random.randint(13, 60), random.randint(3, 8)
    return random.choice(
        [
            f"Let $f(x) = {a}x^2 - {b}x + {c}$. What is $f({n})$?",
            f"Find the remainder when ${a}^{{{c}}}$ is divided by ${b}$.",
            f"How many positive divisors does ${a * b * c}$ have?",
            f"The sides of a right triangle next to its right angle are ${a}$ and ${b}$. Find its area.",
            f"Solve for $x$: $\\frac{{x + {a}}}{{{b}}} = {n}$.",
            f"In how many ways can {n} books be put on a shelf if two of them must stand side by side?",
            f"An arithmetic sequence has $a_1 = {a}$ and $d = {b}$. Compute the sum of its first ${n}$ terms.",
            f"Simplify $\\sqrt{{{a * a * b}}} + {n}\\sqrt{{{b}}}$.",
        ]
    )


def _article(random: Random) -> str:
    made_of, colour = random.choice(vocabulary.MATERIALS), random.choice(vocabulary.COLOURS)
    product, price = random.choice(vocabulary.PRODUCTS), random.randint(5, 900)
    return f"{product}, {made_of}, {colour}, {price} euros, made by {random.choice(vocabulary.SUPPLIERS)}"


_KINDS = (
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
        partial(text_of_any, mathematics.FAMILIES),
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
    RequestKind(
        _function,
        (
            "Write a unit test for this function.",
            "Explain line by line what the code does.",
            "Add a docstring and comments to the code.",
            "Translate the function into JavaScript.",
        ),
        (
            "Write the name of the function.",
            "How many lines has the function?",
            "Is there a loop? Answer yes or no.",
            "What type does it return? Answer with one word.",
            "Write the largest number in the code.",
        ),
    ),
    RequestKind(
        message_text,
        (
            "Write a polite reply to the customer.",
            "Draft the e-mail that answers this message.",
            "Answer the message in three or four friendly sentences.",
            "Write a letter that apologises and says what happens next.",
        ),
        (
            "Route it to sales, support or accounting.",
            "Is it a question, a complaint or thanks?",
            "Write a subject line of four words at most.",
            "How urgent is it, from 1 to 5?",
            "Does it need an answer? Write yes or no.",
            "Write which day is named, or none.",
        ),
    ),
    RequestKind(
        _exercise,
        (
            "Solve the exercise, show your steps and box the result.",
            "Give a full solution that a pupil can follow.",
            "Derive the answer step by step. The last line is \\boxed{} with the result in it.",
            "Reason it through in writing before you give the result.",
        ),
        (
            "Give the result alone.",
            "Is it algebra, geometry, counting or number theory? Answer with one word.",
            "Write the largest number in the exercise.",
            "Is the result a whole number? Answer yes or no.",
            "Is a variable named? Write it, or none.",
        ),
    ),
    RequestKind(
        _article,
        (
            "Write a product description for the web shop.",
            "Write a short advertisement for it.",
            "List its advantages and disadvantages.",
            "Write a note on how to handle and store it safely.",
        ),
        (
            "Write what it is made of.",
            "Write its price as a number.",
            "Who made it? Answer with the name.",
            "Is it a tool, a part or a device?",
            "Write a slogan of three words.",
        ),
    ),
)
KINDS = (*_KINDS, *japanese_requests.KINDS)
