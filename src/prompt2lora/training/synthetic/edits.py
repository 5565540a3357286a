"""Edits: answers as long as their inputs, of which most is copied and a little is changed.

Of the other families nine in ten answers are a word or two, and a model that has learned from them alone cuts long answers
short. Here a part is changed, masked, left out or exchanged and all else stays; or the parts of a text go into another form.
Not here: the edits that a held-out dev task asks for (title case, a question mark at the end, dates, style sheets).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from random import Random

from prompt2lora.training.synthetic import composed, materials, vocabulary
from prompt2lora.training.synthetic.drafts import FAMILIES, Draft, family
from prompt2lora.training.synthetic.messages import message_text
from prompt2lora.training.synthetic.notes import note_text

_KINDS = ("words", "numbers", "sentence", "line", "pairs", "log_line")  # whose texts are longer than their parts


def _in_place(text: str, old: str, new: str) -> str:
    """The text with its only `old` replaced; nothing if that is not one place."""
    return text.replace(old, new) if text.count(old) == 1 else ""


def edited_part(name: str, random: Random) -> Draft:
    """The whole input, with one part changed, masked or replaced."""
    kind, chosen = composed.pointed(name, random)
    mask = random.choice(["***", "XXX", "???", "[removed]", "---", "<hidden>", "N/A", "_____"])
    word = random.choice([*vocabulary.WORDS, *vocabulary.LABELS])
    if random.random() < 0.5:
        changed = composed.draw_change(random)
        change, said = changed.apply, changed.applied.format(chosen)
        wordings = (f"Copy the input, but with {said}.", f"Write the input again with {said}; leave all else as it is.")
    else:
        new = random.choice([mask, word])
        change = lambda _text: new  # noqa: E731
        wordings = (
            f"Replace {chosen} by {new} and leave the rest as it is.",
            f"Copy the input with {new} in place of {chosen}.",
            f"Write the whole input, {new} instead of {chosen}.",
        )

    def row(random: Random) -> tuple[str, str]:
        material = kind(random)
        part = material.parts[chosen]
        return material.text, _in_place(material.text, part, change(part))

    return Draft(wordings, row)


def exchanged_parts(name: str, random: Random) -> Draft:
    """The whole input, with two of its parts in each other's place."""
    kind = materials.KINDS[name](random)
    one, two = random.sample(sorted(kind(Random(0)).parts), 2)

    def row(random: Random) -> tuple[str, str]:
        material = kind(random)
        first, second = material.parts[one], material.parts[two]
        marked = _in_place(_in_place(material.text, first, "\0"), second, first)
        return material.text, _in_place(marked, "\0", second)

    return Draft((f"Exchange {one} and {two}.", f"Copy the input, but with {one} and {two} swapped."), row)


def filled_form(name: str, random: Random) -> Draft:
    """Two or three parts in a drawn form: a sentence, lines, or JSON."""
    kind = materials.KINDS[name](random)
    names = sorted(kind(Random(0)).parts)
    chosen = random.sample(names, min(len(names), random.choice([2, 3])))
    keys = [part.removeprefix("the ").replace(" ", random.choice("_ ")) for part in chosen]
    if random.random() < 0.4:
        said = f"JSON with the keys {', '.join(keys)}"
        wordings = (f"Turn the input into {said}.", f"Write {said}.", f"Extract {', '.join(chosen)} as {said}.")
        return Draft(wordings, lambda random: _as_json(kind(random), dict(zip(keys, chosen, strict=True))))
    form = random.choice(_FORMS[len(chosen)])
    word = random.choice(vocabulary.WORDS).capitalize()
    shown = form.format(*(f"[{part.removeprefix('the ')}]" for part in chosen), word=word)

    def row(random: Random) -> tuple[str, str]:
        material = kind(random)
        return material.text, form.format(*(material.parts[part] for part in chosen), word=word)

    return Draft((f"Fill in this form: {shown}", f"Rewrite the input as: {shown}", f"Format: {shown}"), row)


