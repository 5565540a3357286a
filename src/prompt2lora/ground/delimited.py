"""Delimited text -> rows of cells, and the delimiter that fits them.

In: a text, and which names of columns are known. Out: numbered rows. A header that holds a known name decides; without
one, the delimiter is taken by which every row has the same number of cells, and never one that cuts sentences at their
commas. It knows neither files nor what the cells mean. (`csv.Sniffer` guesses by how often letters occur; it takes a
space, or a letter, for the delimiter of a column of sentences.)
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import NamedTuple

from prompt2lora.errors import InputError

DELIMITERS = {"\t": "tabs", ";": "semicolons", ",": "commas"}  # what is rarer in a text comes first
_NONE = "\x1f"  # for a text of one column; texts with control characters are refused before

Rows = list[tuple[int, list[str]]]  # the number of a row in its file, and its cells
Known = Callable[[list[str]], int]  # how many cells of a row are names of columns


class Delimited(NamedTuple):
    rows: Rows
    delimiter: str  # empty: one column


def split_rows(name: str, text: str, known: Known, least: int = 1) -> Delimited:
    """The rows of a text that are not blank; `least` columns are needed. Raises InputError."""
    found: dict[str, Rows] = {}
    faults: dict[str, InputError] = {}
    for delimiter in (*DELIMITERS, _NONE):
        try:
            found[delimiter] = _rows(name, text, delimiter)
        except InputError as error:
            faults[delimiter] = error
    first = text.strip().split("\n", 1)[0]
    for delimiter, fault in faults.items():
        head = [cell.strip(' "') for cell in first.split(delimiter)]
        if not found or (len(head) > 1 and known(head)):
            raise fault
    chosen = _chosen(found, known, least)
    if least > 1 and faults and all(len(cells) < least for _, cells in found[chosen]):
        raise next(iter(faults.values()))
    return Delimited(found[chosen], "" if chosen == _NONE else chosen)


def _chosen(found: dict[str, Rows], known: Known, least: int) -> str:
    names = {delimiter: known(rows[0][1]) if rows else 0 for delimiter, rows in found.items()}
    headed = [sign for sign in found if names[sign] and (len(found[sign][0][1]) > 1 or sign == _NONE)]
    if headed:
        return max(headed, key=lambda sign: (names[sign], len(found[sign][0][1])))
    for sign in DELIMITERS:
        if sign in found and is_even(found[sign], least):
            return sign
    if least == 1 and _NONE in found:
        return _NONE
    return max(found, key=lambda sign: len(found[sign][0][1]) if found[sign] else 0)


def is_even(rows: Rows, least: int = 1) -> bool:
    """Whether a text without a known header has the same cells in every row, and they are no parts of sentences.

    One row alone shows nothing; after the comma of a sentence stands a space in every row.
    """
    widths = {len(cells) for _, cells in rows}
    if len(widths) != 1 or max(widths) < 2:
        return False
    if least > 1:
        return True
    return len(rows) > 1 and not all(cell.startswith(" ") for _, cells in rows for cell in cells[1:])


def _rows(name: str, text: str, delimiter: str) -> Rows:
    """Raises InputError that names the line. Quotes that nothing follows but the delimiter are quotes of a cell; if a
    word follows, quotes are letters of the text, everywhere in it."""
    try:
        return _parsed(text, delimiter, csv.QUOTE_MINIMAL)
    except _Broken as error:
        if "expected after" in error.reason:
            return _parsed(text, delimiter, csv.QUOTE_NONE)
        reason = "a quote is not closed" if "unexpected end" in error.reason else error.reason
        raise InputError(
            "broken_csv", f"{name}:{error.line}: cannot be read as CSV ({reason}); correct the line or save it as Excel"
        ) from error


class _Broken(Exception):
    def __init__(self, line: int, reason: str) -> None:
        self.line, self.reason = line, reason
        super().__init__(reason)


def _parsed(text: str, delimiter: str, quoting: int) -> Rows:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)  # type: ignore[arg-type]
    rows, began = [], 1
    try:
        for row in reader:
            cells = [cell if cell.strip() else "" for cell in row]
            if any(cells):
                rows.append((began, cells))
            began = reader.line_num + 1
    except csv.Error as error:
        raise _Broken(began, str(error)) from error
    return rows
