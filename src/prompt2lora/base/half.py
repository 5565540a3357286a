"""A base whose linear maps lie in 16 bits, laid out for the processor once and not at every call.

In: a frozen base on a CPU. Out: the same base with its linear maps replaced. Of a base in float32, where 16 bits hold
its weights as they are, as weights published in float16 or bfloat16 are: half the memory to read, products and sums in
float32. Of a base in bfloat16: what torch's own map gives, which lays its weights out anew at every call (docs/log.md,
30 November 2026). It knows no adapters.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

_LOST = 2.0**-25  # most that a number below float16's normal range moves by: less than float32 rounds a product to


class HalfLinear(nn.Module):
    """What a `linear` in float32 gives."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.packed = torch.ops.quantized.linear_prepack_fp16(linear.weight.detach(), linear.bias)

    def forward(self, given: Float[Tensor, "*rows in"]) -> Float[Tensor, "*rows out"]:
        result: Tensor = torch.ops.quantized.linear_dynamic_fp16(given, self.packed)
        return result


class LaidOutLinear(nn.Module):
    """What a `linear` in bfloat16 gives. The two operators are those that torch's own compiler puts in its place."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight: Any = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self.bias = linear.bias

    def forward(self, given: Float[Tensor, "*rows in"]) -> Float[Tensor, "*rows out"]:
        result: Tensor = torch.ops.mkldnn._linear_pointwise(given, self.weight, self.bias, "none", [], "")
        return result


def halved(model: nn.Module) -> nn.Module:
    """The model with its linear maps in 16 bits, where this processor has the kernels and they lose nothing."""
    for parent in list(model.modules()):
        for name, module in parent.named_children():
            if type(module) is nn.Linear and module.weight.device.type == "cpu" and (made := _made(module)):
                setattr(parent, name, made)
    return model


def _made(linear: nn.Linear) -> nn.Module | None:
    if linear.weight.dtype == torch.bfloat16:
        return LaidOutLinear(linear) if _lays_out() else None
    return HalfLinear(linear) if _has_kernels() and _fits(linear.weight) else None


def _lays_out() -> bool:
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(supported and supported())


def _has_kernels() -> bool:
    return "fbgemm" in torch.backends.quantized.supported_engines


def _fits(weight: Float[Tensor, "out in"]) -> bool:
    """Whether float16 holds these float32 weights."""
    return weight.dtype == torch.float32 and bool(((weight.half().float() - weight).abs() <= _LOST).all())
