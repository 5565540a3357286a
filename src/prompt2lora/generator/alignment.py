"""What an instruction does, put into the weights: no labels, no gradient, one least-squares problem a layer.

In: a base, an adapter, prompts with one instruction, and what a teacher (an adapter that is told it) does with them.
Out: the adapter with other output projections of the attention, by which the base does to the inputs alone what the
teacher does to the whole prompts. Tokens hear of an instruction through
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
from jaxtyping import Float, Int
from torch import Tensor

from prompt2lora.adapter.grid import factors
from prompt2lora.adapter.hooks import adapted
from prompt2lora.adapter.layout import LoraLayout, Target
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.packing import SHARED, UNLIMITED, Pack, pack_examples, stack
from prompt2lora.base.pictures import soft_tokens
from prompt2lora.generator.hidden_states import prompt_ids, reading_pack
from prompt2lora.generator.observation import OUTPUT, Observed, observe
from prompt2lora.ground.pictures import Prompt, identity, rewritten
from prompt2lora.ground.prompts import instruction_of, split

_TINY = 1e-12
_MOST_SOFT = 2048  # tokens of pictures: time and memory grow with the square of all that are read together
_END = 0  # stands for what follows an answer; nobody looks at it


@dataclass(frozen=True)
class AlignmentOptions:
    """prompts         how many of the prompts are read
    budget          tokens that they may have together, the first 2,048 of pictures not counted; one is read in any case
    max_new_tokens  tokens of the base's own answers to them that are read, too
    answers         weight of the places of an answer; other places have 1
    ridge           penalty, as a share of the mean square of what the projections get
    """

    prompts: int = 4
    budget: int = 256
    max_new_tokens: int = 8
    answers: float = 4.0
    ridge: float = 0.1


def instruction_to_align(layout: LoraLayout, prompts: Sequence[Prompt]) -> str:
    """The instruction that can be put into the weights; empty if the prompts share none or the layout has no place."""
    return instruction_of(prompts) if any(target.name == OUTPUT for target in layout.targets) else ""


class PromptsRead(NamedTuple):
    """The prompts that were read, in an order that hangs on their texts alone, and what the base did with them."""

    prompts: list[Prompt]
    observed: Observed


def read_prompts(
    base: Frozen,
    teacher: Float[Tensor, "layers rows cols"],
    prompts: Sequence[Prompt],
    options: AlignmentOptions = AlignmentOptions(),
) -> PromptsRead:
    """As many different prompts as the options allow, read and answered by the base with the teacher's adapter.

    Neither their order nor how often one is given changes anything.
    """
    different = {identity(one): one for one in prompts}.values()
    ordered = sorted(different, key=lambda one: hashlib.sha256(identity(one).encode()).digest())[: options.prompts]
    ids = prompt_ids(base.chat, ordered)
    used = reading_pack(ids, options.budget + min(sum(map(soft_tokens, ids)), _MOST_SOFT)).used
    return PromptsRead(
        [ordered[i] for i in used], observe(base, teacher, [ids[i] for i in used], options.max_new_tokens)
    )


@torch.no_grad()
def aligned(
    base: Frozen,
    grid: Float[Tensor, "layers rows cols"],
    read: PromptsRead,
    options: AlignmentOptions = AlignmentOptions(),
    *,
    whole_weight: float = 1.0,
) -> Float[Tensor, "layers rows cols"]:
    """A new grid, which does to the inputs alone what was observed of the whole prompts; the given one is left alone.

    The output projections are found layer after layer, each with those before it. What a projection got of whole
    prompts it must also answer as before, with `whole_weight` beside the weights of the inputs alone.
    """
    model, chat, layout = base
    device, whole = model.device, read.observed
    untold = prompt_ids(chat, [rewritten(prompt, lambda text: split(text)[1]) for prompt in read.prompts])
    inner = pack_examples(untold, [[*answer, _END] for answer in whole.answers], UNLIMITED)
    batch = stack([inner], chat.padding).to(device)
    there, here = (places.to(device) for places in _same_places(whole.pack, inner))
    answering = torch.isin(here, torch.tensor(inner.predict, device=device))
    held = len(whole.pack.ids)
    weight = torch.cat([torch.full((held,), whole_weight, device=device), torch.where(answering, options.answers, 1.0)])
    root = weight.sqrt()[:, None]
    start = grid[None].to(device)
    made, old = start[0].clone(), factors(start, layout)

    def correct(layer: int, target: Target, path: str) -> Any:
        before = Update(old[path].a[0].T.float(), old[path].b[0].float() * layout.scale)
        known, goal = whole.given[path], whole.reached[path][there]

        def hook(
            _module: Any, inputs: tuple[Tensor, ...], output: Float[Tensor, "1 length out"]
        ) -> Float[Tensor, "1 length out"]:
            given = inputs[0].float()
            x = torch.cat([known, given[0, here]]) * root
            missing = torch.zeros(len(x), goal.shape[1], device=device)
            missing[held:] = goal - output[0, here].float()
            after = _corrected(before, x, missing * root, options.ridge)
            for block in layout.blocks:
                if block.target == target:
                    side = after.down.T if block.side == "A" else after.up / layout.scale
                    made[layer, block.start : block.stop] = side.reshape(-1, layout.cols)
            return output + (after(given) - before(given)).to(output.dtype)

        return hook

    with adapted(model, start, layout):
        handles = [
            model.get_submodule(path).register_forward_hook(correct(layer, target, path))
            for layer, target, path in layout.module_paths()
            if target.name == OUTPUT
        ]
        try:
            model.get_decoder()(**batch.inputs(model))
        finally:
            for handle in handles:
                handle.remove()
    return made.cpu()


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
    size, short = values.sqrt(), rank - len(values)  # short where there are fewer places than the rank
    down, up = left * size, size[:, None] * (right @ axes.T)
    return Update(torch.nn.functional.pad(down, (0, short)), torch.nn.functional.pad(up, (0, 0, 0, short)))


def _same_places(whole: Pack, inner: Pack) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    """Places of the same token in two packs of the same examples: what both versions of every example end with."""
    pairs: dict[tuple[int, int], None] = {}
    for number in range(len(whole.used)):
        for there, here in zip(_tokens_of(whole, number)[::-1], _tokens_of(inner, number)[::-1], strict=False):
            if whole.ids[there] != inner.ids[here]:
                break
            pairs[there, here] = None
    there, here = torch.tensor(list(pairs)).T
    return there, here


def _tokens_of(pack: Pack, number: int) -> list[int]:
    """Places of an example's tokens, those included that all share."""
    return [at for at, owner in enumerate(pack.token_example) if owner in (number, SHARED)]
