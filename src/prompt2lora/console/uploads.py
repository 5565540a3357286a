"""Files and pasted text -> prompts, or rows with their right answers: text, CSV, Excel, JSONL.

In: a file's name and bytes, or a text. Out: texts. It looks at what a file holds and not only at its name, takes what
Japanese spreadsheets write (cp932), and refuses everything else by name. It knows no forms.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from openpyxl import load_workbook  # type: ignore[import-untyped]

from prompt2lora.console.i18n import Told

TAKEN = ".txt,.csv,.tsv,.xlsx,.jsonl"
_INPUT = ("input", "prompt", "text", "入力", "入力例", "内容", "文")
_OUTPUT = ("output", "answer", "right", "label", "正解", "出力", "答え", "回答")
_MOST_INSIDE = 64 * 2**20  # bytes that an Excel file may unfold to
_MOST_ROWS = 20_000
_EXCEL, _OLD_EXCEL = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"

Table = list[list[str]]


def prompts(name: str, data: bytes) -> list[str]:
    """The prompts of a file. Raises Told."""
    if _is_excel(name, data):
        return _column(_excel(data))
    text = _text(name, data)
    if _ending(name) in ("csv", "tsv"):
        return _column(_csv(text))
    return pasted_prompts(text)


def pasted_prompts(text: str) -> list[str]:
    """A prompt a line; lines that are JSON as in a JSONL file."""
    if text.lstrip().startswith('{"'):
        return _column(_json(text))
    return [line.strip() for line in text.splitlines() if line.strip()]


def labelled(name: str, data: bytes) -> list[tuple[str, str]]:
    """The rows of a file with their right answers. Raises Told that names the row."""
    if _is_excel(name, data):
        return _pairs(_excel(data))
    return pasted_labelled(_text(name, data))


def pasted_labelled(text: str) -> list[tuple[str, str]]:
    """Rows as they are copied from a spreadsheet (tab between the columns), or CSV, or JSONL."""
    if text.lstrip().startswith('{"'):
        return _pairs(_json(text))
    return _pairs(_csv(text))


def as_text(rows: Sequence[tuple[str, str]]) -> str:
    """Rows as CSV, as one may paste them again."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([("input", "output"), *rows])
    return out.getvalue()


def _ending(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _is_excel(name: str, data: bytes) -> bool:
    if data.startswith(_OLD_EXCEL) or _ending(name) == "xls":
        raise Told("old_excel", name=name[:80])
    if data.startswith(_EXCEL) and _ending(name) == "xlsx":
        return True
    if _ending(name) not in TAKEN.replace(".", "").split(",") or _ending(name) == "xlsx":
        raise Told("file_type", name=name[:80])
    return False


def _text(name: str, data: bytes) -> str:
    for encoding in ("utf-8-sig", "cp932"):
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if not any(letter < " " and letter not in "\t\r\n" for letter in text):
            return text
    raise Told("not_text", name=name[:80])


def _excel(data: bytes) -> Table:
    """The first sheet."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as folded:
            if sum(item.file_size for item in folded.infolist()) > _MOST_INSIDE:
                raise Told("many_rows", most=_MOST_ROWS)
        book = load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        rows = []
        for row in book.worksheets[0].iter_rows(values_only=True, max_col=50):
            cells = [_cell(value) for value in row]
            if any(cells):
                rows.append(cells)
            if len(rows) > _MOST_ROWS:
                raise Told("many_rows", most=_MOST_ROWS)
    except Told:
        raise
    except Exception as error:  # whatever a broken workbook makes its reader stumble over
        raise Told("broken_excel") from error
    return rows


def _cell(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime | date):
        return value.isoformat()
    return "" if value is None else str(value).strip()


def _csv(text: str) -> Table:
    first = text.lstrip().split("\n", 1)[0]
    delimiter = max("\t;,", key=first.count) if any(sign in first for sign in "\t;,") else ","
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise Told("broken_csv") from error
    return [[cell.strip() for cell in row] for row in rows if any(cell.strip() for cell in row)]


def _json(text: str) -> Table:
    """Objects as a table with the columns input and output."""
    rows = [["input", "output"]]
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise Told("broken_json", line=number) from error
        if isinstance(record, str):
            rows.append([record, ""])
        elif isinstance(record, dict):
            given = [next((record[name] for name in names if name in record), None) for names in (_INPUT, _OUTPUT)]
            if given[0] is None and "task" in record:
                continue  # a task file's description
            if given[0] is None:
                raise Told("broken_json", line=number)
            rows.append([_cell(value) for value in given])
        else:
            raise Told("broken_json", line=number)
    return rows


def _head(table: Table, names: Sequence[str]) -> int | None:
    head = [cell.lower() for cell in table[0]] if table else []
    return next((head.index(name) for name in names if name in head), None)


def _column(table: Table) -> list[str]:
    """The column of inputs, or the first one."""
    place = _head(table, _INPUT)
    rows = table if place is None else table[1:]
    return [row[place or 0] for row in rows if len(row) > (place or 0) and row[place or 0]]


def _pairs(table: Table) -> list[tuple[str, str]]:
    """The columns of inputs and of right answers, or the first two."""
    left, right = _head(table, _INPUT), _head(table, _OUTPUT)
    headed = left is not None and right is not None
    if left is None or right is None:
        left, right = 0, 1
    found = []
    for number, row in enumerate(table[1:] if headed else table, 2 if headed else 1):
        if len(row) <= max(left, right) or not row[left] or not row[right]:
            raise Told("row_cells", line=number)
        found.append((row[left], row[right]))
    if not found:
        raise Told("no_rows")
    return found
