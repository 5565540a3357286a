"""Laws of how the base itself reads prompts."""

import torch

from prompt2lora.adapter.hooks import adapted
from prompt2lora.generator import hidden_states
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.hidden_states import states
from prompt2lora.generator.pipeline import Pipeline
from prompt2lora.generator.text_encoder import Encoder

PROMPTS = ["Extract the code.\n\nKX-1 came", "Extract the code.\n\nuse LM-22 now", "short", "a\n\nlonger text here"]


def test_a_prompt_gives_the_state_of_its_last_token_in_every_layer(frozen, asking, layout):
    ids = torch.tensor(frozen.chat.prompt_ids(PROMPTS[:1]))
    with torch.no_grad(), adapted(frozen.model, asking.start[None], layout):
        hidden = frozen.model.model(input_ids=ids, output_hidden_states=True).hidden_states[1:]
    expected = [layer[0, -1] for layer in hidden]
    found = states(frozen, asking.start, PROMPTS[:1])
    assert found.shape == (1, layout.layers * asking.config.states)
    assert torch.allclose(found[0], torch.cat(expected), atol=1e-5)


def test_what_is_read_together_with_a_prompt_changes_nothing(frozen, asking, monkeypatch):
    together = states(frozen, asking.start, PROMPTS)
    for budget in (1, 90):  # one prompt at a time, and two
        monkeypatch.setattr(hidden_states, "_BUDGET", budget)
        assert torch.allclose(states(frozen, asking.start, PROMPTS), together, atol=1e-5)
    backwards = states(frozen, asking.start, PROMPTS[::-1])
    assert torch.allclose(backwards, together.flip(0), atol=1e-5)


def test_of_a_long_prompt_the_beginning_and_the_end_are_read(frozen, asking, monkeypatch):
    monkeypatch.setattr(hidden_states, "_MAX_TOKENS", 60)
    long = states(frozen, asking.start, ["begin " + "x" * 500 + " end", "begin " + "x" * 700 + " end"])
    assert torch.equal(long[0], long[1])
    assert not torch.allclose(long[0], states(frozen, asking.start, ["begin " + "x" * 500 + " end!"])[0])


def test_a_generator_that_listens_to_the_base_is_moved_by_both_readers(frozen, asking, encoder_folder):
    pipeline = Pipeline(asking, Encoder(encoder_folder), frozen)
    conditions = pipeline.conditions(PROMPTS)
    whole = asking.generate(conditions)
    assert torch.equal(pipeline.make(PROMPTS).grid, whole)
    for part in (slice(0, asking.config.width), slice(asking.config.width, None)):
        moved = conditions.clone()
        moved[:, part] += 1
        assert not torch.allclose(asking.generate(moved), whole)


def test_a_generator_that_reads_text_alone_never_loads_the_base(generator, encoder_folder, layout):
    pipeline = Pipeline(generator, Encoder(encoder_folder), layout)
    pipeline.load_models()
    pipeline.make(PROMPTS)
    assert "base" not in vars(pipeline)


def test_a_generator_that_listens_to_the_base_is_the_same_after_saving(asking, tmp_path):
    asking.save_pretrained(tmp_path / "made")
    loaded = Generator.from_pretrained(tmp_path / "made")
    assert loaded.config == asking.config
    conditions = torch.randn(3, 64 + 2 * 64)
    assert torch.allclose(loaded.generate(conditions), asking.generate(conditions), atol=1e-2)
