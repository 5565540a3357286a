"""Tiny random bases that read pictures, one of every kind that is known: as configurations, and on disk with their own
processors."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny import byte_tokenizer
from transformers import (
    AutoModelForImageTextToText,
    CLIPImageProcessorPil,
    FastVlmConfig,
    Idefics3Config,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    LlavaConfig,
    LlavaNextConfig,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2VLConfig,
    Qwen2VLImageProcessorPil,
    Qwen2VLProcessor,
    SmolVLMConfig,
)

from prompt2lora.ground.pictures import Picture, checked

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
    "initializer_range": 0.5,  # else one picture looks like another
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


TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}[<image>]{% else %}{{ part['text'] }}{% endif %}{% endfor %}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def tokenizer(template=TEMPLATE):
    return PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(["</s>", "<pad>", "<|user|>", "<|assistant|>", "<image>"]),
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
        chat_template=template,
    )


class PicturesOfQwen(Qwen2VLProcessor):
    """Without the part for videos, which takes torchvision even where there is none."""

    def check_argument_for_proper_class(self, name, given):
        return None if given is None else super().check_argument_for_proper_class(name, given)


def processor(kind, template=TEMPLATE):
    """The processor of a tiny base, as its kind has it."""
    words = tokenizer(template)
    given = {"tokenizer": words, "chat_template": template}
    if kind in ("qwen2_vl", "qwen2_5_vl"):
        patches = Qwen2VLImageProcessorPil(patch_size=2, merge_size=2, min_pixels=16, max_pixels=256)
        return PicturesOfQwen(image_processor=patches, **given)
    if kind == "idefics3":
        tiles = Idefics3ImageProcessorPil(size={"longest_edge": 16}, max_image_size={"longest_edge": 8})
        return Idefics3Processor(image_processor=tiles, image_seq_len=4, **given)
    side = 64 if kind == "fast_vlm" else 8
    whole = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    if kind == "fast_vlm":
        return LlavaProcessor(whole, patch_size=32, vision_feature_select_strategy="full", **given)
    return LlavaProcessor(
        whole, patch_size=2, vision_feature_select_strategy="default", num_additional_image_tokens=1, **given
    )


def tiny_model(kind):
    torch.manual_seed(0)
    return AutoModelForImageTextToText.from_config(configs()[kind]).eval().requires_grad_(False)


def write_picture_base(folder: Path, kind: str) -> str:
    tiny_model(kind).save_pretrained(folder)
    processor(kind).save_pretrained(folder)
    return str(folder)


def picture_bytes(seed: int, width: int = 12, height: int = 10, form: str = "PNG") -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, form)
    return out.getvalue()


def picture(seed: int) -> Picture:
    return checked(picture_bytes(seed), f"{seed}.png")
