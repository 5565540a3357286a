"""What the files and texts of a form hold, and how they were read.

In: a request with fields of prompts or examples, and the pictures that these name. Out: prompts, pairs, and parts of a
page that tell how they were read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi.responses import Response

from prompt2lora.console.context import remember
from prompt2lora.console.i18n import TranslatableError
from prompt2lora.console.page_request import PageRequest
from prompt2lora.errors import InputError, UsageError
from prompt2lora.ground.examples import PARTS, read_examples, read_prompts
from prompt2lora.ground.pictures import Prompt, checked
from prompt2lora.ground.reading import Reading
from prompt2lora.ground.tables import File
from prompt2lora.serving.job_queue import QueuedJob

_SHOWN = 40  # pictures


def prompts_of(request: PageRequest) -> tuple[list[Prompt], list[Reading]]:
    """Under their instruction, and how their files were read; the column that was chosen is that of the file, or of a
    table that was pasted where there is no file."""
    instruction, column = request.value("instruction").strip(), request.value("prompts_column")
    found = [
        read_prompts(source, instruction, "" if number else column, request.pictures)
        for number, source in enumerate(_sources(request, "prompts"))
    ]
    return [prompt for prompts, _ in found for prompt in prompts], [read for _, read in found if read.count]


def pairs_of(
    request: PageRequest, name: str, *, needed: bool = False
) -> tuple[list[tuple[Prompt, str]], list[Reading]]:
    """(input, right answer) of a field of examples, and how its files were read."""
    sources = _sources(request, name)
    if needed and not sources:
        raise TranslatableError("no_examples")
    found = [read_examples(source, PARTS[name], request.pictures) for source in sources]
    return [pair for pairs, _ in found for pair in pairs], [read for _, read in found]


def _sources(request: PageRequest, name: str) -> list[File]:
    """The file of a field, and what was typed into the field itself."""
    file, text = request.file(name), request.value(name)
    typed = [File(request.translator.say("read.typed"), text=text)] if text.strip() else []
    return [*([file] if file else []), *typed]


def reading_part(request: PageRequest, read: Sequence[Reading], column_field: str = "", **more: Any) -> Response:
    """A part of a page: how files are read; of a table with several columns, one may be chosen in `column_field`."""
    shown = {"advice": None, "count": 0, "refused": None, **more}
    return request.render("advice.html", read=read, column_field=column_field, **shown)


def refused_part(request: PageRequest, error: UsageError) -> Response:
    """A part of a page: why a file or a text cannot be read."""
    return reading_part(request, [], refused=request.translator.explain(error))


def pictures_part(request: PageRequest) -> Response:
    """A part of a page: the first of the pictures that were chosen, small; or why one of them cannot be taken."""
    try:
        first = list(request.pictures.items())[:_SHOWN]
        seen = [(name, checked(data, name).thumbnail_url) for name, data in first]
    except UsageError as error:
        return refused_part(request, error)
    return request.render("pictures.html", seen=seen, count=len(request.pictures))


def forgets_column(request: PageRequest, field: str, error: UsageError) -> bool:
    """Whether a file was refused for a column that was chosen for another file, which is forgotten now."""
    missing = isinstance(error, InputError) and error.rule == "no_column"
    return missing and bool(request.form.values.pop(field, ""))


def started(request: PageRequest, queued: QueuedJob, read: list[Reading]) -> Response:
    """On to the page of a queued job, which also says how its files were read."""
    remember(request.context.readings, queued.id, read)
    return request.redirect(f"/queue/{queued.id}")
