"""An adapter folder, judged without loading it: the hinge between the mathematics and custody.

In: a folder that anybody may have written. Out: its settings and where it says it comes from; or DamagedFile in one
line, before any library has parsed it. Let through is the profile that every engine loads (settings.py, tensors.py),
and nothing beside the two files but a model card. It knows neither torch nor the base model.
"""

from __future__ import annotations

import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from prompt2lora.adapter import tensors
from prompt2lora.adapter.card import CARD
from prompt2lora.adapter.settings import CONFIG, read_config
from prompt2lora.adapter.tensors import WEIGHTS
from prompt2lora.errors import DamagedFile, InputError, cause
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.ground.answer_form import read as read_answer_form

FILES = (CONFIG, WEIGHTS)
FROM_BASE = "from_base"  # in the origin: true if the adapter begins with the base, and holds the instruction alone
LEARNED = "learned"  # in the origin: digests of the inputs whose right answers are in the weights
ANSWERS = "answers"  # in the origin: the form that the job's answers have


class Contents(NamedTuple):
    """What a sound folder says: its settings, and where it comes from."""

    settings: dict[str, Any]
    provenance: dict[str, Any]


def check(folder: Path) -> Contents:
    """Judge a folder that must hold the two files and nothing else but a model card. Raises DamagedFile."""
    check_files(folder, (*FILES, *beside(folder)))
    return read(folder)


def beside(folder: Path) -> tuple[str, ...]:
    """The model card, which may lie beside the two files where people keep them."""
    return (CARD,) if (folder / CARD).is_file() else ()


def check_files(folder: Path, names: Collection[str]) -> None:
    """The folder holds exactly these names, and each is a plain file: no link, no pipe, no device."""
    try:
        found = {place.name: place.lstat().st_mode for place in folder.iterdir()}
    except OSError as error:
        raise DamagedFile(f"{folder} cannot be read as an adapter ({cause(error)}); name the folder of one") from error
    wrong = found.keys() ^ set(names)
    if wrong:
        raise DamagedFile(f"{folder} must hold {' and '.join(names)} only; {min(wrong)!r} is missing or too many")
    for name, mode in found.items():
        if not stat.S_ISREG(mode):
            raise DamagedFile(f"{folder / name} is a link or not a plain file; copy the file itself")


def read(folder: Path) -> Contents:
    """Judge the two files of a folder, whatever lies beside them (PEFT writes a README). Raises DamagedFile."""
    settings = read_config(folder)
    return Contents(settings, tensors.read(folder / WEIGHTS, settings))


def read_origin(folder: Path) -> dict[str, Any]:
    """Where an adapter says it comes from; its weights are not looked at. Raises DamagedFile."""
    return tensors.read_origin(folder / WEIGHTS)


def holds_instruction_alone(provenance: Mapping[str, Any]) -> bool:
    """Whether an adapter begins with the base and nothing but the instruction was put into it."""
    return bool(provenance.get(FROM_BASE)) and not provenance.get(LEARNED)


def form_of(provenance: Mapping[str, Any]) -> AnswerForm | None:
    """The form of answers that an origin tells. Raises DamagedFile."""
    try:
        return read_answer_form(provenance.get(ANSWERS))
    except InputError as error:
        raise DamagedFile(
            f"an adapter's origin tells a form of answers that is none ({error}); make it again"
        ) from error
