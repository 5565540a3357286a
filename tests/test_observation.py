"""One reading gives what separate ones give: states, answers, and what the output projections do."""

import pytest
import torch
from tiny import greedy

from prompt2lora.adapter.hooks import adapted
from prompt2lora.generator.hidden_states import prompt_ids, states
from prompt2lora.generator.observation import observe, output_paths

PROMPTS = [f"Say it again.\n\nnote {number} of {'it ' * number}" for number in range(5)]


@pytest.fixture
def grid(layout):
    torch.manual_seed(0)
    return torch.randn(layout.shape) * 0.05


@pytest.mark.parametrize("prompts", [PROMPTS, PROMPTS[:1], ["a", "b c"]])
def test_prompts_read_together_are_answered_as_they_are_one_by_one(frozen, grid, prompts):
    ids = prompt_ids(frozen.chat, prompts)
    read = observe(frozen, grid, ids, 6)
    with adapted(frozen.model, grid[None], frozen.layout), torch.no_grad():
        assert read.answers == greedy(frozen.model, ids, frozen.chat, 6)
    assert torch.allclose(read.states, states(frozen, grid, prompts), atol=1e-4)


def test_what_is_observed_while_answering_is_what_a_prompt_and_its_answer_give_alone(frozen, grid):
    ids = prompt_ids(frozen.chat, PROMPTS)
    read = observe(frozen, grid, ids, 6)
    got = {}
    path = output_paths(frozen.layout)[-1]
    for number, (prompt, answer) in enumerate(zip(ids, read.answers, strict=True)):
        with adapted(frozen.model, grid[None], frozen.layout), torch.no_grad():
            handle = frozen.model.get_submodule(path).register_forward_hook(
                lambda _module, inputs, output: got.update(given=inputs[0][0], reached=output[0])
            )
            frozen.model(torch.tensor([[*prompt, *answer]]), use_cache=False)
            handle.remove()
        places = [at for at, owner in enumerate(read.pack.token_example) if owner in (number, -1)]
        assert [read.pack.ids[at] for at in places] == [*prompt, *answer]
        assert torch.allclose(read.given[path][places], got["given"], atol=1e-4)
        assert torch.allclose(read.reached[path][places], got["reached"], atol=1e-4)


def test_without_any_token_to_write_nothing_is_answered(frozen, grid):
    assert observe(frozen, grid, prompt_ids(frozen.chat, PROMPTS), 0).answers == [[]] * 5
