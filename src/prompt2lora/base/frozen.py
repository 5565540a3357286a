"""A frozen base model, its chat format and the layout of its adapters: what most of the mathematics works on."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base import models
from prompt2lora.base.chat import ChatFormat


class Frozen(NamedTuple):
    """A frozen base, how it is asked, and the layout of its adapters."""

    model: Any
    chat: ChatFormat
    layout: LoraLayout

    @classmethod
    def load(cls, layout: LoraLayout, *, dtype: torch.dtype | None = None, training: bool = False) -> Frozen:
        """The base that the layout names; see `models.load_base`."""
        model, tokenizer = models.load_base(layout.base_model, dtype=dtype, training=training)
        return cls(model, ChatFormat.of(model, tokenizer), layout)
