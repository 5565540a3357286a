"""The rows or records of a file -> entries: an input, its right answer, its instruction, its picture and its part.

In: a `Table`. Out: entries, whatever the format, and which columns they were taken from. Columns are known by their
names, in English or Japanese; without a known name the first ones are taken, from the first row on. Whether a text is
one that may be used is for examples.py to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from prompt2lora.errors import InputError
from prompt2lora.ground.comparison import composed
from prompt2lora.ground.delimited import Known, Rows
from prompt2lora.ground.prompts import plain_lines
from prompt2lora.ground.tables import EXCEL, JSONL, TEXT, Table

# By these names, the earlier before the later, whatever the case.
INPUT = (
    "prompt",
    "input",
    "text",
    "プロンプト",
    "入力",
    "入力例",
    "入力文",
    "内容",
    "文",
    "文章",
    "本文",
    "テキスト",
    "question",
    "query",
    "message",
    "note",
    "質問",
    "問い合わせ",
)
OUTPUT = ("output", "answer", "right", "label", "正解", "出力", "答え", "回答", "解答", "正答", "ラベル")
_WHOLE = ("prompt", "プロンプト")  # what needs no instruction before it
_INSTRUCTION, _IMAGE, _PART = ("instruction", "指示", "指示文"), ("image", "画像"), ("part",)
_PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".heic")
_MOST_ABOVE = 10  # rows above the header of a spreadsheet: its title, the day


class Entry(NamedTuple):
    """One prompt or example of a file, whatever the format; `line` is where it stands, `image` a picture's path beside
    the file, or its data URL (empty where the file names none)."""

    line: int
    input: str | None
    output: str | None
    instruction: str = ""
    part: str = ""
    image: str = ""


class Entries(NamedTuple):
    """`told` is how they were found; `wide` names the rows with more cells than the header, which are no entries."""

    found: list[Entry]
    told: dict[str, Any]
    wide: dict[int, int]  # by the row's number: its cells

    def unless_wide(self, table: Table) -> tuple[list[Entry], dict[str, Any]]:
        """The entries and what is told of them. Raises InputError if a row is too wide."""
        for line, count in self.wide.items():
            most = self.told["width"]
            raise InputError(
                "row_width",
                f"{table.name}:{line}: a row may have {most} cells, as many as the header, and this one has {count}; "
                "put a text that holds the delimiter between quotes",
                line=line,
                count=count,
                most=most,
            )
        return self.found, self.told


def _names(cells: Sequence[str]) -> list[str]:
    return [composed(str(cell)).strip().strip('"').lower() for cell in cells]


def _find(cells: Sequence[str], known: Sequence[str]) -> int | None:
    names = _names(cells)
    return next((names.index(name) for name in known if name in names), None)


def known_columns(cells: Sequence[str]) -> int:
    """How many of the columns of inputs, answers and pictures a row names."""
    return sum(_find(cells, names) is not None for names in (INPUT, OUTPUT, _IMAGE))


def knowing(column: str) -> Known:
    """How many known names a row has; the one that was asked for says as much as two."""
    wanted = _names([column])[0]
    return lambda cells: known_columns(cells) + 2 * bool(wanted and wanted in _names(cells))


def entries(table: Table, least: int, column: str = "") -> Entries:
    """The entries of a table; `column` is the name or number of the input's.

    Raises InputError.
    """
    if table.format in (JSONL, TEXT) and column:
        raise InputError(
            "no_column",
            f"{table.name}: a column can only be chosen from a table, and this is {table.format}; leave it out",
        )
    if table.format == JSONL:
        values = [record.get(_key(record, _IMAGE) or "") for _, record in table.records if isinstance(record, dict)]
        told = _pictures("image", [value for value in values if value is not None])
        return Entries(list(_from_records(table, "pictures" in told)), {"skipped": {}, **told}, {})
    if table.format == TEXT:
        return Entries([Entry(line, cells[0], None) for line, cells in table.rows], {"skipped": {}}, {})
    return _from_rows(table, least, column)


def _pictures(name: str, values: Sequence[Any]) -> dict[str, str]:
    """What is to be told of the column for pictures: whether it names some, as at least half of its values look like
    files or data URLs of them, or is a column like any other."""
    if not values:
        return {}
    like = sum(isinstance(one, str) and _is_like_a_picture(one) for one in values)
    return {"pictures" if 2 * like >= len(values) else "no_pictures": name}


def _is_like_a_picture(text: str) -> bool:
    return text.lstrip()[:11].lower() == "data:image/" or text.rstrip()[-5:].lower().endswith(_PICTURE_ENDINGS)


def _from_records(table: Table, pictured: bool) -> Iterator[Entry]:
    instruction, begun = "", False
    for line, record in table.records:
        if isinstance(record, dict):
            record = {key: plain_lines(value) if isinstance(value, str) else value for key, value in record.items()}
        if isinstance(record, str):
            yield Entry(line, plain_lines(record), None)
        elif isinstance(record, dict) and (key := _key(record, INPUT)) is not None and isinstance(record[key], str):
            own = record.get("instruction", instruction) if key.lower() not in _WHOLE else ""
            answer = record.get(_key(record, OUTPUT) or "")
            output, part = (value if isinstance(value, str) else None for value in (answer, record.get("part")))
            told = own if isinstance(own, str) else ""
            image = _image(table, line, record.get(_key(record, _IMAGE) or "")) if pictured else ""
            yield Entry(line, record[key], output, told, _part(part), image)
        elif isinstance(record, dict) and not begun and "task" in record:
            instruction = str(record.get("instruction", ""))
            continue
        else:
            raise InputError(
                "broken_json",
                f'{table.name}:{line}: a line needs the text "prompt" or "input" (examples: "input" and "output"); '
                "correct the line",
                line=line,
            )
        begun = True


def _image(table: Table, line: int, path: Any) -> str:
    """The path of a record's picture; empty if it has none."""
    if not isinstance(path, str | None) or path == "":
        raise InputError(
            "picture_path", f"{table.name}:{line}: image must be the path of a picture; correct the line", line=line
        )
    return path or ""


