"""Pictures in prompts: bytes that are checked before anybody looks at them, and a text together with its pictures.

In: a file's name and bytes, as anybody may have sent them. Out: a `Picture`, or an InputError in one line. What is
opened is bounded in bytes and pixels and is of a known format by its content, not by its name. A picture that was
checked before may lie somewhere until it is looked at. Pillow is loaded at first use; no model is known here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, overload

from prompt2lora.errors import InputError

FORMATS = ("PNG", "JPEG", "WEBP")
MOST_BYTES = 10 * 2**20
MOST_PIXELS = 2**24
MOST_TOGETHER = 2**25  # pixels of all pictures that one answer is asked about
MOST_OF_A_JOB = 2**29  # pixels of all different pictures that a request brings to make or judge an adapter
_DATA_URL = re.compile(r"data:image/(png|jpeg|jpg|webp);base64")
_THUMBNAIL = 96  # pixels of the longer side


@dataclass(frozen=True)
class Picture:
    """A picture that was checked; two of the same bytes are the same, whatever they are called and wherever they lie.

    `digest` is the SHA-256 of the bytes, and `read` gives them.
    """

    digest: str
    read: Callable[[], bytes] = field(repr=False, compare=False)
    name: str = field(default="", compare=False)
    pixels: int = field(default=0, compare=False)

    @property
    def data(self) -> bytes:
        return self.read()

    @property
    def data_url(self) -> str:
        data = self.data
        kind = {b"\x89": "png", b"\xff": "jpeg"}.get(data[:1], "webp")
        return _data_url(kind, data)

    @property
    def seen_url(self) -> str:
        """A data URL of what `image` gives, for other programs; the bytes themselves where all read them alike."""
        from PIL import ExifTags, Image

        with Image.open(io.BytesIO(self.data), formats=FORMATS) as image:
            if image.mode in ("RGB", "L") and image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
                return self.data_url
        out = io.BytesIO()
        self.image().save(out, "PNG")
        return _data_url("png", out.getvalue())

    def image(self) -> Any:
        """What Pillow makes of it, in colours and upright, however the camera was held."""
        from PIL import Image, ImageOps

        image = ImageOps.exif_transpose(Image.open(io.BytesIO(self.data), formats=FORMATS))
        if image.mode.startswith("I"):  # 16 bits of grey, which `convert` cuts off at 255
            image = image.point(lambda grey: grey / 256)
        return image.convert("RGB")

    def thumbnail(self) -> bytes:
        """A small JPEG of it, for people to know it by."""
        image, out = self.image(), io.BytesIO()
        image.thumbnail((_THUMBNAIL, _THUMBNAIL))
        image.save(out, "JPEG", quality=85)
        return out.getvalue()

    @property
    def thumbnail_url(self) -> str:
        """The same as a data URL, for a page in one file."""
        return _data_url("jpeg", self.thumbnail())


def _data_url(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


@dataclass(frozen=True)
class Pictured:
    """A prompt of a text and the pictures before it."""

    text: str
    pictures: tuple[Picture, ...]


Prompt = str | Pictured
Sent = Mapping[str, bytes]  # pictures that came along with a file, by name
NOTHING_SENT: Sent = MappingProxyType({})
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


def texts_alone(prompts: Sequence[Prompt], taker: str) -> list[str]:
    """The same prompts where the taker can use only texts. Raises InputError if one holds a picture."""
    for number, prompt in enumerate(prompts, 1):
        if isinstance(prompt, Pictured):
            raise InputError(
                "pictures",
                f"{taker} takes only texts, and prompt {number} holds a picture; leave one or the other out",
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
            "no_picture",
            f"{name}: a picture must be {' or '.join(FORMATS)}, and this is not, or only part of one; correct it",
            name=name[-80:],
        ) from error
    return Picture(picture_digest(data), lambda: data, name, width * height)


def check_together(pictures: Iterable[Picture], most: int) -> None:
    """Raises InputError if all of them together have more pixels than that."""
    pixels = sum(picture.pixels for picture in pictures)
    if pixels > most:
        raise InputError(
            "large_pictures",
            f"all pictures of a request may have {most:,} pixels together and these have {pixels:,}; send fewer, or "
            "smaller ones",
            most=most,
            pixels=pixels,
        )


def picture_digest(data: bytes) -> str:
    """By what a picture is known: the SHA-256 of its bytes."""
    return hashlib.sha256(data).hexdigest()


def of_data_url(url: str, place: str) -> Picture:
    """The picture within a data URL; `place` is where that stands. Raises InputError."""
    head, _, data = url.partition(",")
    if not _DATA_URL.fullmatch(head):
        raise InputError(
            "picture_url",
            f"{place}: a picture must be a data URL of PNG, JPEG or WebP (data:image/png;base64,...) and this begins "
            f"with {head[:40]!r}; put the picture itself there",
        )
    try:
        decoded = base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise InputError("picture_url", f"{place}: the data URL is not base64 ({error}); encode it again") from error
    return checked(decoded, place)


def among(sent: Sent, path: str, place: str) -> Picture:
    """A picture by its name among those that were sent: folders in its path are passed over. Raises InputError."""
    wanted = _name(path)
    found = next((data for name, data in sent.items() if _name(name) == wanted), None)
    if found is None:
        there = f"these came along: {', '.join(sent)[:200]}" if sent else "no pictures came along"
        raise InputError(
            "picture_missing", f"{place}: the image {path[:80]} was not sent ({there}); send it too", name=path[:80]
        )
    return checked(found, f"{place}: {path}")


def _name(path: str) -> str:
    """The name of a file, however its path and its letters are written."""
    return unicodedata.normalize("NFC", re.split(r"[/\\]", path)[-1])


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
    return InputError(
        "large_picture",
        f"{name}: a picture may have {most} and this one has {found}; make it smaller",
        name=name[-80:],
        megabytes=MOST_BYTES // 2**20,
        pixels=MOST_PIXELS,
    )
