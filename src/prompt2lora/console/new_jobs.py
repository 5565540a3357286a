"""Making and measuring: a new job, its inspection, its second stage, and the work that runs meanwhile.

In: forms with texts or files. Out: works, and pages that show how far they are. Everything heavy runs in a work.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fastapi.responses import Response

from prompt2lora.console.i18n import Told
from prompt2lora.console.jobs import job_page, opened
from prompt2lora.console.views import ENOUGH_ROWS, checks, inspection
from prompt2lora.console.visits import Page, Visit, remember
from prompt2lora.custody.access import LOOK, MAKE
from prompt2lora.errors import UsageError
from prompt2lora.ground.examples import Reading, read_examples, read_prompts
from prompt2lora.ground.tables import TAKEN, File
from prompt2lora.serving.job_queue import DONE, Work

STEPS = ("advise", "make", "measure", "judge")
_SAMPLE = Path(__file__).parent / "sample"


@cache
def sample() -> dict[str, str]:
    """A job to try the console with: what one would have typed."""
    instruction, *prompts = (_SAMPLE / "prompts.txt").read_text(encoding="utf-8").splitlines()
    return {
        "job": "sample",
        "instruction": instruction,
        "prompts": "\n".join(prompts),
        "rows": (_SAMPLE / "rows.csv").read_text(encoding="utf-8"),
        "learn": (_SAMPLE / "learn.csv").read_text(encoding="utf-8"),
    }


def show_new(visit: Visit) -> Response:
    given = sample() if visit.typed("sample") and not visit.form.values else {}
    fields = {name: visit.typed(name, given.get(name, "")) for name in ("job", "instruction", "prompts", "rows")}
    return visit.page("new.html", fields=fields, taken=TAKEN, sample=bool(visit.typed("sample")), enough=ENOUGH_ROWS)


def generate(visit: Visit) -> Response:
    """A file that cannot be read, or a name that cannot be one, is told before anything begins."""
    prompts, read = _prompts(visit)
    if not visit.typed("job").strip():
        raise Told("no_name")
    if not prompts:
        raise Told("no_prompts")
    labelled, told = _labelled(visit) if _has_rows(visit) else ([], [])
    work = visit.service.generate(visit.name, visit.typed("job").strip(), prompts, labelled)
    return _begun(visit, work, [*read, *told])


def _begun(visit: Visit, work: Work, read: list[Reading]) -> Response:
    """On to the page of a work, which also says how its files were read."""
    remember(visit.desk.readings, work.id, read)
    return visit.go(f"/works/{work.id}")


def advise(visit: Visit) -> Response:
    """A part of a page: what is to be said of the prompts that stand there now."""
    try:
        prompts, read = _prompts(visit)
    except UsageError as error:
        return visit.page("advice.html", advice=None, count=0, refused=visit.words.told(error), read=[])
    advice = visit.desk.adviser.advise(prompts)
    return visit.page("advice.html", advice=advice, count=len(prompts), refused=None, read=read)


def read_rows(visit: Visit) -> Response:
    """A part of a page: how the examples that stand there now are read."""
    try:
        _, read = _labelled(visit) if _has_rows(visit) else ([], [])
    except UsageError as error:
        return visit.page("advice.html", advice=None, count=0, refused=visit.words.told(error), read=[])
    return visit.page("advice.html", advice=None, count=0, refused=None, read=read)


def _sources(visit: Visit, name: str) -> list[File]:
    """The file of a field, and what was typed into the field itself."""
    file, text = visit.form.files.get(f"{name}_file"), visit.typed(name)
    typed = [File(visit.words.say("read.typed"), text=text)] if text.strip() else []
    return [*([File(*file)] if file else []), *typed]


def _prompts(visit: Visit) -> tuple[list[str], list[Reading]]:
    """Under their instruction, and how their files were read."""
    found = [read_prompts(source, visit.typed("instruction").strip()) for source in _sources(visit, "prompts")]
    return [prompt for prompts, _ in found for prompt in prompts], [read for _, read in found if read.count]


def _has_rows(visit: Visit) -> bool:
    return bool(_sources(visit, "rows"))


def _labelled(visit: Visit) -> tuple[list[tuple[str, str]], list[Reading]]:
    if not _has_rows(visit):
        raise Told("no_rows")
    found = [read_examples(source) for source in _sources(visit, "rows")]
    return [pair for pairs, _ in found for pair in pairs], [read for _, read in found]


def show_work(visit: Visit) -> Response:
    """How far a work is; once it is done, on to what came of it."""
    work = visit.service.works.get(str(visit.request.path_params["work"]))
    if work.state == DONE:
        return _onward(visit, work)
    waiting = [other for other in visit.service.works.recent() if not other.over]
    ahead = len(waiting) - 1 - waiting.index(work) if work in waiting else 0
    step = work.progress.get("step")
    return visit.page(
        "work.html",
        work=work,
        ahead=ahead,
        steps=STEPS,
        step=STEPS.index(step) if step in STEPS else 0,
        read=visit.desk.readings.get(work.id, []),
    )


def _onward(visit: Visit, work: Work) -> Response:
    result, place = work.result or {}, f"/jobs/{work.job}"
    if work.kind == "generate":
        return visit.go(f"{place}/try", version=result["version"], done="made")
    if work.kind == "inspect":
        return visit.go(f"{place}/inspection", version=result["version"], done="inspected")
    if work.kind == "refine":
        return visit.go(f"{place}/refine", version=result["version"], work=work.id)
    if work.kind == "explain":
        return visit.go(f"{place}/why", version=visit.desk.explained.get(work.id))
    if work.kind == "regenerate":
        return visit.go("", done="regenerated")
    return visit.go(f"{place}/watch", done="alarm" if result.get("alarm") else "replayed")


def show_inspection(visit: Visit) -> Response:
    found, version = opened(visit)
    kept = visit.service.plant.registry
    judged = kept.judgement(version)
    return job_page(
        visit,
        "inspection",
        found,
        version,
        verdict=judged.verdict.result if judged else None,
        checks=checks(judged),
        inspected=inspection(kept.measured(version)),
        taken=TAKEN,
        enough=ENOUGH_ROWS,
        rows=visit.typed("rows"),
    )


def inspect(visit: Visit) -> Response:
    """Measure on rows, or (`anew`) judge what was measured before by the policy in force."""
    _, version = opened(visit)
    labelled, read = ([], []) if visit.typed("anew") else _labelled(visit)
    return _begun(visit, visit.service.inspect(visit.name, visit.job, version.name, labelled), read)


def show_refine(visit: Visit) -> Response:
    found, version = opened(visit)
    works = [work for work in visit.service.works.recent() if (work.kind, work.job) == ("refine", visit.job)]
    given = sample()["learn"] if visit.job == sample()["job"] and not visit.form.values else ""
    ended = next((work for work in works if work.state == DONE and visit.typed("work") in ("", work.id)), None)
    return job_page(
        visit,
        "refine",
        found,
        version,
        taken=TAKEN,
        rows=visit.typed("rows", given),
        sample=bool(given),
        result=ended.result if ended else None,
    )


def refine(visit: Visit) -> Response:
    _, version = opened(visit)
    labelled, read = _labelled(visit)
    return _begun(visit, visit.service.refine(visit.name, visit.job, version.name, labelled), read)


PAGES = (
    Page("GET", "/new", show_new, (MAKE,)),
    Page("POST", "/new", generate, (MAKE,), show_new),
    Page("POST", "/new/advice", advise, (MAKE,)),
    Page("POST", "/new/rows", read_rows, (MAKE,)),
    Page("GET", "/works/{work}", show_work),
    Page("GET", "/jobs/{job}/inspection", show_inspection, (LOOK,)),
    Page("POST", "/jobs/{job}/inspection", inspect, (MAKE,), show_inspection),
    Page("GET", "/jobs/{job}/refine", show_refine, (LOOK,)),
    Page("POST", "/jobs/{job}/refine", refine, (MAKE,), show_refine),
)
