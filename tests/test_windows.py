"""Bases whose layers look no further back than a window: what reads many sequences at once reads as the base does."""

import pytest
import torch
from tiny import TINY, greedy
from transformers import AutoModelForCausalLM, Gemma3TextConfig, MistralConfig

from prompt2lora.adapter.hooks import adapted
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base.forest import Forest, Reader
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.logits import answer_logits
from prompt2lora.base.packing import pack_examples, stack
from prompt2lora.generator.hidden_states import prompt_ids
from prompt2lora.generator.observation import observe

SIZES = {**TINY, "head_dim": 16, "sliding_window": 8, "initializer_range": 0.2}
KINDS = {
    "all layers": MistralConfig(**SIZES),
    "one of two": Gemma3TextConfig(**SIZES, layer_types=["sliding_attention", "full_attention"]),
}
OPENING = list(range(40, 59))
PROMPTS = [[*OPENING, 21], [*OPENING, 22, 23, 24], [*OPENING, *range(60, 72)]]
ANSWERS = [[7, 8], [9], [10, 11, 12]]


@pytest.fixture(params=KINDS)
def windowed(request, chat):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(KINDS[request.param]).eval().requires_grad_(False)
    return Frozen(model, chat, LoraLayout.from_config(model.config, base_model="tiny"))


@pytest.fixture
def grid(windowed):
    return torch.randn(windowed.layout.shape, generator=torch.Generator().manual_seed(1)) * 0.05


def test_a_pack_is_read_as_separate_sequences(windowed, grid):
    found = answer_logits(
        windowed.model,
        windowed.layout,
        grid[None],
        stack([pack_examples(PROMPTS, ANSWERS, 1000)], windowed.chat.padding),
    )
    with adapted(windowed.model, grid[None], windowed.layout):
        alone = [
            windowed.model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
            for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)
        ]
    assert torch.allclose(found, torch.cat(alone), atol=1e-4)


def test_a_tree_is_read_as_separate_sequences(windowed, grid):
    forest = Forest(OPENING)
    nodes = [forest.add(prompt[len(OPENING) :]) for prompt in PROMPTS]
    states = Reader(windowed, grid).states(forest)
    with adapted(windowed.model, grid[None], windowed.layout), torch.inference_mode():
        for prompt, places in zip(PROMPTS, nodes, strict=True):
            alone = windowed.model.get_decoder()(torch.tensor([prompt])).last_hidden_state[0, len(OPENING) :]
            assert torch.allclose(states[places], alone, atol=1e-4)


def test_prompts_that_are_observed_together_are_answered_as_one_by_one(windowed, grid):
    ids = prompt_ids(windowed.chat, [f"Say it again.\n\nnote {number} of {'it ' * number}" for number in range(4)])
    answers = observe(windowed, grid, ids, 12).answers
    with adapted(windowed.model, grid[None], windowed.layout), torch.no_grad():
        assert answers == greedy(windowed.model, ids, windowed.chat, 12)
    assert any(len(answer) > 8 for answer in answers)
