"""Any file of prompts, or of examples (an input and its right answer) -> texts, and what was taken of the file.

In: a path, a file's name and bytes, or a text that was pasted. Out: prompts or pairs, with a `Reading` that says how
they were read. Which columns are taken is decided by their names, in English or Japanese; without a known name the
first ones are, from the first row on. All doors (command line, HTTP, console) come through here.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from prompt2lora.errors import InputError
from prompt2lora.ground.delimited import DELIMITERS
from prompt2lora.ground.prompts import MAX_CHARACTERS, check_prompts, full_prompt, is_half
from prompt2lora.ground.tables import EXCEL, JSONL, TEXT, File, Table, read_table

PARTS = {"inspection": "test", "examples": "train"}  # of a task file: what judges, what is learned from

# By these names, the earlier before the later, whatever the case.
INPUT = ("prompt", "input", "text", "プロンプト", "入力", "入力例", "入力文", "内容", "文", "文章", "本文", "テキスト")
OUTPUT = ("output", "answer", "right", "label", "正解", "出力", "答え", "回答", "解答", "正答", "ラベル")
_WHOLE = ("prompt", "プロンプト")  # what needs no instruction before it
_INSTRUCTION, _PART = ("instruction", "指示", "指示文"), ("part",)
_MOST_ABOVE = 10  # rows above the header of a spreadsheet: its title, the day

PROMPTS, EXAMPLES = "prompts", "examples"


@dataclass(frozen=True)
class Reading:
    """What was taken of a file; `skipped` says what was left out and how often."""

    name: str
    what: str
    count: int
    format: str
    encoding: str = ""
    delimiter: str = ""
    sheet: str = ""
    sheets: int = 1
    columns: tuple[str, ...] = ()  # their names, or their numbers if none is known
    headed: bool = False
    width: int = 0
    skipped: tuple[tuple[str, int], ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether it could not have been read in another way: plain lines or JSON, in UTF-8, all of it taken."""
        return self.format in (TEXT, JSONL) and self.encoding in ("", "UTF-8") and not self.skipped

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "file": self.name,
            "format": self.format,
            "encoding": self.encoding or None,
            "delimiter": DELIMITERS.get(self.delimiter),
            "sheet": self.sheet or None,
            "columns": list(self.columns),
            "of": self.width,
            "header": self.headed,
            self.what: self.count,
            "left_out": dict(self.skipped),
        }

    def __str__(self) -> str:
        """prompts.csv: CSV with semicolons, Shift-JIS; column 'input' of 3; 40 prompts"""
        form = f"{self.format} with {DELIMITERS[self.delimiter]}" if self.delimiter else self.format
        if self.sheet:
            form += f", sheet {self.sheet!r}" + (f" of {self.sheets}" if self.sheets > 1 else "")
        parts = [", ".join(filter(None, (form, self.encoding)))]
        if self.columns:
            many, of = "s" * (len(self.columns) > 1), f" of {self.width}" if self.width > len(self.columns) else ""
            named = " and ".join(repr(name) if self.headed else name for name in self.columns)
            parts.append(f"column{many} {named}{of}")
            if not self.headed:
                parts[-1] += " from the first row on, for no column has a known name (input, output)"
        lines = ", one a line" if self.format == TEXT else ""
        parts.append(f"{self.count} {self.what if self.count != 1 else self.what[:-1]}{lines}")
        if self.skipped:
            parts.append("left out: " + ", ".join(f"{count} {why}" for why, count in self.skipped))
        return f"{self.name}: {'; '.join(parts)}"


class _Entry(NamedTuple):
    """One row, whatever the format; `place` is its file and line."""

    line: int
    input: str | None
    output: str | None
    instruction: str = ""
    part: str = ""


