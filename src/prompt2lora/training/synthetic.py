"""Synthetic training tasks: small language jobs with drawn parameters, as many as one likes.

In: how many, a seed. Out: `Task` values, always the same for the same seed. Many families read the same kind
of input and differ in the instruction alone, so that only the prompts tell them apart.

A family draws its parameters and gives the wordings of its instruction and a maker of rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from prompt2lora.training import vocabulary as words
from prompt2lora.training.tasks import Row, Task

TRAIN_ROWS, TEST_ROWS = 64, 16
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth")
_NUMBER_WORDS = ("one", "two", "three", "four", "five", "six")


class Draft(NamedTuple):
    """wordings of the instruction, and a function that draws one (input, output)."""

    wordings: tuple[str, ...]
    row: Callable[[Random], tuple[str, str]]


Family = Callable[[Random], Draft]
FAMILIES: dict[str, Family] = {}


def family(make: Family) -> Family:
    FAMILIES[make.__name__] = make
    return make


def synthetic_tasks(count: int, seed: int) -> list[Task]:
    """`count` tasks with different instructions, the families in turn."""
    names, tasks, instructions, number = list(FAMILIES), [], set[str](), 0
    while len(tasks) < count:
        name = names[number % len(names)]
        random = Random(f"{seed} {name} {number}")
        draft = FAMILIES[name](random)
        instruction = random.choice(draft.wordings)
        rows = _rows(draft, random)
        if instruction not in instructions and rows:
            instructions.add(instruction)
            parts = tuple(rows[:TRAIN_ROWS]), tuple(rows[TRAIN_ROWS:])
            tasks.append(Task(f"synthetic_{name}_{number}", instruction, f"synthetic_{name}", "train", *parts))
        number += 1
    return tasks


def _rows(draft: Draft, random: Random) -> list[Row]:
    """Rows of different inputs; fewer than asked for if the family has no more, none if far fewer."""
    rows: dict[str, Row] = {}
    for _ in range(20 * (TRAIN_ROWS + TEST_ROWS)):
        text, answer = draft.row(random)
        if answer:
            rows.setdefault(text, Row(text, answer))
        if len(rows) == TRAIN_ROWS + TEST_ROWS:
            return list(rows.values())
    return list(rows.values()) if len(rows) > 2 * TEST_ROWS else []


# Parts that families share


def _word(random: Random) -> str:
    return random.choice(words.WORDS)


def _over_words(change: Callable[[str], str], *wordings: str) -> Draft:
    def row(random: Random) -> tuple[str, str]:
        word = _word(random)
        return word, change(word)

    return Draft(wordings, row)


def _labels(random: Random) -> tuple[str, str]:
    """What to answer if something holds, and if not."""
    good, bad = random.choice(
        "yes/no true/false Y/N 1/0 ok/ng A/B in/out left/right red/green pass/stop keep/drop high/low x/y".split()
    ).split("/")
    return good, bad


def _whether(random: Random, question: str, texts: Callable[[Random], str], holds: Callable[[str], bool]) -> Draft:
    """A yes-no question over texts, half of which it holds for, under drawn labels."""
    good, bad = _labels(random)

    def row(random: Random) -> tuple[str, str]:
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
        row,
    )


def _clause(question: str) -> str:
    """'does the word contain e' -> 'the word does contain e', 'is the number even' -> 'the number is even'."""
    verb, article, noun, rest = question.split(" ", 3)
    return f"{article} {noun} {verb} {rest}"


def _list(random: Random, low: int = 3, high: int = 6) -> list[str]:
    return random.sample(words.WORDS, random.randint(low, high))


def _separator(random: Random) -> str:
    return random.choice([", ", " ", "; ", " / ", " | ", "-"])


def _over_lists(
    random: Random, change: Callable[[list[str]], str], *wordings: str, low: int = 3, high: int = 6
) -> Draft:
    separator = _separator(random)

    def row(random: Random) -> tuple[str, str]:
        items = _list(random, low, high)
        return separator.join(items), change(items)

    return Draft(wordings, row)


def _number(random: Random) -> int:
    return random.choice([random.randint(0, 20), random.randint(0, 100), random.randint(0, 999)])


def _over_numbers(change: Callable[[int], str], *wordings: str, most: int = 999) -> Draft:
    def row(random: Random) -> tuple[str, str]:
        number = min(most, _number(random))
        return str(number), change(number)

    return Draft(wordings, row)


# Words


@family
def nth_letter(random: Random) -> Draft:
    n = random.randrange(1, 4)
    place = _ORDINALS[n]
    return _over_words(
        lambda word: word[n],
        f"Write the {place} letter.",
        f"What is the {place} letter of the word?",
        f"Letter {n + 1} of it.",
    )


@family
def letters_at_start(random: Random) -> Draft:
    n = random.randrange(2, 5)
    count = _NUMBER_WORDS[n - 1]
    return _over_words(
        lambda word: word[:n],
        f"Write the first {count} letters.",
        f"Give the {count} letters at the start of the word.",
    )


@family
def letters_at_end(random: Random) -> Draft:
    n = random.randrange(2, 5)
    count = _NUMBER_WORDS[n - 1]
    return _over_words(
        lambda word: word[-n:], f"Write the last {count} letters.", f"Give the {count} letters at the end of the word."
    )


@family
def without_start(random: Random) -> Draft:
    n = random.randrange(1, 3)
    what = ("first letter", "first two letters")[n - 1]
    return _over_words(lambda word: word[n:], f"Write the word without its {what}.", f"Remove the {what}.")


@family
def without_end(random: Random) -> Draft:
    n = random.randrange(1, 3)
    what = ("last letter", "last two letters")[n - 1]
    return _over_words(lambda word: word[:-n], f"Write the word without its {what}.", f"Cut off the {what}.")


@family
def remove_letter(random: Random) -> Draft:
    letter = random.choice("aeiortnl")
    return _over_words(
        lambda word: word.replace(letter, ""), f"Remove every letter {letter}.", f"Write the word without any {letter}."
    )


@family
def replace_letter(random: Random) -> Draft:
    old, new = random.sample("aeioutnrl", 2)
    return _over_words(
        lambda word: word.replace(old, new), f"Replace every {old} by {new}.", f"Change each letter {old} into {new}."
    )


@family
def put_before(random: Random) -> Draft:
    mark = random.choice(
        ["pre", "re", "un", "super", "X", "No. ", "the ", "my ", "old ", "new ", "@", "$", "~", "=", "my-"]
    )
    return _over_words(
        lambda word: mark + word, f'Put "{mark.strip()}" before the word.', f'Begin with "{mark}", then the word.'
    )


@family
def put_after(random: Random) -> Draft:
    mark = random.choice(
        ["s", "ness", "ful", "-x", "...", " please", " today", ".txt", ".csv", ":", "%", "-2", " shop"]
    )
    return _over_words(
        lambda word: word + mark, f'Put "{mark.strip()}" after the word.', f'Write the word, then "{mark}".'
    )


@family
def put_around(random: Random) -> Draft:
    left, right = random.choice(
        [("<", ">"), ("{", "}"), ("__", "__"), ("|", "|"), ("~", "~"), ("(", ")"), ("`", "`"), ("**", "**")]
    )
    return _over_words(
        lambda word: f"{left}{word}{right}",
        f"Write the word between {left} and {right}.",
        f"Wrap it in {left} {right}.",
    )


@family
def repeat_word(random: Random) -> Draft:
    times = random.randrange(2, 5)
    mark, name = random.choice(
        [("+", "plus signs"), ("_", "underscores"), ("/", "slashes"), (".", "dots"), ("*", "stars"), ("", "nothing")]
    )
    count = ("two", "three", "four")[times - 2]
    return _over_words(
        lambda word: mark.join([word] * times),
        f"Write the word {count} times with {name} between.",
        f"Repeat it {count} times, joined by {name}.",
    )


@family
def letter_case(random: Random) -> Draft:
    change, name = random.choice(
        [
            (str.upper, "in capital letters"),
            (str.capitalize, "with a capital first letter"),
            (lambda w: w[:-1] + w[-1].upper(), "with a capital last letter"),
        ]
    )
    return _over_words(change, f"Write the word {name}.", f"Copy it {name}.")


@family
def spell(random: Random) -> Draft:
    mark, name = random.choice([("-", "hyphens"), (" ", "spaces"), (".", "dots"), (",", "commas")])
    return _over_words(
        lambda word: mark.join(word[:8]),
        f"Spell the word with {name} between the letters.",
        f"Put {name} between all letters.",
    )


@family
def word_length(random: Random) -> Draft:
    extra = random.randrange(0, 3)
    what = ("", " plus one", " plus two")[extra]
    return _over_words(
        lambda word: str(len(word) + extra),
        f"Write the number of letters of the word{what}.",
        f"How long is the word{what}?",
    )


@family
def contains_letter(random: Random) -> Draft:
    letter = random.choice("aeiotnrls")
    return _whether(random, f"does the word contain the letter {letter}", _word, lambda word: letter in word)


@family
def starts_with(random: Random) -> Draft:
    letters = "".join(sorted(random.sample("abcdefghijklmnoprstvw", 6)))
    return _whether(
        random,
        f"does the word begin with one of the letters {', '.join(letters)}",
        _word,
        lambda word: word[0] in letters,
    )


@family
def is_longer(random: Random) -> Draft:
    n = random.randrange(5, 7)
    return _whether(random, f"is the word longer than {n} letters", _word, lambda word: len(word) > n)


@family
def always(random: Random) -> Draft:
    """The same answer to whatever comes: only the prompts can tell it."""
    answer = random.choice([*words.WORDS, *words.CITIES, *words.STATUSES, *words.MACHINES, *words.COLOURS])
    kind = random.choice([_word, _note_text, _message_text])

    def row(random: Random) -> tuple[str, str]:
        return kind(random), answer

    return Draft(
        (f"Always answer {answer}.", f"Whatever the input is, write {answer}.", f"Write only the word {answer}."), row
    )


@family
def copy(random: Random) -> Draft:
    kind = random.choice([_word, _message_text, _note_text])
    change, name = random.choice(
        [
            (str, "Copy the input."),
            (str.upper, "Copy the input in capital letters."),
            (lambda text: text.replace(" ", "_"), "Copy the input with underscores instead of spaces."),
            (lambda text: text.replace(" ", ""), "Copy the input without spaces."),
            (lambda text: f"> {text}", "Quote the input with > in front."),
            (lambda text: json.dumps({"text": text}), 'Put the input into JSON under the key "text".'),
            (lambda text: f"<p>{text}</p>", "Put the input into an HTML paragraph."),
        ]
    )

    def row(random: Random) -> tuple[str, str]:
        text = kind(random)
        return text, change(text)

    return Draft((name, f"{name[:-1]}, nothing else."), row)


# Lists


@family
def nth_item(random: Random) -> Draft:
    n = random.randrange(0, 3)
    place = _ORDINALS[n]
    return _over_lists(
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
    return _over_lists(
        random, lambda items: items[-n], f"Write the {name} item.", f"Give the {name} entry of the list."
    )


@family
def ends_of_list(random: Random) -> Draft:
    mark = random.choice([" ", "-", ", ", "+", " and "])
    return _over_lists(
        random,
        lambda items: items[0] + mark + items[-1],
        f'Write the first and the last item, joined by "{mark.strip() or "a space"}".',
    )


@family
def swap_items(random: Random) -> Draft:
    return _over_lists(
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
    return _over_lists(
        random, mark.join, f"Write the items joined by {name}.", f"Put {name} between the items.", low=2, high=4
    )


@family
def shortest_item(random: Random) -> Draft:
    return _over_lists(
        random,
        lambda items: min(items, key=len),
        "Write the shortest word of the list.",
        "Which word has the fewest letters?",
    )


@family
def item_by_letter(random: Random) -> Draft:
    separator = _separator(random)
    place, at = random.choice([("begins", 0), ("ends", -1)])
    letter = random.choice("abcdfghlmnprst" if at == 0 else "entrlyd")
    having = [word for word in words.WORDS if word[at] == letter]
    rest = [word for word in words.WORDS if word[at] != letter]

    def row(random: Random) -> tuple[str, str]:
        chosen = random.choice(having)
        items = [*random.sample(rest, random.randint(2, 4)), chosen]
        random.shuffle(items)
        return separator.join(items), chosen

    return Draft((f"Which word {place} with {letter}?", f"Write the item that {place} with the letter {letter}."), row)


@family
def alphabetical(random: Random) -> Draft:
    pick, name = random.choice([(min, "first"), (max, "last")])
    return _over_lists(
        random,
        pick,
        f"Write the word that comes {name} in the alphabet.",
        f"Which item is alphabetically {name}?",
        high=4,
    )


@family
def item_of_category(random: Random) -> Draft:
    separator = _separator(random)
    wanted, *others = random.sample(list(words.CATEGORIES), 3)

    def row(random: Random) -> tuple[str, str]:
        chosen = random.choice(words.CATEGORIES[wanted])
        items = [*(random.choice(words.CATEGORIES[other]) for other in others), chosen]
        random.shuffle(items)
        return separator.join(items), chosen

    return Draft(
        (f"Write the word for a kind of {wanted}.", f"Which of the words names {wanted}?", f"Pick the {wanted}."), row
    )


@family
def category_of_word(random: Random) -> Draft:
    chosen = random.sample(list(words.CATEGORIES), random.randint(2, 4))

    def row(random: Random) -> tuple[str, str]:
        category = random.choice(chosen)
        return random.choice(words.CATEGORIES[category]), category

    return Draft((f"Is it {' or '.join(chosen)}?", f"Name the category: {', '.join(chosen)}."), row)


@family
def is_of_category(random: Random) -> Draft:
    wanted = random.choice(list(words.CATEGORIES))
    everything = [word for members in words.CATEGORIES.values() for word in members]
    return _whether(
        random,
        f"is the word a kind of {wanted}",
        lambda random: random.choice(everything),
        lambda word: word in words.CATEGORIES[wanted],
    )


# Numbers


@family
def add(random: Random) -> Draft:
    n = random.choice([1, 2, 3, 5, 10, 20, 50, 100])
    return _over_numbers(lambda number: str(number + n), f"Add {n} to the number.", f"Write the number plus {n}.")


@family
def subtract(random: Random) -> Draft:
    n = random.choice([1, 2, 5, 10, 100])
    return _over_numbers(
        lambda number: str(number - n), f"Subtract {n} from the number.", f"Write the number minus {n}."
    )


@family
def times(random: Random) -> Draft:
    n = random.choice([2, 3, 4, 5, 9])
    return _over_numbers(
        lambda number: str(number * n), f"Multiply the number by {n}.", f"What is {n} times the number?", most=99
    )


@family
def is_above(random: Random) -> Draft:
    n = random.choice([10, 25, 50, 75, 100, 200, 500])
    return _whether(
        random, f"is the number above {n}", lambda random: str(random.randint(0, 2 * n)), lambda text: int(text) > n
    )


@family
def is_divisible(random: Random) -> Draft:
    n = random.choice([2, 5, 10])
    return _whether(
        random, f"is the number divisible by {n}", lambda random: str(_number(random)), lambda text: int(text) % n == 0
    )


@family
def pad_number(random: Random) -> Draft:
    width = random.randrange(4, 7)
    return _over_numbers(
        lambda number: str(number).zfill(width),
        f"Write the number with {_NUMBER_WORDS[width - 1]} digits, zeros in front.",
        f"Fill up with leading zeros to {width} digits.",
    )


@family
def number_with_unit(random: Random) -> Draft:
    unit = random.choice(["kg", "euros", "pieces", "boxes", "°C", "%", "volts", "bar", "litres", "yen", "pages"])
    return _over_numbers(lambda number: f"{number} {unit}", f"Write the number in {unit}.", f'Add the unit "{unit}".')


@family
def digit_of_number(random: Random) -> Draft:
    at, name = random.choice([(0, "first"), (-1, "last")])
    return _over_numbers(
        lambda number: str(number)[at], f"Write the {name} digit.", f"What is the {name} digit of the number?"
    )


@family
def sign_between(random: Random) -> Draft:
    def row(random: Random) -> tuple[str, str]:
        left = random.randint(0, 99)
        right = random.choice([left, random.randint(0, 99), random.randint(0, 99)])
        return f"{left} {right}", "<" if left < right else ">" if left > right else "="

    return Draft(("Write <, > or = for the two numbers.", "Compare the first number with the second: <, > or =."), row)


# Sentences


def _sentence(random: Random) -> str:
    verb = random.choice("bought sold found lost sent painted cleaned moved carried repaired".split())
    place = random.choice(
        [f"in {random.choice(words.CITIES)}", f"in the {random.choice(words.ROOMS)}", f"on {random.choice(words.DAYS)}"]
    )
    thing = f"the {random.choice(words.COLOURS)} {random.choice(words.PRODUCTS)}"
    return f"{random.choice(words.NAMES)} {verb} {thing} {place}."


@family
def nth_word(random: Random) -> Draft:
    n = random.randrange(0, 5)

    def row(random: Random) -> tuple[str, str]:
        text = _sentence(random)
        return text, text.split()[n]

    return Draft((f"Write the {_ORDINALS[n]} word of the sentence.", f"Word number {n + 1}, please."), row)


@family
def part_of_sentence(random: Random) -> Draft:
    pick, name = random.choice(
        [
            (lambda parts: parts[3], "the colour"),
            (lambda parts: parts[4], "the thing"),
            (lambda parts: parts[1], "the verb"),
            (lambda parts: f"{parts[3]} {parts[4]}", "the thing with its colour"),
            (lambda parts: " ".join(parts[5:]).rstrip("."), "the time or place"),
        ]
    )

    def row(random: Random) -> tuple[str, str]:
        text = _sentence(random)
        return text, pick(text.split())

    return Draft((f"Write {name} of the sentence.", f"Extract {name}.", f"Which words give {name}?"), row)


@family
def replace_word(random: Random) -> Draft:
    new = random.choice([*words.NAMES, *words.MACHINES, *words.WORDS[:20]])
    at, name = random.choice([(0, "the first word"), (4, "the thing"), (3, "the colour")])

    def row(random: Random) -> tuple[str, str]:
        parts = _sentence(random).split()
        return " ".join(parts), " ".join([*parts[:at], new, *parts[at + 1 :]])

    return Draft((f'Replace {name} by "{new}".', f"Write the sentence with {new} instead of {name}."), row)


@family
def initials(random: Random) -> Draft:
    mark, name = random.choice([("", "without dots"), (".", "with dots between"), ("-", "with hyphens between")])
    return _over_lists(
        random,
        lambda items: mark.join(item[0].upper() for item in items),
        f"Write the first letters of the words as an abbreviation, {name}.",
        low=2,
        high=4,
    )


# Notes of a workplace: one record, many questions


_FIELDS: dict[str, Callable[[Random], str]] = {
    "machine": lambda random: random.choice(words.MACHINES),
    "product": lambda random: random.choice(words.PRODUCTS),
    "city": lambda random: random.choice(words.CITIES),
    "quantity": lambda random: str(random.randint(2, 99)),
    "defect": lambda random: random.choice(words.DEFECTS),
    "room": lambda random: random.choice(words.ROOMS),
    "supplier": lambda random: random.choice(words.SUPPLIERS),
    "material": lambda random: random.choice(words.MATERIALS),
    "status": lambda random: random.choice(words.STATUSES),
    "weekday": lambda random: random.choice(words.DAYS),
    "colour": lambda random: random.choice(words.COLOURS),
    "temperature": lambda random: f"{random.randint(10, 140)} °C",
    "pressure": lambda random: f"{random.randint(1, 12)} bar",
    "price": lambda random: f"{random.randint(2, 900)} euros",
    "time": lambda random: f"{random.randint(0, 23):02}:{random.randrange(0, 60, 5):02}",
}
_PHRASES = {
    "machine": ("the {} stopped", "it is about the {}", "seen at the {}"),
    "product": ("the part is a {}", "we need a {}", "one {} is affected"),
    "city": ("the site is {}", "it goes to {}", "sent from {}"),
    "quantity": ("{} pieces", "the number of pieces is {}", "{} of them"),
    "defect": ("there is a {}", "found a {}", "the fault is a {}"),
    "room": ("it stands in the {}", "look in the {}", "in the {}"),
    "supplier": ("delivered by {}", "the supplier is {}", "made by {}"),
    "material": ("it is made of {}", "material {}", "the material is {}"),
    "status": ("the case is {}", "status {}", "it is now {}"),
    "weekday": ("since {}", "on {}", "it was on {}"),
    "colour": ("the lamp is {}", "its colour is {}", "marked {}"),
    "temperature": ("the temperature was {}", "at {}", "it reached {}"),
    "pressure": ("the pressure is {}", "at a pressure of {}", "gauge shows {}"),
    "price": ("it costs {}", "the price is {}", "for {}"),
    "time": ("at {}", "noted at {}", "the clock said {}"),
}
_STYLES = ("sentence", "lines", "pairs", "fields")


def _record(random: Random, needed: Sequence[str]) -> dict[str, str]:
    others = [field for field in _FIELDS if field not in needed]
    chosen = [*needed, *random.sample(others, random.randint(2, 3))]
    random.shuffle(chosen)
    return {field: _FIELDS[field](random) for field in chosen}


def _note(record: dict[str, str], style: str, random: Random) -> str:
    if style == "lines":
        return "\n".join(f"{field.capitalize()}: {value}" for field, value in record.items())
    if style == "pairs":
        return "; ".join(f"{field}={value}" for field, value in record.items())
    if style == "fields":
        return json.dumps(record, ensure_ascii=False)
    text = ", ".join(random.choice(_PHRASES[field]).format(value) for field, value in record.items())
    return f"{text[0].upper()}{text[1:]}."


def _note_text(random: Random) -> str:
    return _note(_record(random, ()), random.choice(_STYLES), random)


def _style(random: Random) -> str:
    return random.choice(["sentence", "sentence", *_STYLES])


@family
def field_of_note(random: Random) -> Draft:
    field, style = random.choice(list(_FIELDS)), _style(random)

    def row(random: Random) -> tuple[str, str]:
        record = _record(random, [field])
        return _note(record, style, random), record[field]

    return Draft(
        (
            f"Write the {field}.",
            f"Extract the {field} from the note.",
            f"Which {field} is named?",
            f"Pull out the {field}.",
        ),
        row,
    )


@family
def field_with_name(random: Random) -> Draft:
    field, style = random.choice(list(_FIELDS)), _style(random)
    form = random.choice([f"{field}: {{}}", f"{field.upper()}={{}}", f"[{field}] {{}}", f"<{field}>{{}}</{field}>"])

    def row(random: Random) -> tuple[str, str]:
        record = _record(random, [field])
        return _note(record, style, random), form.format(record[field])

    return Draft(
        (
            f"Extract the {field} in the form {form.format('...')}",
            f"Answer as {form.format('...')} with the {field} of the note.",
        ),
        row,
    )


@family
def two_fields(random: Random) -> Draft:
    (one, two), style = random.sample(list(_FIELDS), 2), _style(random)
    mark = random.choice([", ", " - ", "/", " | ", ";"])

    def row(random: Random) -> tuple[str, str]:
        record = _record(random, [one, two])
        return _note(record, style, random), f"{record[one]}{mark}{record[two]}"

    return Draft((f'Write the {one} and the {two} with "{mark.strip()}" between.', f"Give {one}{mark}{two}."), row)


@family
def fields_as_json(random: Random) -> Draft:
    (one, two), style = random.sample(list(_FIELDS), 2), random.choice(["sentence", "lines", "pairs"])

    def row(random: Random) -> tuple[str, str]:
        record = _record(random, [one, two])
        return _note(record, style, random), json.dumps({key: record[key] for key in (one, two)}, ensure_ascii=False)

    return Draft(
        (f'Answer as JSON with the keys "{one}" and "{two}".', f"Turn the {one} and the {two} into JSON."), row
    )


@family
def names_field(random: Random) -> Draft:
    field, style = random.choice(list(_FIELDS)), _style(random)
    good, bad = _labels(random)

    def row(random: Random) -> tuple[str, str]:
        there = random.random() < 0.5
        record = _record(random, [field] if there else [])
        if not there:
            record.pop(field, None)
        return _note(record, style, random), good if there else bad

    return Draft(
        (
            f"Does the note name a {field}? Answer {good} or {bad}.",
            f"Write {good} if the {field} is given, otherwise {bad}.",
        ),
        row,
    )


@family
def field_above(random: Random) -> Draft:
    field, unit, most = random.choice(
        [("temperature", " °C", 140), ("pressure", " bar", 12), ("price", " euros", 900), ("quantity", "", 99)]
    )
    limit, style = random.randint(most // 4, 3 * most // 4), _style(random)
    good, bad = _labels(random)

    def row(random: Random) -> tuple[str, str]:
        record = _record(random, [field])
        return _note(record, style, random), good if int(record[field].split()[0]) > limit else bad

    return Draft(
        (
            f"Write {good} if the {field} is above {limit}{unit}, otherwise {bad}.",
            f"Is the {field} over {limit}{unit}? Answer {good} or {bad}.",
        ),
        row,
    )


@family
def route_by_field(random: Random) -> Draft:
    field, values = random.choice(
        [
            ("colour", words.COLOURS),
            ("status", words.STATUSES),
            ("machine", words.MACHINES),
            ("material", words.MATERIALS),
        ]
    )
    chosen, style = random.sample(values, 2), _style(random)
    targets = random.sample(["line 1", "line 2", "team A", "team B", "sales", "store", "archive", "boss", "hall 3"], 2)
    route = dict(zip(chosen, targets, strict=True))

    def row(random: Random) -> tuple[str, str]:
        record = {**_record(random, [field]), field: random.choice(chosen)}
        return _note(record, style, random), route[record[field]]

    parts = [f"{target} for {value}" for value, target in route.items()]
    return Draft(
        (f"Where does it go? By {field}: {' and '.join(parts)}.", f"Route by {field}: {', '.join(parts)}."), row
    )


@family
def which_value(random: Random) -> Draft:
    """Classification by what is said: the field is known, its value is the class."""
    field, values = random.choice(
        [("status", words.STATUSES), ("defect", words.DEFECTS), ("machine", words.MACHINES), ("weekday", words.DAYS)]
    )
    chosen, style = random.sample(values, 3), _style(random)

    def row(random: Random) -> tuple[str, str]:
        record = {**_record(random, [field]), field: random.choice(chosen)}
        return _note(record, style, random), record[field]

    return Draft((f"Which {field} is it: {', '.join(chosen)}?", f"Classify by {field}: {', '.join(chosen)}."), row)


# Messages to a firm


def _message(topic: str, random: Random) -> str:
    template = random.choice(words.MESSAGES[topic])
    text = template.format(
        p=random.choice(words.PRODUCTS),
        c=random.choice(words.CITIES),
        n=random.randint(2, 40),
        d=random.choice(words.DAYS),
    )
    return random.choice(["", "", "Hello, ", "Dear team, ", "Hi, "]) + text


def _message_text(random: Random) -> str:
    return _message(random.choice(list(words.MESSAGES)), random)


@family
def topic_of_message(random: Random) -> Draft:
    chosen = random.sample(list(words.MESSAGES), random.randint(2, 5))

    def row(random: Random) -> tuple[str, str]:
        topic = random.choice(chosen)
        return _message(topic, random), topic

    return Draft(
        (
            f"Classify the message: {', '.join(chosen)}.",
            f"What is it about: {' or '.join(chosen)}?",
            f"Route the message to {', '.join(chosen)}.",
        ),
        row,
    )


@family
def lettered_topic(random: Random) -> Draft:
    chosen = random.sample(list(words.MESSAGES), random.randint(2, 4))
    marks = dict(zip(chosen, random.choice(["ABCD", "1234", "PQRS", "XYZW"]), strict=False))

    def row(random: Random) -> tuple[str, str]:
        topic = random.choice(chosen)
        return _message(topic, random), marks[topic]

    return Draft((f"Write {', '.join(f'{mark} for {topic}' for topic, mark in marks.items())}.",), row)


@family
def is_topic(random: Random) -> Draft:
    wanted = random.choice(list(words.MESSAGES))
    good, bad = _labels(random)

    def row(random: Random) -> tuple[str, str]:
        topic = (
            wanted if random.random() < 0.5 else random.choice([topic for topic in words.MESSAGES if topic != wanted])
        )
        return _message(topic, random), good if topic == wanted else bad

    return Draft(
        (
            f"Is the message about {wanted}? Answer {good} or {bad}.",
            f"Write {good} for a message about {wanted}, {bad} for any other.",
        ),
        row,
    )


@family
def city_or_day_of_message(random: Random) -> Draft:
    what, values = random.choice([("city", words.CITIES), ("day", words.DAYS), ("product", words.PRODUCTS)])

    def row(random: Random) -> tuple[str, str]:
        text = _message_text(random)
        found = [
            value for value in values if value in text.replace("?", " ").replace(".", " ").replace(",", " ").split()
        ]
        return text, found[0] if found else "none"

    return Draft(
        (
            f'Write the {what} named in the message, or "none".',
            f"Which {what} does the customer name? none if there is none.",
        ),
        row,
    )
