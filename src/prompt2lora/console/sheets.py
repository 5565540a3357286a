"""A whole spreadsheet answered by what is released for a job: the form, what came of it, and the file to take away.

In: forms with a file. Out: queued jobs, a page, the same file with the answers. The work goes on where it was if the
same file comes again after a cut.
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from prompt2lora.console.form_fields import forgets_column, reading_part, refused_part, started
from prompt2lora.console.i18n import TranslatableError
from prompt2lora.console.job_pages import job_page, opened
from prompt2lora.console.page_request import NotFound, Page, PageRequest
from prompt2lora.custody.access import LOOK, MAKE
from prompt2lora.errors import UsageError
from prompt2lora.ground.answer_sheet import read_answer_sheet
from prompt2lora.plant.calibration import calibration_of
from prompt2lora.serving import answered_files

TAKEN = ".csv,.tsv,.xlsx,.txt"
_KINDS = {
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "xlsm": "application/vnd.ms-excel.sheet.macroEnabled.12",
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
}


def show_sheet(request: PageRequest) -> Response:
    found, version = opened(request)
    answering = found.answering
    kept = request.service.plant.registry
    learned = calibration_of(kept.measured(answering), answering.comparison).examples if answering else 0
    files = answered_files.of_job(request.job)
    return job_page(
        request,
        "sheet",
        found,
        version,
        taken=TAKEN,
        files=files,
        result=next((file for file in files if file.file == request.value("file")), None),
        bound=request.value("bound", "80"),
        learned=learned,
    )


def read_so_far(request: PageRequest) -> Response:
    """A part of a page: which column of the file would be answered, and its first rows."""
    column = request.value("column").strip()
    try:
        file = request.file("sheet")
        if file is None:
            raise TranslatableError("no_sheet")
        sheet = read_answer_sheet(file, column)
    except UsageError as error:
        if forgets_column(request, "column", error):
            return read_so_far(request)
        return refused_part(request, error)
    return reading_part(request, [replace(sheet.reading, first=tuple(sheet.texts.values())[:3])], "column")


async def start(request: PageRequest) -> Response:
    """A file that cannot be read is refused before anything starts; the same one sent twice is answered once."""
    file = request.file("sheet")
    if file is None:
        raise TranslatableError("no_sheet")
    bound = _bound(request)
    await run_in_threadpool(opened, request)
    column, language = request.value("column").strip(), request.translator.language
    sheet = await run_in_threadpool(read_answer_sheet, file, column)
    queued = await run_in_threadpool(
        request.service.answer_file, request.actor, request.job, file, column, bound, language
    )
    return started(request, queued, [sheet.reading])


def take(request: PageRequest) -> Response:
    """The file with its answers."""
    wanted = str(request.http.path_params["file"])
    found = next((file for file in answered_files.of_job(request.job) if file.file == wanted), None)
    data = answered_files.read(found.file) if found else None
    if data is None:
        raise NotFound("no_page")
    ending = wanted.rpartition(".")[2]
    name = quote(f"{request.job}-answered.{ending}")
    return Response(data, media_type=_KINDS[ending], headers={"Content-Disposition": f'attachment; filename="{name}"'})


def _bound(request: PageRequest) -> float:
    try:
        percent = float(request.value("bound", "0"))
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:
        raise TranslatableError("number", least="0", most="100")
    return percent / 100


PAGES = (
    Page("GET", "/jobs/{job}/sheet", show_sheet, (LOOK,)),
    Page("POST", "/jobs/{job}/sheet", start, (MAKE,), show_sheet),
    Page("POST", "/jobs/{job}/sheet/read", read_so_far, (MAKE,)),
    Page("GET", "/jobs/{job}/sheet/{file}", take, (LOOK,)),
)
