"""The body of a management request: JSON, or a form with files that stands for the same JSON.

In: a request whose key has been checked. Out: the model that the route wants, and how its files were read. Files and
texts of a form, and the pictures that these name, become prompts and examples by the one reader, and then pass the same
checks as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, NamedTuple

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from prompt2lora.ground.examples import PARTS, check_named, read_examples, read_prompts
from prompt2lora.ground.pictures import MOST_BYTES, Prompt, Sent, pictures_of, text_of
from prompt2lora.ground.reading import Reading
from prompt2lora.ground.tables import TAKEN, File
from prompt2lora.serving.guard import Refused

_FORM = "multipart/form-data"
PictureUrl = Annotated[
    str,
    Field(
        max_length=MOST_BYTES * 4 // 3 + 100,
        description="data:image/png;base64,... of a whole picture; nothing is fetched",
        json_schema_extra={"format": "picture-data-url"},
    ),
]
PROMPTS, COLUMN = "prompts", "column"  # the latter chooses a column of the table that the former is
PICTURES = "pictures"  # the name of every picture that the files name
FILES = (PROMPTS, *PARTS)
_MOST_PICTURES = 1000
MOST_FILES = len(FILES) + _MOST_PICTURES  # of a form


class Taken(NamedTuple):
    body: Any
    read: dict[str, Reading]

    def as_json(self) -> dict[str, Any]:
        """How files were read, as part of a reply; nothing if there were none."""
        return {"read": {name: reading.to_dict() for name, reading in self.read.items()}} if self.read else {}


def taking(kind: type[BaseModel], most: int) -> Callable[[Request], Coroutine[Any, Any, Taken]]:
    """A dependency that reads a body of a kind; a part of a form may have `most` bytes."""

    async def take(request: Request) -> Taken:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM:
            async with request.form(max_files=MOST_FILES, max_fields=20, max_part_size=most) as form:
                given = [
                    (name, File(value.filename or name, await value.read()) if isinstance(value, UploadFile) else value)
                    for name, value in form.multi_items()
                ]
            found, read = await run_in_threadpool(_values, given)
            return Taken(_checked(kind, found), read)
        try:
            return Taken(_checked(kind, json.loads(await request.body())), {})
        except (ValueError, RecursionError) as error:
            message = f"a request is JSON or {_FORM} with files ({str(error)[:100]}); correct it"
            raise Refused(400, message, "invalid_request") from error

    return take


def _values(given: list[tuple[str, Any]]) -> tuple[dict[str, Any], dict[str, Reading]]:
    """What JSON would hold, and how files were read. Raises InputError, Refused."""
    found: dict[str, Any] = {}
    read: dict[str, Reading] = {}
    pictures, named = _pictures([value for name, value in given if name == PICTURES]), list[Prompt]()
    column = _column(given)
    for name, value in given:
        if name in (PICTURES, COLUMN):
            continue
        if name in found:
            raise Refused(400, f"{name[:80]}: a form holds it once; send one file with all", "invalid_request")
        if name in FILES:
            file = value if isinstance(value, File) else File(name, text=value)
            found[name], prompts, read[name] = _read(name, file, pictures, column)
            named += prompts
        elif isinstance(value, File):
            message = f"{name[:80]}: a file is one of {', '.join((*FILES, PICTURES))}; send it under that name"
            raise Refused(400, message, "invalid_request")
        else:
            found[name] = value
    check_named(pictures, named)
    return found, read


def _column(given: list[tuple[str, Any]]) -> str:
    """The column that a form chooses of its prompts; empty: none. Raises Refused."""
    chosen = [value for name, value in given if name == COLUMN]
    if chosen and (len(chosen) > 1 or isinstance(chosen[0], File) or PROMPTS not in dict(given)):
        message = f"{COLUMN}: it is the name or number of one column of the file {PROMPTS}; send both, each once"
        raise Refused(400, message, "invalid_request")
    return chosen[0] if chosen else ""


def _pictures(sent: list[Any]) -> dict[str, bytes]:
    """Raises Refused for what is no file, or for two of one name."""
    found: dict[str, bytes] = {}
    for one in sent:
        if not isinstance(one, File) or one.name in found:
            message = f"{PICTURES}: every picture is a file with a name of its own; send it so"
            raise Refused(400, message, "invalid_request")
        found[one.name] = one.data
    return found


def _read(name: str, file: File, pictures: Sent, column: str) -> tuple[list[Any], list[Prompt], Reading]:
    """What JSON would hold under a name, which has pictures as they are where JSON has data URLs; the prompts in it."""
    if name not in PARTS:
        prompts, reading = read_prompts(file, column=column, pictures=pictures)
        return [_body("prompt", prompt) if pictures_of(prompt) else prompt for prompt in prompts], prompts, reading
    pairs, reading = read_examples(file, PARTS[name], pictures)
    return [{**_body("input", one), "output": right} for one, right in pairs], [one for one, _ in pairs], reading


def _body(name: str, prompt: Prompt) -> dict[str, Any]:
    """A prompt, its text under a name."""
    seen = pictures_of(prompt)
    return {name: text_of(prompt), **({"image": seen[0]} if seen else {})}


def _checked(kind: type[BaseModel], found: Any) -> BaseModel:
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_context=False)) from error


def described(kind: type[BaseModel]) -> dict[str, Any]:
    """The part of the OpenAPI document that describes both."""
    schema = kind.model_json_schema()
    parts = schema.pop("$defs", {})
    whole = json.loads(json.dumps(schema), object_hook=lambda one: _inlined(one, parts))
    form: dict[str, Any] = {}
    for name, field in whole["properties"].items():
        form[name] = (
            {"type": "string", "format": "binary", "description": f"A file ({TAKEN}), or its text."}
            if name in FILES
            else field
        )
    if form.keys() & {*FILES}:
        form[PICTURES] = {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "description": "Pictures that the files name by `image`: PNG, JPEG or WebP.",
        }
    if PROMPTS in form:
        form[COLUMN] = {"type": "string", "description": f"Name or number of the column of `{PROMPTS}` to take."}
    shaped = {
        "type": "object",
        "properties": form,
        "required": whole.get("required", []),
        "additionalProperties": False,
    }
    return {
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": whole}, _FORM: {"schema": shaped}},
        }
    }


def _inlined(one: dict[str, Any], parts: dict[str, Any]) -> Any:
    return parts[one["$ref"].rpartition("/")[2]] if "$ref" in one else one
