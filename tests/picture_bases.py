"""Tiny random bases that read pictures, one of every kind that is known, as configurations."""

from transformers import (
    FastVlmConfig,
    Idefics3Config,
    LlavaConfig,
    LlavaNextConfig,
    Qwen2_5_VLConfig,
    Qwen2VLConfig,
    SmolVLMConfig,
)

TEXT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}
IMAGE_TOKEN = 260  # after the 256 bytes and the special tokens before it
_ROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}}
_TILES = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "image_size": 8, "patch_size": 2}
_PATCHES = {**_TILES, "num_hidden_layers": 2}  # as many layers as the text has, with q_proj, k_proj and v_proj too
_LLAMA = {**TEXT, "model_type": "llama", "tie_word_embeddings": False}
_CLIP = {"text_config": _LLAMA, "vision_config": {**_PATCHES, "model_type": "clip_vision_model"}}
CONVOLUTIONS = {
    "model_type": "efficientnet",
    "width_coefficient": 0.25,
    "depth_coefficient": 0.25,
    "hidden_dim": 320,
    "hidden_size": 320,  # what FastVLM asks for, and EfficientNet calls hidden_dim
    "hidden_act": "relu6",
    "image_size": 64,
}


def configs():
    """A configuration of every kind, by its name. Made anew at every call: loading changes some."""
    seen = {"image_token_id": IMAGE_TOKEN}
    return {
        "qwen2_vl": Qwen2VLConfig(
            text_config={**TEXT, **_ROPE},
            vision_config={"depth": 2, "embed_dim": 16, "num_heads": 2, "hidden_size": 32, "patch_size": 2},
            **seen,
        ),
        "qwen2_5_vl": Qwen2_5_VLConfig(
            text_config={**TEXT, **_ROPE},
            vision_config={
                "depth": 2,
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_heads": 2,
                "out_hidden_size": 32,
                "patch_size": 2,
                "window_size": 8,
            },
            **seen,
        ),
        "idefics3": Idefics3Config(text_config=_LLAMA, vision_config=_PATCHES, scale_factor=2, **seen),
        "smolvlm": SmolVLMConfig(text_config=_LLAMA, vision_config=_PATCHES, scale_factor=2, **seen),
        "llava": LlavaConfig(**_CLIP, **seen),
        "llava_next": LlavaNextConfig(**_CLIP, image_grid_pinpoints=[[8, 8], [8, 16]], **seen),
        "fast_vlm": FastVlmConfig(text_config=_LLAMA, vision_config=CONVOLUTIONS, **seen),
    }
