"""Adapter folders beyond the common case: every rank, every family, and folders that are not ours."""

import json
import shutil

import pytest
import torch
from peft import PeftModel
from test_layout import FAMILIES
from test_weights import random_grid
from transformers import AutoModelForCausalLM, LlamaConfig

from prompt2lora import api
from prompt2lora.adapter.grid import decode
from prompt2lora.adapter.hooks import adapted
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.errors import DamagedFile
from prompt2lora.ground.files import read_safetensors
from prompt2lora.ground.profile import RANKS

IDS = torch.tensor([[5, 17, 42, 9]])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rank", RANKS)
def test_real_peft_loads_every_rank_in_every_family(family, rank, tmp_path):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(FAMILIES[family]).eval().requires_grad_(False)
    layout = LoraLayout.from_config(FAMILIES[family], base_model="x", rank=rank)
    Adapter(layout, random_grid(layout)).save(tmp_path / "a")
    loaded = Adapter.load(tmp_path / "a", FAMILIES[family])
    assert loaded.layout == layout
    assert torch.equal(loaded.grid, random_grid(layout).half().float())
    with adapted(model, loaded.grid[None], layout):
        ours = model(IDS).logits
    plain = model(IDS).logits
    peft = PeftModel.from_pretrained(model, tmp_path / "a").eval()
    theirs = {name.replace(".default", ""): p for name, p in peft.named_parameters() if "lora_" in name}
    state, _ = read_safetensors(tmp_path / "a" / "adapter_model.safetensors")
    assert theirs.keys() == state.keys()
    assert all(torch.equal(theirs[name], state[name].float()) for name in state)
    assert torch.allclose(peft(IDS).logits, ours, atol=1e-4)
    assert (ours - plain).abs().max() > 1e-3


def test_where_an_adapter_comes_from_stands_in_the_folder(layout, base, tmp_path):
    origin = {"generator_sha256": "ab" * 32, "prompts": 16, "note": "Größe"}
    Adapter(layout, random_grid(layout), origin).save(tmp_path / "a")
    assert Adapter.load(tmp_path / "a", models.load_config(base)).provenance == origin


def test_an_adapter_of_another_base_is_refused_not_ignored(layout, tmp_path):
    Adapter(layout, random_grid(layout)).save(tmp_path / "a")
    other = LlamaConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=99)
    with pytest.raises(DamagedFile):
        Adapter.load(tmp_path / "a", other)
    deeper = LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=99,
    )
    with pytest.raises(DamagedFile, match="missing or unknown"):
        Adapter.load(tmp_path / "a", deeper)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"peft_type": "LORA"}', "null"])
def test_a_configuration_that_is_no_object_or_says_too_little_is_refused(layout, base, tmp_path, text):
    Adapter(layout, random_grid(layout)).save(tmp_path / "a")
    (tmp_path / "a" / "adapter_config.json").write_text(text)
    with pytest.raises(DamagedFile, match=r"adapter_config\.json"):
        Adapter.load(tmp_path / "a", models.load_config(base))


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_folder_with_a_file_missing_is_refused_by_name(layout, base, tmp_path, name):
    Adapter(layout, random_grid(layout)).save(tmp_path / "a")
    (tmp_path / "a" / name).unlink()
    with pytest.raises(DamagedFile, match=name):
        Adapter.load(tmp_path / "a", models.load_config(base))


def test_asking_through_an_adapter_that_does_not_fit_is_refused_and_never_answered_by_the_base(
    base, generator_folder, tmp_path
):
    api.generate(["one"], tmp_path / "a", generator=generator_folder)
    shutil.copytree(base, tmp_path / "other")
    file = tmp_path / "other" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "hidden_size": 32}))
    with pytest.raises(DamagedFile):
        api.ask(tmp_path / "a", "hello", base=str(tmp_path / "other"))
    with pytest.raises(DamagedFile):
        api.ask(tmp_path / "nowhere", "hello", base=base)


def test_the_written_numbers_are_the_grid_s_in_half_precision_with_the_scale_of_the_configuration(layout, tmp_path):
    Adapter(layout, random_grid(layout)).save(tmp_path / "a")
    state, _ = read_safetensors(tmp_path / "a" / "adapter_model.safetensors")
    expected = decode(random_grid(layout), layout)
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name].half()) for name in state)
    settings = json.loads((tmp_path / "a" / "adapter_config.json").read_text())
    assert settings["lora_alpha"] / settings["r"] == layout.scale
