"""Families over numbers."""

from __future__ import annotations

from random import Random

from prompt2lora.training.synthetic.drafts import NUMBER_WORDS, Draft, draw_number, family, over_numbers, whether


@family
def add(random: Random) -> Draft:
    n = random.choice([1, 2, 3, 5, 10, 20, 50, 100])
    return over_numbers(lambda number: str(number + n), f"Add {n} to the number.", f"Write the number plus {n}.")


@family
def subtract(random: Random) -> Draft:
    n = random.choice([1, 2, 5, 10, 100])
    return over_numbers(
        lambda number: str(number - n), f"Subtract {n} from the number.", f"Write the number minus {n}."
    )


@family
def times(random: Random) -> Draft:
    n = random.choice([2, 3, 4, 5, 9])
    return over_numbers(
        lambda number: str(number * n), f"Multiply the number by {n}.", f"What is {n} times the number?", most=99
    )


@family
def is_above(random: Random) -> Draft:
    n = random.choice([10, 25, 50, 75, 100, 200, 500])
    return whether(
        random, f"is the number above {n}", lambda random: str(random.randint(0, 2 * n)), lambda text: int(text) > n
    )


@family
def is_divisible(random: Random) -> Draft:
    n = random.choice([2, 5, 10])
    return whether(
        random,
        f"is the number divisible by {n}",
        lambda random: str(draw_number(random)),
        lambda text: int(text) % n == 0,
    )


@family
def pad_number(random: Random) -> Draft:
    width = random.randrange(4, 7)
    return over_numbers(
        lambda number: str(number).zfill(width),
        f"Write the number with {NUMBER_WORDS[width - 1]} digits, zeros in front.",
        f"Fill up with leading zeros to {width} digits.",
    )


@family
def number_with_unit(random: Random) -> Draft:
    unit = random.choice(["kg", "euros", "pieces", "boxes", "°C", "%", "volts", "bar", "litres", "yen", "pages"])
    return over_numbers(lambda number: f"{number} {unit}", f"Write the number in {unit}.", f'Add the unit "{unit}".')


@family
def digit_of_number(random: Random) -> Draft:
    at, name = random.choice([(0, "first"), (-1, "last")])
    return over_numbers(
        lambda number: str(number)[at], f"Write the {name} digit.", f"What is the {name} digit of the number?"
    )


@family
def sign_between(random: Random) -> Draft:
    def example(random: Random) -> tuple[str, str]:
        left = random.randint(0, 99)
        right = random.choice([left, random.randint(0, 99), random.randint(0, 99)])
        return f"{left} {right}", "<" if left < right else ">" if left > right else "="

    return Draft(
        ("Write <, > or = for the two numbers.", "Compare the first number with the second: <, > or =."), example
    )
