"""Why an adapter is what it is, as pages, JSON and the queue tell it.

In: what `plant/explanation.py` found. Out: a frozen record and its JSON. It measures nothing and judges nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class NearTask:
    """A training task; `similarity` is the cosine of its prompts and the job's."""

    task: str
    instruction: str
    similarity: float


@dataclass(frozen=True)
class PromptInfluence:
    """What one prompt, by its number, does: `share` of the weights that moves without it, and share of the `answers`
    that are others without it (None: not tried)."""

    prompt: int
    share: float
    answers: float | None = None


@dataclass(frozen=True)
class Spectrum:
    """log10 of a module's singular values, with mean and spread of what they usually are."""

    module: str
    values: Sequence[float]
    mean: Sequence[float]
    spread: Sequence[float]


@dataclass(frozen=True)
class WeightHealth:
    """score      how far the weights are from what is usual, as the gate takes it
    worst      the most unusual module, with what is unusual of it and by how many spreads
    share      the module whose update is the largest share of the base's weight, and that share (None: not asked)
    intruders  intruder dimensions among the modules `looked_at` (None: not asked)
    spectra    of the most unusual modules
    """

    score: float
    worst: tuple[str, str, float]
    share: tuple[str, float] | None
    intruders: int | None
    looked_at: int
    spectra: Sequence[Spectrum]


@dataclass(frozen=True)
class AnsweredText:
    """A text with what the base and the adapter answer; of its pictures the digests."""

    text: str
    base: str
    generated: str
    pictures: Sequence[str] = ()

    @property
    def changed(self) -> bool:
        return self.base != self.generated


@dataclass(frozen=True)
class Explanation:
    """generator   digest of the generator
    from_base   whether the instruction alone is in the weights, since the answers are long; no prompt has an influence
                then but by it
    neighbours  the nearest training tasks, the nearest first; `distance` is 1 where the prompts are as near as usual
    influences  of the prompts, the largest first
    changes     layers x modules: how far the update is from what every job gets
    texts       what was asked (none: the base was not loaded)
    page        where all of this was written to as a page; empty: nowhere
    """

    generator: str
    from_base: bool
    neighbours: Sequence[NearTask]
    distance: float
    influences: Sequence[PromptInfluence]
    modules: Sequence[str]
    changes: Sequence[Sequence[float]]
    health: WeightHealth
    texts: Sequence[AnsweredText] = ()
    page: str = ""

    @property
    def module_changes(self) -> dict[str, float]:
        """The mean change of every module over the layers."""
        by_module = zip(*self.changes, strict=True)
        return {name: _mean(values) for name, values in zip(self.modules, by_module, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; with the mean change of every layer and of every module."""
        found = asdict(self)
        found["modules"] = self.module_changes
        found["layers"] = [_mean(values) for values in self.changes]
        if not self.page:
            del found["page"]
        return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
