"""A new job: its form, what is said of its prompts while they are typed, and what is queued of it.

In: forms with texts or files. Out: queued jobs, pages and parts of them. All heavy work is queued.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path

from fastapi.responses import Response

from prompt2lora.console.form_fields import (
    forgets_column,
    pairs_of,
    pictures_part,
    prompts_of,
    reading_part,
    refused_part,
    started,
)
from prompt2lora.console.i18n import TranslatableError
from prompt2lora.console.page_request import Page, PageRequest
from prompt2lora.console.views import ENOUGH_EXAMPLES
from prompt2lora.custody.access import MAKE
from prompt2lora.errors import UsageError
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.ground.comparison import Comparison
from prompt2lora.ground.declared_form import declared
from prompt2lora.ground.examples import check_named
from prompt2lora.ground.prompts import full_examples
from prompt2lora.ground.tables import TAKEN

ANSWERS = ("free", "auto", "choices", "number", "date", "pattern")
_SAMPLE = Path(__file__).parent / "sample"


@cache
def sample() -> dict[str, str]:
    """A job to try the console with: what a person would type."""
    instruction, *prompts = (_SAMPLE / "prompts.txt").read_text(encoding="utf-8").splitlines()
    return {
        "job": "sample",
        "display_name": "",
        "instruction": instruction,
        "prompts": "\n".join(prompts),
        "examples": (_SAMPLE / "training_examples.csv").read_text(encoding="utf-8"),
        "inspection": (_SAMPLE / "inspection_examples.csv").read_text(encoding="utf-8"),
    }


def show_new(request: PageRequest) -> Response:
    given = sample() if request.value("sample") and not request.form.values else {}
    names = ("job", "display_name", "instruction", "prompts", "examples", "inspection", "answers", "answers_detail")
    fields = {name: request.value(name, given.get(name, "")) for name in names}
    return request.render(
        "new.html",
        fields=fields,
        kinds=ANSWERS,
        taken=TAKEN,
        sample=bool(request.value("sample")),
        enough=ENOUGH_EXAMPLES,
        comparisons=list(Comparison),
        models=request.context.models,
        reads_pictures=request.context.reads_pictures,
    )


def generate(request: PageRequest) -> Response:
    """A file that cannot be read, or a name that is not allowed, is refused before anything starts."""
    prompts, read = prompts_of(request)
    if not request.value("job").strip():
        raise TranslatableError("no_name")
    examples, of_examples = pairs_of(request, "examples")
    if not prompts and not examples:
        raise TranslatableError("no_prompts")
    inspection, of_inspection = pairs_of(request, "inspection")
    check_named(request.pictures, [*prompts, *(prompt for prompt, _ in (*examples, *inspection))])
    told = full_examples(request.value("instruction").strip(), examples)
    form = _form(request, [right for _, right in examples])
    chosen = request.value("comparison")
    comparison = Comparison(chosen) if chosen in list(Comparison) else None
    job, called = request.value("job").strip(), request.value("display_name")
    queued = request.service.generate(
        request.actor, job, prompts, inspection, told, form, comparison=comparison, display_name=called
    )
    return started(request, queued, [*read, *of_examples, *of_inspection])


def _form(request: PageRequest, right: Sequence[str]) -> AnswerForm | None:
    """What the answers have to be. Raises TranslatableError for a detail of a kind that takes none."""
    kind, detail = request.value("answers", "free"), " ".join(request.value("answers_detail").split())
    if detail and kind in ("free", "auto", "number"):
        raise TranslatableError("unused_detail", kind=request.translator.say(f"new.answers_{kind}"))
    return declared(f"{kind}:{detail}" if detail else kind, right)


def advise(request: PageRequest) -> Response:
    """A part of a page: findings on the prompts as they are now."""
    try:
        prompts, read = prompts_of(request)
    except UsageError as error:
        if forgets_column(request, "prompts_column", error):
            return advise(request)
        return refused_part(request, error)
    advice = request.context.typing_checks.check(prompts)
    return reading_part(request, read, "prompts_column", advice=advice, count=len(prompts))


def read_so_far(request: PageRequest, name: str) -> Response:
    """A part of a page: how the examples that stand in a field now are read."""
    try:
        _, read = pairs_of(request, name)
    except UsageError as error:
        return refused_part(request, error)
    return reading_part(request, read)


PAGES = (
    Page("GET", "/new", show_new, (MAKE,)),
    Page("POST", "/new", generate, (MAKE,), show_new),
    Page("POST", "/new/advice", advise, (MAKE,)),
    Page("POST", "/new/pictures", pictures_part, (MAKE,)),
    Page("POST", "/new/examples", partial(read_so_far, name="examples"), (MAKE,)),
    Page("POST", "/new/inspection", partial(read_so_far, name="inspection"), (MAKE,)),
)