def read_prompts(source: Path | File, instruction: str = "") -> tuple[list[str], Reading]:
    """The prompts of a file; `instruction`, if given, stands before each, with a blank line between.

    A row's own instruction, or that of a task file, stands before it too, but not twice; right answers are not read,
    and rows of the part "test" are for scoring alone. Raises InputError.
    """
    file = File.open(source) if isinstance(source, Path) else source
    table = read_table(file, _known)
    entries, told = _entries(table, 1)
    skipped, prompts = Counter(told.pop("skipped")), []
    for entry in entries:
        if entry.part == "test":
            skipped["rows of the part test"] += 1
        elif not (entry.input or "").strip():
            skipped["rows without a text"] += 1
        else:
            prompt = full_prompt(entry.instruction.strip(), (entry.input or "").strip())
            prompts.append(prompt if _begins(prompt, instruction) else full_prompt(instruction, prompt))
    reading = _reading(table, PROMPTS, len(prompts), skipped, told)
    if not prompts and skipped:
        why = ", ".join(f"{count} {why}" for why, count in reading.skipped)
        raise InputError("no_prompts", f"{file.name}: at least one prompt is needed and there are only {why}; add some")
    return check_prompts(prompts, file.name), reading


def read_examples(source: Path | File, part: str = "test") -> tuple[list[tuple[str, str]], Reading]:
    """The inputs of a file with their right answers; a task file gives those of its part `part`, test or train.

    Raises InputError that names the line.
    """
    file = File.open(source) if isinstance(source, Path) else source
    table = read_table(file, _known, 2)
    entries, told = _entries(table, 2)
    skipped, pairs = Counter(told.pop("skipped")), []
    for entry in entries:
        if entry.part in ("train", "test") and entry.part != part:
            skipped[f"rows of the part {entry.part}"] += 1
            continue
        pair = (_filled(table, entry, entry.input), _filled(table, entry, entry.output))
        pairs.append(pair)
    reading = _reading(table, EXAMPLES, len(pairs), skipped, told)
    if not pairs:
        left = f" but {', '.join(f'{count} {why}' for why, count in reading.skipped)}" if skipped else ""
        raise InputError("no_rows", f"{file.name}: no row found{left}; write rows with an input and its right output")
    return pairs, reading


