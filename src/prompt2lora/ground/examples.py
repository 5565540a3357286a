"""Any file of prompts, or of examples (an input and its right answer) -> these, and what was taken of the file.

In: a path, a file's name and bytes, or a text that was pasted. Out: prompts or pairs, with a `Reading` that says how
they were read. All doors (command line, HTTP, console) come through here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prompt2lora.errors import InputError
from prompt2lora.ground.entries import Entry, entries, knowing, known_columns
from prompt2lora.ground.pictures import (
    NOTHING_SENT,
    Picture,
    Pictured,
    Prompt,
    Sent,
    among,
    of_data_url,
    opened,
    picture_digest,
    pictures_of,
    text_of,
)
from prompt2lora.ground.prompts import MAX_CHARACTERS, asked_in_full, check_prompts, is_half
from prompt2lora.ground.reading import EXAMPLES, PROMPTS, Reading
from prompt2lora.ground.tables import JSONL, File, Table, read_table

PARTS = {"inspection": "test", "examples": "train"}  # of a task file: what judges, what is learned from


def read_prompts(
    source: Path | File, instruction: str = "", column: str = "", pictures: Sent = NOTHING_SENT
) -> tuple[list[Prompt], Reading]:
    """The prompts of a file; `instruction`, if given, stands before each, with a blank line between; of a table, those
    of `column` (its name or number), else of the column with a known name, else of the first one of texts.

    A record or row may name a picture (`image`): by its path beside the file, by its name among the `pictures` that
    came along with one that was sent, or by its data URL.

    An entry's own instruction, or that of a task file, stands before it too, but not twice; right answers are not read,
    and examples of the part "test" are for scoring alone. Raises InputError.
    """
    file = File.open(source) if isinstance(source, Path) else source
    table = read_table(file, knowing(column))
    found, told = entries(table, 1, column).unless_wide(table)
    skipped, prompts, seen = Counter(told.pop("skipped")), list[Prompt](), dict[str, Picture]()
    for entry in found:
        if entry.part == "test":
            skipped["of the part test"] += 1
        elif not (entry.input or "").strip():
            skipped["without a text"] += 1
        elif table.holds_error(entry.input or ""):
            skipped["with an error of Excel"] += 1
        else:
            text = asked_in_full(_own_prompt(entry, (entry.input or "").strip()), instruction)
            prompts.append(_pictured(source, table, entry, text, pictures, seen))
    first = tuple(text_of(prompt) for prompt in prompts[:3])
    reading = _reading(table, PROMPTS, len(prompts), skipped, told | {"first": first})
    if not prompts and skipped:
        raise InputError("no_prompts", f"{file.name}: no prompt found; left out: {reading.left_out}; add some")
    return check_prompts(prompts, file.name), reading


def read_examples(
    source: Path | File, part: str = "test", pictures: Sent = NOTHING_SENT
) -> tuple[list[tuple[Prompt, str]], Reading]:
    """The inputs of a file, perhaps with pictures, with their right answers; a task file gives those of its part
    `part`, test or train. Before inputs to learn from (train) stands their entry's own instruction, or the task file's.

    Raises InputError that names the line.
    """
    file = File.open(source) if isinstance(source, Path) else source
    table = read_table(file, known_columns, 2)
    found, told = entries(table, 2).unless_wide(table)
    skipped, pairs, seen = Counter(told.pop("skipped")), list[tuple[Prompt, str]](), dict[str, Picture]()
    for entry in found:
        if entry.part in ("train", "test") and entry.part != part:
            skipped[f"of the part {entry.part}"] += 1
            continue
        text, right = _filled(table, entry, entry.input), _filled(table, entry, entry.output)
        text = _own_prompt(entry, text) if part == "train" else text
        pairs.append((_pictured(source, table, entry, text, pictures, seen), right))
    reading = _reading(table, EXAMPLES, len(pairs), skipped, told)
    if not pairs:
        left = f"; left out: {reading.left_out}" if skipped else ""
        raise InputError("no_examples", f"{file.name}: no example found{left}; add inputs with their right outputs")
    return pairs, reading


def _pictured(
    source: Path | File, table: Table, entry: Entry, text: str, pictures: Sent, known: dict[str, Picture]
) -> Prompt:
    """The text, with its picture if the entry names one; those that are `known` are not looked at again. Raises
    InputError."""
    named, place = entry.image, f"{table.name}:{entry.line}"
    if not named:
        return text
    if named not in known:
        if named.startswith("data:"):
            known[named] = of_data_url(named, place)
        elif isinstance(source, Path):
            known[named] = opened(source.parent, named, place)
        else:
            known[named] = among(pictures, named, place)
    return Pictured(text, (known[named],))


def check_named(pictures: Sent, prompts: Sequence[Prompt]) -> None:
    """Raises InputError if a picture came along that no prompt or example holds."""
    held = {picture.digest for prompt in prompts for picture in pictures_of(prompt)}
    for name, data in pictures.items():
        if picture_digest(data) not in held:
            raise InputError(
                "picture_unnamed",
                f"the picture {name[:80]} was sent, and no prompt or example names it; name it in a column image (in "
                "JSONL the key image), or leave it out",
                name=name[:80],
            )


def _own_prompt(entry: Entry, text: str) -> str:
    """A text under the instruction of its own entry, or of its task file."""
    return asked_in_full(text, entry.instruction.strip())


def _filled(table: Table, entry: Entry, text: str | None) -> str:
    """A text of an example. Raises InputError if it is none, an error of Excel, too long, or holds half a character."""
    place = f"{table.name}:{entry.line}"
    if text is None or not text.strip():
        rule = "a line needs input (text), output (text)" if table.format == JSONL else "a row needs two filled cells"
        raise InputError(
            "incomplete_example", f"{place}: {rule}, the input and the right output; correct it", line=entry.line
        )
    if table.holds_error(text):
        raise InputError(
            "error_value",
            f"{place}: a text is needed, and this is the Excel error {text.strip()}; correct it, or leave the row out",
            line=entry.line,
            value=text.strip(),
        )
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
