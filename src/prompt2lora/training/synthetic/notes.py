"""Families over notes of a workplace: one record in many styles, and what one may ask of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

from prompt2lora.training.synthetic import vocabulary
from prompt2lora.training.synthetic.drafts import Draft, draw_labels, family
from prompt2lora.training.synthetic.records import Notes

_FIELDS: dict[str, Callable[[Random], str]] = {
    "machine": lambda random: random.choice(vocabulary.MACHINES),
    "product": lambda random: random.choice(vocabulary.PRODUCTS),
    "city": lambda random: random.choice(vocabulary.CITIES),
    "quantity": lambda random: str(random.randint(2, 99)),
    "defect": lambda random: random.choice(vocabulary.DEFECTS),
    "room": lambda random: random.choice(vocabulary.ROOMS),
    "supplier": lambda random: random.choice(vocabulary.SUPPLIERS),
    "material": lambda random: random.choice(vocabulary.MATERIALS),
    "status": lambda random: random.choice(vocabulary.STATUSES),
    "weekday": lambda random: random.choice(vocabulary.DAYS),
    "colour": lambda random: random.choice(vocabulary.COLOURS),
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


def _note(record: dict[str, str], style: str, random: Random) -> str:
    if style == "lines":
        return "\n".join(f"{field.capitalize()}: {value}" for field, value in record.items())
    if style == "pairs":
        return "; ".join(f"{field}={value}" for field, value in record.items())
    if style == "fields":
        return json.dumps(record, ensure_ascii=False)
    text = ", ".join(random.choice(_PHRASES[field]).format(value) for field, value in record.items())
    return f"{text[0].upper()}{text[1:]}."


_NOTES = Notes(_FIELDS, ("sentence", "lines", "pairs", "fields"), _note)
note_text = _NOTES.text


@family
def field_of_note(random: Random) -> Draft:
    field, style = random.choice(list(_FIELDS)), _NOTES.style(random)
    return _NOTES.over(
        style,
        [field],
        lambda record: record[field],
        f"Write the {field}.",
        f"Extract the {field} from the note.",
        f"Which {field} is named?",
        f"Pull out the {field}.",
    )


@family
def field_with_name(random: Random) -> Draft:
    field, style = random.choice(list(_FIELDS)), _NOTES.style(random)
    form = random.choice([f"{field}: {{}}", f"{field.upper()}={{}}", f"[{field}] {{}}", f"<{field}>{{}}</{field}>"])
    return _NOTES.over(
        style,
        [field],
        lambda record: form.format(record[field]),
        f"Extract the {field} in the form {form.format('...')}",
        f"Answer as {form.format('...')} with the {field} of the note.",
    )


@family
def two_fields(random: Random) -> Draft:
    (one, two), style = random.sample(list(_FIELDS), 2), _NOTES.style(random)
    mark = random.choice([", ", " - ", "/", " | ", ";"])
    return _NOTES.over(
        style,
        [one, two],
        lambda record: f"{record[one]}{mark}{record[two]}",
        f'Write the {one} and the {two} with "{mark.strip()}" between.',
        f"Give {one}{mark}{two}.",
    )


@family
def fields_as_json(random: Random) -> Draft:
    (one, two), style = random.sample(list(_FIELDS), 2), random.choice(["sentence", "lines", "pairs"])
    return _NOTES.over(
        style,
        [one, two],
        lambda record: json.dumps({key: record[key] for key in (one, two)}, ensure_ascii=False),
        f'Answer as JSON with the keys "{one}" and "{two}".',
        f"Turn the {one} and the {two} into JSON.",
    )


@family
def names_field(random: Random) -> Draft:
    field, style = random.choice(list(_FIELDS)), _NOTES.style(random)
    good, bad = draw_labels(random)

    def example(random: Random) -> tuple[str, str]:
        there = random.random() < 0.5
        record = _NOTES.record(random, [field] if there else [])
        if not there:
            record.pop(field, None)
        return _note(record, style, random), good if there else bad

    return Draft(
        (
            f"Does the note name a {field}? Answer {good} or {bad}.",
            f"Write {good} if the {field} is given, otherwise {bad}.",
        ),
        example,
    )


@family
def field_above(random: Random) -> Draft:
    field, unit, most = random.choice(
        [("temperature", " °C", 140), ("pressure", " bar", 12), ("price", " euros", 900), ("quantity", "", 99)]
    )
    limit, style = random.randint(most // 4, 3 * most // 4), _NOTES.style(random)
    good, bad = draw_labels(random)
    return _NOTES.over(
        style,
        [field],
        lambda record: good if int(record[field].split()[0]) > limit else bad,
        f"Write {good} if the {field} is above {limit}{unit}, otherwise {bad}.",
        f"Is the {field} over {limit}{unit}? Answer {good} or {bad}.",
    )


@family
def route_by_field(random: Random) -> Draft:
    field, values = random.choice(
        [
            ("colour", vocabulary.COLOURS),
            ("status", vocabulary.STATUSES),
            ("machine", vocabulary.MACHINES),
            ("material", vocabulary.MATERIALS),
        ]
    )
    chosen, style = random.sample(values, 2), _NOTES.style(random)
    targets = random.sample(["line 1", "line 2", "team A", "team B", "sales", "store", "archive", "boss", "hall 3"], 2)
    route = dict(zip(chosen, targets, strict=True))

    parts = [f"{target} for {value}" for value, target in route.items()]
    return _NOTES.over(
        style,
        [field],
        lambda record: route[record[field]],
        f"Where does it go? By {field}: {' and '.join(parts)}.",
        f"Route by {field}: {', '.join(parts)}.",
        values=chosen,
    )


@family
def which_value(random: Random) -> Draft:
    """Classification by what is said: the field is known, its value is the class."""
    field, values = random.choice(
        [
            ("status", vocabulary.STATUSES),
            ("defect", vocabulary.DEFECTS),
            ("machine", vocabulary.MACHINES),
            ("weekday", vocabulary.DAYS),
        ]
    )
    chosen, style = random.sample(values, 3), _NOTES.style(random)
    return _NOTES.over(
        style,
        [field],
        lambda record: record[field],
        f"Which {field} is it: {', '.join(chosen)}?",
        f"Classify by {field}: {', '.join(chosen)}.",
        values=chosen,
    )
