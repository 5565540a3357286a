"""Arithmetic and word problems in English, with worked steps and without: what GSM8K asks for, in our own words.

In: a random generator. Out: drafts, in a registry of their own, from which a recipe draws only if its `languages` name
"en-mathematics". Nothing here is made from a published problem.
"""

from __future__ import annotations

from fractions import Fraction
from random import Random

from prompt2lora.training.synthetic.problems import Problem, Wordings, draw_with_mean, registry

_NAMES = ("Ada", "Ben", "Chloe", "Dev", "Emil", "Fay", "Goran", "Hana", "Ivo", "Jun", "Kofi", "Lena", "Mira", "Noor")
_GOODS = ("bolts", "pens", "apples", "filters", "tickets", "labels", "cups", "boards", "lamps", "gaskets", "stamps")
_MACHINES = ("press", "lathe", "printer", "oven", "saw", "pump", "packing line", "labeller")
_WORDINGS = Wordings(
    (
        "Solve the problem. Write the number alone.",
        "What is the result? Answer with nothing but the number.",
        "Work it out and give only the final number.",
        "Answer the word problem with a number, without steps.",
    ),
    (
        "Solve the problem step by step, one step a line, and end with {}.",
        "Show every step. The last line gives the result as {}.",
        "Work it out line by line; finish with {}.",
    ),
    "N",
)
FAMILIES, family = registry("mathematics", _WORDINGS)


@family
def shopping(random: Random) -> Problem:
    (one, other), name = random.sample(_GOODS, 2), random.choice(_NAMES)
    count, price, more, dearer = (random.randint(2, 12) for _ in range(4))
    first, second = count * price, more * dearer
    asked = random.choice(["How many euros does {} pay?", "What does {} pay in euros?", "How much is that for {}?"])
    return Problem(
        f"{name} buys {count} {one} at {price} euros each and {more} {other} at {dearer} euros each. "
        f"{asked.format(name)}",
        (
            f"{one}: {count} * {price} = {first}",
            f"{other}: {more} * {dearer} = {second}",
            f"together: {first} + {second} = {first + second}",
        ),
        str(first + second),
    )


@family
def change_of_a_note(random: Random) -> Problem:
    name, goods = random.choice(_NAMES), random.choice(_GOODS)
    count, price = random.randint(2, 9), random.randint(2, 9)
    paid = random.choice([note for note in (10, 20, 50, 100) if note > count * price])
    return Problem(
        f"{name} takes {count} {goods} for {price} euros each and pays with a {paid}-euro note. "
        "How many euros come back?",
        (f"price: {count} * {price} = {count * price}", f"change: {paid} - {count * price} = {paid - count * price}"),
        str(paid - count * price),
    )


@family
def boxes_left(random: Random) -> Problem:
    goods, boxes, each = random.choice(_GOODS), random.randint(3, 15), random.randint(4, 20)
    gone = random.randint(1, boxes * each - 1)
    return Problem(
        f"A store has {boxes} boxes with {each} {goods} in each. It sells {gone} {goods}. How many {goods} are left?",
        (f"at first: {boxes} * {each} = {boxes * each}", f"left: {boxes * each} - {gone} = {boxes * each - gone}"),
        str(boxes * each - gone),
    )


@family
def shared_equally(random: Random) -> Problem:
    people, each, extra = random.randint(2, 9), random.randint(2, 15), random.randint(1, 20)
    name, goods = random.choice(_NAMES), random.choice(_GOODS)
    total = people * each + extra
    return Problem(
        f"{name} has {total} {goods}, keeps {extra} and shares the rest equally among {people} people. "
        f"How many {goods} does each of them get?",
        (f"to share: {total} - {extra} = {total - extra}", f"each: {total - extra} / {people} = {each}"),
        str(each),
    )


@family
def two_rates(random: Random) -> Problem:
    slow, fast = random.sample(_MACHINES, 2)
    rate, more, hours = random.randint(3, 30), random.randint(3, 30), random.randint(2, 9)
    return Problem(
        f"The {slow} makes {rate} parts an hour and the {fast} {more} more than that. Both run for {hours} hours. "
        "How many parts do they make together?",
        (
            f"{fast}: {rate} + {more} = {rate + more} an hour",
            f"both: {rate} + {rate + more} = {2 * rate + more} an hour",
            f"in {hours} hours: {2 * rate + more} * {hours} = {(2 * rate + more) * hours}",
        ),
        str((2 * rate + more) * hours),
    )


@family
def reduced_price(random: Random) -> Problem:
    percent, price = random.choice([5, 10, 20, 25, 30, 40, 50]), random.randint(2, 30) * 20
    less = price * percent // 100
    return Problem(
        f"A tool costs {price} euros. Its price is cut by {percent} %. What does it cost now?",
        (f"cut: {price} * {percent} / 100 = {less}", f"now: {price} - {less} = {price - less}"),
        str(price - less),
    )


@family
def times_as_many(random: Random) -> Problem:
    (one, other), goods = random.sample(_NAMES, 2), random.choice(_GOODS)
    count, times, less = random.randint(5, 25), random.randint(2, 5), random.randint(1, 4)
    more = count * times - less
    return Problem(
        f"{one} has {count} {goods}. {other} has {less} fewer than {times} times as many. How many do both have?",
        (
            f"{other}: {times} * {count} - {less} = {more}",
            f"both: {count} + {more} = {count + more}",
        ),
        str(count + more),
    )


@family
def average_of_days(random: Random) -> Problem:
    values, mean = draw_with_mean(random)
    days = len(values)
    listed = ", ".join(map(str, values))
    return Problem(
        f"On {days} days these numbers of orders came in: {listed}. How many is that a day on average?",
        (f"sum: {' + '.join(map(str, values))} = {sum(values)}", f"average: {sum(values)} / {days} = {mean}"),
        str(mean),
    )


@family
def term_with_brackets(random: Random) -> Problem:
    a, b, c, d = (random.randint(2, 20) for _ in range(4))
    return Problem(
        f"({a} + {b}) * {c} - {d}",
        (f"{a} + {b} = {a + b}", f"{a + b} * {c} = {(a + b) * c}", f"{(a + b) * c} - {d} = {(a + b) * c - d}"),
        str((a + b) * c - d),
    )


@family
def sum_of_fractions(random: Random) -> Problem:
    left, right = (Fraction(random.randint(1, 5), random.randint(2, 9)) for _ in range(2))
    common, total = left.denominator * right.denominator, left + right
    first, second = left.numerator * right.denominator, right.numerator * left.denominator
    over = first + second
    return Problem(
        f"{left} + {right}",
        (
            f"over {common}: {first}/{common} + {second}/{common} = {over}/{common}",
            f"reduced: {over}/{common} = {total}",
        ),
        str(total),
    )


@family
def unknown_in_an_equation(random: Random) -> Problem:
    x, factor, more = random.randint(2, 20), random.randint(2, 9), random.randint(1, 30)
    total = factor * x + more
    return Problem(
        f"{factor} * x + {more} = {total}. What is x?",
        (f"{factor} * x = {total} - {more} = {total - more}", f"x = {total - more} / {factor} = {x}"),
        str(x),
    )
