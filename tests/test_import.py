"""Adapters made elsewhere: imported, they make the weights that PEFT makes of their folder, or they are refused."""

import copy
import json
import tempfile
import warnings
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tiny import TINY
from transformers import AutoModelForCausalLM, LlamaConfig, Phi3Config, PhiConfig, Qwen2Config, Starcoder2Config

from prompt2lora import api
from prompt2lora.adapter import folder as adapter_folder
from prompt2lora.adapter.grid import decode
from prompt2lora.adapter.peft import Adapter
from prompt2lora.errors import DamagedFile, LayoutError
from prompt2lora.ground.profile import TARGETS

BASES = {
    "llama": LlamaConfig(**TINY),
    "qwen2": Qwen2Config(**TINY),
    "tied": LlamaConfig(**{**TINY, "tie_word_embeddings": True}),
    "wide": LlamaConfig(**{**TINY, "hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 1}),
    "phi": PhiConfig(**TINY),
    "phi3": Phi3Config(**TINY, pad_token_id=0),
    "starcoder2": Starcoder2Config(**TINY),
}
ATTENTION = ["q_proj", "v_proj"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """By name the folder that a base lies in."""
    made = {}
    for name, config in BASES.items():
        torch.manual_seed(1)
        place = tmp_path_factory.mktemp("bases") / name
        AutoModelForCausalLM.from_config(config).save_pretrained(place)
        made[name] = str(place)
    return made


@pytest.fixture(params=["llama", "qwen2"])
def named_base(request, folders):
    return folders[request.param]


@pytest.fixture(scope="module")
def llama(folders):
    return folders["llama"]


@pytest.fixture(scope="module")
def wide(folders):
    return folders["wide"]


@cache
def loaded(base):
    """A base from its folder, for all tests: whoever changes it takes a copy."""
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)


def trained(base, place, dtype=None, *, seed=0, size=0.1, **kind):
    """A folder as PEFT saves it after training: no factor is zero."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = get_peft_model(copy.deepcopy(loaded(base)), LoraConfig(**{"task_type": "CAUSAL_LM", **kind}))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.normal_(std=size)
    if dtype:
        model = model.to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save_pretrained(place)
    return place


def settings_of(place):
    return json.loads((place / "adapter_config.json").read_text())


def changed(place, **changes):
    (place / "adapter_config.json").write_text(json.dumps({**settings_of(place), **changes}))
    return place


def weights(base, place=None):
    """The base's weights, with what PEFT makes of a folder merged in."""
    model = loaded(base)
    if place is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = PeftModel.from_pretrained(copy.deepcopy(model), place).merge_and_unload()
    return {name: tensor for name, tensor in model.state_dict().items() if tensor.is_floating_point()}


def assert_same(base, place, out, within=1e-6):
    """PEFT makes the same weights of both folders, and something of them; ours is within the profile."""
    assert_makes(weights(base, place), base, out, within)


def assert_makes(wanted, base, out, within):
    found, plain = weights(base, out), weights(base)
    assert wanted.keys() == found.keys()
    for name, weight in wanted.items():
        assert torch.allclose(weight, found[name], rtol=0, atol=within), name
    assert any(not torch.equal(weight, plain[name]) for name, weight in wanted.items())
    adapter_folder.check(out)
    adapter = Adapter.load(out, loaded(base).config)
    state = decode(adapter.grid, adapter.layout)
    for _, _, path in adapter.layout.module_paths():
        a, b = (state[f"base_model.model.{path}.lora_{side}.weight"] for side in "AB")
        name = f"{path}.weight"
        own = plain[name] + adapter.layout.scale * b @ a
        assert torch.allclose(own, wanted[name], rtol=0, atol=within), name


KINDS = {
    "plain": {"target_modules": ATTENTION},
    "an alpha that is no whole number": {"target_modules": ATTENTION, "lora_alpha": 7.5},
    "a negative strength": {"target_modules": ATTENTION, "lora_alpha": -4},
    "rank 3": {"r": 3, "target_modules": list(TARGETS)},
    "rank 20": {"r": 20, "target_modules": ["down_proj"]},
    "rslora": {"r": 6, "use_rslora": True, "target_modules": ATTENTION},
    "ranks": {"r": 4, "rank_pattern": {"q_proj": 12, r"layers\.1\.self_attn\.v_proj": 2}, "target_modules": ATTENTION},
    "strengths": {"alpha_pattern": {"q_proj": 3, "v_proj": 40}, "target_modules": ATTENTION},
    "rslora with ranks and strengths": {
        "use_rslora": True,
        "rank_pattern": {"up_proj": 5},
        "alpha_pattern": {"layers.0.mlp.up_proj": 9, "q_proj": 1},
        "target_modules": ["q_proj", "up_proj"],
    },
    "a regular expression": {"target_modules": r".*layers\.[01]\.(self_attn\.[qk]_proj|mlp\.down_proj)"},
    "all linear modules": {"r": 2, "target_modules": "all-linear"},
    "whole paths": {"target_modules": ["model.layers.1.self_attn.o_proj", "gate_proj"]},
    "one layer": {"target_modules": ATTENTION, "layers_to_transform": 1},
    "layers, which PEFT passes over for whole paths": {
        "target_modules": ["model.layers.0.self_attn.q_proj", "v_proj"],
        "layers_to_transform": [1],
    },
    "layers": {"target_modules": ATTENTION, "layers_to_transform": [0], "layers_pattern": "layers"},
    "left out by name": {"target_modules": list(TARGETS), "exclude_modules": ["k_proj", "mlp.up_proj"]},
    "left out by an expression": {"target_modules": "all-linear", "exclude_modules": r".*\.0\..*"},
    "no targets named": {},
    "turned over, which PEFT takes back": {"target_modules": ATTENTION, "fan_in_fan_out": True},
    "gaussian": {"target_modules": ATTENTION, "init_lora_weights": "gaussian"},
    "orthogonal": {"target_modules": ATTENTION, "init_lora_weights": "orthogonal"},
    "minor components": {"target_modules": ATTENTION, "init_lora_weights": "mica"},
    "no task": {"target_modules": ATTENTION, "task_type": None},
    "trained with dropout": {"target_modules": ATTENTION, "lora_dropout": 0.3},
    "biases that are none": {"target_modules": ["o_proj"], "bias": "lora_only"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_imported_adapter_makes_the_weights_that_peft_makes_of_its_folder(kind, named_base, tmp_path):
    place = trained(named_base, tmp_path / "theirs", **KINDS[kind])
    api.import_adapter(place, tmp_path / "ours", base=named_base)
    assert_same(named_base, place, tmp_path / "ours")


@pytest.mark.parametrize(
    ("kind", "targets"), [("phi", ATTENTION), ("phi3", ["o_proj", "down_proj"]), ("starcoder2", ATTENTION)]
)
def test_a_base_may_lack_modules_that_the_adapter_does_not_change(kind, targets, folders, tmp_path):
    place = trained(folders[kind], tmp_path / "theirs", target_modules=targets)
    api.import_adapter(place, tmp_path / "ours", base=folders[kind])
    assert_same(folders[kind], place, tmp_path / "ours")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_numbers_are_kept_as_they_are_in_the_fewest_bytes(dtype, llama, tmp_path):
    place = trained(
        llama, tmp_path / "theirs", dtype, size=1e5 if dtype == torch.bfloat16 else 0.1, target_modules=ATTENTION
    )
    api.import_adapter(place, tmp_path / "ours", base=llama)
    kept, theirs = (load_file(one / "adapter_model.safetensors") for one in (tmp_path / "ours", place))
    assert {tensor.dtype for tensor in kept.values()} == {dtype}
    assert kept.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in kept.items())
    assert settings_of(tmp_path / "ours")["lora_alpha"] == 8


def test_of_two_patterns_that_match_the_first_in_the_file_counts_as_in_peft(llama, tmp_path):
    kind = {"r": 8, "lora_alpha": 8, "target_modules": ["q_proj"]}
    place = trained(llama, tmp_path / "theirs", **kind)
    strengths = []
    for number, order in enumerate((("q_proj", "self_attn.q_proj"), ("self_attn.q_proj", "q_proj"))):
        changed(place, alpha_pattern={name: {"q_proj": 16, "self_attn.q_proj": 80}[name] for name in order})
        out = tmp_path / f"ours{number}"
        api.import_adapter(place, out, base=llama)
        assert_same(llama, place, out)
        strengths.append(settings_of(out)["lora_alpha"])
    assert strengths == [16, 80]


def test_what_is_kept_in_bfloat16_may_be_too_large_for_float16_and_is_the_same(llama, tmp_path):
    place = trained(llama, tmp_path / "theirs", torch.bfloat16, target_modules=ATTENTION)
    state = load_file(place / "adapter_model.safetensors")
    for name in state:
        state[name] = state[name] * (2.0**17 if ".lora_A." in name else 2.0**-17)
    save_file(state, place / "adapter_model.safetensors")
    api.import_adapter(place, tmp_path / "ours", base=llama)
    assert_same(llama, place, tmp_path / "ours")


# How the same weights may lie in a folder.


def as_pickle(place, state):
    torch.save(state, place / "adapter_model.bin")


def as_shards(place, state):
    names = sorted(state)
    files = {f"adapter_model-0000{n + 1}-of-00002.safetensors": names[n::2] for n in (0, 1)}
    for file, held in files.items():
        save_file({name: state[name] for name in held}, place / file)
    index = {"metadata": {}, "weight_map": {name: file for file, held in files.items() for name in held}}
    (place / "adapter_model.safetensors.index.json").write_text(json.dumps(index))


def without_prefix(place, state):
    save_file(
        {name.removeprefix("base_model.model."): tensor for name, tensor in state.items()},
        place / "adapter_model.safetensors",
    )


def with_the_adapter_s_name(place, state):
    named = {name.replace(".weight", ".default.weight"): tensor for name, tensor in state.items()}
    save_file(named, place / "adapter_model.safetensors")


@pytest.mark.parametrize("keep", [as_pickle, as_shards, without_prefix, with_the_adapter_s_name])
def test_weights_are_read_from_pickles_and_shards_and_with_other_names(keep, llama, tmp_path):
    place = trained(llama, tmp_path / "theirs", r=4, target_modules=ATTENTION, alpha_pattern={"q_proj": 3})
    other = tmp_path / "other"
    other.mkdir()
    (other / "adapter_config.json").write_bytes((place / "adapter_config.json").read_bytes())
    keep(other, load_file(place / "adapter_model.safetensors"))
    made = api.import_adapter(other, tmp_path / "ours", base=llama)
    assert_same(llama, place, tmp_path / "ours")
    assert (made.ranks, made.rank, made.dtype, made.lost) == ({4: 4}, 8, "float32", 0.0)


def test_a_pickle_that_holds_more_than_tensors_is_refused_and_runs_nothing(llama, tmp_path):
    place = trained(llama, tmp_path / "theirs", target_modules=ATTENTION)
    (place / "adapter_model.safetensors").unlink()
    torch.save({"x": Path("/")}, place / "adapter_model.bin")
    with pytest.raises(DamagedFile, match=r"holds more than tensors, or is damaged.*safe_serialization"):
        api.import_adapter(place, tmp_path / "ours", base=llama)


def test_an_imported_adapter_may_be_imported_again_and_one_of_ours_keeps_its_origin(llama, tmp_path):
    place = trained(llama, tmp_path / "theirs", r=4, target_modules=ATTENTION)
    api.import_adapter(place, tmp_path / "one", base=llama)
    config = loaded(llama).config
    first = Adapter.load(tmp_path / "one", config)
    Adapter(first.layout, first.grid, {"prompts": 3}).save(tmp_path / "ours")
    made = api.import_adapter(tmp_path / "ours", tmp_path / "two")
    assert Adapter.load(tmp_path / "two", config).provenance == {"prompts": 3, "imported": made.source}
    assert (made.base, made.made_for) == (llama, llama)
    assert_same(llama, place, tmp_path / "two", 1e-3)


# Ranks that engines do not take.


def padded(place, rank):
    """The same adapter with zeros up to a rank, turned about so that no zero is seen."""
    state = load_file(place / "adapter_model.safetensors")
    turn, _ = torch.linalg.qr(torch.randn(rank, rank, generator=torch.Generator().manual_seed(4), dtype=torch.float64))
    for name in [name for name in state if ".lora_A." in name]:
        other = name.replace("lora_A", "lora_B")
        a, b = (torch.zeros(rank, state[one].shape[side], dtype=torch.float64) for one, side in ((name, 1), (other, 0)))
        a[: len(state[name])], b[: len(state[name])] = state[name], state[other].T
        state[name], state[other] = (turn @ a).float(), (turn @ b).T.float().contiguous()
    save_file(state, place / "adapter_model.safetensors")
    kept = settings_of(place)
    return changed(place, r=rank, lora_alpha=kept["lora_alpha"] * rank / kept["r"])


def test_a_rank_above_every_engine_s_is_lowered_where_the_product_needs_less(llama, tmp_path):
    place = padded(trained(llama, tmp_path / "theirs", r=20, target_modules=["q_proj", "down_proj"]), 100)
    made = api.import_adapter(place, tmp_path / "ours", base=llama)
    assert (made.rank, made.ranks, made.lost < 1e-6) == (64, {100: 4}, True)
    assert_same(llama, place, tmp_path / "ours")


def test_a_rank_that_is_needed_and_that_no_engine_takes_is_refused_and_approximated_if_asked_for(wide, tmp_path):
    place = trained(wide, tmp_path / "theirs", r=70, target_modules=["down_proj"])
    with pytest.raises(
        LayoutError, match=r"take the ranks 8, 16, 32, 64 and model\.layers\.0\.mlp\.down_proj needs 70"
    ):
        api.import_adapter(place, tmp_path / "ours", base=wide)
    assert not (tmp_path / "ours").exists()
    made = api.import_adapter(place, tmp_path / "ours", base=wide, approximate=True)
    wanted, found, plain = (weights(wide, one) for one in (place, tmp_path / "ours", None))
    change = torch.cat([(wanted[name] - plain[name]).flatten() for name in plain])
    off = torch.cat([(wanted[name] - found[name]).flatten() for name in plain])
    assert 0 < made.lost < 0.5
    assert float(off.norm() / change.norm()) == pytest.approx(made.lost, rel=1e-4)


# What is refused.


REFUSED = {
    "DoRA": (
        {"use_dora": True},
        "use_dora = true: DoRA scales every row.*save_as_lora, and transformers' load_adapter, would leave",
    ),
    "whole modules": (
        {"modules_to_save": ["lm_head"]},
        r'modules_to_save = \["lm_head"\]: it brings whole modules beside B A, .*load it alone, merge it into its base',
    ),
    "rows of the embedding": ({"trainable_token_indices": [3, 4]}, "rows of the embedding"),
    "embeddings": (
        {"target_modules": ["embed_tokens", "q_proj"]},
        "it adapts model.embed_tokens|it brings model.embed",
    ),
    "the output layer": (
        {"target_modules": ["lm_head", "q_proj"]},
        "it brings lm_head.weight, which is no factor",
    ),
    "parameters": ({"target_parameters": ["mlp.down_proj.weight"]}, "it adapts parameters and not modules"),
    "biases of B": ({"lora_bias": True}, "lora_bias = true: it adds biases beside B A, .*; train without"),
    "from an invocation on": ({"alora_invocation_tokens": [1, 2]}, "aLoRA acts from its invocation tokens on"),
    "PiSSA": ({"init_lora_weights": "pissa"}, r'"pissa" it stands on a base that PEFT changes; save it again with'),
    "fast PiSSA": ({"init_lora_weights": "pissa_niter_2"}, "stands on a base that PEFT changes"),
    "OLoRA": ({"init_lora_weights": "olora"}, "stands on a base that PEFT changes"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_no_plain_lora_on_this_base_can_be_is_refused_in_one_line(kind, llama, tmp_path):
    settings_, told = REFUSED[kind]
    place = trained(llama, tmp_path / "theirs", **{"target_modules": ATTENTION, **settings_})
    with pytest.raises(DamagedFile, match=told) as refused:
        api.import_adapter(place, tmp_path / "ours", base=llama)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
def test_nobody_is_told_to_merge_an_adapter_of_embeddings_into_a_base_where_they_are_tied(
    target, both, folders, tmp_path
):
    told = {}
    for base in ("llama", "tied"):
        options = {"target_modules": [target], "ensure_weight_tying": both}
        place = trained(folders[base], tmp_path / base, **options)
        with pytest.raises(DamagedFile) as refused:
            api.import_adapter(place, tmp_path / "ours", base=folders[base])
        told[base] = str(refused.value)
    assert "merge it into its base, or train with" in told["llama"]
    assert "PEFT cannot merge it either, since both embeddings of this base are one matrix" in told["tied"]


SAID = {
    "another method": ({"peft_type": "LOHA"}, 'can be imported and this is "LOHA"; let PEFT turn it into one'),
    "another task": ({"task_type": "SEQ_CLS"}, 'models that answer can be imported and this is of "SEQ_CLS"'),
    "LoftQ": ({"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}}, '"loftq" it stands on a base'),
    "CorDA": ({"init_lora_weights": "corda"}, "stands on a base that PEFT changes"),
    "LoRA-GA": ({"init_lora_weights": "lora_ga"}, "stands on a base that PEFT changes"),
    "quantised": ({"use_qalora": True}, "QA-LoRA averages groups of inputs"),
    "blocks": ({"use_bdlora": {"nblocks": 2}}, "BD-LoRA cuts A or B into blocks"),
    "singular values": ({"kasa_config": {"beta": 1e-4}}, "KaSA takes directions out of the base"),
    "repeated layers": ({"layer_replication": [[0, 1], [0, 1]]}, "it repeats layers of the base"),
    "routed": ({"arrow_config": {"top_k": 2}}, "Arrow chooses among adapters"),
    "of a later version": ({"use_novelty": 3}, '"use_novelty" = 3 is not known here'),
    "of another class": (
        {"auto_mapping": {"base_model_class": "MistralForCausalLM", "parent_library": "transformers.models.mistral"}},
        "was trained on the class MistralForCausalLM and the base is a LlamaForCausalLM",
    ),
    "a rank of nothing": ({"rank_pattern": {"q_proj": 0}}, "PEFT cannot put this adapter on .*positive integer"),
    "a pattern that is none": ({"alpha_pattern": {"q_proj(": 3}}, "PEFT cannot put this adapter on"),
    "the output layer": (
        {"target_modules": ["q_proj", "v_proj", "lm_head"]},
        "it adapts lm_head and engines adapt q_p",
    ),
    "no such modules": ({"target_modules": ["query"]}, "PEFT cannot put this adapter on .*not found in the base model"),
    "another rank than its weights": (
        {"r": 5},
        "lora_A.weight has the shape .8, 64. and must have .5, 64.; name its own base",
    ),
    "fewer modules than its weights": (
        {"target_modules": ["q_proj"]},
        "layers.0.self_attn.v_proj.lora_A.weight has no place on",
    ),
    "more modules than its weights": (
        {"target_modules": ["q_proj", "v_proj", "k_proj"]},
        "k_proj.lora_A.weight is missing for",
    ),
}


@pytest.fixture(scope="module")
def plain_adapter(llama, tmp_path_factory):
    return trained(llama, tmp_path_factory.mktemp("plain") / "theirs", target_modules=ATTENTION)


@pytest.fixture
def plain(plain_adapter, tmp_path):
    place = tmp_path / "theirs"
    place.mkdir()
    for file in plain_adapter.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    return place


@pytest.mark.parametrize("kind", SAID)
def test_a_configuration_that_says_something_else_is_refused_in_one_line(kind, plain, llama, tmp_path):
    changes, told = SAID[kind]
    with pytest.raises(DamagedFile, match=told) as refused:
        api.import_adapter(changed(plain, **changes), tmp_path / "ours", base=llama)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "ours").exists()


def test_an_adapter_of_another_base_is_refused(plain, wide, tmp_path):
    with pytest.raises(DamagedFile, match=r"PEFT cannot put this adapter on .*name its own base by --base"):
        api.import_adapter(plain, tmp_path / "ours", base=wide)


@pytest.mark.parametrize("name", ["base_model.model.model.embed_tokens.weight", "base_model.model.lm_head.bias"])
def test_weights_of_the_base_among_those_of_the_adapter_are_refused(name, plain, llama, tmp_path):
    file = plain / "adapter_model.safetensors"
    save_file({**load_file(file), name: torch.ones(300, 64)}, file)
    with pytest.raises(DamagedFile, match=f"it brings {name.removeprefix('base_model.model.')}, which is no factor"):
        api.import_adapter(plain, tmp_path / "ours", base=llama)


def test_trained_biases_of_the_base_are_refused(folders, tmp_path):
    base = folders["qwen2"]
    place = trained(base, tmp_path / "theirs", target_modules=ATTENTION, bias="lora_only")
    with pytest.raises(DamagedFile, match=r"it brings model\.layers\.0\.self_attn\.q_proj\.bias, which is no"):
        api.import_adapter(place, tmp_path / "ours", base=base)


def test_numbers_that_are_not_finite_and_updates_that_are_all_zero_are_refused(plain, llama, tmp_path):
    file = plain / "adapter_model.safetensors"
    state = load_file(file)
    nothing = {name: tensor * (".lora_A." in name) for name, tensor in state.items()}
    save_file(nothing, file)
    with pytest.raises(DamagedFile, match="its updates are all zero"):
        api.import_adapter(plain, tmp_path / "ours", base=llama)
    save_file({name: tensor / 0 for name, tensor in state.items()}, file)
    with pytest.raises(DamagedFile, match="holds numbers that are not finite"):
        api.import_adapter(plain, tmp_path / "ours", base=llama)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda place: (place / "adapter_model.safetensors").unlink(), "holds no weights"),
        (lambda place: (place / "adapter_config.json").unlink(), "holds no adapter_config.json"),
        (lambda place: (place / "adapter_config.json").write_text("{"), "cannot be read"),
        (lambda place: (place / "adapter_model.safetensors").write_bytes(b"\0" * 9), "cannot be read as safetensors"),
        (lambda place: sharded(place, "../adapter_model.safetensors"), "which is no file beside it"),
        (lambda place: sharded(place, "adapter_model-00001.safetensors"), "which is no file beside it"),
    ],
)
def test_a_folder_that_is_no_adapter_is_told_in_one_line(spoil, told, plain, llama, tmp_path):
    spoil(plain)
    with pytest.raises(DamagedFile, match=told):
        api.import_adapter(plain, tmp_path / "ours", base=llama)


def sharded(place, shard):
    (place / "adapter_model.safetensors").unlink()
    (place / "adapter_model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))


# Anything that can be combined.

PATTERNS = ("q_proj", "self_attn.q_proj", r".*\.0\.mlp\..*", r"layers\.1\.self_attn\.[kv]_proj", "down_proj")
OUT_OF_ORDER = {"self_attn.q_proj": 12, "q_proj": 4}  # as PEFT saves them, the other comes first
COMBINATIONS = st.fixed_dictionaries(
    {
        "r": st.integers(1, 24),
        "lora_alpha": st.sampled_from([1, 8, 16, 2.5, 33]),
        "use_rslora": st.booleans(),
        "target_modules": st.one_of(
            st.lists(st.sampled_from(TARGETS), min_size=1, unique=True),
            st.sampled_from(["all-linear", r".*\.1\..*_proj", r"model\.layers\.\d\.mlp\.(up|gate)_proj"]),
        ),
        "exclude_modules": st.sampled_from([None, ["v_proj"], r".*layers\.0\.mlp.*"]),
        "rank_pattern": st.dictionaries(st.sampled_from(PATTERNS), st.integers(1, 40), max_size=3),
        "alpha_pattern": st.dictionaries(st.sampled_from(PATTERNS), st.sampled_from([1, 3, 0.5, 64]), max_size=3),
        "init_lora_weights": st.sampled_from([True, False, "gaussian"]),
    },
    optional={"layers_to_transform": st.sampled_from([0, [1], [0, 1]])},
)


@given(kind=COMBINATIONS, name=st.sampled_from(["llama", "qwen2"]), dtype=st.sampled_from([None, torch.bfloat16]))
@example(kind={"target_modules": ["q_proj"], "rank_pattern": OUT_OF_ORDER}, name="llama", dtype=None)
@settings(max_examples=24, deadline=None, derandomize=True, database=None, phases=(Phase.explicit, Phase.generate))
def test_whatever_is_combined_makes_the_weights_that_peft_makes_of_it(kind, name, dtype, folders):
    if isinstance(kind["target_modules"], str):
        kind.pop("layers_to_transform", None)  # PEFT takes no layers beside an expression
    base = folders[name]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        try:
            trained(base, folder / "theirs", dtype, **kind)
        except ValueError:  # nothing is left to be adapted
            return
        try:
            wanted = weights(base, folder / "theirs")
        except RuntimeError:  # PEFT sorts the patterns as it saves, and then refuses its own folder
            with pytest.raises(DamagedFile, match=r"must have .* correct r and rank_pattern"):
                api.import_adapter(folder / "theirs", folder / "ours", base=base)
            return
        api.import_adapter(folder / "theirs", folder / "ours", base=base)
        assert_makes(wanted, base, folder / "ours", 1e-5)
