"""Families over lists of words."""

from __future__ import annotations

from random import Random

from prompt2lora.training.synthetic import vocabulary
from prompt2lora.training.synthetic.drafts import ORDINALS, Draft, draw_separator, family, over_lists, whether


@family
def nth_item(random: Random) -> Draft:
    n = random.randrange(0, 3)
    place = ORDINALS[n]
    return over_lists(
        random,
        lambda items: items[n],
        f"Write the {place} item of the list.",
        f"Which item stands at the {place} place?",
        f"Take number {n + 1} of the list.",
    )


@family
def but_one(random: Random) -> Draft:
    n = random.randrange(2, 4)
    name = ("second to last", "third to last")[n - 2]
    return over_lists(random, lambda items: items[-n], f"Write the {name} item.", f"Give the {name} entry of the list.")


@family
def ends_of_list(random: Random) -> Draft:
    mark = random.choice([" ", "-", ", ", "+", " and "])
    return over_lists(
        random,
        lambda items: items[0] + mark + items[-1],
        f'Write the first and the last item, joined by "{mark.strip() or "a space"}".',
    )


@family
def swap_items(random: Random) -> Draft:
    return over_lists(
        random,
        lambda items: ", ".join([items[1], items[0], *items[2:]]),
        "Swap the first two items; write all with commas.",
        low=3,
        high=4,
    )


@family
def join_items(random: Random) -> Draft:
    mark, name = random.choice(
        [
            (" - ", "dashes"),
            ("+", "plus signs"),
            (" > ", "arrows (>)"),
            ("\n", "line breaks"),
            (" and ", 'the word "and"'),
            (":", "colons"),
        ]
    )
    return over_lists(
        random, mark.join, f"Write the items joined by {name}.", f"Put {name} between the items.", low=2, high=4
    )


@family
def shortest_item(random: Random) -> Draft:
    return over_lists(
        random,
        lambda items: min(items, key=len),
        "Write the shortest word of the list.",
        "Which word has the fewest letters?",
    )


@family
def item_by_letter(random: Random) -> Draft:
    separator = draw_separator(random)
    place, at = random.choice([("begins", 0), ("ends", -1)])
    letter = random.choice("abcdfghlmnprst" if at == 0 else "entrlyd")
    having = [word for word in vocabulary.WORDS if word[at] == letter]
    rest = [word for word in vocabulary.WORDS if word[at] != letter]

    def example(random: Random) -> tuple[str, str]:
        chosen = random.choice(having)
        items = [*random.sample(rest, random.randint(2, 4)), chosen]
        random.shuffle(items)
        return separator.join(items), chosen

    return Draft(
        (f"Which word {place} with {letter}?", f"Write the item that {place} with the letter {letter}."), example
    )


@family
def alphabetical(random: Random) -> Draft:
    pick, name = random.choice([(min, "first"), (max, "last")])
    return over_lists(
        random,
        pick,
        f"Write the word that comes {name} in the alphabet.",
        f"Which item is alphabetically {name}?",
        high=4,
    )


@family
def item_of_category(random: Random) -> Draft:
    separator = draw_separator(random)
    wanted, *others = random.sample(list(vocabulary.CATEGORIES), 3)

    def example(random: Random) -> tuple[str, str]:
        chosen = random.choice(vocabulary.CATEGORIES[wanted])
        items = [*(random.choice(vocabulary.CATEGORIES[other]) for other in others), chosen]
        random.shuffle(items)
        return separator.join(items), chosen

    return Draft(
        (f"Write the word for a kind of {wanted}.", f"Which of the words names {wanted}?", f"Pick the {wanted}."),
        example,
    )


@family
def category_of_word(random: Random) -> Draft:
    chosen = random.sample(list(vocabulary.CATEGORIES), random.randint(2, 4))

    def example(random: Random) -> tuple[str, str]:
        category = random.choice(chosen)
        return random.choice(vocabulary.CATEGORIES[category]), category

    return Draft((f"Is it {' or '.join(chosen)}?", f"Name the category: {', '.join(chosen)}."), example)


@family
def is_of_category(random: Random) -> Draft:
    wanted = random.choice(list(vocabulary.CATEGORIES))
    everything = [word for members in vocabulary.CATEGORIES.values() for word in members]
    return whether(
        random,
        f"is the word a kind of {wanted}",
        lambda random: random.choice(everything),
        lambda word: word in vocabulary.CATEGORIES[wanted],
    )
