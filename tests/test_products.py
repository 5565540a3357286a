"""What depends on the update B A alone, and not on how it is written as factors."""

import pytest
import torch

from prompt2lora.adapter.grid import balanced, factors, inner
from prompt2lora.training import objectives


def random_grids(layout, count=2, seed=0):
    return torch.randn(count, *layout.shape, generator=torch.Generator().manual_seed(seed)) * 0.05


def updates(grids, layout):
    return [factor.b.mT @ factor.a for factor in factors(grids, layout).values()]


def rewritten(grids, layout, seed=0):
    """The same updates with factors R A and B R^-1."""
    torch.manual_seed(seed)
    found = grids.clone()
    turn = torch.linalg.qr(torch.randn(layout.rank, layout.rank)).Q + 0.3 * torch.eye(layout.rank)
    for a, b in zip(layout.blocks[::2], layout.blocks[1::2], strict=True):
        for block, matrix in ((a, turn), (b, torch.linalg.inv(turn).T)):
            rows = grids[:, :, block.start : block.stop]
            shaped = rows.reshape(*grids.shape[:2], layout.rank, block.width)
            found[:, :, block.start : block.stop] = (matrix @ shaped).reshape(rows.shape)
    return found


def test_inner_products_are_those_of_the_whole_updates(layout):
    one, other = random_grids(layout), random_grids(layout, seed=1)
    found = inner(factors(one, layout), factors(other, layout))
    exact = [(a * b).sum((1, 2)) for a, b in zip(updates(one, layout), updates(other, layout), strict=True)]
    assert torch.allclose(found, torch.stack(exact, 1), atol=1e-5)


def test_the_balanced_form_is_the_same_update_and_the_same_for_all_ways_to_write_it(layout):
    grids = random_grids(layout)
    form = balanced(grids, layout)
    for before, after in zip(updates(grids, layout), updates(form, layout), strict=True):
        assert torch.allclose(before, after, atol=1e-5)
    assert torch.allclose(balanced(rewritten(grids, layout), layout), form, atol=1e-4)
    assert torch.allclose(balanced(form, layout), form, atol=1e-5)
    for factor in factors(form, layout).values():
        assert torch.allclose(factor.a.norm(dim=-1), factor.b.norm(dim=-1), atol=1e-4)


def test_the_product_loss_sees_updates_and_not_factors(layout):
    teacher = random_grids(layout)
    same = rewritten(teacher, layout)
    assert objectives.product(same, teacher, layout).max() < 1e-4
    weight = torch.ones(*layout.shape[:2], 1)
    assert objectives.reconstruction(same, teacher, weight).min() > 1e-5
    assert torch.allclose(objectives.product(torch.zeros_like(teacher), teacher, layout), torch.ones(2))
    exact = [
        ((a - b).square().sum((1, 2)) / b.square().sum((1, 2)))
        for a, b in zip(updates(random_grids(layout, seed=7), layout), updates(teacher, layout), strict=True)
    ]
    found = objectives.product(random_grids(layout, seed=7), teacher, layout)
    assert torch.allclose(found, torch.stack(exact, 1).mean(1), rtol=1e-3)


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_distillation_is_zero_for_the_teacher_s_own_answers_and_never_below(scale):
    from prompt2lora.base.packing import pack_examples, stack

    packs = stack([pack_examples([[1, 2], [1, 3]], [[4, 5], [6]], 50), pack_examples([[1, 2]], [[7]], 50)], padding=0)
    torch.manual_seed(0)
    teacher = torch.randn(4, 11)
    logits = teacher + scale * torch.randn(4, 11)
    found = objectives.distillation(logits, teacher, packs)
    exact = (teacher.softmax(-1) * (teacher.log_softmax(-1) - logits.log_softmax(-1))).sum(-1)
    assert torch.allclose(found, torch.stack([exact[:3].mean(), exact[3:].mean()]), atol=1e-6)
    assert (found >= 0).all()
    assert bool((found > 0).all()) == bool(scale)
