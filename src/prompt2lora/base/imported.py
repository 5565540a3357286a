"""An adapter that was made elsewhere, written anew within the adapter profile, for its base.

In: its folder, and where its base is found. Out: a folder of ours and what was done. Whether weights say the same is
`adapter/placement.py`'s; this joins it with the base.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prompt2lora.adapter import foreign
from prompt2lora.adapter.placement import place
from prompt2lora.base import models
from prompt2lora.errors import UsageError
from prompt2lora.ground.files import check_new


@dataclass(frozen=True)
class Imported:
    """What was written: the folder, its digest, its rank, alpha, targets, and the dtype of its numbers.

    base    the base that it is for now; made_for: the name that it said itself, empty if none
    ranks   how many modules had which rank
    lost    share of the update's norm that lower ranks cost; 0 unless that was asked for
    source  SHA-256 over the files that it was made of
    """

    adapter: str
    digest: str
    base: str
    made_for: str
    rank: int
    alpha: int
    targets: tuple[str, ...]
    ranks: dict[int, int]
    dtype: str
    lost: float
    source: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def import_adapter(folder: Path, out: Path, base: str | None = None, *, approximate: bool = False) -> Imported:
    """Write `out`; see `prompt2lora.api.import_adapter`."""
    check_new(out, "output folder")
    read = foreign.read(folder)
    name = base or read.base
    if not name:
        raise UsageError(f"{folder} does not say for which base it was made; name that by --base")
    placed = place(read, models.load_config(name), name, approximate=approximate)
    digest = placed.adapter.save(out, dtype=placed.dtype)
    layout = placed.adapter.layout
    return Imported(
        adapter=str(out),
        digest=digest,
        base=name,
        made_for=read.base,
        rank=layout.rank,
        alpha=layout.alpha,
        targets=tuple(target.name for target in layout.targets),
        ranks=dict(placed.ranks),
        dtype=str(placed.dtype).removeprefix("torch."),
        lost=placed.lost,
        source=read.digest,
    )
