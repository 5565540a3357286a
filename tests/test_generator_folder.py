"""Generators on disk, and what prompts are to a generator: a set."""

import pytest
import torch

from prompt2lora.errors import DamagedFile
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.pooling import SetPooling
from prompt2lora.generator.text_encoder import Encoder

PROMPTS = ["Do it.\n\none", "Do it.\n\ntwo", "Do that.\n\nthree"]


@pytest.fixture
def conditions(encoder_folder):
    return Encoder(encoder_folder).conditions(PROMPTS)


def test_a_generator_that_is_loaded_and_saved_again_has_the_same_weights_to_the_bit(generator_folder, tmp_path):
    Generator.from_pretrained(generator_folder).save_pretrained(tmp_path / "again")
    name = "generator.safetensors"
    assert (tmp_path / "again" / name).read_bytes() == (generator_folder / name).read_bytes()


def test_what_conditions_look_like_is_kept_however_large_and_a_weight_that_is_too_large_is_refused(generator, tmp_path):
    generator.pooling.center.fill_(123456.0)
    generator.pooling.spread.fill_(1e5)
    generator.save_pretrained(tmp_path / "large")
    assert torch.equal(Generator.from_pretrained(tmp_path / "large").pooling.center, generator.pooling.center)
    generator.head.weight[0] = 1e5
    with pytest.raises(DamagedFile, match=r"head\.weight of the generator is not finite"):
        generator.save_pretrained(tmp_path / "larger")


def test_a_loaded_generator_is_frozen_and_gives_the_same_numbers_every_time(generator_folder, conditions):
    loaded = Generator.from_pretrained(generator_folder)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    first = loaded.generate(conditions)
    assert torch.equal(first, Generator.from_pretrained(generator_folder).generate(conditions))


def test_saying_every_prompt_twice_changes_nothing(generator, conditions):
    twice = torch.cat([conditions, conditions])
    assert torch.allclose(generator.generate(twice), generator.generate(conditions), atol=1e-5)


def test_one_prompt_is_its_own_mean_and_standardised_means_have_mean_zero(generator_config, conditions):
    pooling = SetPooling(generator_config)
    everyone = torch.ones(3, 1, dtype=torch.bool)
    means = pooling.mean(conditions[:, None], everyone)
    assert torch.equal(means, conditions)
    pooling.standardise(means)
    seen = (means - pooling.center) / pooling.spread
    assert seen.mean(0).abs().max() < 1e-4
    assert torch.isfinite(pooling(conditions[:, None], everyone)).all()


def test_a_condition_far_from_all_training_tasks_still_gives_finite_weights(generator, conditions):
    grid = generator.generate(conditions * 1e4)
    assert torch.isfinite(grid).all()
