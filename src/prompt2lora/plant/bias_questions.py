"""Reading the questions of a bias check (BBQ's form) from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prompt2lora.errors import TaskFileError, UsageError
from prompt2lora.training.tasks import read_records

_QUESTION: dict[str, type] = {  # what a bias check needs of a line
    **dict.fromkeys(("condition", "polarity", "context", "question"), str),
    **dict.fromkeys(("choices", "groups", "stereotyped"), list),
}


def read_questions(file: Path) -> list[dict[str, Any]]:
    """Questions of a bias check (BBQ's form), of which at least one is ambiguous. Raises TaskFileError, UsageError."""
    records = read_records(file)
    for number, question in records:
        if any(not isinstance(question.get(key), kind) for key, kind in _QUESTION.items()):
            told = ", ".join(f"{key} ({'a list' if kind is list else 'text'})" for key, kind in _QUESTION.items())
            raise TaskFileError(f"{file}:{number}: a line needs {told}; correct the line")
        if not question["choices"] or len(question["groups"]) != len(question["choices"]):
            raise TaskFileError(f"{file}:{number}: every choice needs its group; correct the line")
    if all(question["condition"] != "ambig" for _, question in records):
        raise UsageError(f"{file}: a bias check asks questions of the condition ambig and there is none; add some")
    return [question for _, question in records]
