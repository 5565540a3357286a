import pytest
import torch

from prompt2lora.adapter.health import Reference
from prompt2lora.errors import DamagedFile
from prompt2lora.generator.atlas import FILE, Atlas
from prompt2lora.generator.generator import Generator


@pytest.fixture
def atlas(generator):
    random = torch.Generator().manual_seed(5)
    layout = generator.config.layout
    grids = generator.start + torch.randn(12, *layout.shape, generator=random) * 0.01
    means = torch.randn(40, generator.config.width, generator=random) * torch.linspace(2, 0.1, generator.config.width)
    names = tuple(f"task{i}" for i in range(40))
    return Atlas(names, tuple(f"Do {name}." for name in names), means, Reference.of(grids, generator.start, layout))


def test_a_training_task_is_its_own_nearest_neighbour(atlas):
    for i in (0, 17, 39):
        found = atlas.neighbours(atlas.means[i])
        assert found[0].task == f"task{i}"
        assert found[0].similarity == pytest.approx(1, abs=1e-4)
        assert [n.similarity for n in found] == sorted((n.similarity for n in found), reverse=True)


def test_training_tasks_are_near_and_what_is_unlike_them_is_far(atlas):
    distances = sorted(atlas.distance(mean) for mean in atlas.means)
    assert distances[20] == pytest.approx(1, abs=0.1)
    assert distances[-1] < 2
    away = atlas.means.mean(0) + 6 * torch.linspace(0.1, 2, atlas.means.shape[1])
    assert atlas.distance(away) > 3


@pytest.mark.parametrize("count", [2, 3])
def test_two_training_tasks_are_enough_to_tell_a_distance(atlas, count):
    few = Atlas(atlas.names[:count], atlas.instructions[:count], atlas.means[:count], atlas.health)
    away = atlas.means.mean(0) + 6
    assert 0 <= few.distance(few.means[0]) < few.distance(away) < float("inf")


def test_a_generator_carries_its_atlas(generator, atlas, tmp_path):
    generator.atlas = atlas
    generator.save_pretrained(tmp_path / "g")
    again = Generator.from_pretrained(tmp_path / "g")
    assert again.atlas.names == atlas.names
    assert again.atlas.instructions == atlas.instructions
    assert torch.allclose(again.atlas.means, atlas.means, atol=1e-2)
    assert again.atlas.health.usual == pytest.approx(atlas.health.usual)
    grid = atlas.health.shared + 0.01
    layout = generator.config.layout
    ours, theirs = (one.health.judge(grid, layout).score for one in (atlas, again.atlas))
    assert ours == pytest.approx(theirs, rel=1e-2)


def test_an_altered_or_missing_atlas_is_refused(generator, atlas, tmp_path):
    with pytest.raises(DamagedFile, match="without an atlas"):
        _ = generator.atlas
    generator.atlas = atlas
    generator.save_pretrained(tmp_path / "g")
    file = tmp_path / "g" / FILE
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamagedFile, match="altered"):
        Generator.from_pretrained(tmp_path / "g")
    file.unlink()
    with pytest.raises(DamagedFile, match="cannot be read"):
        Generator.from_pretrained(tmp_path / "g")
