"""Families over sentences of a fixed order: who did what to which thing where."""

from __future__ import annotations

from random import Random

from prompt2lora.training.synthetic import vocabulary
from prompt2lora.training.synthetic.drafts import ORDINALS, Draft, family, over_lists


def _sentence(random: Random) -> str:
    verb = random.choice(vocabulary.VERBS)
    place = random.choice(
        [
            f"in {random.choice(vocabulary.CITIES)}",
            f"in the {random.choice(vocabulary.ROOMS)}",
            f"on {random.choice(vocabulary.DAYS)}",
        ]
    )
    thing = f"the {random.choice(vocabulary.COLOURS)} {random.choice(vocabulary.PRODUCTS)}"
    return f"{random.choice(vocabulary.NAMES)} {verb} {thing} {place}."


@family
def nth_word(random: Random) -> Draft:
    n = random.randrange(0, 5)

    def example(random: Random) -> tuple[str, str]:
        text = _sentence(random)
        return text, text.split()[n]

    return Draft((f"Write the {ORDINALS[n]} word of the sentence.", f"Word number {n + 1}, please."), example)


@family
def part_of_sentence(random: Random) -> Draft:
    begin, end, name = random.choice(
        [
            (3, 4, "the colour"),
            (4, 5, "the thing"),
            (1, 2, "the verb"),
            (3, 5, "the thing with its colour"),
            (5, None, "the time or place"),
        ]
    )

    def example(random: Random) -> tuple[str, str]:
        text = _sentence(random)
        return text, " ".join(text.split()[begin:end]).rstrip(".")

    return Draft((f"Write {name} of the sentence.", f"Extract {name}.", f"Which words give {name}?"), example)


@family
def replace_word(random: Random) -> Draft:
    new = random.choice([*vocabulary.NAMES, *vocabulary.MACHINES, *vocabulary.WORDS[:20]])
    at, name = random.choice([(0, "the first word"), (4, "the thing"), (3, "the colour")])

    def example(random: Random) -> tuple[str, str]:
        parts = _sentence(random).split()
        return " ".join(parts), " ".join([*parts[:at], new, *parts[at + 1 :]])

    return Draft((f'Replace {name} by "{new}".', f"Write the sentence with {new} instead of {name}."), example)


@family
def initials(random: Random) -> Draft:
    mark, name = random.choice([("", "without dots"), (".", "with dots between"), ("-", "with hyphens between")])
    return over_lists(
        random,
        lambda items: mark.join(item[0].upper() for item in items),
        f"Write the first letters of the words as an abbreviation, {name}.",
        low=2,
        high=4,
    )
