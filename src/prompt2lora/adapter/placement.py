"""An adapter made elsewhere, brought into the adapter profile: the same new weights as PEFT makes of its folder.

In: what `foreign.py` read, and the configuration of the base. Out: an Adapter of one rank, one strength and explicit
targets, or a refusal in one line. Which modules are adapted, at what rank and how strongly is PEFT's own answer, on a
base without weights: patterns, layers, regular expressions and the order of all these are never interpreted here.
"""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from prompt2lora.adapter.foreign import PREFIX, Foreign
from prompt2lora.adapter.grid import encode, singular, weight_name
from prompt2lora.adapter.layout import LoraLayout, skeleton
from prompt2lora.adapter.peft import Adapter, check_class, lossless
from prompt2lora.adapter.settings import MOST_ALPHA
from prompt2lora.errors import DamagedFile, LayoutError
from prompt2lora.ground.profile import RANKS, TARGETS

_ADAPTER = "default"
_ROUNDING = 1e-6  # share of an update's norm that may be lost in what is called the same
_UNPLACEABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, re.error)


class WeightUpdate(NamedTuple):
    """What is added to one weight: scale * B A."""

    a: Float[Tensor, "rank in"]
    b: Float[Tensor, "out rank"]
    scale: float


class Placed(NamedTuple):
    """An adapter within the profile, how its numbers are kept without loss, and what was lost of its update's norm.

    ranks  how many modules have which rank in the folder
    """

    adapter: Adapter
    dtype: torch.dtype
    lost: float
    ranks: Mapping[int, int]


def place(foreign: Foreign, config: Any, base: str, *, approximate: bool = False) -> Placed:
    """Bring an adapter into the profile, for the base with this transformers configuration and name.

    With `approximate` an update whose rank is too high is replaced by the nearest one whose rank is not.
    Raises DamagedFile, LayoutError.
    """
    check_class(f"the adapter for {foreign.base or base}", foreign.base_class or None, config)
    found = updates(foreign, config, base)
    ranks = Counter(len(update.a) for update in found.values())
    highest = max(RANKS)
    size = left_out = 0.0
    for path, update in found.items():
        norm = _norm(update)
        size += norm**2
        if len(update.a) > highest:
            found[path], lost = _nearest(update, highest)
            left_out += lost**2
            if lost > _ROUNDING * norm and not approximate:
                raise LayoutError(
                    f"engines take the ranks {', '.join(map(str, RANKS))} and {path} needs {_rank(update)}; with "
                    f"--approximate the {highest} largest directions of every module are kept"
                )
    adapter = _adapter(foreign, config, base, found)
    if not adapter.changes_something:
        raise DamagedFile("the adapter answers as the base: its updates are all zero; take a later checkpoint")
    return Placed(adapter, lossless(adapter.grid), math.sqrt(left_out / size) if size else 0.0, dict(ranks))


def updates(foreign: Foreign, config: Any, base: str) -> dict[str, WeightUpdate]:
    """By module path what PEFT would add to the weights of the base. Raises DamagedFile."""
    from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
    from peft.tuners.lora import LoraLayer

    _check_names(foreign.state, config)
    with warnings.catch_warnings():  # what PEFT warns of is told by an error below, or means nothing here
        warnings.simplefilter("ignore")
        try:
            settings = LoraConfig(**foreign.settings, task_type="CAUSAL_LM", init_lora_weights=False)
            model = get_peft_model(_hollow(config), settings)
            modules = {name: one for name, one in model.get_base_model().named_modules() if isinstance(one, LoraLayer)}
            _check_modules(modules, config, base)
            told = set_peft_model_state_dict(model, foreign.state)
        except _UNPLACEABLE as error:
            raise DamagedFile(f"PEFT cannot put this adapter on {base}: {_reason(error)}") from error
    missing = [name for name in told.missing_keys if ".lora_" in name]
    wrong = sorted(told.unexpected_keys) or sorted(missing)
    if wrong:
        what = "has no place on" if told.unexpected_keys else "is missing for"
        name = _told(wrong[0])
        raise DamagedFile(
            f"{name} {what} {base}, so PEFT would pass over a part of the adapter; name its own base by --base, or "
            "save it again"
        )
    return {
        name: WeightUpdate(
            module.lora_A[_ADAPTER].weight.detach(),
            module.lora_B[_ADAPTER].weight.detach(),
            float(module.scaling[_ADAPTER]),
        )
        for name, module in modules.items()
    }


