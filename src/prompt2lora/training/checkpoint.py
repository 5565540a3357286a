"""Where a run is: `checkpoint.pt` in its folder, replaced as a whole, so that a run killed at any moment goes on.

In: a step, the weights, the optimiser of the stage. Out: the same, later. A thread writes, and training goes on
meanwhile; what it writes is a copy. It knows neither tasks nor recipes.
"""

from __future__ import annotations

import io
import pickle
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from prompt2lora.errors import DamagedFile
from prompt2lora.ground.files import write_bytes

_FILE = "checkpoint.pt"


@dataclass(frozen=True)
class Checkpoint:
    """`seconds` of training until `step`; the state of the generator, and of the optimiser of stage number `stage`
    (empty: it was left out)."""

    step: int
    seconds: float
    generator: dict[str, Any]
    stage: int
    optimiser: dict[str, Any]

    def save(self, folder: Path) -> None:
        write_bytes(folder / _FILE, self.to_bytes())

    def to_bytes(self) -> bytes:
        buffer = io.BytesIO()
        torch.save(vars(self), buffer)
        return buffer.getvalue()

    def small(self) -> Checkpoint:
        """A sixth of the bytes, to be carried elsewhere: float16, and without the optimiser, which begins anew."""
        weights = {name: value.half() if value.is_floating_point() else value for name, value in self.generator.items()}
        return replace(self, generator=weights, optimiser={})

    @classmethod
    def load(cls, folder: Path, device: str) -> Checkpoint | None:
        """None where no step was kept yet. Raises DamagedFile."""
        file = folder / _FILE
        if not file.exists():
            return None
        try:
            return cls(**torch.load(file, map_location=device, weights_only=True))
        except (RuntimeError, OSError, EOFError, ValueError, TypeError, pickle.UnpicklingError) as error:
            raise DamagedFile(f"{file} is damaged; remove the folder and train again") from error

    def copied(self) -> Checkpoint:
        """The same, in memory of its own that no later step changes."""
        return Checkpoint(**_copied(vars(self)))


class CheckpointWriter:
    """Writes checkpoints into a folder, one at a time, in a thread; the end of the block waits for the last one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._last: Future[None] | None = None

    def __enter__(self) -> CheckpointWriter:
        return self

    def write(self, checkpoint: Checkpoint) -> None:
        """Begin to write; waits first for the one before, and raises what went wrong with that."""
        self.wait()
        self._last = self._thread.submit(checkpoint.copied().save, self.folder)

    def wait(self) -> None:
        """Until the last one is on the disk. Raises OutputError if it could not be written."""
        last, self._last = self._last, None
        if last:
            last.result()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._thread.shutdown()
        if kind is None:
            self.wait()


def _copied(value: Any) -> Any:
    """Tensors in main memory, wherever they were."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(one) for key, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value
