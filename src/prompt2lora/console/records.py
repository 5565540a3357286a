"""The record: every change, page by page, and whether it is as it was written."""

from __future__ import annotations

from fastapi.responses import Response

from prompt2lora.console.desk import Page, Visit

_A_PAGE = 50


def show_record(visit: Visit, checked: int | None = None) -> Response:
    lines = visit.service.plant.registry.audit_lines()[::-1]
    pages = max(1, -(-len(lines) // _A_PAGE))
    asked = visit.typed("page", "1")
    number = min(pages, max(1, int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 9 else 1))
    shown = lines[(number - 1) * _A_PAGE : number * _A_PAGE]
    return visit.page("record.html", lines=shown, number=number, pages=pages, total=len(lines), checked=checked)


def verify(visit: Visit) -> Response:
    """Raises DamagedFile, which names the first line that is not as it was written."""
    return show_record(visit, visit.service.plant.registry.verify_audit())


PAGES = (
    Page("GET", "/record", show_record),
    Page("POST", "/record", verify, again=show_record),
)
