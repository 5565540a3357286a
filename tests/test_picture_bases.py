"""Bases that read pictures beside text: their language tower is adapted and nothing else."""

import json

import pytest
import torch
from peft import PeftModel
from picture_bases import configs, tiny_model
from test_adapter import random_grid

from prompt2lora.adapter.folder import check
from prompt2lora.adapter.formats import export
from prompt2lora.adapter.grid import factors
from prompt2lora.adapter.hooks import adapted
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.peft import Adapter
from prompt2lora.errors import DamagedFile, UsageError
from prompt2lora.ground.profile import PICTURE_BASES, TARGETS

IDS = torch.tensor([[5, 17, 42, 9]])
STEMS = {"idefics3": "model.text_model.layers", "smolvlm": "model.text_model.layers"}


@pytest.mark.parametrize("kind", PICTURE_BASES)
def test_the_layout_of_a_base_that_reads_pictures_is_that_of_its_language_tower(kind):
    layout = LoraLayout.from_config(configs()[kind], base_model="x")
    assert layout.stem == STEMS.get(kind, "model.language_model.layers")
    assert layout.tower == layout.stem.removesuffix(".layers")
    assert (layout.layers, {target.name for target in layout.targets}) == (2, set(TARGETS))
    assert {(target.name, target.in_features) for target in layout.targets} >= {("q_proj", 32), ("down_proj", 64)}


@pytest.mark.parametrize("kind", PICTURE_BASES)
def test_real_peft_changes_the_language_tower_alone(kind, tmp_path):
    model = tiny_model(kind)
    layout = LoraLayout.from_config(configs()[kind], base_model="x")
    adapter = Adapter(layout, random_grid(layout))
    adapter.save(tmp_path / "a")
    check(tmp_path / "a")
    loaded = Adapter.load(tmp_path / "a", configs()[kind])
    assert loaded.layout == layout
    with adapted(model, loaded.grid[None], layout):
        ours = model(input_ids=IDS).logits
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    merged = PeftModel.from_pretrained(model, tmp_path / "a").merge_and_unload()
    assert torch.allclose(merged(input_ids=IDS).logits, ours, atol=1e-4)
    updates = {
        f"{path}.weight": layout.scale * factor.b[0].T @ factor.a[0]
        for path, factor in factors(loaded.grid[None], layout).items()
    }
    after = merged.state_dict()
    assert after.keys() == before.keys()
    for name, weight in before.items():
        if name in updates:
            assert torch.allclose(after[name] - weight, updates.pop(name), atol=1e-5), name
        else:
            assert torch.equal(after[name], weight), name
    assert not updates


@pytest.mark.parametrize("kind", ["idefics3", "qwen2_5_vl"])
def test_without_the_pattern_peft_would_adapt_the_vision_tower_too(kind, tmp_path):
    layout = LoraLayout.from_config(configs()[kind], base_model="x")
    Adapter(layout, random_grid(layout)).save(tmp_path / "a")
    file = tmp_path / "a" / "adapter_config.json"
    settings = json.loads(file.read_text())
    assert settings["exclude_modules"] == rf"(?!model\.{layout.tower.rpartition('.')[2]}\.).*"

    def adapted_elsewhere():
        peft = PeftModel.from_pretrained(tiny_model(kind), tmp_path / "a")
        return [name for name, _ in peft.named_modules() if "lora_A" in name and layout.tower not in name]

    assert not adapted_elsewhere()
    file.write_text(json.dumps({**settings, "exclude_modules": None}))
    with pytest.warns(UserWarning, match="missing"):
        assert adapted_elsewhere()


@pytest.mark.parametrize("pattern", [r"(?!model\.text_model\.).*", ".*", ["lm_head"], r"(?!(a+)+\.).*"])
def test_a_folder_that_leaves_out_something_else_is_refused(pattern, tmp_path):
    layout = LoraLayout.from_config(configs()["llava"], base_model="x")
    Adapter(layout, random_grid(layout)).save(tmp_path / "a")
    file = tmp_path / "a" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "exclude_modules": pattern}))
    with pytest.raises(DamagedFile, match=r"leaves out|outside the adapter profile"):
        Adapter.load(tmp_path / "a", configs()["llava"])


def test_an_adapter_for_a_base_that_reads_pictures_goes_to_no_engine_of_texts(tmp_path):
    layout = LoraLayout.from_config(configs()["llava"], base_model="x")
    with pytest.raises(UsageError, match="reads pictures cannot be exported to mlx; export to peft"):
        export(Adapter(layout, random_grid(layout)), configs()["llava"], "mlx", tmp_path / "out")
