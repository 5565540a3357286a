"""A base computed in float32 whose linear maps lie in 16 bits, packed for the processor: half the memory to read.

In: a frozen base on a CPU. Out: the same base, its linear maps replaced where 16 bits hold their weights as they are,
as weights published in float16 or bfloat16 are. Products and sums stay in float32. It knows no adapters.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

_LOST = 2.0**-25  # most that a number below float16's normal range moves by: less than float32 rounds a product to


class HalfLinear(nn.Module):
    """What `linear` gives."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.packed = torch.ops.quantized.linear_prepack_fp16(linear.weight.detach(), linear.bias)

    def forward(self, given: Float[Tensor, "*rows in"]) -> Float[Tensor, "*rows out"]:
        result: Tensor = torch.ops.quantized.linear_dynamic_fp16(given, self.packed)
        return result


def halved(model: nn.Module) -> nn.Module:
    """The model with its linear maps in 16 bits, where this processor has the kernels and they lose nothing."""
    if "fbgemm" in torch.backends.quantized.supported_engines:
        for parent in list(model.modules()):
            for name, module in parent.named_children():
                if type(module) is nn.Linear and _fits(module.weight):
                    setattr(parent, name, HalfLinear(module))
    return model


def _fits(weight: Float[Tensor, "out in"]) -> bool:
    """Whether float16 holds these float32 weights."""
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
    return on_cpu and bool(((weight.half().float() - weight).abs() <= _LOST).all())
