"""Where a run is: `checkpoint.pt` in its folder, replaced as a whole, so that a run killed at any moment goes on.

In: a step, the weights, the optimiser of the stage. Out: the same, later. It knows neither tasks nor recipes.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from prompt2lora.errors import DamagedFile
from prompt2lora.ground.files import write_bytes

_FILE = "checkpoint.pt"


@dataclass(frozen=True)
class Checkpoint:
    """`seconds` of training until `step`; the state of the generator, and of the optimiser of stage number `stage`."""

    step: int
    seconds: float
    generator: dict[str, Any]
    stage: int
    optimiser: dict[str, Any]

    def save(self, folder: Path) -> None:
        buffer = io.BytesIO()
        torch.save(vars(self), buffer)
        write_bytes(folder / _FILE, buffer.getvalue())

    @classmethod
    def load(cls, folder: Path, device: str) -> Checkpoint | None:
        """None where no step was kept yet. Raises DamagedFile."""
        file = folder / _FILE
        if not file.exists():
            return None
        try:
            return cls(**torch.load(file, map_location=device, weights_only=True))
        except (RuntimeError, OSError, EOFError, ValueError, TypeError, pickle.UnpicklingError) as error:
            raise DamagedFile(f"{file} is damaged; remove the folder and train anew") from error
