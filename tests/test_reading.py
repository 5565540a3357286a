"""Laws of how the base itself reads prompts."""

import pytest
import torch

from prompt2lora.errors import LayoutError
from prompt2lora.generator import reading
from prompt2lora.generator.conditions import Encoder
from prompt2lora.generator.generator import Generator, GeneratorConfig
from prompt2lora.generator.reading import Frozen, Reader, states
from prompt2lora.weights.adapted import adapted

PROMPTS = ["Extract the code.\n\nKX-1 came", "Extract the code.\n\nuse LM-22 now", "short", "a\n\nlonger text here"]


@pytest.fixture
def frozen(model, chat, layout) -> Frozen:
    return Frozen(model, chat, layout)


@pytest.fixture
def asking(layout, encoder_folder) -> Generator:
    """A generator that listens to the base, with nothing in it zero."""
    sizes = {"width": 64, "hidden": 16, "grid": (2, 2, 16), "trunk": ((2, 112, 16),)}
    made = Generator(GeneratorConfig.sized(layout, encoder=encoder_folder, asks_base=True, **sizes), seed=1)
    torch.manual_seed(2)
    with torch.no_grad():
        made.head.weight.normal_()
        made.start.normal_(std=0.05)
    return made.eval().requires_grad_(False)


def test_a_prompt_gives_its_last_state_and_its_mean_state_of_every_layer(frozen, asking, layout):
    ids = torch.tensor(frozen.chat.prompt_ids(PROMPTS[:1]))
    with torch.no_grad(), adapted(frozen.model, asking.start[None], layout):
        hidden = frozen.model.model(input_ids=ids, output_hidden_states=True).hidden_states[1:]
    frame = frozen.chat.frame_length
    expected = [part for layer in hidden for part in (layer[0, -1], layer[0, frame:].mean(0))]
    found = states(frozen, asking, PROMPTS[:1])
    assert found.shape == (1, layout.layers * asking.config.states)
    assert torch.allclose(found[0], torch.cat(expected), atol=1e-5)


def test_questions_begin_without_effect_and_then_find_what_they_weigh(frozen, asking, encoder_folder, layout):
    grown = asking.grown(keys=4).eval().requires_grad_(False)
    reader, wider = (Reader(made, Encoder(encoder_folder), frozen) for made in (asking, grown))
    conditions = wider.conditions(PROMPTS)
    assert torch.equal(conditions[:, : -layout.layers * 2 * 16], reader.conditions(PROMPTS))
    assert torch.equal(wider.generate(PROMPTS), reader.generate(PROMPTS))
    looking = grown.pooling.looking
    torch.nn.init.normal_(looking.value.weight)
    looking.questions.zero_()  # questions that weigh all tokens alike find their mean
    ids = torch.tensor(frozen.chat.prompt_ids(PROMPTS[:1]))
    with adapted(frozen.model, grown.start[None], layout):
        hidden = frozen.model.model(input_ids=ids, output_hidden_states=True).hidden_states[1:]
    states_of = torch.cat(hidden)[:, frozen.chat.frame_length :]
    mean = looking.value(looking.norm(states_of)).mean(1)
    found = wider.conditions(PROMPTS[:1])[0, -layout.layers * 2 * 16 :].reshape(layout.layers, 2, 16)
    assert torch.allclose(found, mean[:, None].expand(-1, 2, -1), atol=1e-5)
    assert not torch.equal(wider.generate(PROMPTS), reader.generate(PROMPTS))


def test_a_generator_grows_new_parts_only(asking):
    with pytest.raises(LayoutError, match="new parts only"):
        asking.grown(hidden=8)


def test_the_usual_condition_is_what_training_tasks_have_in_common(asking):
    grown = asking.grown(keys=4)
    means = torch.randn(5, len(grown.pooling.usual), generator=torch.Generator().manual_seed(0))
    grown.pooling.standardise(means)
    grown.pooling.remember(means)
    assert torch.allclose(grown.pooling.usual, means.mean(0), atol=1e-6)


def test_what_is_read_together_with_a_prompt_changes_nothing(frozen, asking, monkeypatch):
    together = states(frozen, asking, PROMPTS)
    for budget in (1, 90):  # one prompt at a time, and two
        monkeypatch.setattr(reading, "_BUDGET", budget)
        assert torch.allclose(states(frozen, asking, PROMPTS), together, atol=1e-5)
    backwards = states(frozen, asking, PROMPTS[::-1])
    assert torch.allclose(backwards, together.flip(0), atol=1e-5)


def test_of_a_long_prompt_the_beginning_and_the_end_are_read(frozen, asking, monkeypatch):
    monkeypatch.setattr(reading, "_LONGEST", 60)
    long = states(frozen, asking, ["begin " + "x" * 500 + " end", "begin " + "x" * 700 + " end"])
    assert torch.equal(long[0], long[1])
    assert not torch.allclose(long[0], states(frozen, asking, ["begin " + "x" * 500 + " end!"])[0])


def test_a_generator_that_listens_to_the_base_is_moved_by_both_readers(frozen, asking, encoder_folder):
    reader = Reader(asking, Encoder(encoder_folder), frozen)
    conditions = reader.conditions(PROMPTS)
    whole = asking.generate(conditions)
    assert torch.equal(reader.generate(PROMPTS), whole)
    for part in (slice(0, asking.config.width), slice(asking.config.width, None)):
        moved = conditions.clone()
        moved[:, part] += 1
        assert not torch.allclose(asking.generate(moved), whole)


def test_a_generator_that_reads_text_alone_never_loads_the_base(generator, encoder_folder, layout):
    reader = Reader(generator, Encoder(encoder_folder), layout)
    reader.load()
    reader.generate(PROMPTS)
    assert "base" not in vars(reader)


def test_a_generator_that_listens_to_the_base_is_the_same_after_saving(asking, tmp_path):
    asking.save_pretrained(tmp_path / "made")
    loaded = Generator.from_pretrained(tmp_path / "made")
    assert loaded.config == asking.config
    conditions = torch.randn(3, 64 + 2 * 128)
    assert torch.allclose(loaded.generate(conditions), asking.generate(conditions), atol=1e-2)
