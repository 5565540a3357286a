"""One reading gives what separate ones give: states, answers, and what the output projections do."""

import pytest
import torch

from prompt2lora.adapter.hooks import adapted
from prompt2lora.base.decoding import greedy
from prompt2lora.base.packing import UNLIMITED, pack_examples
from prompt2lora.generator.hidden_states import prompt_ids, states
from prompt2lora.generator.observation import answered, observe, output_paths, same_places

PROMPTS = [f"Say it again.\n\nnote {number} of {'it ' * number}" for number in range(5)]


@pytest.fixture
def grid(layout):
    torch.manual_seed(0)
    return torch.randn(layout.shape) * 0.05


@pytest.mark.parametrize("prompts", [PROMPTS, PROMPTS[:1], ["a", "b c"]])
def test_prompts_read_together_are_answered_as_they_are_one_by_one(frozen, grid, prompts):
    ids = prompt_ids(frozen.chat, prompts)
    read = answered(frozen, grid, ids, 6)
    with adapted(frozen.model, grid[None], frozen.layout), torch.no_grad():
        assert read.answers == greedy(frozen.model, ids, frozen.chat, 6)
    assert torch.allclose(read.states, states(frozen, grid, prompts), atol=1e-4)


def test_what_is_observed_while_answering_is_what_is_observed_of_the_finished_answers(frozen, grid):
    ids = prompt_ids(frozen.chat, PROMPTS)
    read = answered(frozen, grid, ids, 6)
    pack = pack_examples(ids, [[*answer, 0] for answer in read.answers], UNLIMITED)
    whole = observe(frozen, grid, [pack])
    there, here = same_places(read.observed.packs, pack)
    assert sorted(here.tolist()) == list(range(len(pack.ids)))
    for path in output_paths(frozen.layout):
        for one, other in ((read.observed.given, whole.given), (read.observed.reached, whole.reached)):
            assert torch.allclose(one[path][there], other[path][here], atol=1e-4)


def test_packs_of_several_lengths_are_observed_one_after_the_other_without_padding(frozen, grid):
    packs = [pack_examples(prompt_ids(frozen.chat, some), [[1, 0]] * len(some), UNLIMITED) for some in (PROMPTS, ["a"])]
    both, single = observe(frozen, grid, packs), [observe(frozen, grid, [pack]) for pack in packs]
    for path in output_paths(frozen.layout):
        assert torch.allclose(both.given[path], torch.cat([one.given[path] for one in single]), atol=1e-4)


def test_without_any_token_to_write_nothing_is_answered(frozen, grid):
    assert answered(frozen, grid, prompt_ids(frozen.chat, PROMPTS), 0).answers == [[]] * 5
