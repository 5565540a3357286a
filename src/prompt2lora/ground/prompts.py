"""A user's prompt file -> a list of prompts: text (one a line), JSONL or CSV; and what a prompt consists of.

In: a path. Out: non-empty texts, in order. It refuses what is not text, empty, or too long to be a prompt. Standard
library only.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prompt2lora.errors import PromptsError

LONGEST = 20_000
_COLUMNS = ("prompt", "input", "text")


def read_prompts(file: Path, instruction: str = "") -> list[str]:
    """The prompts of a file; `instruction`, if given, stands before each, with a blank line between.

    JSONL: a text a line, or an object with "prompt", or with "input" and perhaps "instruction" (a task file
    is fine: its answers are not read). CSV: the column prompt, input or text, else the first column.
    Raises PromptsError.
    """
    text = _text(file)
    suffix = file.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        prompts = _from_jsonl(file, text)
    elif suffix == ".csv":
        prompts = _from_csv(file, text)
    else:
        prompts = text.split("\n")
    prompts = [prompt.strip() for prompt in prompts if prompt.strip()]
    return check_prompts([full_prompt(instruction, prompt) for prompt in prompts], str(file))


def check_prompts(prompts: list[str], source: str = "prompts") -> list[str]:
    """The same prompts. Raises PromptsError if there is none, or one is blank or longer than LONGEST characters."""
    if not prompts:
        raise PromptsError(f"{source}: at least one prompt is needed and there is none; write a prompt a line")
    for number, prompt in enumerate(prompts, 1):
        if any("\ud800" <= letter <= "\udfff" for letter in prompt):
            raise PromptsError(f"{source}: prompt {number} holds half a character (a lone surrogate); remove it")
        if not prompt.strip():
            raise PromptsError(f"{source}: prompt {number} is blank; remove it")
        if len(prompt) > LONGEST:
            raise PromptsError(
                f"{source}: a prompt may have {LONGEST:,} characters, prompt {number} has {len(prompt):,}; shorten it"
            )
    return prompts


def full_prompt(instruction: str, text: str) -> str:
    """An input under its instruction, a blank line between them; the text alone if there is no instruction."""
    return f"{instruction}\n\n{text}" if instruction else text


def split(prompt: str) -> tuple[str, str]:
    """(opening, rest) of a prompt: before and after its first blank line, or the whole prompt twice."""
    opening, _, rest = prompt.strip().partition("\n\n")
    return (opening.strip(), rest.strip()) if rest.strip() else (opening, opening)


def instruction_of(prompts: Sequence[str]) -> str:
    """What all prompts open with, if they have one opening (and a blank line after it); else nothing."""
    openings = {split(prompt)[0] for prompt in prompts if "\n\n" in prompt.strip()}
    return openings.pop() if len(openings) == 1 else ""


def _text(file: Path) -> str:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise PromptsError(f"{file}: cannot be read ({error.strerror}); check the path") from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptsError(f"{file}: prompts must be UTF-8 text and this file is not; save it as UTF-8") from error
    if "\0" in text:
        raise PromptsError(f"{file}: prompts must be text and this file is binary; name a text, JSONL or CSV file")
    return text


def _from_jsonl(file: Path, text: str) -> list[str]:
    prompts: list[str] = []
    instruction = ""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise PromptsError(f"{file}:{number}: every line must be JSON ({error}); mend the line") from error
        if isinstance(record, str):
            prompts.append(record)
        elif isinstance(record, dict) and isinstance(record.get("prompt"), str):
            prompts.append(record["prompt"])
        elif isinstance(record, dict) and isinstance(record.get("input"), str):
            if record.get("part") == "test":  # a task file: its test rows are for scoring alone
                continue
            own = record.get("instruction", instruction)
            prompts.append(full_prompt(own, record["input"]))
        elif isinstance(record, dict) and not prompts and "task" in record:
            instruction = str(record.get("instruction", ""))
        else:
            raise PromptsError(f'{file}:{number}: a line needs the text "prompt" or "input"; mend the line')
    return prompts


def _from_csv(file: Path, text: str) -> list[str]:
    try:
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise PromptsError(f"{file}: cannot be read as CSV ({error}); save it as CSV or text") from error
    if not rows:
        return []
    header = [cell.strip().lower() for cell in rows[0]]
    for column in _COLUMNS:
        if column in header:
            place = header.index(column)
            return [row[place] for row in rows[1:] if len(row) > place]
    return [row[0] for row in rows]
