"""Families over any kind of input."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random

from prompt2lora.training.synthetic import vocabulary
from prompt2lora.training.synthetic.drafts import Draft, draw_word, family
from prompt2lora.training.synthetic.messages import message_text
from prompt2lora.training.synthetic.notes import note_text


@family
def always(random: Random) -> Draft:
    """The same answer to whatever comes: only the prompts can tell it."""
    answer = random.choice(
        [*vocabulary.WORDS, *vocabulary.CITIES, *vocabulary.STATUSES, *vocabulary.MACHINES, *vocabulary.COLOURS]
    )
    kind = random.choice([draw_word, note_text, message_text])

    def example(random: Random) -> tuple[str, str]:
        return kind(random), answer

    return Draft(
        (f"Always answer {answer}.", f"Whatever the input is, write {answer}.", f"Write only the word {answer}."),
        example,
    )


_COPIES: list[tuple[Callable[[str], str], str]] = [
    (str, "Copy the input."),
    (str.upper, "Copy the input in capital letters."),
    (lambda text: text.replace(" ", "_"), "Copy the input with underscores instead of spaces."),
    (lambda text: text.replace(" ", ""), "Copy the input without spaces."),
    (lambda text: f"> {text}", "Quote the input with > in front."),
    (lambda text: json.dumps({"text": text}), 'Put the input into JSON under the key "text".'),
    (lambda text: f"<p>{text}</p>", "Put the input into an HTML paragraph."),
]


@family
def copy(random: Random) -> Draft:
    kind = random.choice([draw_word, message_text, note_text])
    change, name = random.choice(_COPIES)

    def example(random: Random) -> tuple[str, str]:
        text = kind(random)
        return text, change(text)

    return Draft((name, f"{name[:-1]}, nothing else."), example)
