"""Adapter folders beyond the common case: every rank, every family, and folders that are not ours."""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from test_layout import FAMILIES
from test_weights import random_grid
from transformers import AutoModelForCausalLM, LlamaConfig

from prompt2lora import api
from prompt2lora.adapter.grid import decode
from prompt2lora.adapter.hooks import adapted
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.base.chat import ChatFormat
from prompt2lora.base.decoding import answers
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


# What PEFT knows as init_lora_weights; what of it changes the base when the folder is loaded again.
BEGINNINGS = {
    **dict.fromkeys([True, False, None, "gaussian", "Gaussian", "eva", "orthogonal", "mica", "MiCA"], True),
    **dict.fromkeys("pissa pissa_niter_4 olora OLoRA loftq corda lora_ga".split(), False),
}


def with_settings(folder, **settings):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    return folder


@pytest.fixture
def theirs(base, tmp_path):
    """A folder that PEFT saved, with weights that do something."""
    wrapped = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=8, target_modules=["q_proj", "o_proj"], task_type="CAUSAL_LM"),
    )
    torch.manual_seed(3)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.2)
    wrapped.save_pretrained(tmp_path / "theirs")
    (tmp_path / "theirs" / "README.md").unlink()
    return tmp_path / "theirs"


def logits_of(base, folder):
    """By PEFT and by us."""
    plain, config = AutoModelForCausalLM.from_pretrained(base), models.load_config(base)
    loaded = Adapter.load(folder, config)
    with torch.no_grad(), adapted(plain, loaded.grid[None], loaded.layout):
        ours = plain(IDS).logits
    with torch.no_grad():
        return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).eval()(IDS).logits, ours


@pytest.mark.parametrize("beginning", BEGINNINGS)
@pytest.mark.filterwarnings("ignore:`init_lora_weights` is 'eva'")
def test_a_folder_answers_as_in_peft_however_its_training_began_or_is_refused(base, theirs, beginning):
    with_settings(theirs, init_lora_weights=beginning)
    if BEGINNINGS[beginning]:
        right, ours = logits_of(base, theirs)
        assert torch.allclose(right, ours, atol=1e-4)
    else:
        with pytest.raises(DamagedFile, match=r"base that PEFT changes; save it again with PEFT's path_initial_model"):
            Adapter.load(theirs, models.load_config(base))


@pytest.mark.parametrize("beginning", ["pissa", "pissa_niter_4", "olora"])
@pytest.mark.filterwarnings("ignore:.* changes the base weights of the model")
def test_peft_changes_the_base_for_what_is_refused_and_its_own_remedy_is_taken(base, tmp_path, beginning):
    wrapped = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=8, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=beginning),
    )
    with torch.no_grad():
        plain, begun = AutoModelForCausalLM.from_pretrained(base)(IDS).logits, wrapped(IDS).logits
    assert torch.allclose(plain, begun, atol=1e-3)
    wrapped.peft_config["default"].init_lora_weights = True
    wrapped.save_pretrained(tmp_path / "begun")
    wrapped.peft_config["default"].init_lora_weights = beginning
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.mul_(1.5)
        right = wrapped(IDS).logits
    wrapped.save_pretrained(tmp_path / "as-it-is")
    with pytest.raises(DamagedFile, match=beginning):
        Adapter.load(tmp_path / "as-it-is", models.load_config(base))
    wrapped.save_pretrained(tmp_path / "converted", path_initial_model_for_weight_conversion=str(tmp_path / "begun"))
    for file in tmp_path.glob("converted/*"):
        if file.suffix not in (".json", ".safetensors"):
            file.unlink()
    given = logits_of(base, tmp_path / "converted")[1]
    assert torch.allclose(given, right, atol=2e-2)
    assert (right - plain).abs().max() > 0.05


@pytest.mark.parametrize(
    "settings",
    [
        {"enable_lora": None, "merge_weights": False, "of_tomorrow": [], "also": {}, "and": ""},
        {"revision": "main"},
        {"revision": None, "use_qalora": None, "layers_pattern": []},
        {"task_type": None, "auto_mapping": {"base_model_class": "LlamaForCausalLM",
                                             "parent_library": "transformers.models.llama.modeling_llama"}},
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Unexpected keyword arguments")
def test_a_key_that_says_nothing_locks_no_folder_out(base, theirs, settings):
    before = logits_of(base, theirs)[1]
    right, ours = logits_of(base, with_settings(theirs, **settings))
    assert torch.equal(before, ours)
    assert torch.allclose(right, ours, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"of_tomorrow": True}, "of_tomorrow"),
        ({"revision": "other"}, "revision"),
        ({"use_dora": True}, "use_dora"),
        ({"auto_mapping": {"base_model_class": "LlamaForCausalLM", "parent_library": "os"}}, "auto_mapping"),
        ({"auto_mapping": {"base_model_class": "Qwen2ForCausalLM",
                           "parent_library": "transformers.models.qwen2.modeling_qwen2"}}, "class Qwen2ForCausalLM"),
        ({"r": 12}, "r must not be 12; 8 or 16 or 32 or 64 is taken"),
    ],
)  # fmt: skip
def test_what_could_change_the_answer_locks_a_folder_out(base, theirs, settings, why):
    with pytest.raises(DamagedFile, match=why):
        Adapter.load(with_settings(theirs, **settings), models.load_config(base))


def test_asking_through_an_adapter_that_changes_nothing_is_refused_and_not_answered_by_the_base(base, layout, tmp_path):
    Adapter(layout, torch.zeros(layout.shape)).save(tmp_path / "nothing")
    with pytest.raises(DamagedFile, match="answers as the base: its updates are all zero"):
        api.ask(tmp_path / "nothing", "hello")
    model, tokenizer = models.load_base(base)
    assert api.ask(None, "hello", base=base) == answers(model, ChatFormat.of(model, tokenizer), ["hello"])[0] != ""