def as_csv(pairs: Sequence[tuple[str, str]]) -> str:
    """Examples as text that is read as the same ones."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([("input", "output"), *pairs])
    return out.getvalue()


def _begins(prompt: str, instruction: str) -> bool:
    return bool(instruction) and prompt.startswith(f"{instruction}\n\n")


def _filled(table: Table, entry: _Entry, text: str | None) -> str:
    """A text of an example. Raises InputError if it is none, too long, or holds half a character."""
    place = f"{table.name}:{entry.line}"
    if text is None or not text.strip():
        rule = "a line needs input (text), output (text)" if table.format == JSONL else "a row needs two filled cells"
        raise InputError("row_cells", f"{place}: {rule}, the input and the right output; mend it", line=entry.line)
    if is_half(text):
        raise InputError("half_character", f"{place}: it holds half a character (a lone surrogate); remove it")
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            "long_cell",
            f"{place}: a text may have {MAX_CHARACTERS:,} characters, this one has {len(text):,}; shorten it",
            line=entry.line,
            most=MAX_CHARACTERS,
        )
    return text.strip()


def _names(cells: Sequence[str]) -> list[str]:
    return [str(cell).strip().strip('"').lower() for cell in cells]


def _find(cells: Sequence[str], known: Sequence[str]) -> int | None:
    names = _names(cells)
    return next((names.index(name) for name in known if name in names), None)


def _known(cells: Sequence[str]) -> int:
    """How many of the two columns a row names."""
    return (_find(cells, INPUT) is not None) + (_find(cells, OUTPUT) is not None)


def _entries(table: Table, least: int) -> tuple[list[_Entry], dict[str, Any]]:
    """The rows, and what is to be told of how they were found."""
    if table.format == JSONL:
        return list(_from_records(table)), {"skipped": {}}
    if table.format == TEXT:
        return [_Entry(line, cells[0], None) for line, cells in table.rows], {"skipped": {}}
    return _from_rows(table, least)


def _from_records(table: Table) -> Iterator[_Entry]:
    instruction, begun = "", False
    for line, record in table.records:
        if isinstance(record, str):
            yield _Entry(line, record, None)
        elif isinstance(record, dict) and (key := _key(record, INPUT)) is not None and isinstance(record[key], str):
            own = record.get("instruction", instruction) if key.lower() not in _WHOLE else ""
            answer = record.get(_key(record, OUTPUT) or "")
            output, part = (value if isinstance(value, str) else None for value in (answer, record.get("part")))
            yield _Entry(line, record[key], output, own if isinstance(own, str) else "", _part(part))
        elif isinstance(record, dict) and not begun and "task" in record:
            instruction = str(record.get("instruction", ""))
            continue
        else:
            raise InputError(
                "broken_json",
                f'{table.name}:{line}: a line needs the text "prompt" or "input" (examples: "input" and "output"); '
                "mend the line",
                line=line,
            )
        begun = True


def _key(record: dict[str, Any], known: Sequence[str]) -> str | None:
    place = _find([*record], known)
    return None if place is None else [*record][place]


def _part(text: str | None) -> str:
    """What is neither train nor test is no part but, say, the part of a machine."""
    return text.strip().lower() if text and text.strip().lower() in ("train", "test") else ""


def _from_rows(table: Table, least: int) -> tuple[list[_Entry], dict[str, Any]]:
    above = _header(table, least)
    if above is None:
        if least > 1 and table.rows and (named := _find(table.rows[0][1], INPUT)) is not None:
            raise InputError(
                "no_output",
                f"{table.name}: it has the column {table.rows[0][1][named].strip()!r} and none of right outputs; "
                "name that one output",
            )
        columns, rows, width = _first_columns(table, least), table.rows, table.width
        head: list[str] = []
    else:
        head, rows = table.rows[above][1], table.rows[above + 1 :]
        left, right = _find(head, INPUT), _find(head, OUTPUT)
        columns, width = [place for place in (left, right) if place is not None][:least], len(head)
    extras = [_find(head, names) for names in (_INSTRUCTION, _PART)]
    whole = bool(head) and _names(head)[columns[0]] in _WHOLE
    found = []
    for line, cells in rows:
        if any(cell.strip() for cell in cells[width:]):
            raise InputError(
                "row_width",
                f"{table.name}:{line}: a row may have {width} cells, as the header has, and this one has {len(cells)}; "
                "put a text that holds the delimiter between quotes",
                line=line,
                count=len(cells),
                most=width,
            )
        texts = [cells[place] if place < len(cells) else "" for place in columns]
        own, part = (cells[place] if place is not None and place < len(cells) else "" for place in extras)
        output = texts[1] if least > 1 else None
        found.append(_Entry(line, texts[0], output, "" if whole else own, _part(part)))
    told = {
        "columns": tuple(head[place].strip() if head else str(place + 1) for place in columns),
        "headed": bool(head),
        "width": width,
        "skipped": {"rows above the header": above} if above else {},
    }
    return found, told


def _header(table: Table, least: int) -> int | None:
    """Which row is the header: the first one if it names the columns; in a spreadsheet, also a later one with both."""
    most = _MOST_ABOVE if table.format == EXCEL else 0
    for number, (_, cells) in enumerate(table.rows[: most + 1]):
        if _find(cells, INPUT) is not None and (_find(cells, OUTPUT) is not None or (number == 0 and least == 1)):
            return number
    return None


def _first_columns(table: Table, least: int) -> list[int]:
    """The first columns that are not empty from top to bottom."""
    width = len(table.rows[0][1]) if table.rows and table.format != EXCEL else table.width
    filled = [place for place in range(width) if any(c[place : place + 1] not in ([], [""]) for _, c in table.rows)]
    return (filled + [place for place in range(least + width) if place not in filled])[:least]


def _reading(table: Table, what: str, count: int, skipped: Counter[str], told: dict[str, Any]) -> Reading:
    return Reading(
        table.name,
        what,
        count,
        table.format,
        table.encoding,
        table.delimiter,
        table.sheet,
        table.sheets,
        skipped=tuple(skipped.items()),
        **told,
    )
