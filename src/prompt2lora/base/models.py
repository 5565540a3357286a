"""Base models and text encoders by name: a local folder, a model that an installed package ships, or a hub id.

In: a name. Out: a folder that `transformers` loads offline, or the hub id itself; what is loaded from it. It knows no
LoRA and no prompts.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from prompt2lora.base.packaged import MINILM, SMOLLM2, packaged_folder, remedy
from prompt2lora.errors import DamagedFile, ModelNotFound, UsageError
from prompt2lora.ground.profile import PICTURE_BASES

DEFAULT_BASE, DEFAULT_ENCODER = SMOLLM2, MINILM

_DTYPES = ("float32", "bfloat16")
_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
# What transformers raises at folders that hold no model, half of one, or one that it does not know.
_UNLOADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError)
# What the processors of some kinds of base need beside transformers, for videos that nobody asks about here.
_LIBRARIES = {"qwen2_vl": ["torchvision"], "qwen2_5_vl": ["torchvision"], "smolvlm": ["torchvision", "num2words"]}


def locate(name: str) -> str:
    """A local folder for `name` if there is one, else the name itself for the hub.

    Raises ModelNotFound for what is neither a model folder nor owner/name.
    """
    if Path(name).is_dir():
        if not (Path(name) / "config.json").is_file():
            raise ModelNotFound(f"a model folder must contain config.json, and {name} does not; name another folder")
        return name
    if Path(name).exists() or not _HUB_ID.fullmatch(name):
        raise ModelNotFound(f"a model is a local folder or a hub id owner/name; {name!r} is neither: name one that is")
    return str(packaged_folder(name) or name)


def load_config(name: str) -> Any:
    """The `transformers` configuration of a model; reads no weights."""
    from transformers import AutoConfig

    return _load(AutoConfig, name)


def load_generation_config(name: str) -> Any:
    """A model's settings for answers; those of its configuration where it has no others."""
    from transformers import GenerationConfig

    try:
        return _load(GenerationConfig, name)
    except ModelNotFound:
        return GenerationConfig.from_model_config(load_config(name))


def load_base(name: str, *, dtype: Any = None, device: str | None = None, training: bool = False) -> tuple[Any, Any]:
    """(model, tokenizer), frozen, in evaluation mode; for dtype see `default_dtype`.

    `training` chooses what makes gradients fastest: on a CPU plain attention, for the backward pass of the
    fused one takes a quarter of a step on short sequences.
    """
    from prompt2lora.adapter.hooks import frozen
    from prompt2lora.adapter.layout import factory
    from prompt2lora.base.pictures import PictureReader

    device = device or default_device()
    attention = {"attn_implementation": "eager"} if training and device == "cpu" else {}
    options = {"dtype": dtype or default_dtype(device), **attention}
    kind = load_config(name).model_type
    model, found = _load(factory(kind), name, output_loading_info=True, **options)
    if found["missing_keys"]:  # transformers makes them up
        raise DamagedFile(
            f"the weights of {name} lack {len(found['missing_keys'])} that its config.json asks for, such as "
            f"{min(found['missing_keys'])}: fetch the model again"
        )
    model = _with_quick_head(frozen(model).to(device))
    if kind in PICTURE_BASES:
        processor = load_processor(name, kind)
        PictureReader(model, processor)
        return model, processor.tokenizer
    return model, load_tokenizer(name)


def _with_quick_head(model: Any) -> Any:
    """The model, whose output layer reads the last places of a batch as a matrix of their own.

    torch 2.13 multiplies a slice of hidden states by a frozen matrix sequence by sequence, and in bfloat16 copies the
    matrix for each of them (findings/torch-frozen-head-of-a-slice.sh): 60 s for 64 sequences instead of 0.1.
    """
    if head := model.get_output_embeddings():
        head.register_forward_pre_hook(lambda _, given: (given[0].contiguous(), *given[1:]))
    return model


def reads_pictures(name: str) -> bool:
    """Whether a base reads pictures beside text. Raises ModelNotFound."""
    return load_config(name).model_type in PICTURE_BASES


def load_tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    return _load(AutoTokenizer, name)


def load_processor(name: str, kind: str) -> Any:
    """What makes a base's input of pictures and text. Raises ModelNotFound, also where a library for it is missing."""
    from transformers import AutoProcessor

    missing = [library for library in _LIBRARIES.get(kind, ()) if find_spec(library) is None]
    if missing:
        raise ModelNotFound(f"the processor of {name} needs {' and '.join(missing)}; pip install {' '.join(missing)}")
    return _load(AutoProcessor, name)


def load_encoder(name: str) -> tuple[Any, Any]:
    """(model, tokenizer) of a text encoder, frozen, in evaluation mode, float32."""
    import torch
    from transformers import AutoModel

    from prompt2lora.adapter.hooks import frozen

    return frozen(_load(AutoModel, name, dtype=torch.float32)), load_tokenizer(name)


def context_length(config: Any) -> int:
    """Most tokens that a base of this configuration reads, prompt and answer together."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", None) or sys.maxsize)


def check_room(config: Any, prompts: Sequence[Sequence[int]]) -> None:
    """Raises UsageError for prompts (token ids) that leave a base of this configuration no token to answer with."""
    longest, most = max(map(len, prompts), default=0), context_length(config)
    if longest >= most:
        raise UsageError(
            f"the base reads {most} tokens, prompt and answer together, and a prompt has {longest}; shorten it"
        )


def default_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def moved(tensor: Any, device: Any) -> Any:
    """A tensor on another device; to CUDA from pinned memory, so that nobody waits for the copy."""
    import torch

    if torch.device(device).type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@cache
def default_dtype(device: str) -> Any:
    """bfloat16, but on a CPU only if it is clearly the faster one there: it may also be much slower (decision 8)."""
    import torch

    if device != "cpu" or product_seconds(torch.float32) > 1.3 * product_seconds(torch.bfloat16):
        return torch.bfloat16
    return torch.float32


def dtype_named(name: str) -> Any:
    """A dtype that bases are computed in. Raises UsageError for another name."""
    import torch

    if name not in _DTYPES:
        raise UsageError(f"a base is computed in {' or '.join(_DTYPES)}; {name!r} is neither: name one that is")
    return getattr(torch, name)


def product_seconds(dtype: Any) -> float:
    """Seconds of a matrix product of the size that a small base has, on the CPU; the best of eight."""
    import torch

    inputs, weight = torch.ones(128, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)
    found = []
    for _ in range(8):
        began = time.perf_counter()
        torch.nn.functional.linear(inputs, weight)
        found.append(time.perf_counter() - began)
    return min(found)


def _load(factory: Any, name: str, **options: Any) -> Any:
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    place = locate(name)
    try:
        if not Path(place).is_dir():
            _reach(place)
        return factory.from_pretrained(place, **options)
    except SafetensorError as error:
        raise DamagedFile(f"the weights of {name} are damaged ({error}): fetch them again") from error
    except _UNLOADABLE as error:
        if Path(place).is_dir():
            said = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise ModelNotFound(f"the folder {name} holds no model that loads ({said}): name another one") from error
        raise ModelNotFound(f"the model {name!r} is neither on this machine nor reachable: {remedy(name)}") from error


def _reach(name: str) -> None:
    """Raises OSError for a hub id that is neither cached nor reachable, at once: of a file that is not cached the hub's
    client asks six times, half a minute long, with a line of log for each."""
    from huggingface_hub import snapshot_download, try_to_load_from_cache

    if try_to_load_from_cache(name, "config.json") is None:
        snapshot_download(name, allow_patterns=["config.json"])
