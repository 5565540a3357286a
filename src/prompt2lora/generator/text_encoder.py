"""Prompts -> conditions, with a frozen sentence encoder that is never trained and never in training mode.

In: any number of prompts from one. Out: one vector of `width` numbers for each of them; padding, batch
composition and order change nothing. It knows neither LoRA nor the generator.

A prompt is read in two parts: the opening (what stands before the first blank line, usually the
instruction) and the rest (usually the input). A prompt without a blank line is both. Each part
gives the mean over its words of the encoder's last layer, and of its middle layer, where spelling and
wording are still visible. Sixteen prompts that share an instruction encode it once.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from prompt2lora.base.models import DEFAULT_ENCODER, load_config, load_encoder
from prompt2lora.base.weights import weights_digest
from prompt2lora.ground.home import home
from prompt2lora.ground.prompts import split

MAX_WORD_PIECES = 256
_PARTS, _DEPTHS = 2, 2


@dataclass
class Encoder:
    """A frozen sentence encoder with a cache on disk (`cache`, or none).

    `condition` has the shape (prompts, width): two parts, two depths, `hidden` numbers each.
    """

    name: str = DEFAULT_ENCODER
    cache: Path | None = None
    batch_size: int = 64
    device: str = "cpu"
    _known: dict[str, NDArray[np.float16]] = field(default_factory=dict, repr=False)

    @cached_property
    def parts(self) -> tuple[Any, Any]:
        """(model, tokenizer), loaded at first use."""
        model, tokenizer = load_encoder(self.name)
        return model.to(self.device), tokenizer

    @cached_property
    def weights_digest(self) -> str:
        return weights_digest(self.name)

    def load(self) -> None:
        """Load now what would be loaded at first use."""
        _ = self.parts

    def conditions(self, prompts: Sequence[str], *, keep: bool = True) -> Float[Tensor, "prompts width"]:
        """Conditions of prompts. With `keep` off, texts that are new are not remembered."""
        parts = [split(prompt) for prompt in prompts]
        known = self._encoded({part for pair in parts for part in pair}, keep=keep)
        return torch.from_numpy(np.stack([np.concatenate([known[part] for part in pair]) for pair in parts])).float()

    def remember(self, texts: Iterable[str], progress: Any = None) -> None:
        """Encode the texts that are not known yet: on a CPU one by one, so that no vector depends on the others in its
        batch; on an accelerator, where that would take minutes, many at once."""
        self._encoded(texts, keep=True, progress=progress, together=1 if self.device == "cpu" else None)

    def _encoded(
        self, texts: Iterable[str], *, keep: bool, progress: Any = None, together: int | None = None
    ) -> dict[str, NDArray[np.float16]]:
        """The vectors of texts; those not known are encoded, longest together with longest."""
        texts = set(texts)
        if keep:
            self._known.update(self._cached([text for text in texts if text not in self._known]))
        known = self._known if keep else {text: self._known[text] for text in texts if text in self._known}
        unknown = sorted((text for text in texts if text not in known), key=lambda text: (len(text), text))
        size, fresh = together or self.batch_size, dict[str, NDArray[np.float16]]()
        for start in range(0, len(unknown), size):
            batch = unknown[start : start + size]
            fresh.update(zip(batch, self._encode(batch), strict=True))
            done = start + len(batch)
            if len(fresh) >= self.batch_size or done == len(unknown):  # a write costs more than encoding one text
                known.update(fresh)
                if keep:
                    self._store(fresh)
                fresh = {}
            if progress:
                progress(done, len(unknown))
        return known

    @torch.inference_mode()
    def _encode(self, texts: list[str]) -> NDArray[np.float16]:
        model, tokenizer = self.parts
        cut = {"padding": True, "truncation": True, "max_length": MAX_WORD_PIECES}
        pieces = tokenizer(texts, **cut, return_tensors="pt", split_special_tokens=True)  # users' texts hold no marks
        pieces = pieces.to(self.device)
        read = model(**pieces, output_hidden_states=True)
        states = read.hidden_states or (read.last_hidden_state,)  # without layers there are only word vectors
        mask = pieces["attention_mask"].unsqueeze(-1).float()
        depths = [states[-1], states[len(states) // 2]]
        means = [torch.nn.functional.normalize((state * mask).sum(1) / mask.sum(1), dim=-1) for state in depths]
        return torch.cat(means, dim=-1).half().cpu().numpy()

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{self.name} {self.weights_digest}\0{text}".encode()).digest()

    def _database(self) -> sqlite3.Connection | None:
        if self.cache is None:
            return None
        try:
            self.cache.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.cache, timeout=30)
            connection.execute("create table if not exists vectors (key blob primary key, vector blob) without rowid")
        except (sqlite3.DatabaseError, OSError):
            self.cache = None  # a cache that cannot be used is done without
            return None
        return connection

    def _cached(self, texts: list[str]) -> dict[str, NDArray[np.float16]]:
        database = self._database()
        if database is None:
            return {}
        found = {}
        with suppress(sqlite3.Error), database:  # what a damaged cache does not give is encoded again
            for text in texts:
                row = database.execute("select vector from vectors where key = ?", (self._key(text),)).fetchone()
                if row:
                    found[text] = np.frombuffer(row[0], dtype=np.float16)
        database.close()
        return found

    def _store(self, vectors: dict[str, NDArray[np.float16]]) -> None:
        database = self._database()
        if database is None:
            return
        rows = [(self._key(text), vector.tobytes()) for text, vector in vectors.items()]
        with suppress(sqlite3.Error), database:  # a full disk loses the cache, not the work
            database.executemany("insert or ignore into vectors values (?, ?)", rows)
        database.close()


def width_of(name: str) -> int:
    """How many numbers an encoder gives of a prompt, by its configuration."""
    return _PARTS * _DEPTHS * int(load_config(name).hidden_size)


def cached_encoder(name: str) -> Encoder:
    """An encoder that remembers on disk, for all commands of this user."""
    return Encoder(name, cache=home() / "conditions.sqlite")


def pad(
    groups: Sequence[Float[Tensor, "_ width"]],
) -> tuple[Float[Tensor, "batch prompts width"], Bool[Tensor, "batch prompts"]]:
    """Groups of different size in one tensor, on the device that they are on, and the mask of what is real."""
    device = groups[0].device
    padded = torch.nn.utils.rnn.pad_sequence(list(groups), batch_first=True)
    counts = torch.tensor([len(group) for group in groups], device=device)
    return padded, torch.arange(padded.shape[1], device=device) < counts[:, None]
