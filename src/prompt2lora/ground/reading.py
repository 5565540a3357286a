"""What was taken of a file, and how it was read: told to people and as JSON.

In: a file's name, format, encoding, delimiter, sheet and columns, and how much was taken. It reads nothing itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prompt2lora.ground.delimited import DELIMITERS
from prompt2lora.ground.tables import JSONL, TEXT

PROMPTS, EXAMPLES, TEXTS = "prompts", "examples", "texts"  # TEXTS are to be answered


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
    names: tuple[str, ...] = ()  # of all columns, if there is a header
    rows: tuple[int, ...] = ()  # the first and the last one of the table, by their numbers in the file
    first: tuple[str, ...] = ()  # the first texts that were taken
    skipped: tuple[tuple[str, int], ...] = ()
    pictures: str = ""  # the column that names pictures
    no_pictures: str = ""  # a column that is called so and names none

    @property
    def is_plain(self) -> bool:
        """Whether it could not have been read in another way: plain lines or JSON, in UTF-8, all of it taken."""
        return (
            self.format in (TEXT, JSONL) and self.encoding in ("", "UTF-8") and not (self.skipped or self.no_pictures)
        )

    @property
    def left_out(self) -> str:
        """1 of the part test, 2 without a text"""
        return ", ".join(f"{count} {why}" for why, count in self.skipped)

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
            "rows": list(self.rows),
            "pictures": self.pictures or None,
            self.what: self.count,
            "left_out": dict(self.skipped),
        }

    def __str__(self) -> str:
        """prompts.csv: CSV with semicolons, Shift-JIS; column 'input' of 3; pictures of column 'image'; 40 prompts"""
        form = f"{self.format} with {DELIMITERS[self.delimiter]}" if self.delimiter else self.format
        if self.sheet:
            form += f", sheet {self.sheet!r}" + (f", the first of {self.sheets}" if self.sheets > 1 else "")
        parts = [", ".join(filter(None, (form, self.encoding)))]
        if self.columns:
            many, of = "s" * (len(self.columns) > 1), f" of {self.width}" if self.width > len(self.columns) else ""
            named = " and ".join(repr(name) if self.headed else name for name in self.columns)
            parts.append(f"column{many} {named}{of}")
            if not self.headed:
                parts[-1] += " from the first row on, for no column has a known name (input, output)"
        if self.pictures:
            looked = ", which are not looked at" if self.what == TEXTS else ""
            parts.append(f"pictures of column {self.pictures!r}{looked}")
        if self.no_pictures:
            parts.append(
                f"column {self.no_pictures!r} names no pictures (1.png, data:image/png;...) and is passed over"
            )
        rows = f" (rows {self.rows[0]}-{self.rows[-1]})" if self.rows else ""
        lines = ", one a line" if self.format == TEXT else ""
        parts.append(f"{self.count} {self.what if self.count != 1 else self.what[:-1]}{lines}{rows}")
        if self.skipped:
            parts.append(f"left out: {self.left_out}")
        return f"{self.name}: {'; '.join(parts)}"
