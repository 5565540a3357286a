"""A new job, its inspection, its second stage, and the progress of what is queued for it.

In: forms with texts or files. Out: queued jobs, and pages that show how far they are. All heavy work is queued.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from fastapi.responses import Response

from prompt2lora.console.context import remember
from prompt2lora.console.i18n import TranslatableError
from prompt2lora.console.job_pages import job_page, opened
from prompt2lora.console.page_request import Page, PageRequest
from prompt2lora.console.views import ENOUGH_EXAMPLES, checks, inspection
from prompt2lora.custody.access import LOOK, MAKE
from prompt2lora.errors import Conflict, InputError, UsageError
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.ground.comparison import Comparison
from prompt2lora.ground.declared_form import declared
from prompt2lora.ground.examples import PARTS, read_examples, read_prompts
from prompt2lora.ground.progress import share_of
from prompt2lora.ground.prompts import full_examples
from prompt2lora.ground.reading import Reading
from prompt2lora.ground.tables import TAKEN, File
from prompt2lora.serving.job_queue import DONE, QueuedJob

ANSWERS = ("free", "auto", "choices", "number", "date", "pattern")
STEPS = {  # of every kind of work, in their order
    "generate": ("load", "advise", "make", "measure", "judge"),
    "inspect": ("load", "measure"),
    "refine": ("load", "refine", "measure"),
    "explain": ("load", "read", "answer", "leave_out"),
    "answer": ("rows",),
    "replay": ("load", "replay"),
    "regenerate": ("load", "make", "measure"),
}
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
    )


def generate(request: PageRequest) -> Response:
    """A file that cannot be read, or a name that is not allowed, is refused before anything starts."""
    prompts, read = _prompts(request)
    if not request.value("job").strip():
        raise TranslatableError("no_name")
    examples, of_examples = _pairs(request, "examples")
    if not prompts and not examples:
        raise TranslatableError("no_prompts")
    inspection, of_inspection = _pairs(request, "inspection")
    told = full_examples(request.value("instruction").strip(), examples)
    form = _form(request, [right for _, right in examples])
    chosen = request.value("comparison")
    comparison = Comparison(chosen) if chosen in list(Comparison) else None
    job, called = request.value("job").strip(), request.value("display_name")
    queued = request.service.generate(
        request.actor, job, prompts, inspection, told, form, comparison=comparison, display_name=called
    )
    return _started(request, queued, [*read, *of_examples, *of_inspection])


def _form(request: PageRequest, right: Sequence[str]) -> AnswerForm | None:
    """What the answers have to be. A detail without a kind that takes one says nothing."""
    kind, detail = request.value("answers", "free"), " ".join(request.value("answers_detail").split())
    return declared(f"{kind}:{detail}" if detail and kind in ("choices", "date", "pattern") else kind, right)


def _started(request: PageRequest, queued: QueuedJob, read: list[Reading]) -> Response:
    """On to the page of a queued job, which also says how its files were read."""
    remember(request.context.readings, queued.id, read)
    return request.redirect(f"/queue/{queued.id}")


def reading_part(request: PageRequest, read: Sequence[Reading], column_field: str = "", **more: Any) -> Response:
    """A part of a page: how files are read; of a table with several columns, one may be chosen in `column_field`."""
    shown = {"advice": None, "count": 0, "refused": None, **more}
    return request.render("advice.html", read=read, column_field=column_field, **shown)


def refused_part(request: PageRequest, error: UsageError) -> Response:
    """A part of a page: why a file or a text cannot be read."""
    return reading_part(request, [], refused=request.translator.explain(error))


def forgets_column(request: PageRequest, field: str, error: UsageError) -> bool:
    """Whether a file was refused for a column that was chosen for another file, which is forgotten now."""
    missing = isinstance(error, InputError) and error.rule == "no_column"
    return missing and bool(request.form.values.pop(field, ""))


def advise(request: PageRequest) -> Response:
    """A part of a page: findings on the prompts as they are now."""
    try:
        prompts, read = _prompts(request)
    except UsageError as error:
        if forgets_column(request, "prompts_column", error):
            return advise(request)
        return refused_part(request, error)
    advice = request.context.typing_checks.check(prompts)
    return reading_part(request, read, "prompts_column", advice=advice, count=len(prompts))


def read_so_far(request: PageRequest, name: str) -> Response:
    """A part of a page: how the examples that stand in a field now are read."""
    try:
        _, read = _pairs(request, name)
    except UsageError as error:
        return refused_part(request, error)
    return reading_part(request, read)


def _sources(request: PageRequest, name: str) -> list[File]:
    """The file of a field, and what was typed into the field itself."""
    file, text = request.file(name), request.value(name)
    typed = [File(request.translator.say("read.typed"), text=text)] if text.strip() else []
    return [*([file] if file else []), *typed]


def _prompts(request: PageRequest) -> tuple[list[str], list[Reading]]:
    """Under their instruction, and how their files were read."""
    instruction, column = request.value("instruction").strip(), request.value("prompts_column")
    found = [
        read_prompts(source, instruction, column if source.text is None else "")
        for source in _sources(request, "prompts")
    ]
    return [prompt for prompts, _ in found for prompt in prompts], [read for _, read in found if read.count]


def _pairs(request: PageRequest, name: str, *, needed: bool = False) -> tuple[list[tuple[str, str]], list[Reading]]:
    """(input, right answer) of a field of examples, and how its files were read."""
    sources = _sources(request, name)
    if needed and not sources:
        raise TranslatableError("no_examples")
    found = [read_examples(source, PARTS[name]) for source in sources]
    return [pair for pairs, _ in found for pair in pairs], [read for _, read in found]


def show_queued(request: PageRequest) -> Response:
    """The progress of a queued job; once it is done, on to its result."""
    queued = request.service.queue.get(str(request.http.path_params["queued"]))
    if queued.state == DONE:
        return _onward(request, queued)
    waiting = [other for other in request.service.queue.recent() if not other.over]
    ahead = len(waiting) - 1 - waiting.index(queued) if queued in waiting else 0
    steps, step = STEPS[queued.kind], queued.progress.get("step")
    return request.render(
        "queued.html",
        queued=queued,
        called=request.service.plant.registry.display_names().get(queued.job, queued.job),
        ahead=ahead,
        steps=steps,
        step=steps.index(step) if step in steps else 0,
        share=share_of(queued.progress),
        left=queued.progress.get("seconds_left"),
        read=request.context.readings.get(queued.id, []),
    )


def cancel(request: PageRequest) -> Response:
    """Stop what is queued; what has ended meanwhile is shown as it is."""
    id = str(request.http.path_params["queued"])
    try:
        request.service.cancel(request.actor, id)
    except Conflict:
        return request.redirect(f"/queue/{id}")
    return request.redirect(f"/queue/{id}", done="cancelled")


def _onward(request: PageRequest, queued: QueuedJob) -> Response:
    result, place = queued.result or {}, f"/jobs/{queued.job}"
    if queued.kind == "generate":
        return request.redirect(f"{place}/try", version=result["version"], done="made")
    if queued.kind == "inspect":
        return request.redirect(f"{place}/inspection", version=result["version"], done="inspected")
    if queued.kind == "refine":
        return request.redirect(f"{place}/refine", version=result["version"], queued=queued.id)
    if queued.kind == "explain":
        return request.redirect(f"{place}/why", version=request.context.explained.get(queued.id))
    if queued.kind == "answer":
        return request.redirect(f"{place}/sheet", queued=queued.id, done="answered")
    if queued.kind == "regenerate":
        return request.redirect("", done="regenerated")
    return request.redirect(f"{place}/watch", done="alarm" if result.get("alarm") else "replayed")


def show_inspection(request: PageRequest) -> Response:
    found, version = opened(request)
    kept = request.service.plant.registry
    judged, measured = kept.judgement(version), kept.measured(version)
    return job_page(
        request,
        "inspection",
        found,
        version,
        verdict=judged.verdict.result if judged else None,
        checks=checks(judged),
        inspected=inspection(measured, version.comparison),
        set_aside=measured.set_aside,
        taken=TAKEN,
        enough=ENOUGH_EXAMPLES,
        examples=request.value("inspection"),
    )


def inspect(request: PageRequest) -> Response:
    """Measure on examples, or (`anew`) judge what was measured before by the policy in force."""
    _, version = opened(request)
    pairs, read = ([], []) if request.value("anew") else _pairs(request, "inspection", needed=True)
    return _started(request, request.service.inspect(request.actor, request.job, version.name, pairs), read)


def show_refine(request: PageRequest) -> Response:
    found, version = opened(request)
    refined = [
        queued for queued in request.service.queue.recent() if (queued.kind, queued.job) == ("refine", request.job)
    ]
    ended = next(
        (queued for queued in refined if queued.state == DONE and request.value("queued") in ("", queued.id)), None
    )
    return job_page(
        request,
        "refine",
        found,
        version,
        taken=TAKEN,
        examples=request.value("examples"),
        result=ended.result if ended else None,
    )


def refine(request: PageRequest) -> Response:
    _, version = opened(request)
    pairs, read = _pairs(request, "examples", needed=True)
    return _started(request, request.service.refine(request.actor, request.job, version.name, pairs), read)


PAGES = (
    Page("GET", "/new", show_new, (MAKE,)),
    Page("POST", "/new", generate, (MAKE,), show_new),
    Page("POST", "/new/advice", advise, (MAKE,)),
    Page("POST", "/new/examples", partial(read_so_far, name="examples"), (MAKE,)),
    Page("POST", "/new/inspection", partial(read_so_far, name="inspection"), (MAKE,)),
    Page("GET", "/queue/{queued}", show_queued),
    Page("POST", "/queue/{queued}/cancel", cancel, (MAKE,)),
    Page("GET", "/jobs/{job}/inspection", show_inspection, (LOOK,)),
    Page("POST", "/jobs/{job}/inspection", inspect, (MAKE,), show_inspection),
    Page("GET", "/jobs/{job}/refine", show_refine, (LOOK,)),
    Page("POST", "/jobs/{job}/refine", refine, (MAKE,), show_refine),
)
