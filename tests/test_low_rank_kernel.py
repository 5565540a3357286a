"""The compiled update of many tokens by many adapters."""

import numpy as np
import pytest
import torch

from prompt2lora.serving.low_rank_kernel import Kernel

WIDTH, RANK, OUT, PLACES = 19, 3, 37, 4


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def dtype(request):
    return request.param


@pytest.fixture
def grids(dtype):
    random = torch.Generator().manual_seed(0)
    return torch.randn(PLACES, 5 + RANK * (WIDTH + OUT), generator=random).to(dtype)


def tokens(count, width, dtype, seed):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)).to(dtype)


def added(grids, given, places, output):
    kernel = Kernel(grids.dtype)
    found = output.clone()
    kernel.add(given, np.array(places), kernel.numbers(grids), 5, 5 + RANK * WIDTH, RANK, found)
    return found


def expected(grids, given, place, output):
    """The same in torch, in 64 bits until the end."""
    numbers = grids[place, 5:].double()
    a, b = numbers[: RANK * WIDTH].view(RANK, WIDTH), numbers[RANK * WIDTH :].view(RANK, OUT)
    return output.double() + given.double() @ a.T @ b


def test_every_token_gets_what_its_own_adapter_makes_of_it(grids, dtype):
    places = [2, 0, 2, 3, 1]
    given, output = tokens(5, WIDTH, dtype, 1), tokens(5, OUT, dtype, 2)
    found = added(grids, given, places, output)
    right = torch.stack([expected(grids, *row) for row in zip(given, places, output, strict=True)])
    torch.testing.assert_close(found, right.to(dtype))


def test_tokens_without_an_adapter_and_those_behind_the_counted_ones_stay_as_they_are(grids, dtype):
    given, output = tokens(5, WIDTH, dtype, 1), tokens(5, OUT, dtype, 2)
    found = added(grids, given, [1, -1, 1], output)
    same = [torch.equal(one, other) for one, other in zip(found, output, strict=True)]
    assert same == [False, True, False, True, True]


def test_a_token_is_the_same_to_the_last_bit_alone_and_among_others(grids, dtype):
    places = [n % PLACES for n in range(50)]
    given, output = tokens(50, WIDTH, dtype, 1), tokens(50, OUT, dtype, 2)
    together = added(grids, given, places, output)
    for token in (0, 17, 49):
        one = slice(token, token + 1)
        assert torch.equal(added(grids, given[one], places[one], output[one]), together[one])


def test_zeros_add_nothing_to_any_number(dtype):
    grids = torch.zeros(1, 5 + RANK * (WIDTH + OUT), dtype=dtype)
    output = torch.tensor([[*range(-18, 19)]]).to(dtype) * 1.7e-3
    assert torch.equal(added(grids, tokens(1, WIDTH, dtype, 1), [0], output), output)


def test_sums_are_rounded_as_torch_rounds_them(dtype):
    grids = torch.zeros(1, 5 + RANK * (WIDTH + OUT), dtype=dtype)
    grids[0, 5] = grids[0, 5 + RANK * WIDTH] = 1
    given, output = tokens(200, WIDTH, dtype, 1), tokens(200, OUT, dtype, 2)
    found = added(grids, given, [0] * 200, output)
    assert torch.equal(found[:, 0], (given[:, 0].float() + output[:, 0].float()).to(dtype))


def test_numbers_of_another_dtype_are_refused_and_not_read_as_something_else(dtype):
    with pytest.raises(TypeError, match="not for"):
        Kernel(dtype).numbers(torch.ones(2, 2, dtype=torch.float16))
