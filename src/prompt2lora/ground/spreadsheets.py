"""An Excel file's bytes -> the rows of its first visible sheet, as texts.

In: bytes. Out: numbered rows of cells as one reads them in Excel: numbers with the zeros, decimals, percent signs and
units of their format, dates without a midnight. What differs from country to country is written in one way: dates
as 2026-03-01, a point before decimals, nothing between thousands. It refuses what unfolds to more than it should, and
what its reader stumbles over. openpyxl is loaded when the first such file comes.
"""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Any, NamedTuple

from prompt2lora.errors import InputError

ERRORS = frozenset("#NULL! #DIV/0! #VALUE! #REF! #NAME? #NUM! #N/A #SPILL! #CALC!".split())  # where a formula failed
MOST_ROWS, MOST_COLUMNS = 20_000, 50
_MOST_INSIDE = 64 * 2**20  # bytes that an Excel file may unfold to
_MOST_SCANNED = 10_000_000  # cells with the empty ones, of a row at least MOST_COLUMNS
_EXACT = Context(prec=400, rounding=ROUND_HALF_UP)
_PART = re.compile(  # of a format: digits, and beside them what is quoted or escaped, currencies, colours, gaps, signs
    r'(?P<digits>[#0?,]*[#0?](?:\.[#0?]+)?)|"(?P<quoted>[^"]*)"|\\(?P<escaped>.)|\[\$(?P<currency>[^\]-]*)[^\]]*\]'
    r'|\[[A-Za-z]+\d*\]|[_*].|(?P<sign>[^\w@/.,\[\]"\\])'
)
_DURATION = re.compile(r"\[[hms]+\](:[ms]+)*", re.IGNORECASE)
_SECONDS = {"h": 3600, "m": 60, "s": 1}


class Sheet(NamedTuple):
    rows: list[tuple[int, list[str]]]
    name: str
    sheets: int


def read_sheet(name: str, data: bytes) -> Sheet:
    """The rows of the first visible sheet that are not blank, and how many visible sheets there are. Raises
    InputError."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as folded:
            inside = sum(item.file_size for item in folded.infolist())
            if "xl/workbook.xml" not in folded.namelist():
                raise InputError(
                    "file_type", f"{name}: this is not an Excel file; save it as .xlsx or CSV", name=name[:80]
                )
        if inside > _MOST_INSIDE:
            raise _too_many(name)
        return _first_sheet(name, data)
    except InputError:
        raise
    except Exception as error:  # whatever a broken workbook makes its reader stumble over
        raise InputError(
            "broken_excel", f"{name}: this Excel file cannot be read; open it in Excel and save it again"
        ) from error


def _first_sheet(name: str, data: bytes) -> Sheet:
    from openpyxl import load_workbook  # type: ignore[import-untyped]

    rows: list[tuple[int, list[str]]] = []
    scanned = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about parts of Excel that it leaves out, as validation lists
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        try:
            visible = [sheet for sheet in book.worksheets if sheet.sheet_state == "visible"]
            sheet = visible[0]
            sheet.reset_dimensions()  # what the file says of its size may be less than it holds
            for number, row in enumerate(sheet.iter_rows(min_row=1), 1):
                scanned += max(len(row), MOST_COLUMNS)
                cells = ["" if cell.value is None else _shown(cell.value, cell.number_format) for cell in row]
                if any(cells[MOST_COLUMNS:]):
                    raise InputError(
                        "many_columns",
                        f"{name}: at most {MOST_COLUMNS} columns are read and this sheet has more; keep those needed",
                        most=MOST_COLUMNS,
                    )
                if any(cells):
                    rows.append((number, cells[:MOST_COLUMNS]))
                if len(rows) > MOST_ROWS or scanned > _MOST_SCANNED:
                    raise _too_many(name)
            title, count = str(sheet.title), len(visible)
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


def _shown(value: Any, number_format: str) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float):
        return _number(Decimal(value if isinstance(value, int) else format(value, ".15g")), number_format)
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return _duration(round(value.total_seconds()), number_format)
    return str(value).replace("_x000D_", "").replace("\r\n", "\n").replace("\r", "\n").strip()


def _number(value: Decimal, number_format: str) -> str:
    """4711 in "KX-"000000 is KX-004711. In a format with more to it (fractions, powers of ten, conditions) a number is
    written plainly."""
    positive, negative, zero = [*number_format.split(";"), "", ""][:3]
    chosen = negative if value < 0 and negative else zero if value == 0 and zero else positive
    parts = list(_PART.finditer(chosen))
    if "".join(part[0] for part in parts) != chosen or sum(part["digits"] is not None for part in parts) > 1:
        return format(value, "f")
    shown = abs(value).scaleb(2 * sum(part["sign"] == "%" for part in parts), _EXACT)
    text = "".join(
        _digits(shown, part["digits"]) if part["digits"] else next(filter(None, part.groups()), "") for part in parts
    ).strip()
    return f"-{text}" if value < 0 and not negative else text


def _digits(value: Decimal, places: str) -> str:
    """3.14 in 000.0# is 003.14."""
    before, _, after = places.partition(".")
    whole, _, decimals = str(value.quantize(Decimal(1).scaleb(-len(after)), context=_EXACT)).partition(".")
    least = after.count("0")
    decimals = decimals[:least] + decimals[least:].rstrip("0")
    return whole.zfill(before.count("0")) + (f".{decimals}" if decimals else "")


def _duration(seconds: int, number_format: str) -> str:
    """30 hours and 5 minutes in [h]:mm are 30:05."""
    found = _DURATION.search(number_format)
    units = (found[0] if found else "[h]:mm:ss").lower().split(":")
    counts = [abs(seconds) // _SECONDS[unit.strip("[]")[0]] for unit in units]
    shown = [counts[0], *(count % 60 for count in counts[1:])]
    text = ":".join(str(count).zfill(len(unit.strip("[]"))) for count, unit in zip(shown, units, strict=True))
    return f"-{text}" if seconds < 0 else text
