"""What was scored before, in one file, by the digest of all that it depends on.

In: a key and what is to be kept. Out: the same, after any cut and on any machine: the file is a line of JSON an entry,
is only ever added to (by several processes at once, too), and can be committed beside the figures that it stands for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base import models
from prompt2lora.base.chat import ChatFormat
from prompt2lora.base.versions import versions
from prompt2lora.base.weights import weights_digest
from prompt2lora.errors import OutputError, cause
from prompt2lora.evaluation.revisions import revisions
from prompt2lora.ground.home import home
from prompt2lora.ground.profile import TARGETS

_USUAL = (8, 16, sorted(TARGETS))  # rank, alpha and targets of which scores are kept that do not name them
_USUALLY_ASKED = {  # digests of how packaged bases are asked, of which scores are kept that do not name it
    "3023306ed55ac447ccf33dcf40ef4b8fd2ed0c11c7849661ef906a1b257d6749",
    "e23fb25a09de85b7a22f4b2d07fc6eacbb8c5aeaabbeef8a45cdfce65b644db0",
}
_USUAL_ENCODER = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of the packaged one, as above
_COMPUTE_NOTHING = {"transformers_version", "_name_or_path", "_model_name_or_path", "architectures", "dtype"}


class ScoreCache:
    def __init__(self, file: Path | None = None) -> None:
        """Read what is there; a line that a crash cut off counts as never written. Without a file nothing outlives the
        process."""
        self.file = file
        self._known: dict[str, dict[str, Any]] = {}
        # perhaps cut within a letter
        text = file.read_text(encoding="utf-8", errors="replace") if file and file.exists() else ""
        self._ends = not text or text.endswith("\n")
        for line in text.split("\n"):
            with suppress(ValueError, KeyError, AttributeError):
                entry = json.loads(line)
                self._known[entry.pop("key")] = entry

    def get(self, key: str) -> dict[str, Any] | None:
        return self._known.get(key)

    def add(self, key: str, entry: dict[str, Any]) -> None:
        """Keep an entry. Raises OutputError if the file cannot be written."""
        if self.file is not None:
            self._write(self.file, json.dumps({"key": key, **entry}, ensure_ascii=False))
        self._known[key] = entry

    def _write(self, file: Path, line: str) -> None:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as stream:
                stream.write(f"{line}\n" if self._ends else f"\n{line}\n")
        except OSError as error:
            raise OutputError(f"cannot write {file} ({cause(error)}); name another place") from error
        self._ends = True


class KeptScores(NamedTuple):
    """A cache, and what stands for the base whose scores are looked up in it (see `base_key`)."""

    cache: ScoreCache
    base: str

    @classmethod
    def of(cls, file: Path | None, layout: LoraLayout, dtype: torch.dtype) -> KeptScores:
        """Those of a base in a file, by default the one in the home."""
        return cls(ScoreCache(file or home() / "scores.jsonl"), base_key(layout, dtype))

    def key(self, code: Sequence[str], *data: Any) -> str:
        """The digest of all that scores depend on: versions, the base, components of the code, and data."""
        return digest([versions(), self.base, revisions(*code), *data])


def base_key(layout: LoraLayout, dtype: torch.dtype = torch.float32) -> str:
    """Stands for a base and the adapters that are trained for it: the digest of its weights; rank, alpha and targets,
    how it is asked, and the dtype it is computed in, unless these are the usual ones."""
    shape = layout.rank, layout.alpha, sorted(target.name for target in layout.targets)
    weights, asked = weights_digest(layout.base_model), _asked(layout.base_model)
    computed = () if dtype == torch.float32 else (str(dtype),)
    told = [*(shape if shape != _USUAL else ()), *({asked} - _USUALLY_ASKED), *computed]
    return digest([weights, *told]) if told else weights


def encoder_key(weights: str) -> tuple[str, ...]:
    """Stands for an encoder by the digest of its weights; empty for the usual one."""
    return () if weights == _USUAL_ENCODER else (weights,)


def _asked(base: str) -> str:
    """Stands for how a base computes and is asked: its configuration, what ends its answers, tokenizer and template."""
    config, chat = models.load_config(base).to_dict(), ChatFormat.load(base)
    computes = {key: value for key, value in config.items() if key not in _COMPUTE_NOTHING}
    return digest([computes, chat.ends, chat.tokenizer.backend_tokenizer.to_str(), chat.tokenizer.chat_template])


def digest(data: Any) -> str:
    """SHA-256 of anything that JSON can say."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
