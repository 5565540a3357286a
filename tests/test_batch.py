"""The running batch on a tiny real base: whatever is read beside a sequence, it is read as if alone."""

from itertools import pairwise

import pytest
import torch
from tiny import write_base

from prompt2lora.base import models
from prompt2lora.base.half import halved
from prompt2lora.errors import Unfit
from prompt2lora.serving.batch import BatchCache
from prompt2lora.serving.key_values import Part

LENGTHS = (7, 1, 40, 120, 3)  # tokens of five sequences, one of them longer than what is multiplied in float32
WITH_ADAPTER = (0, 2, 3)


@pytest.fixture(scope="module")
def roomy(tmp_path_factory):
    """Room for the longest of them."""
    return write_base(tmp_path_factory.mktemp("roomy") / "base", max_position_embeddings=512)


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def batch(request, roomy, layout):
    def made(capacity=5):
        model, _ = models.load_base(roomy, dtype=request.param, device="cpu")
        made = BatchCache(halved(model), layout, capacity, 512)
        torch.manual_seed(1)
        made.grids = [torch.randn(layout.shape) * 0.1 for _ in LENGTHS]
        return made

    return made


def tokens(number, length):
    return torch.randint(5, 200, (length,), generator=torch.Generator().manual_seed(number)).tolist()


def alone(batch, number, cuts):
    """Logits after each part of a sequence that has the batch to itself."""
    own = batch(1)
    own.adapters.set(0, own.grids[number] if number in WITH_ADAPTER else None)
    known = tokens(number, cuts[-1])
    return [own.read([Part(0, begin, known[begin:end])])[0] for begin, end in pairwise(cuts)]


@torch.inference_mode()
def test_new_prompts_and_next_tokens_are_read_in_one_pass_as_each_is_alone(batch):
    crowd = batch()
    for number in WITH_ADAPTER:
        crowd.adapters.set(number, crowd.grids[number])
    first = crowd.read([Part(number, 0, tokens(number, LENGTHS[number])) for number in (0, 1)])
    further = [Part(number, LENGTHS[number], tokens(number, LENGTHS[number] + 1)[-1:]) for number in (0, 1)]
    joined = crowd.read([*further, *(Part(number, 0, tokens(number, LENGTHS[number])) for number in (2, 3, 4))])
    last = crowd.read(
        [
            Part(number, length, tokens(number, length + 2)[length:])
            for number, length in enumerate((LENGTHS[0] + 1, LENGTHS[1] + 1, *LENGTHS[2:]))
        ]
    )
    close = {"rtol": 0, "atol": 1e-4 if crowd.dtype == torch.float32 else 0.1}
    for number, length in enumerate(LENGTHS):
        cuts = (0, length, length + 1, length + 3) if number < 2 else (0, length, length + 2)
        right = alone(batch, number, cuts)
        given = [first[number], joined[number], last[number]] if number < 2 else [joined[number], last[number]]
        for one, other in zip(given, right, strict=True):
            torch.testing.assert_close(one, other, **close)
        assert (number in WITH_ADAPTER) == ((right[0] - alone_without(batch, number, length)).abs().max() > 1)


def alone_without(batch, number, length):
    return batch(1).read([Part(0, 0, tokens(number, length))])[0]


def test_a_base_with_another_kind_of_attention_is_refused(roomy, layout):
    model, _ = models.load_base(roomy, dtype=torch.float32, device="cpu", training=True)
    with pytest.raises(Unfit, match="attention of its own \\(eager\\); serve it with another engine"):
        BatchCache(model, layout, 2, 64)
