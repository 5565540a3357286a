import pytest
import torch

from prompt2lora.adapter.grid import factors
from prompt2lora.generator.attribution import changes, distance, influences


def updates(grid, layout):
    return [layout.scale * factor.b[0].mT @ factor.a[0] for factor in factors(grid[None], layout).values()]


def random_grid(layout, seed):
    return torch.randn(layout.shape, generator=torch.Generator().manual_seed(seed)) * 0.05


def test_distance_and_changes_are_those_of_the_whole_updates(layout):
    one, other = random_grid(layout, 0), random_grid(layout, 1)
    exact = torch.stack([(a - b).norm() for a, b in zip(updates(one, layout), updates(other, layout), strict=True)])
    found = changes(one, other, layout)
    assert found.shape == (layout.layers, len(layout.targets))
    assert torch.allclose(found.flatten(), exact, rtol=1e-3)
    assert distance(one, other, layout) == pytest.approx(float(exact.norm()), rel=1e-3)
    assert distance(one, one, layout) == pytest.approx(0, abs=1e-3)


def test_the_prompt_unlike_the_others_has_the_most_influence(generator):
    torch.manual_seed(0)
    conditions = torch.ones(6, generator.config.width) + 0.01 * torch.randn(6, generator.config.width)
    conditions[4] = torch.randn(generator.config.width)
    found = influences(generator, conditions)
    assert sorted(influence.prompt for influence in found) == list(range(6))
    assert found[0].prompt == 4
    assert found[0].share > 3 * found[1].share


def test_twins_share_their_influence_and_a_single_prompt_has_it_all(generator):
    conditions = torch.randn(1, generator.config.width, generator=torch.Generator().manual_seed(1))
    assert influences(generator, conditions)[0] == (0, 1.0)
    twins = influences(generator, conditions.repeat(4, 1))
    assert all(influence.share == pytest.approx(0, abs=1e-2) for influence in twins)
