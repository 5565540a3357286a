import json
import warnings

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from test_layout import FAMILIES
from transformers import AutoModelForCausalLM

from prompt2lora.adapter.grid import decode, encode, factors, weight_name
from prompt2lora.adapter.hooks import adapted, probe
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.peft import Adapter, adapter_digest
from prompt2lora.adapter.settings import read_config
from prompt2lora.base import models
from prompt2lora.errors import DamagedFile, LayoutError, UsageError
from prompt2lora.ground.profile import TARGETS

IDS = torch.tensor([[5, 17, 42, 9], [3, 3, 8, 1]])


def random_grid(layout, seed=0):
    return torch.randn(layout.shape, generator=torch.Generator().manual_seed(seed)) * 0.05


@pytest.fixture
def model(base):
    return models.load_base(base, dtype=torch.float32, device="cpu")[0]


@pytest.fixture
def folder(layout, tmp_path):
    Adapter(layout, random_grid(layout)).save(tmp_path / "adapter")
    return tmp_path / "adapter"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rank", [1, 8])
@pytest.mark.parametrize("targets", [("k_proj",), ("q_proj", "down_proj"), TARGETS])
def test_grid_and_state_dict_are_exact_inverses(family, rank, targets):
    layout = LoraLayout.from_config(FAMILIES[family], base_model="x", rank=rank, targets=targets)
    grid = random_grid(layout)
    state = decode(grid, layout)
    assert torch.equal(encode(state, layout), grid)
    again = decode(encode(state, layout), layout)
    assert all(torch.equal(again[name], state[name]) for name in state)
    for _, target, path in layout.module_paths():
        assert state[weight_name(path, "A")].shape == (rank, target.in_features)
        assert state[weight_name(path, "B")].shape == (target.out_features, rank)


def test_factors_of_a_batch_are_the_matrices_of_each_adapter(layout):
    grids = torch.stack([random_grid(layout, 1), random_grid(layout, 2)])
    found = factors(grids, layout)
    for index in range(2):
        state = decode(grids[index], layout)
        for path, factor in found.items():
            assert torch.equal(factor.a[index], state[weight_name(path, "A")])
            assert torch.equal(factor.b[index].T, state[weight_name(path, "B")])


def test_a_missing_unknown_or_ill_shaped_matrix_is_refused(layout):
    state = decode(random_grid(layout), layout)
    name = next(iter(state))
    for wrong in (
        {key: value for key, value in state.items() if key != name},
        {**state, "extra": torch.zeros(1)},
        {**state, name: torch.zeros(3, 3)},
    ):
        with pytest.raises(DamagedFile):
            encode(wrong, layout)


def test_real_peft_loads_the_folder_and_gives_the_same_logits(model, base, layout, folder):
    grid = Adapter.load(folder, model.config).grid
    with adapted(model, grid[None], layout):
        ours = model(IDS).logits
    fresh = AutoModelForCausalLM.from_pretrained(base)
    plain = fresh(IDS).logits
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        peft = PeftModel.from_pretrained(fresh, folder).eval()
    assert not [w for w in told if "key" in str(w.message).lower()], "missing or unexpected keys"
    assert torch.allclose(peft(IDS).logits, ours, atol=1e-4)
    assert (ours - plain).abs().max() > 1e-2


def test_merging_adds_scale_times_b_a_and_nothing_else(base, layout, folder):
    before = {name: p.clone() for name, p in AutoModelForCausalLM.from_pretrained(base).named_parameters()}
    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), folder).merge_and_unload()
    state = decode(random_grid(layout).half().float(), layout)
    changed = {f"{path}.weight" for _, _, path in layout.module_paths()}
    for name, after in merged.named_parameters():
        path = name.removesuffix(".weight")
        if name in changed:
            product = state[weight_name(path, "B")] @ state[weight_name(path, "A")]
            assert torch.allclose(after - before[name], layout.scale * product, atol=1e-5)
        else:
            assert torch.equal(after, before[name])


