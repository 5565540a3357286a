"""Is an adapter like those that its generator usually makes? Exact spectra, and the distance from the usual.

In: weight grids. Out: numbers per adapted module, and the score of an adapter against many others. The update
scale * B A is never formed: with B = Q R and A' = P S its singular values are those of the small R S'.

    log norm            log10 of the Frobenius norm
    log spectral norm   log10 of the largest singular value
    effective rank      exponential of the entropy of the energies (Roy and Vetterli 2007)
    first energy        share of the energy in the first direction; its inverse is the stable rank
    alignment           cosine between the update and that of the generator's shared adapter
    log singular value  log10 of each of them, the largest first
    gain                u' (scale * B A) v / s for each direction (u, s, v) of the shared adapter

The gains see what a spectrum hides: one direction a fifth too strong. A reference of an earlier version holds only the
first five; then only these are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.grid import Factors, factors, inner, singular
from prompt2lora.adapter.layout import LoraLayout

FEATURES = ("log norm", "log spectral norm", "effective rank", "first energy", "alignment")
_TINY = 1e-12
_FLOOR, _EARLIER_FLOOR = 0.005, 0.02  # least spread of a feature: what hardly varies is not measured in millionths


def feature_names(rank: int) -> tuple[str, ...]:
    """The names of all features, in their order."""
    each = range(1, rank + 1)
    return (*FEATURES, *(f"log singular value {i}" for i in each), *(f"gain {i}" for i in each))


def spectra(grid: Float[Tensor, "batch layers rows cols"], layout: LoraLayout) -> Float[Tensor, "batch modules rank"]:
    """Singular values of scale * B A, largest first, for every adapted module in the order of the layout."""
    return torch.stack([_values(_exact(one), layout) for one in factors(grid, layout).values()], 1)


def features(
    grid: Float[Tensor, "batch layers rows cols"], shared: Float[Tensor, "layers rows cols"], layout: LoraLayout
) -> Float[Tensor, "batch modules features"]:
    """The numbers of every module; see this file's head and `feature_names`."""
    fixed = factors(shared[None], layout)
    return torch.stack([_features(one, fixed[path], layout) for path, one in factors(grid, layout).items()], 1)


def shares(
    weights: Mapping[str, Float[Tensor, "out in"]], grid: Float[Tensor, "layers rows cols"], layout: LoraLayout
) -> dict[str, float]:
    """By module path, the Frobenius norm of the update as a share of that of the weight which it is added to."""
    norms = dict(zip(factors(grid[None], layout), spectra(grid[None], layout)[0].norm(dim=-1).tolist(), strict=True))
    return {path: norms[path] / max(float(weight.float().norm()), _TINY) for path, weight in weights.items()}


def _features(own: Factors, shared: Factors, layout: LoraLayout) -> Float[Tensor, "batch features"]:
    """The numbers of one module."""
    own, shared = _exact(own), _exact(shared)
    values = _values(own, layout)
    energy = values.square()
    total = energy.sum(-1).clamp_min(_TINY)
    share = energy / total.unsqueeze(-1)
    entropy = -(share * share.clamp_min(_TINY).log()).sum(-1)
    logs = values.clamp_min(_TINY).log10()
    whole = [total.sqrt().log10(), logs[..., 0], entropy.exp(), share[..., 0], _alignment(own, shared)]
    return torch.cat([torch.stack(whole, dim=-1), logs, _gains(own, shared)], dim=-1)


def _exact(factor: Factors) -> Factors:
    """In double precision: module by module, for that of all takes twice the memory of the adapters."""
    return Factors(factor.a.double(), factor.b.double())


def _values(factor: Factors, layout: LoraLayout) -> Float[Tensor, "batch rank"]:
    left, right = torch.linalg.qr(factor.b.mT), torch.linalg.qr(factor.a.mT)
    values: Tensor = torch.linalg.svdvals(left.R @ right.R.mT)
    return (values * layout.scale).float()


