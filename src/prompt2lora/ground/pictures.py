"""Pictures in prompts: bytes that are checked before anybody looks at them, and a text together with its pictures.

In: a file's name and bytes, as anybody may have sent them. Out: a `Picture`, or an InputError in one line. What is
opened is bounded in bytes and pixels and is of a known format by its content, not by its name. Pillow is loaded at
first use; no model is known here.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, overload

from prompt2lora.errors import InputError

FORMATS = ("PNG", "JPEG", "WEBP")
MOST_BYTES = 10 * 2**20
MOST_PIXELS = 2**24
MOST_TOGETHER = 2**25  # pixels of all pictures of a request


@dataclass(frozen=True)
class Picture:
    """A picture's bytes, checked; two of the same bytes are the same whatever they are called."""

    data: bytes = field(repr=False)
    name: str = field(default="", compare=False)
    pixels: int = field(default=0, compare=False)

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def data_url(self) -> str:
        kind = {b"\x89": "png", b"\xff": "jpeg"}.get(self.data[:1], "webp")
        return f"data:image/{kind};base64,{base64.b64encode(self.data).decode()}"

    def image(self) -> Any:
        """What Pillow makes of it, in colours."""
        from PIL import Image

        return Image.open(io.BytesIO(self.data), formats=FORMATS).convert("RGB")


@dataclass(frozen=True)
class Pictured:
    """A prompt of a text and the pictures before it."""

    text: str
    pictures: tuple[Picture, ...]


Prompt = str | Pictured
P = TypeVar("P", str, Prompt)


def text_of(prompt: Prompt) -> str:
    return prompt.text if isinstance(prompt, Pictured) else prompt


def pictures_of(prompt: Prompt) -> tuple[Picture, ...]:
    return prompt.pictures if isinstance(prompt, Pictured) else ()


@overload
def rewritten(prompt: str, change: Callable[[str], str]) -> str: ...
@overload
def rewritten(prompt: Prompt, change: Callable[[str], str]) -> Prompt: ...
def rewritten(prompt: Prompt, change: Callable[[str], str]) -> Prompt:
    """The prompt with another text and its own pictures."""
    return Pictured(change(prompt.text), prompt.pictures) if isinstance(prompt, Pictured) else change(prompt)


def identity(prompt: Prompt) -> str:
    """What two prompts have in common only if they are the same: the text, and what tells the pictures."""
    return "\0".join([text_of(prompt), *(picture.digest for picture in pictures_of(prompt))])


def texts_alone(prompts: Sequence[Prompt]) -> list[str]:
    """The same prompts where only texts can be used. Raises InputError if one holds a picture."""
    for number, prompt in enumerate(prompts, 1):
        if isinstance(prompt, Pictured):
            raise InputError(
                "pictures",
                f"prompt {number} holds a picture and texts alone are taken here; use `prompt2lora generate`",
                number=number,
            )
    return [text_of(prompt) for prompt in prompts]


def checked(data: bytes, name: str) -> Picture:
    """The picture that these bytes are. Raises InputError if they are none, too many, or of too many pixels."""
    from PIL import Image

    if len(data) > MOST_BYTES:
        raise _too_large(name, f"{MOST_BYTES // 2**20} MB", "more")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise _too_large(name, f"{MOST_PIXELS:,} pixels", f"{width * height:,}")
            image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, f"{MOST_PIXELS:,} pixels", "many more") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(
            "no_picture", f"{name}: a picture must be {' or '.join(FORMATS)} and this is none, or half of one; mend it"
        ) from error
    return Picture(data, name, width * height)


def opened(folder: Path, path: str, place: str) -> Picture:
    """A picture by its path below a folder; `place` is where that path stands. Raises InputError."""
    file = folder / path
    try:
        within = file.resolve().is_relative_to(folder.resolve())
        if within:
            with file.open("rb") as stream:
                data = stream.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", "") or type(error).__name__
        raise InputError("no_file", f"{place}: the image {path} cannot be read ({why}); check the path") from error
    if not within:
        raise InputError(
            "picture_path", f"{place}: an image must lie below the folder of its file and {path!r} does not; move it"
        )
    return checked(data, f"{place}: {path}")


def _too_large(name: str, most: str, found: str) -> InputError:
    return InputError("large_picture", f"{name}: a picture may have {most} and this one has {found}; make it smaller")
