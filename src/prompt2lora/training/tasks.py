"""Task files: one JSONL file a job, a description in the first line, an example in every other.

In: paths. Out: `Task` values. The only module that knows the file format; it knows no model.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prompt2lora.errors import TaskFileError, cause
from prompt2lora.ground.comparison import Comparison
from prompt2lora.ground.prompts import full_prompt

_JAPANESE = re.compile("[ぁ-ヺ一-龠]")
_NAME = re.compile(r"\w[\w.+-]*")  # it becomes the name of a folder


@dataclass(frozen=True)
class Example:
    input: str
    output: str


@dataclass(frozen=True)
class Task:
    name: str
    instruction: str
    family: str
    split: str
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    comparison: Comparison = Comparison.EXACT

    def prompt(self, text: str) -> str:
        """The full form of a model's prompt: instruction, blank line, input."""
        return full_prompt(self.instruction, text)

    @property
    def digest(self) -> str:
        """SHA-256 of all that the task says."""
        said = asdict(self)
        if self.comparison is Comparison.EXACT:
            del said["comparison"]  # what no file says
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def is_japanese(text: str) -> bool:
    """Whether kana or kanji stand in it: what is added to such an instruction is Japanese, too."""
    return _JAPANESE.search(text) is not None


def read_task(file: Path) -> Task:
    """Read one task file. Raises TaskFileError that names the file and the line."""
    records = read_records(file)
    if len(records) < 2:
        raise TaskFileError(
            f"{file}: a task file needs a description line and at least one example; it has {len(records)}"
        )
    description = records[0][1]
    name = str(description.get("task", file.stem))
    if not _NAME.fullmatch(name):
        raise TaskFileError(
            f"{file}:1: a task's name is made of letters, digits, - . + and _, not {name!r}; correct it"
        )
    comparison = str(description.get("comparison", Comparison.EXACT))
    if comparison not in list(Comparison):
        raise TaskFileError(f"{file}:1: a comparison is {', '.join(Comparison)}, not {comparison[:40]!r}; correct it")
    parts: dict[str, list[Example]] = {"train": [], "test": []}
    for number, record in records[1:]:
        if not isinstance(record.get("input"), str) or not isinstance(record.get("output"), str):
            raise TaskFileError(f'{file}:{number}: an example needs the texts "input" and "output"; correct the line')
        part = record.get("part", "test")
        if part not in parts:
            raise TaskFileError(f'{file}:{number}: "part" must be train or test, not {part!r}; correct the line')
        parts[part].append(Example(record["input"], record["output"]))
    return Task(
        name=name,
        instruction=str(description.get("instruction", "")),
        family=str(description.get("family", file.stem)),
        split=str(description.get("split", "")),
        train=tuple(parts["train"]),
        test=tuple(parts["test"]),
        comparison=Comparison(comparison),
    )


def read_tasks(places: Iterable[Path], *, split: str | None = None) -> list[Task]:
    """All tasks of files and folders, by name; `split` keeps only that one."""
    files: list[Path] = []
    for place in places:
        if place.is_dir():
            files += sorted(place.glob("*.jsonl"))
        elif place.exists():
            files.append(place)
        else:
            raise TaskFileError(f"{place}: no such task file or folder; check the path")
    tasks = [task for task in map(read_task, files) if split is None or task.split == split]
    if not tasks:
        raise TaskFileError(
            f"no task files (*.jsonl{f' of split {split}' if split else ''}) found; name another folder"
        )
    names = Counter(task.name for task in tasks)
    for name, times in names.items():
        if times > 1:
            raise TaskFileError(f"a task's name must be its own, and {times} files have {name}; rename all but one")
    return sorted(tasks, key=lambda task: task.name)


def split_families(tasks: Sequence[Task], share: float) -> tuple[list[Task], list[Task]]:
    """(fit, validation) by whole families; a family's side depends on its name alone."""

    def held_out(task: Task) -> bool:
        return int(hashlib.sha256(task.family.encode()).hexdigest()[:8], 16) < share * 16**8

    return [task for task in tasks if not held_out(task)], [task for task in tasks if held_out(task)]


def held_out(places: Iterable[Path], provenance: Mapping[str, Any]) -> list[Task]:
    """The training tasks among these files on which a generator of this provenance was validated, but not trained."""
    names = set(provenance.get("validation_tasks", ()))
    return [task for task in read_tasks(places, split="train") if task.name in names]


def diverse(tasks: Sequence[Task], most: int) -> list[Task]:
    """At most so many tasks, of as many families as possible: one of every family, then a second one of each, ..."""
    seen: Counter[str] = Counter()
    turns: list[tuple[int, str, Task]] = []
    for task in sorted(tasks, key=lambda task: hashlib.sha256(task.name.encode()).digest()):
        turns.append((seen[task.family], hashlib.sha256(task.family.encode()).hexdigest(), task))
        seen[task.family] += 1
    chosen = [task for _, _, task in sorted(turns, key=lambda turn: turn[:2])[:most]]
    return sorted(chosen, key=lambda task: task.name)


def read_records(file: Path) -> list[tuple[int, dict[str, Any]]]:
    """(line number, object) of every line of a JSONL file but blank ones. Raises TaskFileError that names the line."""
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise TaskFileError(f"{file}: the task file cannot be read ({cause(error)}); check the path") from error
    except UnicodeDecodeError as error:
        raise TaskFileError(
            f"{file}: a task file is JSONL in UTF-8 ({cause(error)}); name a .jsonl file, "
            "or make an adapter of a spreadsheet by `prompt2lora generate --prompts FILE`"
        ) from error
    return [(number, _record(file, number, line)) for number, line in enumerate(lines, 1) if line.strip()]


def _record(file: Path, number: int, line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TaskFileError(f"{file}:{number}: every line must be a JSON object ({error}); correct the line") from error
    if not isinstance(record, dict):
        raise TaskFileError(
            f"{file}:{number}: every line must be a JSON object, not {type(record).__name__}; correct it"
        )
    return record
