"""The generators that come with prompt2lora, by name, and the one that is meant where none is named.

In: a name, or nothing. Out: a folder, and what its generator needs, read without its weights. It loads no generator.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from prompt2lora.base.memory import machine_memory, needed_memory
from prompt2lora.base.weights import is_at_hand, weights_digest
from prompt2lora.errors import DamagedFile, ModelNotFound, cause

CONFIG = "generator_config.json"
BEST_FIRST = ("qwen2.5-coder-0.5b-instruct", "smollm2-135m-instruct")  # by the benchmark's dev tasks; the last is small


class Released(NamedTuple):
    """A generator that comes with prompt2lora: the base it makes adapters for, the encoder that reads the prompts, and
    the digests of its own weights and of the base's that it was trained on (empty: not known)."""

    name: str
    folder: Path
    base: str
    digest: str = ""
    base_digest: str = ""
    encoder: str = ""

    @classmethod
    def read(cls, folder: Path) -> Released:
        """Raises DamagedFile."""
        try:
            told: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            base_digest = told["provenance"].get("base_weights_sha256", "")
            base = told["config"]["layout"]["base_model"]
            encoder = told["config"].get("encoder", "")
            return cls(folder.name, folder, base, told["weights"]["sha256"], base_digest, encoder)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedFile(
                f"{folder / CONFIG} cannot be read ({cause(error)}); install prompt2lora again"
            ) from error

    @property
    def is_at_hand(self) -> bool:
        """Whether its base is on this machine."""
        return is_at_hand(self.base)

    @property
    def fits(self) -> bool:
        """Whether its base is at hand and this machine has the memory for it; not whether that is free just now, so
        that two calls choose the same."""
        memory = machine_memory()
        return self.is_at_hand and memory is not None and needed_memory(self.base) <= memory


def places() -> Sequence[Path]:
    """Folders that may hold released generators: in the package, and beside a checkout."""
    here = Path(__file__).resolve()
    return here.parents[1] / "generators", here.parents[3] / "generators"


def folders() -> dict[str, Path]:
    """By name, the best first; those that BEST_FIRST does not name stand last."""
    found = {file.parent.name: file.parent for place in reversed(places()) for file in place.glob(f"*/{CONFIG}")}
    known = [name for name in BEST_FIRST if name in found]
    return {name: found[name] for name in [*known, *sorted(found.keys() - {*known})]}


def released() -> list[Released]:
    """All of them, the best first. Raises DamagedFile if there are none, or one cannot be read."""
    found = [Released.read(folder) for folder in folders().values()]
    if not found:
        raise DamagedFile("no released generator is in this installation; install prompt2lora again")
    return found


def default_generator(base: str | None = None) -> Released:
    """The one for `base`, by its name or its weights; without any for it, or without a base, the best whose base is at
    hand and which this machine has the memory for; else the smallest."""
    known = released()
    named = [one for one in known if one.base == base]
    if base and not named and len(known) > 1 and Path(base).is_dir():
        digest = weights_digest(base)
        named = [one for one in known if one.base_digest == digest]
    usual = [one for one in known if one.name in BEST_FIRST] or known
    return next(iter(named or [one for one in usual if one.fits]), usual[-1])


def generator_used(generator: str | Path | None, base: str | None) -> Released:
    """The one that is meant by a name, a folder or nothing; read without its weights.

    Raises ModelNotFound, DamagedFile.
    """
    if generator is None:
        return default_generator(base)
    return Released.read(generator_folder(str(generator), [CONFIG]))


def generator_folder(name: str, files: Sequence[str]) -> Path:
    """The folder of a released generator's name, a local folder, or a hub id, of which `files` are fetched.

    Raises ModelNotFound.
    """
    known = folders()
    if name in known:
        return known[name]
    if Path(name).is_dir():
        if not (Path(name) / CONFIG).is_file():
            raise ModelNotFound(f"a generator's folder must contain {CONFIG}, and {name} does not; name another folder")
        return Path(name)
    if Path(name).exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelNotFound(
            f"a generator is a released one ({', '.join(known)}), a local folder or a hub id owner/name; {name!r} is "
            "none of these: name one that is"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(files)))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise ModelNotFound(f"the generator {name!r} is neither a folder here nor reachable on the hub") from error