def _gains(own: Factors, shared: Factors) -> Float[Tensor, "batch rank"]:
    """How strongly an adapter does what each direction of the shared one does (1: as strongly)."""
    left, values, right = singular(shared.a[0], shared.b[0])
    along = ((own.b @ left) * (own.a @ right.T)).sum(1)
    return torch.where(values > _TINY, along / values.clamp_min(_TINY), 0.0).float()


def _alignment(own: Factors, shared: Factors) -> Float[Tensor, " batch"]:
    """Cosine between an adapter's update and the shared one."""
    mine, theirs = {"": own}, {"": shared}
    norms = inner(mine, mine).clamp_min(_TINY) * inner(theirs, theirs).clamp_min(_TINY)
    return (inner(mine, theirs) / norms.sqrt()).float()[:, 0]


class HealthScore(NamedTuple):
    """score: 1 is the most unusual of a hundred usual adapters, more is worse. worst: (module, feature, deviation)."""

    score: float
    worst: tuple[str, str, float]


class Reference(NamedTuple):
    """What a generator usually makes: mean and spread of every feature, and how far the usual strays."""

    mean: Float[Tensor, "modules features"]
    spread: Float[Tensor, "modules features"]
    usual: float
    shared: Float[Tensor, "layers rows cols"]

    @classmethod
    def of(
        cls,
        grids: Float[Tensor, "batch layers rows cols"],
        shared: Float[Tensor, "layers rows cols"],
        layout: LoraLayout,
    ) -> Reference:
        """The reference of at least ten adapters; `usual` is judged on each of them with that one left out."""
        if len(grids) < 10:
            raise ValueError(f"a reference needs at least ten adapters and got {len(grids)}")
        found = features(grids, shared, layout)
        count = len(found)
        worst = []
        for index in range(count):
            rest = torch.cat([found[:index], found[index + 1 :]])
            worst.append(float(_deviation(found[index], rest.mean(0), rest.std(0)).max()))
        usual = float(torch.tensor(worst).quantile(0.99))
        return cls(found.mean(0), found.std(0), usual, shared)

    def to_dict(self) -> dict[str, Tensor]:
        """All but the shared adapter, to be kept beside it; means and spreads in 16 bits, which are enough."""
        usual = torch.tensor(self.usual)
        return {"health_mean": self.mean.half(), "health_spread": self.spread.half(), "health_usual": usual}

    @classmethod
    def from_dict(cls, kept: Mapping[str, Tensor], shared: Float[Tensor, "layers rows cols"]) -> Reference:
        """What `to_dict` gave. Raises KeyError."""
        return cls(kept["health_mean"].float(), kept["health_spread"].float(), float(kept["health_usual"]), shared)

    def judge(self, grid: Float[Tensor, "layers rows cols"], layout: LoraLayout) -> HealthScore:
        """How unusual an adapter is. One that is not finite is infinitely so."""
        paths = [path for _, _, path in layout.module_paths()]
        if not torch.isfinite(grid).all():
            return HealthScore(float("inf"), (paths[0], "not finite", float("inf")))
        deviation = self.deviations(grid, layout)
        module, feature = divmod(int(deviation.argmax()), deviation.shape[-1])
        largest = float(deviation.max())
        return HealthScore(largest / self.usual, (paths[module], feature_names(layout.rank)[feature], largest))

    def deviations(
        self, grid: Float[Tensor, "layers rows cols"], layout: LoraLayout
    ) -> Float[Tensor, "modules features"]:
        """How far every feature lies from the usual, in its own spreads."""
        return _deviation(self.features(grid, layout), self.mean, self.spread)

    def features(
        self, grid: Float[Tensor, "layers rows cols"], layout: LoraLayout
    ) -> Float[Tensor, "modules features"]:
        """Those of an adapter's features that this reference knows."""
        return features(grid[None], self.shared, layout)[0, :, : self.mean.shape[-1]]


def _deviation(
    found: Float[Tensor, "modules features"],
    mean: Float[Tensor, "modules features"],
    spread: Float[Tensor, "modules features"],
) -> Float[Tensor, "modules features"]:
    floor = _FLOOR if mean.shape[-1] > len(FEATURES) else _EARLIER_FLOOR  # what `usual` was reckoned with
    return (found - mean).abs() / spread.clamp_min(floor)