def _reason(error: Exception) -> str:
    """The first thing that PEFT has against an adapter, and what to do about it."""
    said = " ".join(str(error).split())
    mismatch = re.search(r"size mismatch for (\S+): .*?shape torch.Size\((.*?)\).*?model is torch.Size\((.*?)\)", said)
    if mismatch is None:
        return f"{said[:300].rstrip('.')}; name its own base by --base, or correct its configuration"
    name, given, wanted = mismatch.groups()
    return (
        f"{_told(name)} has the shape {given} and must have {wanted}; name its own base by --base, or correct r and "
        "rank_pattern (of its keys the first that matches counts)"
    )


def _told(name: str) -> str:
    """A tensor's name without what PEFT puts around it."""
    return name.removeprefix(PREFIX).replace(f".{_ADAPTER}.", ".")


def _hollow(config: Any) -> nn.Module:
    """The base without its weights: every one has its shape, and the memory of a single number."""
    model: nn.Module = skeleton(config)
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            hollow = torch.zeros(()).expand(parameter.shape)
            setattr(module, name, nn.Parameter(hollow, requires_grad=False))
    return model


def _check_names(state: Mapping[str, Tensor], config: Any) -> None:
    """Beside the factors of linear modules there is nothing, such as biases or words of the vocabulary."""
    for name in sorted(state):
        if not re.fullmatch(r".+\.lora_[AB](\.\w+)?\.weight", name):
            told = name.removeprefix(PREFIX).replace(".base_layer.", ".")
            raise DamagedFile(
                f"it brings {told}, which is no factor of a linear module and fits into no plain LoRA; "
                f"{_instead(told, config)} without"
            )


def _check_modules(modules: Mapping[str, Any], config: Any, base: str) -> None:
    """Every adapted module is one that engines adapt."""
    targets = _targets(modules)
    layout = LoraLayout.from_config(config, base_model=base, targets=targets) if targets else None
    ours = {path for _, _, path in layout.module_paths()} if layout else set()
    for path in modules:
        if path not in ours:
            raise DamagedFile(
                f"it adapts {path} and engines adapt {', '.join(TARGETS)} of a language model; "
                f"{_instead(path, config)} with these targets"
            )


def _targets(paths: Iterable[str]) -> list[str]:
    """Those that adapted modules belong to."""
    names = {path.rsplit(".", 1)[-1] for path in paths}
    return [name for name in TARGETS if name in names]


def _instead(path: str, config: Any) -> str:
    """What to do with a part of no plain LoRA. PEFT changes a matrix that is both embeddings for the one end that was
    adapted, or twice for both (findings/peft-tied-adapter-merged-twice.sh).
    """
    if config.get_text_config().tie_word_embeddings and re.search(r"(^|\.)(embed_tokens|lm_head)(\.|$)", path):
        return "PEFT cannot merge it either, since both embeddings of this base are one matrix; train"
    return "merge it into its base, or train"


def _adapter(foreign: Foreign, config: Any, base: str, found: Mapping[str, WeightUpdate]) -> Adapter:
    """One rank and one strength for all: zeros fill up, and strengths that differ go into B."""
    rank = next(one for one in RANKS if one >= max(len(update.a) for update in found.values()))
    scales = {update.scale for update in found.values()}
    alpha = next(iter(scales)) * rank
    plain = len(scales) == 1 and alpha == int(alpha) and 1 <= alpha <= MOST_ALPHA
    layout = LoraLayout.from_config(
        config,
        base_model=base,
        rank=rank,
        alpha=int(alpha) if plain else rank,
        targets=_targets(found),
    )
    state = {}
    for _, target, path in layout.module_paths():
        a, b = torch.zeros(rank, target.in_features), torch.zeros(target.out_features, rank)
        if path in found:
            update = found[path]
            a[: len(update.a)] = update.a
            b[:, : len(update.a)] = update.b if plain else update.b.double() * update.scale
        state[weight_name(path, "A")], state[weight_name(path, "B")] = a, b
    return Adapter(layout, encode(state, layout), {**foreign.origin, "imported": foreign.digest})


def _nearest(update: WeightUpdate, rank: int) -> tuple[WeightUpdate, float]:
    """The nearest update of a lower rank, and the norm of the difference."""
    left, values, right = singular(update.a.double(), update.b.double().T)
    root = values[:rank].sqrt()
    a, b = root[:, None] * right[:rank], left[:, :rank] * root
    return WeightUpdate(a.float(), b.float(), update.scale), abs(update.scale) * float(values[rank:].norm())


def _norm(update: WeightUpdate) -> float:
    inner = (update.a.double() @ update.a.double().T) * (update.b.double().T @ update.b.double())
    return abs(update.scale) * math.sqrt(max(0.0, float(inner.sum())))


def _rank(update: WeightUpdate) -> int:
    """The rank below which more than rounding would be lost."""
    _, values, _ = singular(update.a.double(), update.b.double().T)
    tails = values.square().flip(0).cumsum(0).flip(0).sqrt()
    return int((tails > _ROUNDING * tails[0]).sum())