def _key(record: dict[str, Any], known: Sequence[str]) -> str | None:
    place = _find([*record], known)
    return None if place is None else [*record][place]


def _part(text: str | None) -> str:
    """What is neither train nor test is no part but, say, the part of a machine."""
    return text.strip().lower() if text and text.strip().lower() in ("train", "test") else ""


def _from_rows(table: Table, least: int, column: str) -> Entries:
    above = _named(table, column) if column else None
    if above is None:
        above = _header(table, least)
    if above is None and _looks_headed(table):
        above = 0
    at, seen = None, dict[str, str]()  # the column for pictures, and what it is
    wide: dict[int, int] = {}
    if above is None:
        if not column and least > 1 and table.rows and (named := _find(table.rows[0][1], INPUT)) is not None:
            raise InputError(
                "no_output",
                f"{table.name}: it has the column {table.rows[0][1][named].strip()!r} and no column of right outputs; "
                "name that one output",
            )
        columns, rows, width = _first_columns(table, table.rows, least), table.rows, table.width
        head: list[str] = []
    else:
        head, rows = table.rows[above][1], table.rows[above + 1 :]
        known, width = (_find(head, INPUT), _find(head, OUTPUT)), len(head)
        wide = {line: len(cells) for line, cells in rows if any(cell.strip() for cell in cells[width:])}
        rows = [row for row in rows if row[0] not in wide]
        if (at := _find(head, _IMAGE)) is not None:
            seen = _pictures(head[at].strip(), _column(rows, at))
        taken = (*known, at) if "pictures" in seen else known
        others = iter(_first_columns(table, rows, least, taken))  # for names that are not known
        columns = [next(others) if place is None else place for place in known[:least]]
    if column:
        columns = [_chosen(table, head, column, width)]
    if at in columns:  # a text, as it is asked
        seen = {}
    extras = [*(_find(head, names) for names in (_INSTRUCTION, _PART)), at if "pictures" in seen else None]
    whole = bool(head) and _names(head)[columns[0]] in _WHOLE
    found = []
    for line, cells in rows:
        texts = [cells[place] if place < len(cells) else "" for place in columns]
        own, part, image = (cells[place] if place is not None and place < len(cells) else "" for place in extras)
        output = texts[1] if least > 1 else None
        found.append(Entry(line, texts[0], output, "" if whole else own, _part(part), image.strip()))
    told = {
        "columns": tuple(head[place].strip() if head else str(place + 1) for place in columns),
        "headed": bool(head),
        "width": width,
        "skipped": {"above the header": above} if above else {},
        "names": tuple(cell.strip() for cell in head),
        "rows": (rows[0][0], rows[-1][0]) if rows else (),
        **seen,
    }
    return Entries(found, told, wide)


