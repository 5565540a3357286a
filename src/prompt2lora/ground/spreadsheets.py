"""An Excel file's bytes -> the rows of its first sheet, as texts.

In: bytes. Out: numbered rows of cells as one reads them in Excel: dates without a midnight, whole numbers without a
point. It refuses what unfolds to more than it should, and what its reader stumbles over. openpyxl is loaded when the
first such file comes.
"""

from __future__ import annotations

import io
import warnings
import zipfile
from datetime import date, datetime, time, timedelta
from typing import Any, NamedTuple

from prompt2lora.errors import InputError

MOST_ROWS, MOST_COLUMNS = 20_000, 50
_MOST_INSIDE = 64 * 2**20  # bytes that an Excel file may unfold to
_MOST_SCANNED = 200_000  # rows with the empty ones


class Sheet(NamedTuple):
    rows: list[tuple[int, list[str]]]
    name: str
    sheets: int


def read_sheet(name: str, data: bytes) -> Sheet:
    """The rows of the first sheet that are not blank. Raises InputError."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as folded:
            inside = sum(item.file_size for item in folded.infolist())
            if "xl/workbook.xml" not in folded.namelist():
                raise InputError("file_type", f"{name}: this is no Excel file; save it as .xlsx or CSV", name=name[:80])
        if inside > _MOST_INSIDE:
            raise _too_many(name)
        return _first_sheet(name, data)
    except InputError:
        raise
    except Exception as error:  # whatever a broken workbook makes its reader stumble over
        raise InputError(
            "broken_excel", f"{name}: this Excel file cannot be read; open it in Excel and save it anew"
        ) from error


def _first_sheet(name: str, data: bytes) -> Sheet:
    from openpyxl import load_workbook  # type: ignore[import-untyped]

    rows: list[tuple[int, list[str]]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about parts of Excel that it leaves out, as validation lists
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        try:
            sheet = book.worksheets[0]
            for number, row in enumerate(sheet.iter_rows(values_only=True, max_col=MOST_COLUMNS + 1), 1):
                cells = [_cell(value) for value in row]
                if any(cells[MOST_COLUMNS:]):
                    raise InputError(
                        "many_columns",
                        f"{name}: at most {MOST_COLUMNS} columns are read and this sheet has more; keep those needed",
                        most=MOST_COLUMNS,
                    )
                if any(cells):
                    rows.append((number, cells[:MOST_COLUMNS]))
                if len(rows) > MOST_ROWS or number > _MOST_SCANNED:
                    raise _too_many(name)
            title, count = str(sheet.title), len(book.worksheets)
        finally:
            book.close()
    width = max((len(_trimmed(cells)) for _, cells in rows), default=0)
    return Sheet([(number, (cells + [""] * width)[:width]) for number, cells in rows], title, count)


def _too_many(name: str) -> InputError:
    return InputError(
        "many_rows", f"{name}: at most {MOST_ROWS:,} rows of an Excel file are read; keep those needed", most=MOST_ROWS
    )


def _trimmed(cells: list[str]) -> list[str]:
    last = max((place for place, cell in enumerate(cells) if cell), default=-1)
    return cells[: last + 1]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else format(value, ".15g")
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    return str(value).replace("_x000D_", "").replace("\r\n", "\n").replace("\r", "\n").strip()
