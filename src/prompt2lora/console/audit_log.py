"""The audit log: every change, page by page, and whether it is as it was written."""

from __future__ import annotations

from fastapi.responses import Response
from sqlalchemy import func, select

from prompt2lora.console.page_request import Page, PageRequest
from prompt2lora.custody import schema

_A_PAGE = 50


def show_record(request: PageRequest, checked: int | None = None) -> Response:
    table = schema.audit
    with request.service.plant.registry.reading() as connection:
        total = connection.scalar(select(func.count()).select_from(table)) or 0
    pages = max(1, -(-total // _A_PAGE))
    asked = request.value("page", "1")
    number = min(pages, max(1, int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 9 else 1))
    wanted = select(table).order_by(table.c.number.desc()).offset((number - 1) * _A_PAGE).limit(_A_PAGE)
    with request.service.plant.registry.reading() as connection:
        lines = connection.execute(wanted).all()
    return request.render("record.html", lines=lines, number=number, pages=pages, total=total, checked=checked)


def verify(request: PageRequest) -> Response:
    """Raises DamagedFile, which names the first line that is not as it was written."""
    return show_record(request, request.service.plant.registry.verify_audit())


PAGES = (
    Page("GET", "/record", show_record),
    Page("POST", "/record", verify, again=show_record),
)
