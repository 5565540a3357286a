"""The audit log: every change, page by page, and whether it is as it was written."""

from __future__ import annotations

from fastapi.responses import Response

from prompt2lora.console.page_request import Page, PageRequest

_A_PAGE = 50


def show_record(request: PageRequest, checked: int | None = None) -> Response:
    registry = request.service.plant.registry
    total = registry.audit_count()
    pages = max(1, -(-total // _A_PAGE))
    asked = request.value("page", "1")
    number = min(pages, max(1, int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 9 else 1))
    lines = registry.audit_page((number - 1) * _A_PAGE, _A_PAGE, newest_first=True)
    return request.render("record.html", lines=lines, number=number, pages=pages, total=total, checked=checked)


def verify(request: PageRequest) -> Response:
    """Raises DamagedFile, which names the first line that is not as it was written."""
    return show_record(request, request.service.plant.registry.verify_audit())


PAGES = (
    Page("GET", "/record", show_record),
    Page("POST", "/record", verify, again=show_record),
)
