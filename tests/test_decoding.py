"""Our batched greedy decoding against the library's, one prompt at a time."""

from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel
from test_weights import random_grid
from tiny import greedy
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
)

from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import decoding, models
from prompt2lora.base.chat import ChatFormat

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 60,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
KINDS = {
    "llama": LlamaConfig(**SMALL),
    "qwen2": Qwen2Config(**SMALL),
    "mistral, short window": MistralConfig(**SMALL, head_dim=16, sliding_window=8),
    "gemma3, short window": Gemma3TextConfig(
        **SMALL, head_dim=16, sliding_window=8, layer_types=["sliding_attention", "full_attention"]
    ),
}
SHARED = [5, 6, 7, 8, 9, 10, 11, 12, 13, 14]
PROMPTS = [[*SHARED, 20], [*SHARED, 21, 22, 23, 24], [*SHARED, 30, 31], [*SHARED, *range(32, 50)]]


def by_library(model, sequence, end, max_new_tokens):
    ids = torch.tensor([sequence])
    mask = torch.ones_like(ids)
    made = model.generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=0,
    )[0, len(sequence) :].tolist()
    return made[: made.index(end)] if end in made else made


CASES = [
    pytest.param(kind, prompts, id=f"{kind}, {name}")
    for kind in KINDS
    for name, prompts in (("shared", PROMPTS), ("nothing shared", [[20, 21], [31], [4, 5, 6, 7]]))
]


@pytest.mark.parametrize(("kind", "prompts"), CASES)
def test_in_every_family_batched_answers_are_those_of_the_library(kind, prompts):
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(KINDS[kind]).eval().requires_grad_(False)
    end = by_library(model, prompts[0], 10**6, 8)[3]  # a token that ends at least the first answer early
    chat = ChatFormat(SimpleNamespace(eos_token_id=end))
    expected = [by_library(model, sequence, end, 8) for sequence in prompts]
    assert len(expected[0]) <= 3
    assert greedy(model, prompts, chat, 8) == expected


def test_answers_come_in_the_order_of_the_prompts_whatever_the_batches(base, monkeypatch):
    model, tokenizer = models.load_base(base, dtype=torch.float32, device="cpu")
    chat = ChatFormat(tokenizer)
    asked = ["bb", "a", "dddd", "ccc", "a", "f" * 9, "e"]
    whole = decoding.answers(model, chat, asked, max_new_tokens=6)
    monkeypatch.setattr(decoding, "BATCH", 3)
    assert decoding.answers(model, chat, asked, max_new_tokens=6) == whole
    monkeypatch.setattr(decoding, "_TOKENS", 50)
    assert decoding.answers(model, chat, asked, max_new_tokens=6) == whole
    assert whole[1] == whole[4]
    assert whole == [decoding.answers(model, chat, [text], max_new_tokens=6)[0] for text in asked]


def test_the_longer_prompts_are_the_fewer_are_answered_at_once():
    assert [len(batch) for batch in decoding._batches([100] * 130)] == [64, 64, 2]
    assert [len(batch) for batch in decoding._batches([1500] * 30 + [40_000, 10])] == [21, 10, 1]
    assert decoding._batches([]) == []


def test_answers_through_an_adapter_are_those_of_real_peft(base, layout, tmp_path):
    model, tokenizer = models.load_base(base, dtype=torch.float32, device="cpu")
    chat = ChatFormat(tokenizer)
    Adapter(layout, random_grid(layout, 4)).save(tmp_path / "a")
    loaded = Adapter.load(tmp_path / "a", model.config)
    asked = ["one", "another"]
    given = decoding.answers(model, chat, asked, layout=loaded.layout, grid=loaded.grid, max_new_tokens=8)
    assert given != decoding.answers(model, chat, asked, max_new_tokens=8)
    peft = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "a").eval()
    for text, sequence in zip(given, chat.prompt_ids(asked), strict=True):
        made = by_library(peft, sequence, tokenizer.eos_token_id, 8)
        assert text == tokenizer.decode(made, skip_special_tokens=True).strip()


def test_the_output_layer_reads_the_last_places_of_a_batch_as_a_matrix_of_their_own(base):
    model, _ = models.load_base(base, dtype=torch.bfloat16)
    given = []
    model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    logits = model(input_ids=torch.ones(3, 5, dtype=torch.long), logits_to_keep=1).logits
    assert logits.shape[:2] == given[0].shape[:2] == (3, 1)
    assert given[0].is_contiguous(), "torch copies the vocabulary for each sequence where it is a slice"
