"""Keys and values of every sequence of the running batch, in every layer: memory that grows and never moves otherwise.

In: what a model computes for the tokens it reads now. Out: everything that these tokens may look at. Two kinds of
reading: one token for each of several neighbouring sequences, or parts of sequences one after the other in one row,
without padding. It knows neither adapters nor masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

_FIRST_LENGTH = 128
Held = Float[Tensor, "sequences heads length width"]


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
        self.in_a_row = False

    def expect(self, parts: Sequence[Part], in_a_row: bool) -> None:
        """What the model reads next: one token for each of neighbouring places, or all parts in one row."""
        self.parts, self.in_a_row = parts, in_a_row
        self._length = max(part.end for part in parts)
        self._reserve(self._length)
        if not in_a_row:
            self._places = torch.tensor([part.place for part in parts])
            self._lasts = torch.tensor([part.start for part in parts])

    # What a model asks of its cache

    def update(
        self,
        keys: Float[Tensor, "rows heads new width"],
        values: Float[Tensor, "rows heads new value_width"],
        layer: int,
        *_: Any,
        **__: Any,
    ) -> tuple[Float[Tensor, "rows heads seen width"], Float[Tensor, "rows heads seen value_width"]]:
        """Keep what is new of a layer; everything that may be looked at."""
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

    def _kept(self, held: Held, new: Float[Tensor, "rows heads new width"]) -> Float[Tensor, "rows heads seen width"]:
        if not self.in_a_row:
            held[self._places, :, self._lasts] = new[:, :, 0]
            first = self.parts[0].place
            return held[first : first + len(self.parts), :, : self._length]
        at = 0
        for part in self.parts:
            held[part.place, :, part.start : part.end] = new[0, :, at : at + len(part.tokens)]
            at += len(part.tokens)
        return torch.cat([held[part.place, :, : part.end] for part in self.parts], dim=1)[None]

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
