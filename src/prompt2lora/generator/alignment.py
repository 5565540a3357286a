"""What an instruction does, put into the weights: no labels, no gradient, one least-squares problem a layer.

In: a base, an adapter, prompts with one instruction. Out: the adapter with other output projections of the attention,
by which the base does to the inputs alone what it does to the whole prompts. Tokens hear of an instruction through
attention and nothing else, so what it adds to a token is a change of the attention's output: layer after layer, a ridge
regression finds the update with which the output without the instruction is that with it, and with the instruction
stays as it was. The goal is that of context distillation (Askell et al. 2021, arXiv 2112.00861; Snell et al. 2022,
arXiv 2209.15189), the means those of editing by least squares (MEMIT, Meng et al. 2023, arXiv 2210.07229).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from prompt2lora.adapter.grid import factors
from prompt2lora.adapter.hooks import adapted
from prompt2lora.adapter.layout import LoraLayout, Target
from prompt2lora.base.decoding import greedy
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.packing import SHARED, UNLIMITED, Pack, pack_examples, stack
from prompt2lora.generator.hidden_states import prompt_ids
from prompt2lora.ground.prompts import instruction_of, split

_OUTPUT = "o_proj"
_TINY = 1e-12
_END = 0  # stands for what follows an answer; nobody looks at it


@dataclass(frozen=True)
class AlignmentOptions:
    """prompts         how many of the prompts are read
    budget          tokens that they may have together
    max_new_tokens  tokens of its own answers to them that are read, too
    answers         weight of the places of an answer; other places have 1
    ridge           penalty, as a share of the mean square of what the projections get
    """

    prompts: int = 8
    budget: int = 256
    max_new_tokens: int = 16
    answers: float = 4.0
    ridge: float = 0.1


def instruction_to_align(layout: LoraLayout, prompts: Sequence[str]) -> str:
    """The instruction that can be put into the weights; empty if the prompts share none or the layout has no place."""
    return instruction_of(prompts) if any(target.name == _OUTPUT for target in layout.targets) else ""


@torch.no_grad()
def aligned(
    base: Frozen,
    grid: Float[Tensor, "layers rows cols"],
    prompts: Sequence[str],
    options: AlignmentOptions = AlignmentOptions(),
) -> Float[Tensor, "layers rows cols"]:
    """A new grid; the given one is left alone. The order of the prompts changes nothing."""
    model, chat, layout = base
    prompts = sorted(prompts, key=lambda text: hashlib.sha256(text.encode()).digest())[: options.prompts]
    told, untold = prompt_ids(chat, prompts), prompt_ids(chat, [split(prompt)[1] for prompt in prompts])
    used = pack_examples(told, [[0]] * len(told), options.budget).used
    told, untold = [told[i] for i in used], [untold[i] for i in used]
    made = grid.to(model.device).clone()
    with adapted(model, made[None], layout):
        own = greedy(model, told, chat, options.max_new_tokens)
        whole, inner = (pack_examples(ids, [[*answer, _END] for answer in own], UNLIMITED) for ids in (told, untold))
        align(base, made, [whole], inner, answers=options.answers, ridge=options.ridge)
    return made.cpu()


def align(
    base: Frozen,
    grid: Float[Tensor, "layers rows cols"],
    wholes: Sequence[Pack],
    inner: Pack,
    *,
    answers: float,
    ridge: float,
) -> None:
    """Write new output projections into the grid (which is in place), each found with those before it.

    One pass over packs: the whole prompts, which show what to reach and are left as they were; the inputs alone, all of
    them in one pack and in the same order, which every update moves on. What a projection gets of whole prompts it must
    also answer as before. `answers` and `ridge` as in `AlignmentOptions`.
    """
    model, chat, layout = base
    batch = stack([*wholes, inner], chat.padding).to(model.device)
    sequence, there, here = (places.to(model.device) for places in _same_places(wholes, inner))
    held = _real(wholes, batch.ids.shape[1]).to(model.device)
    answering = torch.isin(here, torch.tensor(inner.predict, device=model.device))
    weight = torch.cat([torch.ones(int(held.sum()), device=model.device), torch.where(answering, answers, 1.0)])
    root = weight.sqrt()[:, None]
    old = factors(grid[None].clone(), layout)

    def correct(layer: int, target: Target, path: str) -> Any:
        before = Update(old[path].a[0].T.float(), old[path].b[0].float() * layout.scale)

        def hook(
            _module: Any, inputs: tuple[Tensor, ...], output: Float[Tensor, "packs length out"]
        ) -> Float[Tensor, "packs length out"]:
            given, reached = inputs[0].float(), output.float()
            x = torch.cat([given[:-1][held], given[-1, here]]) * root
            missing = reached[sequence, there] - reached[-1, here]
            missing = torch.cat([missing.new_zeros(len(x) - len(missing), missing.shape[1]), missing]) * root
            after = _corrected(before, x, missing, ridge)
            for block in layout.blocks:
                if block.target == target:
                    side = after.down.T if block.side == "A" else after.up / layout.scale
                    grid[layer, block.start : block.stop] = side.reshape(-1, layout.cols)
            change = after(given[-1:]) - before(given[-1:])
            return torch.cat([output[:-1], output[-1:] + change.to(output.dtype)])

        return hook

    handles = [
        model.get_submodule(path).register_forward_hook(correct(layer, target, path))
        for layer, target, path in layout.module_paths()
        if target.name == _OUTPUT
    ]
    try:
        model.get_decoder()(**batch.inputs(model))
    finally:
        for handle in handles:
            handle.remove()


class Update(NamedTuple):
    """What a LoRA adds to a linear map, scale included: x -> x @ down @ up."""

    down: Float[Tensor, "in rank"]
    up: Float[Tensor, "rank out"]

    def __call__(self, x: Float[Tensor, "*places in"]) -> Float[Tensor, "*places out"]:
        return x @ self.down @ self.up


def _corrected(
    before: Update, x: Float[Tensor, "places in"], missing: Float[Tensor, "places out"], penalty: float
) -> Update:
    """The update that adds to x what is missing besides what it added before, of the same rank and evenly factored.

    Ridge regression of what is missing, with `penalty` times the mean square of a row of x for a large correction; then
    the update of the rank that comes nearest to the sum on x (reduced-rank regression, Izenman 1975). Both in terms of
    the places, which are fewer than the numbers of a matrix.
    """
    products = x @ x.T
    penalty *= float(products.diagonal().mean().clamp_min(_TINY))
    products.diagonal().add_(penalty)
    dual = torch.cholesky_solve(missing, torch.linalg.cholesky(products))
    fitted = before(x) + missing - penalty * dual  # x @ (before + x.T @ dual)
    rank = len(before.up)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        _, _, axes = torch.svd_lowrank(fitted, q=2 * rank, niter=3)
    axes = axes[:, :rank]
    left, values, right = torch.linalg.svd(before.down @ (before.up @ axes) + x.T @ (dual @ axes), full_matrices=False)
    size = values.sqrt()
    return Update(left * size, size[:, None] * (right @ axes.T))


def _real(packs: Sequence[Pack], length: int) -> Bool[Tensor, "packs length"]:
    """Which places of packs padded to one length hold a token."""
    return torch.arange(length) < torch.tensor([len(pack.ids) for pack in packs])[:, None]


def _same_places(
    wholes: Sequence[Pack], inner: Pack
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    """Places of the same token (number of the whole pack, place there, place in `inner`): what every prompt's two
    versions end with alike."""
    pairs: dict[tuple[int, int, int], None] = {}
    known = 0
    for sequence, whole in enumerate(wholes):
        for number in range(len(whole.used)):
            ends = _tokens_of(whole, number)[::-1], _tokens_of(inner, known + number)[::-1]
            for there, here in zip(*ends, strict=False):
                if whole.ids[there] != inner.ids[here]:
                    break
                pairs[sequence, there, here] = None
        known += len(whole.used)
    sequences, there, here = torch.tensor(list(pairs)).T
    return sequences, there, here


def _tokens_of(pack: Pack, number: int) -> list[int]:
    """Places of a prompt's tokens and of its answer's, those included that all share."""
    return [at for at, owner in enumerate(pack.token_example) if owner in (number, SHARED)]
