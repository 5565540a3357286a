"""The weight files of a base or an encoder, and the digest that stands for them in keys and records.

In: a name, as `models.locate` takes it. Out: the files that `transformers` would load, and their SHA-256. A hub id is
looked up in the cache of this machine and then on the hub; a model without weights is refused, so that a digest is
never empty. It reads bytes and knows no tensors.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from prompt2lora.base.models import locate
from prompt2lora.base.packaged import PACKAGED, remedy
from prompt2lora.errors import DamagedFile, ModelNotFound, cause

# What transformers looks for, in this order: one file, or an index of shards.
_NAMES = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_PATTERNS = (
    ["model*.safetensors*"],
    ["pytorch_model*.bin*"],
)  # what to fetch: the second if there is none of the first


def weights_digest(name: str, *, fetch: bool = True) -> str:
    """SHA-256 over the weight files of a model. Raises ModelNotFound if there are none, DamagedFile.

    Without `fetch` only this machine is looked at.
    """
    digest = hashlib.sha256()
    for file in weight_files(name, fetch=fetch):
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 22):
                digest.update(chunk)
    return digest.hexdigest()


def is_at_hand(name: str) -> bool:
    """Whether a model is on this machine, or can be made of what is installed. Nothing is made or fetched."""
    package = PACKAGED.get(name)
    if package and package.files:
        return True
    with suppress(ModelNotFound, DamagedFile):
        return bool(weight_files(name, fetch=False))
    return False


def weight_files(name: str, *, fetch: bool = True) -> list[Path]:
    """The files that hold the weights of a model, sorted by name. Raises ModelNotFound, DamagedFile."""
    place = locate(name)
    found = _in_folder(Path(place)) if Path(place).is_dir() else _on_the_hub(place, fetch)
    if not found:
        raise ModelNotFound(
            f"a model needs model.safetensors or pytorch_model.bin, or all their shards; {name} has none of them: "
            "name another folder or hub id"
        )
    return found


def _in_folder(folder: Path) -> list[Path]:
    """The files that transformers would choose in a folder; empty if there are none, or a shard is missing."""
    chosen = next((folder / name for name in _NAMES if (folder / name).is_file()), None)
    if chosen is None:
        return []
    if chosen.suffix != ".json":
        return [chosen]
    try:
        shards = set(json.loads(chosen.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFile(f"{chosen} is no index of shards ({cause(error)}): fetch the model again") from error
    files = [folder / shard for shard in sorted(shards)]
    return files if all(file.is_file() for file in files) else []


def _on_the_hub(name: str, fetch: bool) -> list[Path]:
    """The files of a hub id: those in the cache of this machine if they are complete, else fetched from the hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        for local in (True, False) if fetch else (True,):
            for patterns in _PATTERNS:
                try:
                    folder = snapshot_download(name, allow_patterns=patterns, local_files_only=local)
                except LocalEntryNotFoundError:
                    if not local:
                        raise
                    continue
                if found := _in_folder(Path(folder)):
                    return found
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ModelNotFound(
            f"the weights of {name!r} are neither on this machine nor reachable: {remedy(name)}"
        ) from error
    return []
