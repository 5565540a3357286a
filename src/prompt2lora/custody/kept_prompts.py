"""Prompts as the registry keeps them: a text, or a text with the digests of its pictures, which lie in the store.

In: prompts and examples. Out: what JSON holds of them, and the same prompts again, whose pictures are read when
somebody looks at them. It knows neither the database nor where the pictures lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from prompt2lora.ground.pictures import Picture, Pictured, Prompt, pictures_of

Find = Callable[[str], Picture]  # a kept picture by its digest


def kept(prompt: Prompt) -> Any:
    """What JSON holds of a prompt."""
    if isinstance(prompt, Pictured):
        return {"text": prompt.text, "pictures": [picture.digest for picture in prompt.pictures]}
    return prompt


def kept_examples(examples: Sequence[tuple[Prompt, str]]) -> list[list[Any]]:
    """What JSON holds of examples (prompt, right answer)."""
    return [[kept(prompt), right] for prompt, right in examples]


def read_kept(found: Any, picture: Find) -> Prompt:
    """The prompt of which JSON holds this."""
    if isinstance(found, dict):
        return Pictured(found["text"], tuple(map(picture, found["pictures"])))
    return str(found)


def every_picture(prompts: Sequence[Prompt], examples: Sequence[tuple[Prompt, str]] = ()) -> Iterator[Picture]:
    """All pictures of prompts and examples."""
    for prompt in [*prompts, *(prompt for prompt, _ in examples)]:
        yield from pictures_of(prompt)