def test_an_adapter_that_peft_wrote_can_be_read(base, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(base)
    wanted = LoraConfig(
        r=8, lora_alpha=16, target_modules=list(TARGETS), init_lora_weights=False, task_type="CAUSAL_LM"
    )
    peft = get_peft_model(model, wanted).eval()
    peft.save_pretrained(tmp_path / "theirs")
    adapter = Adapter.load(tmp_path / "theirs", model.config)
    fresh = models.load_base(base, dtype=torch.float32, device="cpu")[0]
    with adapted(fresh, adapter.grid[None], adapter.layout):
        assert torch.allclose(fresh(IDS).logits, peft(IDS).logits, atol=1e-4)


def test_sequences_of_a_batch_keep_their_own_adapters(model, layout):
    grids = torch.stack([random_grid(layout, 1), random_grid(layout, 2)])
    with adapted(model, grids, layout):
        together = model(IDS).logits
    for place in range(2):
        with adapted(model, grids[place : place + 1], layout):
            alone = model(IDS[place : place + 1]).logits
        assert torch.allclose(together[place], alone[0], atol=1e-5)


def test_the_base_is_itself_again_after_the_adapter_even_after_an_error(model, layout):
    plain = model(IDS).logits
    with pytest.raises(ZeroDivisionError), adapted(model, random_grid(layout)[None], layout):
        _ = 1 / 0
    assert torch.equal(model(IDS).logits, plain)


def test_gradients_reach_the_adapter_and_not_the_base(model, layout):
    grid = random_grid(layout)[None].requires_grad_()
    with adapted(model, grid, layout):
        model(IDS).logits.sum().backward()
    assert grid.grad.abs().min(dim=-1).values.max() > 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_probe_tells_an_applied_adapter_from_one_that_changes_nothing(model, layout):
    assert probe(model, random_grid(layout), layout, IDS) > 1e-2
    assert probe(model, torch.zeros(layout.shape), layout, IDS) == 0


def test_the_same_grid_gives_the_same_bytes_and_another_grid_others(layout, tmp_path):
    digests = [Adapter(layout, random_grid(layout, seed)).save(tmp_path / str(i)) for i, seed in enumerate((1, 1, 2))]
    assert digests[0] == digests[1] == adapter_digest(tmp_path / "0")
    assert digests[0] != digests[2]
    assert sorted(file.name for file in (tmp_path / "0").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


def test_a_rank_that_engines_refuse_and_weights_that_are_not_finite_are_not_written(layout, tmp_path):
    odd = LoraLayout.from_config(FAMILIES["llama"], base_model="x", rank=7)
    with pytest.raises(LayoutError, match="7"):
        Adapter(odd, random_grid(odd)).save(tmp_path / "odd")
    grid = random_grid(layout)
    grid[0, 0, 0] = float("nan")
    with pytest.raises(DamagedFile, match="finite"):
        Adapter(layout, grid).save(tmp_path / "nan")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_exists_is_left_alone(layout, tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").write_text("keep")
    with pytest.raises(UsageError, match="must not exist"):
        Adapter(layout, random_grid(layout)).save(tmp_path / "taken")
    assert [file.name for file in (tmp_path / "taken").iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "change",
    [
        {"use_dora": True},
        {"use_rslora": True},
        {"modules_to_save": ["lm_head"]},
        {"rank_pattern": {"q_proj": 4}},
        {"alpha_pattern": {"q_proj": 4}},
        {"auto_mapping": {"parent_library": "os"}},
        {"something_new": 1},
        {"r": 7},
        {"r": "8"},
        {"r": True},
        {"lora_alpha": None},
        {"target_modules": "all-linear"},
        {"target_modules": ["lm_head"]},
        {"peft_type": "IA3"},
        {"bias": "all"},
    ],
    ids=str,
)
def test_a_configuration_outside_the_profile_is_refused(folder, change):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(DamagedFile):
        read_config(folder)


def test_truncated_or_unfinite_weights_are_refused(model, layout, folder, tmp_path):
    file = folder / "adapter_model.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])
    with pytest.raises(DamagedFile):
        Adapter.load(folder, model.config)
    file.write_bytes(data[:-2] + b"\x00\x7c")  # the last number becomes infinite
    with pytest.raises(DamagedFile, match="finite"):
        Adapter.load(folder, model.config)
