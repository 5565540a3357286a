"""Weight health: exact spectra without forming the update, and poison that is seen."""

import math

import pytest
import torch

from prompt2lora.adapter.grid import factors
from prompt2lora.adapter.health import FEATURES, Reference, feature_names, features, shares, spectra
from prompt2lora.adapter.intruders import intruders


def usual(layout, count=20, seed=0):
    """Adapters as a generator makes them: one shared part and a small change for each."""
    random = torch.Generator().manual_seed(seed)
    shared = torch.randn(layout.shape, generator=random) * 0.05
    return shared, shared + torch.randn(count, *layout.shape, generator=random) * 0.01


@pytest.fixture
def reference(layout):
    shared, grids = usual(layout)
    return Reference.of(grids, shared, layout)


def test_the_spectra_are_those_of_the_whole_update(layout):
    _, grids = usual(layout, 2)
    found = spectra(grids, layout)
    for module, factor in enumerate(factors(grids, layout).values()):
        update = layout.scale * factor.b.mT @ factor.a
        exact = torch.linalg.svdvals(update)[:, : layout.rank]
        assert torch.allclose(found[:, module], exact, rtol=1e-3, atol=1e-5)


def test_the_features_mean_what_they_say(layout):
    shared, grids = usual(layout, 2)
    found = features(torch.stack([shared, -shared, *grids]), shared, layout)
    first = next(iter(factors(shared[None], layout).values()))
    norm = (layout.scale * first.b[0].mT @ first.a[0]).norm()
    assert found[0, 0, FEATURES.index("log norm")] == pytest.approx(math.log10(norm), abs=1e-4)
    assert torch.allclose(found[0, :, FEATURES.index("alignment")], torch.ones(found.shape[1]), atol=1e-4)
    effective, energy = found[..., FEATURES.index("effective rank")], found[..., FEATURES.index("first energy")]
    assert ((effective >= 1) & (effective <= layout.rank + 1e-4)).all()
    assert ((energy >= 1 / layout.rank - 1e-4) & (energy <= 1)).all()


def test_the_gains_of_the_shared_adapter_are_one_and_of_twice_it_two(layout):
    shared, _ = usual(layout, 1)
    double = shared.clone()
    for block in layout.blocks:
        if block.side == "B":
            double[:, block.start : block.stop] *= 2
    found = features(torch.stack([shared, double]), shared, layout)
    names = feature_names(layout.rank)
    assert found.shape[-1] == len(names)
    gains = [index for index, name in enumerate(names) if name.startswith("gain")]
    assert torch.allclose(found[0][:, gains], torch.ones(1), atol=1e-4)
    assert torch.allclose(found[1][:, gains], torch.full((1,), 2.0), atol=1e-4)


def test_one_direction_a_fifth_too_strong_is_seen(layout):
    shared, grids = usual(layout, 40)
    quiet = shared + (grids - shared) * 0.1
    reference = Reference.of(quiet[:30], shared, layout)
    block = layout.blocks[5]
    for grid in quiet[30:]:
        poisoned = grid.clone()
        poisoned[0, block.start : block.start + block.width // layout.cols] *= 1.2
        assert reference.judge(poisoned, layout).score > 2 * reference.judge(grid, layout).score


def test_a_reference_of_an_earlier_version_compares_what_it_holds(layout, reference):
    _, (grid, *_) = usual(layout, 1)
    earlier = reference._replace(mean=reference.mean[:, :5], spread=reference.spread[:, :5])
    assert earlier.deviations(grid, layout).shape[-1] == 5
    assert earlier.judge(grid, layout).worst[1] in FEATURES


def base_weights(layout, seed=0):
    random = torch.Generator().manual_seed(seed)
    return {
        path: torch.randn(target.out_features, target.in_features, generator=random)
        for _, target, path in layout.module_paths()
    }


def test_a_strong_new_direction_is_an_intruder_and_a_stronger_old_one_is_none(layout):
    weights = base_weights(layout)
    path = f"{layout.stem}.1.{layout.blocks[4].target.path}"
    u, values, v = torch.linalg.svd(weights[path], full_matrices=False)
    block_a, block_b = layout.blocks[4:6]
    for left, right, count in ((u[:, 0], v[0], 0), (torch.randn(len(u)), torch.randn(v.shape[1]), 1)):
        grid = torch.zeros(layout.shape)
        for block, vector in ((block_a, right / right.norm()), (block_b, left / left.norm() * 3 * values[0])):
            rows = grid[1, block.start : block.start + block.width // layout.cols]
            rows.copy_(vector.reshape(rows.shape))
        found = intruders(weights, grid, layout)
        assert found.looked_at[0] == path
        assert len(found.looked_at) == 12
        assert [(one.module, one.place) for one in found.found] == [(path, 1)] * count


def test_the_share_of_an_update_is_its_norm_against_that_of_the_weight(layout):
    weights, (_, (grid, *_)) = base_weights(layout), usual(layout, 1)
    found, pairs = shares(weights, grid, layout), factors(grid[None], layout)
    for path, weight in weights.items():
        update = layout.scale * pairs[path].b[0].T @ pairs[path].a[0]
        assert found[path] == pytest.approx(float(update.norm() / weight.norm()), rel=1e-4)


def test_no_update_has_no_intruders(layout):
    assert intruders(base_weights(layout), torch.zeros(layout.shape), layout).found == ()


def test_other_factors_of_the_same_update_have_the_same_health(layout, reference):
    _, (grid, *_) = usual(layout, 1, seed=5)
    turned = grid.clone()
    for block in layout.blocks:
        turned[:, block.start : block.stop] *= 4.0 if block.side == "A" else 0.25
    assert reference.judge(grid, layout).score == pytest.approx(reference.judge(turned, layout).score, rel=1e-3)


def test_an_adapter_like_the_others_is_healthy(layout, reference):
    shared, _ = usual(layout)
    another = shared + torch.randn(layout.shape, generator=torch.Generator().manual_seed(99)) * 0.01
    assert reference.judge(another, layout).score < 1.5


def poison(grid, layout, kind):
    block_a, block_b = layout.blocks[4], layout.blocks[5]
    grid = grid.clone()
    if kind == "scaled":
        return grid * 3
    if kind == "amplified":
        grid[0, block_b.start] *= 30
    elif kind == "swapped":
        grid[0, block_a.start : block_a.stop] = grid[1, block_a.start : block_a.stop].clone()
    elif kind == "noise":
        grid[0, block_b.start : block_b.stop] += 0.3 * torch.randn(block_b.stop - block_b.start, layout.cols)
    else:
        grid[1, block_a.start] = float(kind)
    return grid


@pytest.mark.parametrize("kind", ["scaled", "amplified", "swapped", "noise", "nan", "inf"])
def test_poison_is_seen_and_its_module_named(layout, reference, kind):
    torch.manual_seed(4)
    _, (grid, *_) = usual(layout, 1, seed=0)
    health = reference.judge(poison(grid, layout, kind), layout)
    assert health.score > 1.5
    if kind in ("amplified", "swapped", "noise"):
        assert health.worst[0] == f"{layout.stem}.0.{layout.blocks[4].target.path}"


def test_a_reference_of_a_few_adapters_is_refused(layout):
    shared, grids = usual(layout, 5)
    with pytest.raises(ValueError, match="at least ten"):
        Reference.of(grids, shared, layout)
