"""Token sequences of one adapter, read by the base as one tree, so that no beginning is computed twice.

In: token ids, sequence after sequence. Out: the base's last states at every node of the tree: a node is a token behind
all those before it in its sequence, and sequences that begin alike have these nodes in common. What all of them begin
with (system text, instruction, shown examples) is not even in the tree: a `Reader` keeps what it read of that. States
equal those of separate sequences (a test). It knows neither questions nor answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from prompt2lora.adapter.hooks import adapted
from prompt2lora.base.attention import additive_masks
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.pictures import positions

KeyValues = tuple[Float[Tensor, "1 heads _ key_width"], Float[Tensor, "1 heads _ value_width"]]  # of a layer
_ROOT = -1  # stands for the end of the opening, behind which all sequences go on


class Forest:
    """Sequences behind a common opening: per node its token, the node before it, and its position."""

    def __init__(self, opening: Sequence[int]) -> None:
        self.opening = list(opening)
        self.ids: list[int] = []
        self.before: list[int] = []
        self.positions: list[int] = []
        self._start = positions(self.opening)[-1]
        self._known: dict[tuple[int, int], int] = {}

    def add(self, ids: Sequence[int], node: int = _ROOT) -> list[int]:
        """The nodes of tokens that follow a node; by default they follow the opening."""
        found = []
        for token in ids:
            if (node, token) not in self._known:
                self._known[node, token] = len(self.ids)
                known = node != _ROOT
                self.positions.append(positions([self.ids[node]], self.positions[node])[-1] if known else self._start)
                self.ids.append(token)
                self.before.append(node)
            node = self._known[node, token]
            found.append(node)
        return found

    def behind(self, node: int, token: int) -> int | None:
        """The node of a token that follows a node, if a sequence has it there."""
        return self._known.get((node, token))

    def visible(self) -> Bool[Tensor, "nodes places"]:
        """What every node sees: the opening, the nodes of its own sequence up to itself."""
        opening = len(self.opening)
        seen = torch.zeros(len(self.ids), opening + len(self.ids), dtype=torch.bool)
        seen[:, :opening] = True
        for node, before in enumerate(self.before):
            if before != _ROOT:
                seen[node] = seen[before]
            seen[node, opening + node] = True
        return seen


class Reader:
    """A base, perhaps with an adapter, that keeps what it read of an opening."""

    def __init__(self, base: Frozen, grid: Float[Tensor, "layers rows cols"] | None = None) -> None:
        self.base, self._grid = base, grid
        self._opening: list[int] = []
        self._kept: list[KeyValues] = []  # of every layer

    @torch.inference_mode()
    def states(self, forest: Forest) -> Float[Tensor, "nodes width"]:
        """What stands at every node behind the last layer."""
        model, _, layout = self.base
        with adapted(model, self._grid[None], layout) if self._grid is not None else nullcontext():
            length = len(forest.opening)
            if forest.opening != self._opening[:length]:
                whole = Forest([])
                whole.add(forest.opening)
                _, self._kept = self._read(whole, [])
                self._opening = forest.opening
            kept = [(keys[:, :, :length], values[:, :, :length]) for keys, values in self._kept]
            return self._read(forest, kept if length else [])[0]

    def _read(self, forest: Forest, kept: Sequence[KeyValues]) -> tuple[Float[Tensor, "nodes width"], list[KeyValues]]:
        """States of the nodes; the keys and values of all that was read, `kept` ones before them."""
        from transformers import DynamicCache

        model = self.base.model
        cache = DynamicCache()  # of all tokens: the mask says which of them are seen
        for layer, (keys, values) in enumerate(kept):
            cache.update(keys, values, layer)
        visible = forest.visible()[None, None].to(model.device)
        at, before = (torch.tensor(each, device=model.device) for each in (forest.positions, positions(forest.opening)))
        read = model.get_decoder()(
            input_ids=torch.tensor([forest.ids], device=model.device),
            position_ids=at[None],
            attention_mask=additive_masks(model, visible, at, torch.cat([before[:-1], at])),
            past_key_values=cache,
            use_cache=True,
        )
        states: Tensor = read.last_hidden_state[0]
        return states, [(layer.keys, layer.values) for layer in cache.layers]
