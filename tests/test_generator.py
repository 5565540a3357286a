import json

import pytest
import torch
from tiny import TINY
from transformers import LlamaConfig

from prompt2lora.adapter.grid import decode
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.errors import DamagedFile, ModelNotFound, UsageError
from prompt2lora.generator.config import GeneratorConfig
from prompt2lora.generator.decoder import (
    AxisConv,
    DecoderConfig,
    HyperConvBlock,
    HyperConvDecoder,
    RowHead,
    published,
)
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.text_encoder import Encoder, pad
from prompt2lora.ground.prompts import split

PROMPTS = ["Extract the code.\n\nKX-1 came", "Extract the code.\n\nuse LM-22 now", "short", "a\n\nlonger text here"]


@pytest.fixture
def encoder(encoder_folder):
    return Encoder(encoder_folder)


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("do it\n\nthis", ("do it", "this")),
        ("do it\n\nthis\n\nthat", ("do it", "this\n\nthat")),
        ("no blank line", ("no blank line", "no blank line")),
        ("ends blank\n\n", ("ends blank", "ends blank")),
    ],
)
def test_a_prompt_is_its_opening_and_its_rest_or_the_whole_twice(prompt, parts):
    assert split(prompt) == parts


def test_batch_composition_and_padding_change_no_condition(encoder_folder, encoder):
    together = encoder.conditions(PROMPTS)
    alone = torch.cat([Encoder(encoder_folder, batch_size=1).conditions([prompt]) for prompt in PROMPTS])
    assert together.shape == (4, 64)
    assert torch.allclose(together, alone, atol=2e-3)


def test_conditions_follow_the_order_of_the_prompts(encoder):
    assert torch.equal(encoder.conditions(PROMPTS[::-1]), encoder.conditions(PROMPTS).flip(0))


def test_the_cache_on_disk_gives_the_same_numbers_without_the_encoder(encoder_folder, tmp_path):
    first = Encoder(encoder_folder, cache=tmp_path / "c.sqlite").conditions(PROMPTS)
    second = Encoder(encoder_folder, cache=tmp_path / "c.sqlite")
    second._encode = None  # type: ignore[assignment]  # encoding again would fail
    assert torch.equal(second.conditions(PROMPTS), first)


def test_the_encoder_is_frozen_and_never_in_training_mode(encoder):
    encoder.conditions(PROMPTS)
    model, _ = encoder.parts
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_kernel_one_equals_the_general_convolution(axis):
    torch.manual_seed(0)
    grid = torch.randn(2, 3, 4, 5)
    conv = AxisConv(axis, grid.shape[axis], 7, kernel=1, bias=True)
    general = conv.conv(grid.transpose(1, axis)).transpose(1, axis)
    assert torch.allclose(conv(grid), general, atol=1e-6)


def slow_axis(grid, weight, bias, axis):
    """A convolution along one axis as plain sums: every output number from every number it may see."""
    moved = grid.transpose(1, axis)
    kernel = weight.shape[-1]
    out = torch.zeros(len(grid), len(weight), *moved.shape[2:])
    for at in range(moved.shape[2]):
        for across in range(moved.shape[3]):
            for i in range(kernel):
                for j in range(kernel):
                    y, x = at + i - kernel // 2, across + j - kernel // 2
                    if 0 <= y < moved.shape[2] and 0 <= x < moved.shape[3]:
                        out[:, :, at, across] += moved[:, :, y, x] @ weight[:, :, i, j].T
    if bias is not None:
        out += bias[None, :, None, None]
    return out.transpose(1, axis)


@pytest.mark.parametrize(("kernel", "activation"), [(1, "gelu"), (3, "tanh"), (5, "tanh")])
@pytest.mark.parametrize("after", [(2, 3, 4), (3, 5, 2)])
def test_a_block_equals_an_independent_slow_reference(kernel, activation, after):
    torch.manual_seed(0)
    before = (2, 3, 4)
    block = HyperConvBlock(before, after, DecoderConfig((before, after), kernel, activation))
    grid = torch.randn(2, *before)
    x = torch.nn.functional.layer_norm(grid, before[1:], block.norm.weight, block.norm.bias)

    def along(conv, values):
        return slow_axis(values, conv.conv.weight, conv.conv.bias, conv.axis)

    bend = torch.tanh if activation == "tanh" else torch.nn.functional.gelu
    straight = along(block.then_rows, along(block.cols_first, x))
    bent = bend(along(block.then_cols, along(block.rows_first, x)))
    expected = along(block.layers, (straight + bent + block.bias) / 3)
    if before == after:
        expected = expected + grid
    assert torch.allclose(block(grid), expected, atol=1e-5)


def test_the_head_gives_every_row_columns_of_its_own():
    torch.manual_seed(0)
    fan, grid = (0, 0, 1, 2, 2), torch.randn(2, 3, 3, 4)
    head = RowHead((3, 3, 4), fan, cols=6)
    normed = head.norm(grid)
    found = head(grid)
    for row, source in enumerate(fan):
        assert torch.allclose(found[:, :, row], normed[:, :, source] @ head.weight[row], atol=1e-5)


