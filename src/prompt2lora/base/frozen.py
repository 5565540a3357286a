"""A frozen base model, its chat format and the layout of its adapters: what most of the mathematics works on."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base import models
from prompt2lora.base.chat import ChatFormat
from prompt2lora.errors import LayoutError


class Frozen(NamedTuple):
    """A frozen base, how it is asked, and the layout of its adapters."""

    model: Any
    chat: ChatFormat
    layout: LoraLayout

    @classmethod
    def load(cls, layout: LoraLayout, *, dtype: torch.dtype | None = None, training: bool = False) -> Frozen:
        """The base that the layout names; see `models.load_base`.

        Raises LayoutError if it changes what its output layer says, as Gemma 2 (caps), Granite and Cohere (scales) do:
        whatever is trained or scored is asked of that layer alone.
        """
        model, tokenizer = models.load_base(layout.base_model, dtype=dtype, training=training)
        if not _says_what_its_output_layer_says(model):
            raise LayoutError(
                f"{layout.base_model} scales or caps its logits, which is not supported; name another base"
            )
        return cls(model, ChatFormat.of(model, tokenizer), layout)


@torch.no_grad()
def _says_what_its_output_layer_says(model: Any) -> bool:
    ids = torch.arange(1, 5, device=model.device)[None]
    ours = model.get_output_embeddings()(model.get_decoder()(input_ids=ids).last_hidden_state)
    return torch.allclose(model(input_ids=ids).logits.float(), ours.float(), rtol=1e-2, atol=1e-2)