_FORMS = {
    2: (
        "{word}: {0} ({1})", "{0} - {1}", "{word} {0} with {1}.", "[{0}] {1}", "{0} => {1}", "- {0}\n- {1}", "{0}; {1}; {word}",
        "The report says {0} and {1}.", "{word}={0}&value={1}", "<{0}|{1}>", "#{0} #{1}", "{word} says: {0}, then {1}!",
    ),
    3: (
        "{word}: {0}, {1}, {2}", "{0} / {1} / {2}", "{0} ({1}), {2}", "1. {0}\n2. {1}\n3. {2}", "{2} <- {0} + {1}",
        "{word} {0}: {1} at {2}.", "({0}, {1}, {2})", "We saw {0} with {1} and {2}.", "{0}|{1}|{2}|{word}", "{0}: {1}; {2}",
    ),
}  # fmt: skip


def _as_json(material: materials.Material, parts: dict[str, str]) -> tuple[str, str]:
    return material.text, json.dumps({key: material.parts[part] for key, part in parts.items()}, ensure_ascii=False)


@family
def edited_text(random: Random) -> Draft:
    """The whole input, changed everywhere."""
    plain: list[Callable[[Random], str]] = [message_text, note_text]
    kinds = [materials.KINDS[name](random) for name in _KINDS]
    text_of = random.choice([*plain, *(partial(_text, kind) for kind in kinds)])
    changes = [_everywhere(random) for _ in range(random.choice([1, 1, 2]))]

    def row(random: Random) -> tuple[str, str]:
        text = text_of(random)
        answer = text
        for _said, change in changes:
            answer = change(answer)
        return text, answer.strip()

    steps = [said for said, _change in changes]
    joined = ", then ".join([steps[0], *(step[0].lower() + step[1:] for step in steps[1:])])
    return Draft((f"{joined}.", f"{joined}. Keep all else as it is.", f"Edit the input: {joined}."), row)


def _text(kind: Callable[[Random], materials.Material], random: Random) -> str:
    return kind(random).text


def _everywhere(random: Random) -> tuple[str, Callable[[str], str]]:
    """A change of a whole text, in words and as a function."""
    mark = random.choice("# * + _ - . ~ / = |".split())
    word = random.choice(vocabulary.WORDS).upper()
    old, new = random.sample("aeiorstln", 2)
    count = random.randint(2, 4)
    return random.choice(
        [
            ("Write everything in small letters", str.lower),
            ("Write everything in capital letters", str.upper),
            (f"Replace every digit by {mark}", lambda text: "".join(mark if c.isdigit() else c for c in text)),
            (f"Replace every space by {mark}", lambda text: text.replace(" ", mark)),
            (f"Replace every {old} by {new}", lambda text: text.replace(old, new)),
            (f"Replace every vowel by {mark}", lambda text: "".join(mark if c in "aeiouAEIOU" else c for c in text)),
            ("Leave out all commas and periods", lambda text: text.replace(",", "").replace(".", "")),
            ("Leave out all digits", lambda text: "".join(c for c in text if not c.isdigit())),
            ("Leave out the first word", lambda text: " ".join(text.split()[1:])),
            (f"Leave out the first {count} words", lambda text: " ".join(text.split()[count:])),
            (f"Keep the first {count} words only", lambda text: " ".join(text.split()[:count])),
            ("Leave out the last word", lambda text: " ".join(text.split()[:-1])),
            ("Write the words in reverse order", lambda text: " ".join(reversed(text.split()))),
            ("Exchange the first and the last word", _ends_exchanged),
            (f"Put {mark} before every word", lambda text: " ".join(mark + part for part in text.split())),
            (f"Write {word} at the beginning", f"{word} {{}}".format),
            (f"Write {word} at the end", f"{{}} {word}".format),
            (f"Put {word} after the first word", lambda text: " ".join([*text.split()[:1], word, *text.split()[1:]])),
            ("Put every word on a line of its own", lambda text: "\n".join(text.split())),
            ("Put the text in quotation marks", '"{}"'.format),
            ("Write the first word in capital letters", lambda text: text[: len(text.split()[0])].upper() + text[len(text.split()[0]) :]),
        ]
    )  # fmt: skip


def _ends_exchanged(text: str) -> str:
    first, *middle, last = text.split() if " " in text else ["", text]
    return " ".join([last, *middle, first])


for _name in _KINDS:
    FAMILIES[f"edited_part_in_{_name}"] = partial(edited_part, _name)
    FAMILIES[f"exchanged_parts_in_{_name}"] = partial(exchanged_parts, _name)
    FAMILIES[f"filled_form_from_{_name}"] = partial(filled_form, _name)