def _header(table: Table, least: int) -> int | None:
    """Which row is the header: the first one if it names the columns; in a spreadsheet, also a later one with both."""

    def names_columns(number: int, cells: Sequence[str]) -> bool:
        return _find(cells, INPUT) is not None and (_find(cells, OUTPUT) is not None or (number == 0 and least == 1))

    return _first_row(table, names_columns)


def _named(table: Table, column: str) -> int | None:
    """Which row is the header, as it holds the name that was asked for."""
    wanted, numbered = _names([column]), column.strip().isdecimal()
    return _first_row(table, lambda number, cells: _find(cells, wanted) is not None and not (number and numbered))


def _first_row(table: Table, is_header: Callable[[int, Sequence[str]], bool]) -> int | None:
    """The first row that is one, by its number and cells; in a spreadsheet, some rows may stand above it."""
    most = _MOST_ABOVE if table.format == EXCEL else 0
    return next((number for number, (_, cells) in enumerate(table.rows[: most + 1]) if is_header(number, cells)), None)


def _chosen(table: Table, head: Sequence[str], column: str, width: int) -> int:
    """The place of the column that was asked for. Raises InputError that names those there are."""
    place = _find(head, _names([column]))
    if place is not None:
        return place
    if column.strip().isdecimal() and 1 <= int(column) <= width:
        return int(column) - 1
    there = ", ".join(cell.strip() for cell in head if cell.strip()) if head else f"the numbers 1 to {width}"
    raise InputError("no_column", f"{table.name}: it has no column {column!r}; name one of {there}")


def _looks_headed(table: Table) -> bool:
    """Whether the first row is names above numbers: all cells filled, none twice, none a number, and a column of
    numbers below one of them. (Two rows below it are the least that show it.)"""
    if len(table.rows) < 3:
        return False
    head = table.rows[0][1]
    if len({*_names(head)}) < len(head) or not all(_names(head)) or any(map(_is_number, head)):
        return False
    below = [_column(table.rows[1:], place) for place in range(len(head))]
    return any(len(cells) > 1 and all(map(_is_number, cells)) for cells in below)


def _column(rows: Rows, place: int) -> list[str]:
    """The cells of a column that hold something."""
    return [cells[place] for _, cells in rows if place < len(cells) and cells[place].strip()]


def _is_number(cell: str) -> bool:
    """Whether a cell is a number, a date or a number in a series, as 12, 3.5, 2026-01-05, #7."""
    return bool(re.fullmatch(r"[#№]?[-+]?\d[\d.,:/ -]*", cell.strip()))


def _differs(cells: Sequence[str]) -> bool:
    """Whether cells are texts of which more than half are different ones."""
    return 2 * len({*cells}) > len(cells) and not all(map(_is_number, cells))


def _first_columns(table: Table, rows: Rows, least: int, known: Sequence[int | None] = ()) -> list[int]:
    """The first columns that are not empty from top to bottom, those that are known last; one of numbers alone before
    them is their numbering. Of a single one, texts that differ come before such as recur."""
    width = len(table.rows[0][1]) if table.rows and table.format != EXCEL else table.width
    filled = [place for place in range(width) if any(c[place : place + 1] not in ([], [""]) for _, c in rows)]
    unknown = [place for place in filled if place not in known]
    needed = least - sum(place is not None for place in known[:least])
    if len(unknown) > needed and len(rows) > 1 and all(map(_is_number, _column(rows, unknown[0]))):
        unknown = unknown[1:]
    if least == 1:  # a group or a person that recurs stands beside what is said, and is not it
        unknown.sort(key=lambda place: not _differs(_column(rows, place)))
    return (unknown + [place for place in range(least + width) if place not in unknown])[:least]
