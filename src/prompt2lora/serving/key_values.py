"""Keys and values of every sequence of the running batch, in every layer: memory that grows and never moves otherwise.

In: what a model computes for the tokens it reads now, which stand in one row without padding: first one token for each
of the first sequences, then longer parts of others. Out: for each piece of that row what its tokens may look at. It
knows neither adapters nor masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.serving.attention import Held, Piece

_FIRST_LENGTH = 128


class Part(NamedTuple):
    """Tokens that the sequence at a place of the batch reads now, from position `start` on."""

    place: int
    start: int
    tokens: Sequence[int]

    @property
    def end(self) -> int:
        return self.start + len(self.tokens)


class Beginning(NamedTuple):
    """The first tokens of a sequence, and their keys and values, one tensor a layer."""

    ids: Sequence[int]
    keys: list[Float[Tensor, "heads length width"]]
    values: list[Float[Tensor, "heads length value_width"]]

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    def first(self, length: int) -> Beginning:
        """A copy of its first tokens."""
        return Beginning(
            self.ids[:length],
            [tensor[:, :length].clone() for tensor in self.keys],
            [tensor[:, :length].clone() for tensor in self.values],
        )


class KeyValues:
    """Of `capacity` sequences, of at most `context_length` tokens each; what a model of transformers takes as cache."""

    def __init__(self, capacity: int, context_length: int) -> None:
        self.capacity, self.context_length = capacity, context_length
        self.allocated = 0  # tokens of memory for every sequence
        self.keys: dict[int, Held] = {}
        self.values: dict[int, Held] = {}
        self.parts: Sequence[Part] = ()
        self.alone = 0

    def expect(self, parts: Sequence[Part]) -> int:
        """What the model reads next; how many parts of one token, of the first sequences, stand before all others."""
        self.parts = parts
        firsts = takewhile(lambda one: one[1].place == one[0] and len(one[1].tokens) == 1, enumerate(parts))
        self.alone = sum(1 for _ in firsts)
        self._length = max(part.end for part in parts)
        self._reserve(self._length)
        self._places = torch.arange(self.alone)
        self._lasts = torch.tensor([part.start for part in parts[: self.alone]], dtype=torch.long)
        self._longest = max((part.end for part in parts[: self.alone]), default=0)
        return self.alone

    # What a model asks of its cache

    def update(
        self,
        keys: Float[Tensor, "1 heads tokens width"],
        values: Float[Tensor, "1 heads tokens value_width"],
        layer: int,
        *_: Any,
        **__: Any,
    ) -> tuple[list[Piece], list[Piece]]:
        """Keep what is new of a layer; for each piece of the row everything that it may look at."""
        if layer not in self.keys:
            shape = (self.capacity, keys.shape[1], self.allocated)
            self.keys[layer] = keys.new_zeros(*shape, keys.shape[3])
            self.values[layer] = values.new_zeros(*shape, values.shape[3])
        return self._kept(self.keys[layer], keys), self._kept(self.values[layer], values)

    def get_seq_length(self, _layer: int = 0) -> int:
        return self._length

    # Sequences that come, move and leave

    def move(self, source: int, target: int, length: int) -> None:
        """The sequence at `source`, `length` tokens long, moves to `target`."""
        for held in (*self.keys.values(), *self.values.values()):
            held[target, :, :length] = held[source, :, :length]

    def beginning(self, place: int, ids: Sequence[int]) -> Beginning:
        """A copy of what a sequence, which begins with these tokens, holds for them."""
        keys, values = (
            [held[place, :, : len(ids)].clone() for held in layers.values()] for layers in (self.keys, self.values)
        )
        return Beginning(ids, keys, values)

    def begin(self, place: int, beginning: Beginning, length: int) -> None:
        """The sequence at `place` begins with the first `length` tokens of a beginning."""
        self._reserve(length)
        for layers, given in ((self.keys, beginning.keys), (self.values, beginning.values)):
            for held, tensor in zip(layers.values(), given, strict=True):
                held[place, :, :length] = tensor[:, :length]

    # Inside

    def _kept(self, held: Held, new: Float[Tensor, "1 heads tokens width"]) -> list[Piece]:
        pieces, end = [], self.alone
        if self.alone:
            held[self._places, :, self._lasts] = new[0, :, : self.alone].transpose(0, 1)
            pieces.append(Piece(slice(self.alone), True, held[: self.alone, :, : self._longest]))
        for part in self.parts[self.alone :]:
            tokens = slice(end, end := end + len(part.tokens))
            held[part.place, :, part.start : part.end] = new[0, :, tokens]
            pieces.append(Piece(tokens, False, held[part.place : part.place + 1, :, : part.end]))
        return pieces

    def _reserve(self, length: int) -> None:
        if length <= self.allocated:
            return
        # What is masked is weighed with 0, and 0 times what new memory may hold is not always 0: it must be finite.
        grown = self.allocated or _FIRST_LENGTH
        while grown < length:
            grown *= 2
        self.allocated = min(grown, self.context_length)
        for held in (self.keys, self.values):
            for layer, old in held.items():
                shape = (*old.shape[:2], self.allocated, old.shape[3])
                held[layer] = old.new_zeros(shape)
                held[layer][:, :, : old.shape[2]] = old
