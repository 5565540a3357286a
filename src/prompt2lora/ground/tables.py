"""A file's name and bytes -> its lines, its JSON records or its table, and how they were read.

In: a name and bytes, or a text that was pasted. Out: a `Table`. What a file holds counts more than how it is called; an
encoding is taken only if the whole file is text in it. It knows neither prompts nor examples.
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from prompt2lora.errors import InputError
from prompt2lora.ground.delimited import Known, Rows, is_even, split_rows
from prompt2lora.ground.prompts import plain_lines
from prompt2lora.ground.spreadsheets import ERRORS, read_sheet

TAKEN = ".txt,.csv,.tsv,.xlsx,.jsonl"  # the endings that are told to people
TEXT, JSONL, CSV, EXCEL = "text", "JSONL", "CSV", "Excel"
MOST_BYTES = 64 * 2**20
_ZIP, _OLD_EXCEL = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
_NO_TEXT = (b"%PDF-", b"{\\rtf", b"\x1f\x8b")
_LINES_ENDINGS, _TABLE_ENDINGS = ("jsonl", "ndjson"), ("csv", "tsv", "tab")
_JSON = "json"
_JAPANESE_ESCAPES = (b"\x1b$@", b"\x1b$B", b"\x1b(I")  # from here on kanji of 1978, of 1983, half-width kana
_DELIMITER_TOLD = re.compile("\\Asep=[;,\t](?=\n)")  # by Excel; what ends the line stays
_KANA = re.compile("[\u3041-\u30ff]")
_NO_JAPANESE = re.compile("[a-z][^\0-\x7f]|[^\0-\x7f][a-z]|[\ue000-\uf8ff]")  # as accented letters of Europe come out
_LOST_MARK = re.compile("(?<![ｳｶ-ﾄﾊ-ﾎ])ﾞ|(?<![ﾊ-ﾎ])ﾟ")  # a voicing mark after a letter that takes none


class File(NamedTuple):
    """`text` takes the place of `data` where something was typed or pasted."""

    name: str
    data: bytes = b""
    text: str | None = None

    @classmethod
    def open(cls, place: Path) -> File:
        """Raises InputError if it cannot be read, or is larger than MOST_BYTES."""
        try:
            with place.open("rb") as stream:
                data = stream.read(MOST_BYTES + 1)
        except OSError as error:
            raise InputError("no_file", f"{place}: cannot be read ({error.strerror}); check the path") from error
        if len(data) > MOST_BYTES:
            raise InputError(
                "large_file",
                f"{place}: a file may have {MOST_BYTES // 2**20} MB, this one has more; send fewer",
            )
        return cls(str(place), data)

    @property
    def ending(self) -> str:
        return Path(self.name).suffix.lower().removeprefix(".")


@dataclass(frozen=True)
class Table:
    """`rows` of cells with their numbers in the file (a text has one cell a line), or `records` if they are JSON.
    `tells_delimiter` if a line `sep=` stands above them."""

    name: str
    format: str
    encoding: str = ""
    delimiter: str = ""
    tells_delimiter: bool = False
    sheet: str = ""
    sheets: int = 1
    rows: Rows = field(default_factory=list)
    records: list[tuple[int, Any]] = field(default_factory=list)

    @cached_property
    def width(self) -> int:
        return max((len(cells) for _, cells in self.rows), default=0)

    def holds_error(self, text: str) -> bool:
        """Whether a cell is what Excel shows where a formula failed, and no text."""
        return self.format in (CSV, EXCEL) and text.strip() in ERRORS


def read_table(file: File, known: Known, least: int = 1) -> Table:
    """What a file holds; `known` counts the names of columns in a row, `least` columns are needed."""
    name = file.name
    if file.text is None and _is_excel(file):
        rows, sheet, sheets = read_sheet(name, file.data)
        return Table(name, EXCEL, sheet=sheet, sheets=sheets, rows=rows)
    text, encoding = (file.text, "") if file.text is not None else _decoded(file)
    text = plain_lines(text.removeprefix("\ufeff"))
    _refuse_control(name, text)
    text, told = _DELIMITER_TOLD.subn("", text)
    if (entries := _document(file, text, known)) is not None:
        return Table(name, JSONL, encoding, records=list(enumerate(entries, 1)))
    if file.ending in (*_LINES_ENDINGS, _JSON) or _holds_json(text, known):
        return Table(name, JSONL, encoding, records=_records(name, text))
    lines = [(number, [line.strip()]) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if file.ending not in _TABLE_ENDINGS and least == 1 and not _is_table(lines, known):
        return Table(name, TEXT, encoding, rows=lines)
    rows, delimiter = split_rows(name, text, known, least)
    return Table(name, CSV, encoding, delimiter, tells_delimiter=bool(told), rows=rows)


def _is_excel(file: File) -> bool:
    """Raises InputError for what is neither Excel nor text by its first bytes, or by its name."""
    name = file.name
    if file.data.startswith(_OLD_EXCEL) or file.ending == "xls":
        raise InputError(
            "old_excel",
            f"{name}: an old Excel file, or one with a password; save it as .xlsx without a password",
            name=name[:80],
        )
    if file.data.startswith(_ZIP):
        return True
    if file.ending in ("xlsx", "xlsm", "pdf", "docx") or file.data.startswith(_NO_TEXT):
        raise InputError(
            "file_type",
            f"{name}: name a text, CSV, Excel (.xlsx) or JSONL file; this is none of them",
            name=name[:80],
        )
    return False


def _decoded(file: File) -> tuple[str, str]:
    """(text, the encoding's name). Raises InputError."""
    data = file.data
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text, told = _text(data, "utf-16"), "UTF-16"
    elif data.startswith(codecs.BOM_UTF8):
        text, told = _text(data, "utf-8-sig"), "UTF-8 with mark"
    elif any(escape in data for escape in _JAPANESE_ESCAPES):  # valid UTF-8 too, as letters without sense
        text, told = _text(data, "iso2022_jp_ext"), "ISO-2022-JP"
    else:
        text, told = _text(data, "utf-8"), "UTF-8"
        if text is None:
            text, told = _japanese(data)
    if text is None:
        raise InputError(
            "not_text",
            f"{file.name}: must be text in UTF-8, UTF-16, Shift-JIS, EUC-JP or ISO-2022-JP, and is not; "
            "save it as UTF-8",
            name=file.name[:80],
        )
    return text, told


def _text(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None


def _japanese(data: bytes) -> tuple[str | None, str]:
    """Shift-JIS or EUC-JP, or None and nothing told.

    Almost any bytes are Shift-JIS: what has no kana, but letters of another kind beside small Latin ones, or such as
    nobody assigned, was written in another encoding. EUC-JP comes out of that as half-width kana at random, and what is
    both has kana in one of the two alone; if in none, it is Shift-JIS unless half-width voicing marks stand at random.
    """
    found = ((_text(data, codec), told) for codec, told in (("cp932", "Shift-JIS"), ("euc_jis_2004", "EUC-JP")))
    likely = [(text, told) for text, told in found if text and (_KANA.search(text) or not _NO_JAPANESE.search(text))]
    return max(likely, key=lambda one: (bool(_KANA.search(one[0])), not _LOST_MARK.search(one[0])), default=(None, ""))


def _refuse_control(name: str, text: str) -> None:
    for place, letter in enumerate(text):
        if letter < " " and letter not in "\t\n":
            line = text.count("\n", 0, place) + 1
            raise InputError(
                "not_text",
                f"{name}:{line}: text is needed, and this is binary (it holds U+{ord(letter):04X}); "
                "remove it, or name a text, CSV, Excel or JSONL file",
                name=name[:80],
            )


def _document(file: File, text: str, known: Known) -> list[Any] | None:
    """The entries of a text that is one JSON array or object as a whole: of an object with a key that is known that
    itself, else those of its only list. None for lines, of which a single one may be JSON, too.

    Raises InputError if there is no such list.
    """
    plain = text.strip()
    if plain[:1] not in ("[", "{") or (plain[0] == "{" and file.ending in _LINES_ENDINGS):
        return None
    try:
        found = json.loads(plain)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict) and _is_entry(found, known):
        return [found]
    is_line = "\n" not in plain and file.ending != _JSON
    if is_line and isinstance(found, dict):
        return None
    lists = [found] if isinstance(found, list) else [value for value in found.values() if isinstance(value, list)]
    entries = lists[0] if len(lists) == 1 and "instruction" not in found else []
    if entries and all(isinstance(one, str | dict) for one in entries):
        return entries
    if is_line:
        return None
    raise InputError(
        "no_list",
        f"{file.name}: JSON must hold one list of texts or objects and no instruction beside it, and this "
        "does not; write one object a line (JSONL)",
        name=file.name[:80],
    )


def _is_entry(record: dict[str, Any], known: Known) -> bool:
    """Whether an object has a key that is known, or begins a task file."""
    return bool(known([*record]) or "task" in record)


def _holds_json(text: str, known: Known) -> bool:
    """Whether the first line is an object with a key that is known."""
    first = text.lstrip().split("\n", 1)[0]
    if not first.startswith("{"):
        return False
    try:
        record = json.loads(first)
    except (ValueError, RecursionError):
        return bool(known(re.findall(r'"([^"]*)"\s*:', first[:1000])))
    return isinstance(record, dict) and _is_entry(record, known)


def _records(name: str, text: str) -> list[tuple[int, Any]]:
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                found.append((number, json.loads(line)))
            except (ValueError, RecursionError) as error:
                raise InputError(
                    "broken_json", f"{name}:{number}: every line must be JSON ({error}); correct the line", line=number
                ) from error
    return found


def _is_table(lines: Rows, known: Known) -> bool:
    """Whether a text is a table: with several names of columns at its beginning, one between tabs; or of as many cells
    in every line, between tabs (nobody types these) or below one such name. (A sentence that begins with such a word
    and a comma is none, and so are several.)"""
    for delimiter in "\t;,":
        rows = [(number, cells[0].split(delimiter)) for number, cells in lines]
        first = rows[0][1] if rows else []
        if len(first) > 1 and known(first) + is_even(rows) + (delimiter == "\t") > 1:
            return True
    return False
