"""Composed tasks: point at a part of an input, then change it once or twice; or ask whether something holds of it.

Nine kinds of input, their parts, two dozen changes and a dozen conditions make tens of thousands of different jobs, of
which hardly any two in a training run are the same. What cannot be recognised has to be read.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import NamedTuple

from prompt2lora.training.synthetic import materials, vocabulary
from prompt2lora.training.synthetic.drafts import FAMILIES, Draft, draw_labels


class TextChange(NamedTuple):
    """`applied` says in words what becomes of a text, "{}" standing for the text."""

    applied: str
    apply: Callable[[str], str]


def _letters(text: str) -> str:
    return "".join(filter(str.isalpha, text))


PLAIN = (
    TextChange("{} in capital letters", str.upper),
    TextChange("{} in small letters", str.lower),
    TextChange("{} backwards", lambda text: text[::-1]),
    TextChange("{} twice, with a space between", lambda text: f"{text} {text}"),
    TextChange("{} twice, without a space", lambda text: text + text),
    TextChange("the first letter of {}", lambda text: _letters(text)[:1]),
    TextChange("the last letter of {}", lambda text: _letters(text)[-1:]),
    TextChange("the first two characters of {}", lambda text: text[:2]),
    TextChange("the last two characters of {}", lambda text: text[-2:]),
    TextChange("{} without its first character", lambda text: text[1:]),
    TextChange("{} without its last character", lambda text: text[:-1]),
    TextChange("the number of characters of {}", lambda text: str(len(text))),
    TextChange("{} with a space after every character", " ".join),
    TextChange("{} with a dash after every character but the last", "-".join),
    TextChange("{} without vowels", lambda text: "".join(c for c in text if c.lower() not in "aeiou")),
    TextChange("{} in quotation marks", '"{}"'.format),
    TextChange("{} in square brackets", "[{}]".format),
    TextChange("{} in curly braces", "{{{}}}".format),
    TextChange("{} between underscores", "_{}_".format),
    TextChange("{} in bold Markdown", "**{}**".format),
)


def _drawn(random: Random) -> TextChange:
    """A change with a drawn parameter."""
    word = random.choice([*vocabulary.LABELS, *vocabulary.WORDS])
    mark = random.choice("# * + @ ! ? ~ % & $ >> -- :: =>".split())
    old, new = random.sample("aeiorstln", 2)
    return random.choice(
        [
            TextChange(f'"{word}: " and then {{}}', f"{word}: {{}}".format),
            TextChange(f"{{}} and then the word {word}", f"{{}} {word}".format),
            TextChange(f"the word {word} and then {{}}", f"{word} {{}}".format),
            TextChange(f"{{}} with {mark} in front", f"{mark}{{}}".format),
            TextChange(f"{{}} with {mark} at the end", f"{{}}{mark}".format),
            TextChange(f"{{}} with every {old} replaced by {new}", lambda text: text.replace(old, new)),
            TextChange(f'JSON with the key "{word}" and the value {{}}', f'{{{{"{word}": "{{}}"}}}}'.format),
            TextChange(f"{{}} in a tag named {word}", f"<{word}>{{}}</{word}>".format),
            TextChange(f"{word}={{}}", f"{word}={{}}".format),
        ]
    )


def _change(random: Random) -> TextChange:
    return random.choice(PLAIN) if random.random() < 0.6 else _drawn(random)


_ASKS = (
    "Write {}.", "Write {}.", "Give {}.", "Output {} only.", "Return {}.", "Answer with {}.", "Reply with {}.",
    "What we need is {}.", "Your answer is {}.", "Find {} and write it.", "Show only {}.", "State {}.", "I want {}.",
)  # fmt: skip


def _ask(random: Random, wanted: str) -> tuple[str, ...]:
    return (random.choice(_ASKS).format(wanted),)


def part(name: str, random: Random) -> Draft:
    """A part of the input, as it stands or changed once or twice."""
    kind, chosen = _pointed(name, random)
    counts = [1, 1, 2] if name == "word" else [0, 1, 1, 1, 2]
    changes = [_change(random) for _ in range(random.choice(counts))]
    wanted = chosen
    for change in changes:
        wanted = change.applied.format(wanted)

    def example(random: Random) -> tuple[str, str]:
        material = kind(random)
        text = material.parts[chosen]
        for change in changes:
            text = change.apply(text)
        return material.text, text

    return Draft(_ask(random, wanted), example)


def two_parts(name: str, random: Random) -> Draft:
    """Two parts of the input in a drawn form."""
    kind = materials.KINDS[name](random)
    names = sorted(kind(Random(0)).parts)
    one, two = random.sample(names, 2)
    mark = random.choice([" ", "-", "/", ", ", "+", " = ", ":", "_", " and "])

    def example(random: Random) -> tuple[str, str]:
        material = kind(random)
        return material.text, f"{material.parts[one]}{mark}{material.parts[two]}"

    seen = mark.strip() or "a space"
    return Draft((*_ask(random, f"{one}, then {seen}, then {two}"), f"Join {one} and {two} by {seen}."), example)


class Condition(NamedTuple):
    said: str  # of the part "{}"
    holds: Callable[[str], bool]


def _condition(random: Random, examples: list[str]) -> Condition:
    """Something that holds of some of the examples and not of others."""
    while True:
        condition = _any_condition(random, examples)
        if 0.1 < sum(map(condition.holds, examples)) / len(examples) < 0.9:
            return condition


def _any_condition(random: Random, examples: list[str]) -> Condition:
    if all(text.isdigit() for text in examples):
        limit = random.choice(sorted(map(int, examples)))
        return random.choice(
            [
                Condition(f"{{}} is above {limit}", lambda text: int(text) > limit),
                Condition(f"{{}} is below {limit}", lambda text: int(text) < limit),
                Condition("{} is even", lambda text: int(text) % 2 == 0),
                Condition("{} is odd", lambda text: int(text) % 2 == 1),
            ]
        )
    value, letter = random.choice(examples), random.choice("aeiorstnl")
    half, length = "abcdefghijklm", len(random.choice(examples))
    return random.choice(
        [
            Condition(f"{{}} is {value}", lambda text: text == value),
            Condition(f"{{}} is {value}", lambda text: text == value),
            Condition(f"{{}} contains the letter {letter}", lambda text: letter in text.lower()),
            Condition("{} begins with a letter from A to M", lambda text: text[:1].lower() in half),
            Condition(f"{{}} has more than {length} characters", lambda text: len(text) > length),
            Condition(f"{{}} begins with {value[0]}", lambda text: text[0] == value[0]),
            Condition(f"{{}} ends with {value[-1]}", lambda text: text[-1] == value[-1]),
        ]
    )


def rule(name: str, random: Random) -> Draft:
    """One of two labels, or a label and otherwise the part itself, by a condition on a part."""
    kind, chosen = _pointed(name, random)
    condition = _condition(random, [kind(random).parts[chosen] for _ in range(40)])
    good, bad = draw_labels(random) if random.random() < 0.5 else random.sample(vocabulary.LABELS, 2)
    copies = random.random() < 0.15  # the part itself instead of the second label

    def example(random: Random) -> tuple[str, str]:
        wanted = random.random() < 0.5
        for _ in range(40):
            material = kind(random)
            if condition.holds(material.parts[chosen]) == wanted:
                break
        text = material.parts[chosen]
        return material.text, good if condition.holds(text) else text if copies else bad

    said, other = condition.said.format(chosen), chosen if copies else bad
    return Draft(
        (
            f"Write {good} if {said}, otherwise {other}.",
            f"If {said}, answer {good}; if not, {other}.",
            f"{good} when {said}, else {other}.",
            f"Label {good}: {said}. Everything else: {other}.",
        ),
        example,
    )


def legend(name: str, random: Random) -> Draft:
    """What to answer for each of a few values of a part."""
    kind, chosen = _pointed(name, random)
    values = sorted({kind(random).parts[chosen] for _ in range(60)})
    listed = random.sample(values, min(len(values), random.randint(2, 4)))
    answers = dict(zip(listed, random.sample(vocabulary.LABELS, len(listed)), strict=True))
    other = random.choice([label for label in vocabulary.LABELS if label not in answers.values()])
    open_ended = len(listed) < len(values)

    def example(random: Random) -> tuple[str, str]:
        wanted = random.choice([*listed, None] if open_ended else listed)
        for _ in range(80):
            material = kind(random)
            if material.parts[chosen] == wanted or (wanted is None and material.parts[chosen] not in answers):
                break
        return material.text, answers.get(material.parts[chosen], other)

    pairs = ", ".join(f"{value} {random.choice(['->', '=', 'means', ':'])} {label}" for value, label in answers.items())
    rest = f", anything else {other}" if open_ended else ""
    return Draft((f"Look at {chosen}: {pairs}{rest}.", f"Translate {chosen} by this table: {pairs}{rest}."), example)


def _pointed(name: str, random: Random) -> tuple[Callable[[Random], materials.Material], str]:
    """A kind with its drawn form, and one of its parts."""
    kind = materials.KINDS[name](random)
    return kind, random.choice(sorted(kind(Random(0)).parts))


_FEW_VALUES = ("sentence", "line", "pairs", "log_line")  # kinds with parts that take few values
for _name in materials.KINDS:
    FAMILIES[f"part_in_{_name}"] = partial(part, _name)
    FAMILIES[f"rule_on_{_name}"] = partial(rule, _name)
    if _name != "word":
        FAMILIES[f"two_parts_in_{_name}"] = partial(two_parts, _name)
    if _name in _FEW_VALUES:
        FAMILIES[f"legend_on_{_name}"] = partial(legend, _name)
