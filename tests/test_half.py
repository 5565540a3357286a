"""Linear maps in 16 bits: the same numbers, where 16 bits hold them."""

import pytest
import torch
from torch import nn

from prompt2lora.base import models
from prompt2lora.base.half import HalfLinear, LaidOutLinear, _has_kernels, _lays_out, halved

in_float32 = pytest.mark.skipif(not _has_kernels(), reason="this processor has no kernels for it")
in_bfloat16 = pytest.mark.skipif(not _lays_out(), reason="this processor does not compute in bfloat16")


@in_float32
@pytest.mark.parametrize("bias", [False, True])
def test_a_map_in_16_bits_gives_what_it_gave(bias):
    torch.manual_seed(0)
    linear = nn.Linear(100, 77, bias=bias).bfloat16().float().requires_grad_(False)
    half = halved(nn.Sequential(linear))[0]
    assert isinstance(half, HalfLinear)
    for shape in ((1, 100), (5, 100), (2, 3, 100), (40, 1, 100)):
        given = torch.randn(shape)
        torch.testing.assert_close(half(given), linear(given), rtol=1e-5, atol=1e-5)


def test_weights_that_16_bits_do_not_hold_stay_as_they_are():
    linear, large = nn.Linear(8, 8), nn.Linear(8, 8, bias=False)
    nn.init.constant_(large.weight, 1e5)
    kept = halved(nn.Sequential(linear, large, nn.Linear(8, 8).double()))
    assert [type(one) for one in kept] == [nn.Linear] * 3


@in_bfloat16
@pytest.mark.parametrize("bias", [False, True])
def test_a_map_in_bfloat16_that_is_laid_out_once_gives_what_it_gave(bias):
    torch.manual_seed(0)
    linear = nn.Linear(100, 77, bias=bias).bfloat16().requires_grad_(False)
    made = halved(nn.Sequential(linear))[0]
    assert isinstance(made, LaidOutLinear)
    for shape in ((1, 100), (5, 100), (2, 3, 100), (40, 1, 100)):
        given = torch.randn(shape).bfloat16()
        torch.testing.assert_close(made(given), linear(given), rtol=1e-2, atol=1e-2)


@in_float32
def test_a_published_base_says_the_same_from_16_bits(layout):
    model, _ = models.load_base(layout.base_model, dtype=torch.bfloat16, device="cpu")
    model.float()
    ids = torch.arange(40)[None]
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        after = halved(model)(input_ids=ids).logits
    assert sum(isinstance(one, HalfLinear) for one in model.modules()) == 7 * layout.layers + 1
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
