"""Kinds of input, and what one may point at in them: the ground that composed tasks stand on.

A kind draws an input with named parts; `parts` says in words what each is. Left out on purpose are the parts that
a held-out dev task asks for (the last field of a line, the digits of a code, the user of an e-mail address, the longest
word, the smaller of two numbers, who did the work).
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from prompt2lora.training.synthetic import vocabulary
from prompt2lora.training.synthetic.drafts import ORDINALS, draw_word


class Material(NamedTuple):
    """text   what the model is asked on
    parts  the names of its parts -> their texts; the names are the kind's, the same for every draw
    """

    text: str
    parts: dict[str, str]


Kind = Callable[[Random], Callable[[Random], Material]]
KINDS: dict[str, Kind] = {}


def kind(make: Kind) -> Kind:
    KINDS[make.__name__] = make
    return make


def some_code(random: Random) -> str:
    letters = "".join(random.choices("ABCDEFGHJKLMNPRSTUVWXYZ", k=random.randint(1, 3)))
    return f"{letters}{random.choice(['-', '-', '', '/'])}{random.randint(10, 9999)}"


@kind
def word(random: Random) -> Callable[[Random], Material]:
    def draw(random: Random) -> Material:
        text = draw_word(random)
        return Material(text, {"the word": text})

    return draw


@kind
def words(random: Random) -> Callable[[Random], Material]:
    count, separator = random.randint(3, 6), random.choice([", ", " ", "; ", " / ", " | ", "-", "\n", " > "])

    def draw(random: Random) -> Material:
        items = random.sample(vocabulary.EVERY_WORD, count)
        parts = {f"the {ORDINALS[i]} word": item for i, item in enumerate(items)}
        parts |= {"the last word": items[-1], "the word before the last": items[-2]}
        parts |= {"the shortest word": min(items, key=len), "the alphabetically first word": min(items)}
        return Material(separator.join(items), parts)

    return draw


@kind
def numbers(random: Random) -> Callable[[Random], Material]:
    count, most = random.randint(3, 6), random.choice([9, 99, 999])
    form = random.choice(["{}", "[{}]", "({})", "values: {}"])
    separator = random.choice([", ", " ", "; ", " | "])

    def draw(random: Random) -> Material:
        items = random.sample(range(most + 1), count)
        parts = {f"the {ORDINALS[i]} number": str(item) for i, item in enumerate(items)}
        parts |= {"the last number": str(items[-1]), "the largest number": str(max(items))}
        return Material(form.format(separator.join(map(str, items))), parts)

    return draw


@kind
def sentence(random: Random) -> Callable[[Random], Material]:
    def draw(random: Random) -> Material:
        who, verb, thing, place = (
            random.choice(vocabulary.NAMES),
            random.choice(vocabulary.VERBS),
            random.choice(vocabulary.PRODUCTS),
            random.choice(vocabulary.ROOMS),
        )
        colour, day = random.choice(vocabulary.COLOURS), random.choice(vocabulary.DAYS)
        text = random.choice(
            [
                f"{who} {verb} the {colour} {thing} in the {place} on {day}.",
                f"On {day} {who} {verb} the {colour} {thing} in the {place}.",
                f"In the {place}, {who} {verb} the {colour} {thing} on {day}.",
            ]
        )
        parts = {"the verb": verb, "the thing": thing, "the room": place, "the colour": colour, "the weekday": day}
        return Material(text, parts)

    return draw


@kind
def line(random: Random) -> Callable[[Random], Material]:
    """A line of a table: fields in a fixed order, of which only the middle ones and the first are asked for."""
    fields = random.sample(list(_COLUMNS), random.randint(4, 5))
    separator = random.choice([",", ";", "\t", " | ", ", "])

    def draw(random: Random) -> Material:
        values = {field: _COLUMNS[field](random) for field in fields}
        parts = {f"the {field}": values[field] for field in fields[:-1]}
        parts |= {f"the {ORDINALS[i]} field": values[field] for i, field in enumerate(fields[:-1])}
        return Material(separator.join(values.values()), parts)

    return draw


_COLUMNS: dict[str, Callable[[Random], str]] = {
    "part code": some_code,
    "product": lambda random: random.choice(vocabulary.PRODUCTS),
    "city": lambda random: random.choice(vocabulary.CITIES),
    "material": lambda random: random.choice(vocabulary.MATERIALS),
    "state": lambda random: random.choice(vocabulary.STATUSES),
    "colour": lambda random: random.choice(vocabulary.COLOURS),
    "quantity": lambda random: str(random.randint(1, 500)),
    "machine": lambda random: random.choice(vocabulary.MACHINES),
    "day": lambda random: random.choice(vocabulary.DAYS),
    "supplier": lambda random: random.choice(vocabulary.SUPPLIERS),
}


@kind
def pairs(random: Random) -> Callable[[Random], Material]:
    """Keys and values in any order."""
    fields = random.sample(list(_COLUMNS), 3)
    form, separator = random.choice(
        [("{}: {}", "\n"), ("{}={}", " "), ("{}: {}", "; "), ("{} -> {}", ", "), ("<{0}>{1}</{0}>", ""), ("{}={}", "&")]
    )

    def draw(random: Random) -> Material:
        values = [(field, _COLUMNS[field](random)) for field in fields]
        random.shuffle(values)
        text = separator.join(form.format(field.replace(" ", "_"), value) for field, value in values)
        return Material(text, {f"the {field}": value for field, value in values})

    return draw


@kind
def person(random: Random) -> Callable[[Random], Material]:
    form = random.choice(["{first} {last}", "{last}, {first}", "{first} {middle} {last}"])

    def draw(random: Random) -> Material:
        first, middle = random.sample(vocabulary.NAMES, 2)
        last = random.choice(vocabulary.SURNAMES)
        parts = {"the first name": first, "the family name": last}
        return Material(form.format(first=first, middle=f"{middle[0]}.", last=last), parts)

    return draw


@kind
def log_line(random: Random) -> Callable[[Random], Material]:
    form = random.choice(
        [
            "{time} {level} {machine}: {defect} ({code})",
            "[{level}] {machine} {code} {defect} at {time}",
            "{machine}/{code} {time} {level} - {defect}",
        ]
    )

    def draw(random: Random) -> Material:
        values = {
            "time": f"{random.randint(0, 23):02}:{random.randint(0, 59):02}",
            "level": random.choice(["INFO", "WARN", "ERROR", "DEBUG", "FATAL"]),
            "machine": random.choice(vocabulary.MACHINES),
            "defect": random.choice(vocabulary.DEFECTS),
            "code": f"E{random.randint(100, 999)}",
        }
        names = {"time": "the time", "level": "the level", "machine": "the machine", "defect": "the fault"}
        parts = {name: values[key] for key, name in names.items()} | {"the error code": values["code"]}
        return Material(form.format(**values), parts)

    return draw


@kind
def address(random: Random) -> Callable[[Random], Material]:
    """Paths and web addresses."""
    web = random.random() < 0.5

    def draw(random: Random) -> Material:
        one, two, file = random.sample(vocabulary.EVERY_WORD, 3)
        ending = random.choice(["txt", "pdf", "csv", "png", "html", "log"])
        if not web:
            parts = {"the top folder": one, "the folder of the file": two, "the ending of the file": ending}
            return Material(f"/{one}/{two}/{file}.{ending}", parts)
        domain = random.choice(["com", "org", "net", "jp", "de"])
        text = f"https://{one}.{domain}/{two}/{file}?page={random.randint(1, 99)}"
        return Material(text, {"the host": f"{one}.{domain}", "the top folder": two, "the last folder": file})

    return draw
