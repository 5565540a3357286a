"""Scores of examples of many tasks -> means with bootstrap intervals. In and out: numbers; it knows no models.

Tasks are drawn with replacement, and then the examples of each drawn task, so that the interval speaks of other tasks
and other examples alike. Differences between arms are paired example by example.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_DRAWS = 2000
_LEVEL = 0.95


class Interval(NamedTuple):
    score: float
    low: float
    high: float


class Spread(NamedTuple):
    """The median of some measurements, and how far they lie apart."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float], *, digits: int = 4) -> Spread:
    """Median, least and greatest, rounded."""
    return Spread(*(round(float(of(values)), digits) for of in (np.median, min, max)))


def mean_interval(tasks: Sequence[Sequence[float]]) -> Interval:
    """Mean over tasks of the mean over examples, with the bounds of a 95 % percentile bootstrap."""
    scores = [np.asarray(task, dtype=float) for task in tasks]
    score = float(np.mean([task.mean() for task in scores]))
    random = np.random.default_rng(0)
    resampled = np.stack([_resampled_means(task, random) for task in scores])  # (tasks, draws): examples redrawn
    chosen = random.integers(0, len(scores), size=(len(scores), _DRAWS))
    draws = np.take_along_axis(resampled, chosen, axis=0).mean(0)
    low, high = np.quantile(draws, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Interval(score, float(low), float(high))


def paired_difference(left: Sequence[Sequence[float]], right: Sequence[Sequence[float]]) -> Interval:
    """left minus right, example by example of the same tasks, as a mean with its interval."""
    pairs = zip(left, right, strict=True)
    differences = [(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).tolist() for a, b in pairs]
    return mean_interval(differences)


def _resampled_means(scores: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    means: NDArray[np.float64] = scores[random.integers(0, len(scores), size=(_DRAWS, len(scores)))].mean(1)
    return means