@pytest.mark.parametrize("fan", [(), (0, 1, 1, 2)])
def test_the_last_stage_has_the_announced_shape(fan):
    config = DecoderConfig(((1, 2, 3), (2, 2, 4), (4, 3, 5)), kernel=3, fan=fan, head_cols=6)
    assert HyperConvDecoder(config)(torch.randn(2, 1, 2, 3)).shape == (2, *config.output)


def test_the_published_shape_is_the_same_code_and_has_over_a_billion_parameters_for_its_own_base():
    config = published(4296 * 10 * 130)
    with torch.device("meta"):
        decoder = HyperConvDecoder(config)
    assert config.output == (4296, 10, 130)
    assert 1.0e9 < sum(parameter.numel() for parameter in decoder.parameters()) < 1.2e9


def test_the_generator_fills_the_layout_exactly(generator, encoder):
    grid = generator.generate(encoder.conditions(PROMPTS))
    assert grid.shape == generator.config.layout.shape
    assert torch.isfinite(grid).all()
    decode(grid, generator.config.layout)


def test_order_padding_and_company_of_prompts_change_nothing(generator, encoder):
    few, many = encoder.conditions(PROMPTS[:2]), encoder.conditions(PROMPTS)
    conditions, mask = pad([few, many])
    together = generator(conditions, mask)
    assert torch.allclose(together[0], generator.generate(few), atol=1e-5)
    assert torch.allclose(together[1], generator.generate(many.flip(0)), atol=1e-5)
    conditions[0, 2:] = 77.0
    assert torch.equal(generator(conditions, mask), together)


def test_other_prompts_give_another_adapter_and_one_prompt_is_enough(generator, encoder):
    one = generator.generate(encoder.conditions(PROMPTS[:1]))
    other = generator.generate(encoder.conditions(PROMPTS[2:3]))
    assert (one - other).abs().max() > 1e-3


def test_an_untrained_generator_leaves_the_base_as_it_is(generator_config, encoder):
    layout = generator_config.layout
    grid = Generator(generator_config).eval().generate(encoder.conditions(PROMPTS))
    for block in layout.blocks:
        rows = grid[:, block.start : block.stop]
        assert (rows == 0).all() if block.side == "B" else (rows != 0).any()


def test_the_same_seed_makes_the_same_bytes(generator_config, tmp_path):
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        Generator(generator_config, seed=seed).save_pretrained(tmp_path / name)
    one, two, three = ((tmp_path / n / "generator.safetensors").read_bytes() for n in ("one", "two", "three"))
    assert one == two
    assert one != three


def test_a_saved_generator_comes_back_with_its_configuration_and_provenance(generator, generator_folder, encoder):
    again = Generator.from_pretrained(generator_folder)
    conditions = encoder.conditions(PROMPTS)
    assert again.config == generator.config
    assert torch.allclose(again.generate(conditions), generator.generate(conditions), atol=2e-2)
    assert len(again.provenance["sha256"]) == 64
    with pytest.raises(UsageError, match="must not exist"):
        generator.save_pretrained(generator_folder)


def damage_weights(folder):
    file = folder / "generator.safetensors"
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)


def truncate_weights(folder):
    file = folder / "generator.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def change_format(folder):
    file = folder / "generator_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": 99}))


def drop_config_key(folder):
    file = folder / "generator_config.json"
    data = json.loads(file.read_text())
    del data["config"]["grid"]
    file.write_text(json.dumps(data))


@pytest.mark.parametrize("harm", [damage_weights, truncate_weights, change_format, drop_config_key])
def test_a_truncated_or_altered_generator_is_refused_in_one_line(generator_folder, harm):
    harm(generator_folder)
    with pytest.raises(DamagedFile) as told:
        Generator.from_pretrained(generator_folder)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["nowhere", "./nowhere", "owner/nowhere"])
def test_a_generator_that_is_nowhere_is_told(name):
    with pytest.raises(ModelNotFound):
        Generator.from_pretrained(name)


def test_the_default_sizes_stay_below_twenty_million_for_smollm2_and_for_qwen():
    """In float16 that is 40 MB, the shared adapter included."""
    small = LlamaConfig(**{**TINY, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30})
    small.num_attention_heads, small.num_key_value_heads, small.head_dim = 9, 3, 64
    large = LlamaConfig(**{**TINY, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24})
    large.num_attention_heads, large.num_key_value_heads, large.head_dim = 14, 2, 64
    for config, parameters in ((small, 2_442_240), (large, 4_399_104)):
        layout = LoraLayout.from_config(config, base_model="a base")
        assert layout.parameters == parameters
        for asks_base in (False, True):
            sized = GeneratorConfig.sized(layout, asks_base=asks_base)
            assert 10_000_000 < Generator(sized).trained_parameters <= 19_000_000
