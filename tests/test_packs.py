"""Packs against what they stand for: separate sequences, token by token, in every family."""

from random import Random

import pytest
import torch
from test_layout import FAMILIES
from test_weights import random_grid
from tiny import write_task
from transformers import AutoModelForCausalLM

from prompt2lora.adapter.hooks import adapted
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base import models
from prompt2lora.base.chat import ChatFormat
from prompt2lora.base.packing import pack_examples, stack
from prompt2lora.training.objectives import end_to_end
from prompt2lora.training.sampling import draw_examples, make_pack
from prompt2lora.training.tasks import read_task


def drawn(seed: int) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts of 1 to 12 tokens, most with a common beginning, and answers of 1 to 4."""
    random = Random(seed)
    beginning = [random.randrange(90) for _ in range(random.randrange(6))]
    count = random.randrange(1, 7)
    prompts = [beginning + [random.randrange(90) for _ in range(random.randrange(1, 7))] for _ in range(count)]
    return prompts, [[random.randrange(90) for _ in range(random.randrange(1, 5))] for _ in range(count)]


@pytest.mark.parametrize("family", FAMILIES)
def test_in_every_family_a_pack_gives_the_loss_of_separate_sequences(family):
    torch.manual_seed(0)
    config = type(FAMILIES[family])(**{**FAMILIES[family].to_dict(), "initializer_range": 0.2})
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    layout = LoraLayout.from_config(config, base_model=family)
    grid = random_grid(layout)[None]
    prompts, answers = [[1, 2, 3, 4], [1, 2, 5], [1, 2, 3, 9, 9, 9]], [[7, 8], [9], [10, 11, 12]]
    found = end_to_end(model, layout, grid, stack([pack_examples(prompts, answers, 100)], padding=0)).loss
    losses = []
    with adapted(model, grid, layout):
        for prompt, answer in zip(prompts, answers, strict=True):
            logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
            losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(answer), reduction="none"))
    assert torch.allclose(found, torch.cat(losses).mean(), atol=1e-5)


@pytest.mark.parametrize("seed", range(60))
def test_every_example_of_a_pack_reads_as_the_sequence_it_came_from(seed):
    prompts, answers = drawn(seed)
    budget = Random(seed).randrange(4, 60)
    pack = pack_examples(prompts, answers, budget)
    sequences = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    visible = stack([pack], padding=0).visible[0, 0]
    told: dict[int, list[int]] = {}
    for place, label, example in zip(pack.predict, pack.labels, pack.label_example, strict=True):
        seen = [i for i in range(len(pack.ids)) if visible[place, i]]
        assert [pack.positions[i] for i in seen] == list(range(len(seen)))
        read = [pack.ids[i] for i in seen] + [label]
        assert any(sequence[: len(read)] == read for sequence in sequences)
        told[example] = read
    assert all(read in sequences for read in told.values()), "the last answer token closes the whole sequence"
    assert len(pack.ids) <= budget or len(told) == 1


@pytest.mark.parametrize("seed", range(10))
def test_the_mask_shows_a_token_its_own_example_and_what_all_share_and_nothing_later(seed):
    packs = [pack_examples(*drawn(seed), 80), pack_examples(*drawn(seed + 100), 80)]
    batch = stack(packs, padding=0)
    for pack, visible in zip(packs, batch.visible[:, 0], strict=True):
        for i in range(len(pack.ids)):
            for j in range(visible.shape[1]):
                real = j < len(pack.ids)
                expected = j <= i and real and pack.token_example[j] in (pack.token_example[i], -1)
                assert bool(visible[i, j]) == expected


def test_the_company_of_longer_packs_changes_no_loss(base):
    model = AutoModelForCausalLM.from_pretrained(base).eval().requires_grad_(False)
    layout = LoraLayout.from_config(model.config, base_model=base)
    grids = torch.stack([random_grid(layout, seed) for seed in range(3)])
    packs = [pack_examples(*drawn(seed), 80) for seed in (1, 2, 3)]
    together = end_to_end(model, layout, grids, stack(packs, padding=9))
    for index, pack in enumerate(packs):
        alone = end_to_end(model, layout, grids[index : index + 1], stack([pack], padding=0))
        assert torch.allclose(together.loss[index], alone.loss[0], atol=1e-5)
        assert together.exact[index] == alone.exact[0]


@pytest.fixture
def chat(base):
    return ChatFormat(models.load_tokenizer(base))


def test_an_answer_ends_with_the_end_token_so_that_stopping_is_learned(chat):
    (ids,) = chat.answer_ids(["yes"])
    assert ids[-1] == chat.tokenizer.eos_token_id
    assert chat.tokenizer.decode(ids[:-1]) == "yes"


def test_a_prompt_is_put_as_the_chat_template_puts_it(chat):
    message = [{"role": "user", "content": "Do it.\n\nthis"}]
    expected = chat.tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False)
    assert chat.prompt_ids(["Do it.\n\nthis"]) == [expected]


def test_a_bare_pack_holds_the_input_without_the_instruction_and_a_full_one_both(chat, tmp_path):
    task = read_task(write_task(tmp_path, "one", "First letter.", lambda text: text[0]))
    for bare in (True, False):
        pack = make_pack(task, task.train[:3], chat, bare=bare, budget=200)
        text = chat.tokenizer.decode(pack.ids)
        assert all(example.input in text for example in task.train[:3])
        assert ("First letter." in text) == (not bare)
        drawn_text = chat.tokenizer.decode(
            make_pack(task, draw_examples(task, Random(0)), chat, bare=bare, budget=200).ids
        )
        assert ("First letter." in drawn_text) == (not bare)
