import pytest
from transformers import (
    FalconH1Config,
    Gemma3Config,
    Gemma3TextConfig,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen2MoeConfig,
    Qwen3_5TextConfig,
    Qwen3MoeConfig,
)

from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.errors import LayoutError
from prompt2lora.ground.profile import TARGETS

SMALL = {"hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3, "vocab_size": 99}
ATTENTION = ["q_proj", "v_proj"]
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
FAMILIES = {
    "llama": LlamaConfig(**SMALL, **HEADS),
    "qwen2": Qwen2Config(**SMALL, **HEADS),
    "mistral": MistralConfig(**SMALL, **HEADS, head_dim=16),
    "gemma3": Gemma3TextConfig(**SMALL, **HEADS, head_dim=32),
}


def published(kind, hidden, intermediate, layers, heads, kv_heads):
    return kind(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=1000,
    )


def by_hand(hidden, intermediate, layers, heads, kv_heads, rank):
    kv = hidden // heads * kv_heads
    pairs = [(hidden, hidden), (hidden, kv), (hidden, kv), (hidden, hidden)] + 3 * [(hidden, intermediate)]
    return layers * rank * sum(a + b for a, b in pairs)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_gives_all_seven_targets_with_grouped_query_attention(family):
    layout = LoraLayout.from_config(FAMILIES[family], base_model=family)
    shapes = {target.name: (target.in_features, target.out_features) for target in layout.targets}
    head = 32 if family == "gemma3" else 16
    assert set(shapes) == set(TARGETS)
    assert shapes["q_proj"] == (64, 4 * head)
    assert shapes["k_proj"] == shapes["v_proj"] == (64, 2 * head)
    assert shapes["o_proj"] == (4 * head, 64)
    assert shapes["down_proj"] == (160, 64)
    assert layout.layers == 3
    assert layout.parameters == 3 * 8 * sum(a + b for a, b in shapes.values())


SIZES = {
    "SmolLM2-135M": (LlamaConfig, 576, 1536, 30, 9, 3),
    "Qwen2.5-0.5B": (Qwen2Config, 896, 4864, 24, 14, 2),
    "Qwen2.5-1.5B": (Qwen2Config, 1536, 8960, 28, 12, 2),
    "Qwen2.5-7B": (Qwen2Config, 3584, 18944, 28, 28, 4),
    "Llama-3-70B": (LlamaConfig, 8192, 28672, 80, 64, 8),
}


@pytest.mark.parametrize("name", SIZES)
def test_published_configurations_are_counted_without_their_weights(name):
    kind, *sizes = SIZES[name]
    layout = LoraLayout.from_config(published(kind, *sizes), base_model=name)
    assert layout.parameters == by_hand(*sizes, rank=8)
    if name == "SmolLM2-135M":
        assert layout.parameters == 2_442_240
        assert layout.shape == (30, 424, 192)


@pytest.mark.parametrize("rank", [1, 8, 64])
@pytest.mark.parametrize("targets", [("q_proj",), ("v_proj", "down_proj"), TARGETS])
def test_any_rank_and_any_subset_of_targets_has_a_layout(rank, targets):
    layout = LoraLayout.from_config(FAMILIES["llama"], base_model="x", rank=rank, targets=targets)
    assert {target.name for target in layout.targets} == set(targets)
    assert layout.scale == 2
    assert len(layout.vectors) == layout.shape[1]
    assert set(layout.vectors) == set(range(2 * rank * len(targets)))


def test_a_width_that_does_not_divide_is_refused_with_one_that_would_fit():
    config = LlamaConfig(**{**SMALL, "hidden_size": 72}, **HEADS)
    with pytest.raises(LayoutError, match="q_proj: in_features 72 is not a multiple of token width 64; 8 would fit"):
        LoraLayout.from_config(config, base_model="x", cols=64)


def test_an_unknown_target_is_refused_by_name():
    with pytest.raises(LayoutError, match="lm_head"):
        LoraLayout.from_config(FAMILIES["llama"], base_model="x", targets=["lm_head"])


def test_a_layout_comes_back_from_its_dictionary_and_its_digest_ignores_the_name():
    layout = LoraLayout.from_config(FAMILIES["qwen2"], base_model="one")
    other = LoraLayout.from_config(FAMILIES["qwen2"], base_model="two")
    assert LoraLayout.from_dict(layout.to_dict()) == layout
    assert layout.digest == other.digest
    assert layout.digest != LoraLayout.from_config(FAMILIES["llama"], base_model="one", rank=16).digest


def test_a_base_that_sees_pictures_is_refused_when_it_is_named():
    pictures = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    config = Gemma3Config(
        text_config={**SMALL, **HEADS, "head_dim": 32}, vision_config={**pictures, "image_size": 16, "patch_size": 8}
    )
    with pytest.raises(LayoutError, match="name one that reads text alone"):
        LoraLayout.from_config(config, base_model="x")


HYBRID = {
    "qwen3.5": (Qwen3_5TextConfig(**{**SMALL, "num_hidden_layers": 4}, **HEADS), "linear_attention"),
    "falcon-h1": (FalconH1Config(**SMALL, **HEADS), "hybrid"),
    "lfm2": (Lfm2Config(**SMALL, **HEADS, layer_types=["conv", "full_attention", "conv"]), "conv"),
}


@pytest.mark.parametrize("base", HYBRID)
@pytest.mark.parametrize("targets", [ATTENTION, ["gate_proj"]])
def test_a_base_whose_layers_do_not_all_have_plain_attention_is_refused_whatever_the_targets(base, targets):
    config, kind = HYBRID[base]
    with pytest.raises(LayoutError, match=f"and the base has {kind}; name another base"):
        LoraLayout.from_config(config, base_model="x", targets=targets)


def test_of_a_base_with_experts_only_the_attention_is_adapted():
    config = Qwen2MoeConfig(
        **SMALL, **HEADS, num_experts=2, moe_intermediate_size=32, shared_expert_intermediate_size=32
    )
    assert LoraLayout.from_config(config, base_model="x", targets=ATTENTION).layers == 3
    with pytest.raises(LayoutError, match=r"experts \(model.layers.0.mlp.shared_expert.* cannot be adapted"):
        LoraLayout.from_config(config, base_model="x")


def test_a_base_that_has_a_target_in_some_layers_alone_is_refused():
    config = Qwen3MoeConfig(**SMALL, **HEADS, num_experts=2, moe_intermediate_size=32, mlp_only_layers=[1])
    with pytest.raises(LayoutError, match="layers must be alike and 1 of 3 have"):
        LoraLayout.from_config(config, base_model="x", targets=["gate_proj"])
