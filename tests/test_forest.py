"""Sequences that begin alike are read as one tree, and nothing can be told of that afterwards."""

import pytest
import torch

from prompt2lora.adapter.hooks import adapted
from prompt2lora.base.forest import Forest, Reader

OPENING = [11, 12, 13]
SEQUENCES = [[21, 22, 23], [21, 22, 31], [21, 22], [41], [21, 22, 23, 11]]


@pytest.fixture(params=[False, True], ids=["base", "adapter"])
def grid(request, layout):
    return torch.randn(layout.shape, generator=torch.Generator().manual_seed(1)) * 0.05 if request.param else None


def separately(frozen, grid, ids):
    with torch.inference_mode():
        if grid is None:
            return frozen.model.get_decoder()(torch.tensor([ids])).last_hidden_state[0]
        with adapted(frozen.model, grid[None], frozen.layout):
            return frozen.model.get_decoder()(torch.tensor([ids])).last_hidden_state[0]


def test_a_common_beginning_stands_once():
    forest = Forest(OPENING)
    nodes = [forest.add(sequence) for sequence in SEQUENCES]
    assert forest.ids == [21, 22, 23, 31, 41, 11]
    assert forest.positions == [3, 4, 5, 5, 3, 6]
    assert nodes == [[0, 1, 2], [0, 1, 3], [0, 1], [4], [0, 1, 2, 5]]
    assert forest.behind(1, 31) == 3
    assert forest.behind(4, 31) is None


@pytest.mark.parametrize("opening", [OPENING, []])
def test_states_are_those_of_separate_sequences(frozen, grid, opening):
    forest = Forest(opening)
    nodes = [forest.add(sequence) for sequence in SEQUENCES]
    states = Reader(frozen, grid).states(forest)
    for sequence, places in zip(SEQUENCES, nodes, strict=True):
        expected = separately(frozen, grid, opening + sequence)[len(opening) :]
        assert torch.allclose(states[places], expected, atol=1e-4)


def test_an_opening_is_read_once_and_a_shorter_or_another_one_is_never_taken_for_it(frozen, grid):
    reader, calls, found = Reader(frozen, grid), [], []
    handle = frozen.model.get_decoder().register_forward_pre_hook(
        lambda _module, _args, kwargs: calls.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    try:
        for opening in (OPENING, OPENING, OPENING[:2], [*OPENING[:2], 14]):
            forest = Forest(opening)
            forest.add([21, 22])
            found.append((opening, reader.states(forest)))
    finally:
        handle.remove()
    assert calls == [3, 2, 2, 2, 3, 2]
    for opening, states in found:
        assert torch.allclose(states, separately(frozen, grid, [*opening, 21, 22])[len(opening) :], atol=1e-4)
