"""Adapters as llama.cpp reads them: files that are made once and removed when nothing needs them any more.

In: versions. Out: their files, for as long as a server reads them, and why a version has none. Services of several
bases may share the place: one at a time is inside. Everything there can be deleted and is made again. It knows no
server and no registry.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prompt2lora.adapter.formats import gguf
from prompt2lora.adapter.peft import Adapter
from prompt2lora.custody.versions import Version
from prompt2lora.errors import Prompt2LoraError, Unavailable, readable_now
from prompt2lora.ground.files import exclusive_lock, file_digest, new_folder

_DIGEST = "sha256"


@dataclass(frozen=True)
class LlamaFiles:
    """`root` is where they are kept, `folder` finds a version's adapter, `config` is that of the base."""

    root: Path
    folder: Callable[[Version], Path]
    config: Any

    @contextmanager
    def of(
        self, versions: Sequence[Version], kept: Collection[str], asked: Version | None = None
    ) -> Iterator[tuple[dict[str, Path], dict[str, str]]]:
        """(files, reasons) by a version's name. At the end, all files but theirs and those of the adapters `kept` are
        removed. A version that cannot be read just now is left out. Raises Unavailable if that is the one `asked` for,
        OutputError if files cannot be written."""
        with exclusive_lock(self.root.with_name(f".{self.root.name}.lock")):
            files, reasons = {}, {}
            for version in versions:
                place = self.root / version.adapter
                if not _is_sound(place):
                    try:
                        with readable_now(version.name):
                            adapter = Adapter.load(self.folder(version), self.config)
                    except Unavailable:
                        if version == asked:
                            raise
                        continue
                    except Prompt2LoraError as error:
                        reasons[version.name] = f"{version.name} cannot be served: {error}"
                        continue
                    self._write(adapter, place)
                files[version.name] = place / gguf.FILE
            yield files, reasons
            needed = {*kept, *(version.adapter for version in versions)}
            for place in self.root.iterdir() if self.root.exists() else ():
                if place.name not in needed:
                    shutil.rmtree(place)

    def _write(self, adapter: Adapter, place: Path) -> None:
        shutil.rmtree(place, ignore_errors=True)
        with new_folder(place) as aside:
            gguf.write(adapter, self.config, aside)
            (aside / _DIGEST).write_text(file_digest(aside / gguf.FILE), encoding="utf-8")


def _is_sound(place: Path) -> bool:
    """Whether a file is there as it was written."""
    try:
        return (place / _DIGEST).read_text(encoding="utf-8") == file_digest(place / gguf.FILE)
    except (OSError, Prompt2LoraError):
        return False
