"""Writing that is either complete or not there at all, and reading that notices what was altered.

A folder is made aside, synced and renamed; a file likewise. It knows nothing of what is inside.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
import shutil
import threading
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prompt2lora.errors import DamagedFile, OutputError, UsageError, cause

if TYPE_CHECKING:
    from torch import Tensor

_LONGEST_NAME = 255  # bytes


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `folder` at the end, or vanishes if anything goes wrong.

    Raises UsageError if `folder` exists (even empty) or can be none, OutputError if it cannot be written.
    """
    check_new(folder, "output folder")
    aside, made = None, [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = hidden_beside(folder, secrets.token_hex(4))
        aside.mkdir(0o700)
        yield aside
        for file in aside.rglob("*"):
            if file.is_file():
                _sync(file)
        os.chmod(aside, 0o755)
        os.rename(aside, folder)
        made = []
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        if aside:
            shutil.rmtree(aside, ignore_errors=True)
        for parent in made:
            with suppress(OSError):
                parent.rmdir()


def hidden_beside(place: Path, ending: str) -> Path:
    """Where what belongs to a file or folder lies meanwhile: hidden beside it, under its name, or as much of that as
    leaves room for the ending."""
    name = os.fsencode(f".{place.name}")[: _LONGEST_NAME - 1 - len(ending)].decode(errors="ignore")
    return place.with_name(f"{name}.{ending}")


def read_toml(file: Path, what: str) -> dict[str, Any]:
    """A TOML file that is `what`. Raises UsageError if it cannot be read as one."""
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: {what} cannot be read ({cause(error)}); check the path") from error
    except ValueError as error:
        raise UsageError(f"{file}: {what} must be readable TOML ({cause(error)}); correct the file") from error


def strict_json(data: bytes) -> Any:
    """JSON that nobody can read in two ways. Raises ValueError for a key given twice, a number that is not finite,
    text that is not UTF-8, and nesting without end."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key stands in it twice")
        return found

    def finite(text: str) -> float:
        number = float(text)
        if not math.isfinite(number):
            raise ValueError(f"{text[:20]} is no finite number")
        return number

    try:
        return json.loads(data.decode(), object_pairs_hook=once, parse_float=finite, parse_constant=finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def refuse_unknown(file: Path, data: Mapping[str, Any], kind: type) -> None:
    """Raises UsageError for a key that is no field of the dataclass `kind`."""
    known = {item.name for item in fields(kind)}
    for key in data:
        if key not in known:
            raise UsageError(
                f"{file}: unknown key {key!r}; {kind.__name__.lower()} keys are {', '.join(sorted(known))}"
            )


@contextmanager
def exclusive_lock(file: Path) -> Iterator[None]:
    """Of all threads and processes that name this lock file one is inside at a time; the others wait."""
    from filelock import FileLock

    lock = FileLock(file)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise _unwritable(file, error) from error
    try:
        yield
    finally:
        lock.release()


def check_new(place: Path, what: str) -> None:
    """Raises UsageError if `place` is there already, and as `check_writable`, before any work is done for it."""
    if place.exists() or place.is_symlink():
        raise UsageError(f"the {what} must not exist yet, and {place} does; name another one or remove it")
    check_writable(place)


def claim(file: Path, settings: dict[str, Any], refusal: str) -> None:
    """Write down what a resumable folder is for. Raises UsageError(refusal) if it is for something else already."""
    wanted = json.loads(json.dumps(settings))
    if file.exists() and json.loads(file.read_text(encoding="utf-8")) != wanted:
        raise UsageError(refusal)
    write_json(file, wanted)


def check_writable(file: Path) -> None:
    """Raises UsageError if `file` would lie in what is no folder, OutputError in one that may not be written to, before
    any work is done for it."""
    place = next(parent for parent in file.absolute().parents if parent.exists())
    if not place.is_dir():
        raise UsageError(f"cannot write {file}: {place} is not a folder; name another place")
    if not os.access(place, os.W_OK):
        raise OutputError(
            f"cannot write {file}: {place} may not be written to; check its permissions or name another place"
        )


def write_bytes(file: Path, data: bytes) -> None:
    """Replace a file as a whole. Raises OutputError if it cannot be written."""
    aside = hidden_beside(file, f"{os.getpid()}.{threading.get_ident()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(data)
        _sync(aside)
        os.replace(aside, file)
    except OSError as error:
        raise _unwritable(file, error) from error
    finally:
        with suppress(OSError):
            aside.unlink()


def write_text(file: Path, text: str) -> None:
    write_bytes(file, text.encode())


def write_json(file: Path, value: Any) -> None:
    write_text(file, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def file_digest(file: Path) -> str:
    """SHA-256 of a file. Raises DamagedFile if it cannot be read."""
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DamagedFile(f"{file} cannot be read ({cause(error)}): fetch or make it again") from error


def write_safetensors(file: Path, state: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> str:
    """Write tensors; returns the SHA-256 of the file. The same tensors give the same bytes."""
    from safetensors.torch import save

    data = _ordered(save(dict(sorted(state.items())), metadata=metadata))
    file.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _ordered(data: bytes) -> bytes:
    """The same safetensors file with its header in a fixed order (the library writes metadata in any order)."""
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def read_safetensors(file: Path) -> tuple[dict[str, Tensor], str]:
    """(tensors, SHA-256). Raises DamagedFile if the file is missing, truncated or no safetensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        data = file.read_bytes()
        return load(data), hashlib.sha256(data).hexdigest()
    except (OSError, SafetensorError) as error:
        raise DamagedFile(f"{file} cannot be read as safetensors ({cause(error)}): fetch or make it again") from error


def read_metadata(file: Path) -> dict[str, str]:
    """The text metadata of a safetensors file."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return dict(opened.metadata() or {})


def _unwritable(place: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {place}: {error.strerror or error}; free space or name another place")


def _sync(file: Path) -> None:
    with file.open("rb") as stream:
        os.fsync(stream.fileno())
