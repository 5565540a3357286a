"""A table whose rows are to be answered: a CSV or Excel file, or a text with a row a line; and the same file, answered.

In: a file and the name of its column of texts. Out: the texts by their rows, and the rows that hold none, each with the
reason; later the bytes of the same file with an answer, a confidence and a note beside every row. It knows no models.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from prompt2lora.errors import InputError
from prompt2lora.ground.entries import Entry, entries, knowing
from prompt2lora.ground.prompts import MAX_CHARACTERS, is_half
from prompt2lora.ground.reading import TEXTS, Reading
from prompt2lora.ground.tables import EXCEL, JSONL, TEXT, File, Table, read_table

HEADS = {"en": ("answer", "confidence", "note"), "ja": ("回答", "確信度", "備考")}
UNSURE = {"en": "unsure", "ja": "要確認"}
NO_TEXT, LONG_TEXT, HALF_TEXT, WIDE_ROW = "no text", "text too long", "half a character", "more cells than the header"
ERROR_VALUE, CUT = "an error of Excel", "cut off"
NOTES_JA = {
    NO_TEXT: "テキストなし",
    LONG_TEXT: "テキストが長すぎます",
    HALF_TEXT: "文字が壊れています",
    WIDE_ROW: "見出しより列が多い行です",
    ERROR_VALUE: "Excel のエラー値です",
    CUT: "回答が途中で切れています",
}
_REFUSALS_JA = {  # what an engine says of a single row
    r"(\d+) tokens(?:, prompt and answer)? together": r"元のモデルが一度に読める長さ（\1 トークン）を超えています",
    r"at least one token": NOTES_JA[NO_TEXT],
}
_CODECS = {
    "UTF-16": "utf-16",
    "Shift-JIS": "cp932",
    "EUC-JP": "euc_jis_2004",
    "ISO-2022-JP": "iso2022_jp_ext",
    "UTF-8": "utf-8",
}


class RowAnswer(NamedTuple):
    """What stands beside a row; `confidence` is None where there is no answer."""

    answer: str = ""
    confidence: float | None = None
    note: str = ""

    @property
    def failed(self) -> bool:
        """Whether there is no answer, and a note says why."""
        return bool(not self.answer and self.note)


@dataclass(frozen=True)
class AnswerSheet:
    """`texts` and `wrong` (why a row cannot be asked) are by the row's number in the file."""

    file: File
    table: Table
    reading: Reading
    texts: dict[int, str]
    wrong: dict[int, str]

    @property
    def ending(self) -> str:
        """Of the file that is written."""
        if self.table.format == EXCEL:
            return "xlsm" if self.file.ending == "xlsm" else "xlsx"
        return "tsv" if self.table.delimiter == "\t" else "csv"

    def filled(self, answers: Mapping[int, RowAnswer], language: str = "en") -> bytes:
        """The same file with three columns more."""
        told = {**{line: RowAnswer(note=note_in(language, why)) for line, why in self.wrong.items()}, **answers}
        return self._excel(told, language) if self.table.format == EXCEL else self._delimited(told, language)

    @cached_property
    def _header(self) -> int | None:
        """The number of the row that names the columns."""
        first = min([*self.texts, *self.wrong], default=0)
        above = [line for line, _ in self.table.rows if line < first]
        return above[-1] if self.reading.headed and above else None

    def _excel(self, told: Mapping[int, RowAnswer], language: str) -> bytes:
        from openpyxl import load_workbook  # type: ignore[import-untyped]
        from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE, MergedCell  # type: ignore[import-untyped]

        book = load_workbook(io.BytesIO(self.file.data), keep_vba=self.ending == "xlsm")
        sheet = book[self.table.sheet]
        rows = {*told, self._header}
        place = 1 + max(  # beside what is written, not beside cells that have a colour alone
            column
            for (row, column), cell in sheet._cells.items()
            if cell.value is not None or (row in rows and isinstance(cell, MergedCell))
        )

        def put(row: int, values: tuple[Any, ...]) -> None:
            for column, value in enumerate(values, place):
                value = ILLEGAL_CHARACTERS_RE.sub("", value) if isinstance(value, str) else value
                cell = sheet.cell(row, column, value)
                if isinstance(value, str):
                    cell.data_type = "s"  # an answer that begins with = is no formula
                elif value is not None:
                    cell.number_format = "0.00"

        if self._header:
            put(self._header, HEADS[language])
        for line, one in told.items():
            put(line, (one.answer or None, one.confidence, one.note or None))
        out = io.BytesIO()
        book.save(out)
        return out.getvalue()

    def _delimited(self, told: Mapping[int, RowAnswer], language: str) -> bytes:
        out, delimiter, number = io.StringIO(newline=""), self.table.delimiter or ",", 1
        writer = csv.writer(out, delimiter=delimiter, lineterminator="\r\n")
        if self.table.tells_delimiter:
            out.write(f"sep={delimiter}\r\n")
            number = 2
        if self.table.format == TEXT:
            writer.writerow(["text" if language == "en" else "入力", *HEADS[language]])
        for line, cells in self.table.rows:
            out.write("\r\n" * (line - number))  # blank rows
            number = line + 1 + sum(cell.count("\n") for cell in cells)
            row = [*cells, *[""] * (self.table.width - len(cells))]
            one = told.get(line)
            if line == self._header:
                row += HEADS[language]
            elif one is not None:
                row += [one.answer, "" if one.confidence is None else f"{one.confidence:.2f}", one.note]
            writer.writerow(row)
        try:
            return out.getvalue().encode(_CODECS.get(self.table.encoding, "utf-8-sig"))
        except UnicodeEncodeError:  # an answer holds what that encoding lacks
            return out.getvalue().encode("utf-8-sig")


def note_in(language: str, note: str) -> str:
    """One of our own notes in the language of the file; any other text as it is."""
    return NOTES_JA.get(note, note) if language == "ja" else note


def refusal_in(language: str, refusal: str) -> str:
    """Why an engine refused a row, in the language of the file; what is not known keeps its own words."""
    if language != "ja":
        return refusal
    for pattern, said in _REFUSALS_JA.items():
        if found := re.search(pattern, refusal):
            return found.expand(said)
    return f"回答できません（{refusal}）"


def read_answer_sheet(source: Path | File, column: str = "") -> AnswerSheet:
    """The rows of a file that are to be answered. Raises InputError for a file that holds no table, or no text."""
    file = File.open(source) if isinstance(source, Path) else source
    table = read_table(file, knowing(column))
    if table.format == JSONL:
        raise InputError("file_type", f"{file.name}: answers go into CSV or Excel; save it as one", name=file.name[:80])
    taken = entries(table, 1, column)
    told, wrong = taken.told, dict.fromkeys(taken.wide, WIDE_ROW)
    told.pop("skipped")
    for entry in taken.found:
        if why := _trouble(table, entry):
            wrong[entry.line] = why
    texts = {entry.line: (entry.input or "").strip() for entry in taken.found if entry.line not in wrong}
    if not texts:
        taken.unless_wide(table)
        raise InputError("no_texts", f"{file.name}: there is no row with a text to answer; name another --column")
    described = (table.name, TEXTS, len(texts), table.format, table.encoding, table.delimiter)
    reading = Reading(*described, table.sheet, table.sheets, skipped=_counted(wrong), **told)
    return AnswerSheet(file, table, reading, texts, wrong)


def _trouble(table: Table, entry: Entry) -> str:
    text = (entry.input or "").strip()
    if not text:
        return NO_TEXT
    if table.holds_error(text):
        return ERROR_VALUE
    if is_half(text):
        return HALF_TEXT
    return LONG_TEXT if len(text) > MAX_CHARACTERS else ""


def _counted(wrong: Mapping[int, str]) -> tuple[tuple[str, int], ...]:
    return (("that cannot be asked", len(wrong)),) if wrong else ()
