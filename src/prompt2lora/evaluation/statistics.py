"""Row scores of many tasks -> means with bootstrap intervals. In and out: numbers; it knows no models.

Tasks are drawn with replacement, and then the rows of each drawn task, so that the interval speaks of
other tasks and other rows alike. Differences between arms are paired row by row.
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


def mean_interval(tasks: Sequence[Sequence[float]], *, seed: int = 0) -> Interval:
    """Mean over tasks of the mean over rows, with the bounds of a 95 % percentile bootstrap."""
    rows = [np.asarray(task, dtype=float) for task in tasks]
    score = float(np.mean([row.mean() for row in rows]))
    random = np.random.default_rng(seed)
    resampled = np.stack([_row_means(row, random) for row in rows])  # (tasks, draws): rows redrawn
    chosen = random.integers(0, len(rows), size=(len(rows), _DRAWS))
    draws = np.take_along_axis(resampled, chosen, axis=0).mean(0)
    low, high = np.quantile(draws, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Interval(score, float(low), float(high))


def paired_difference(left: Sequence[Sequence[float]], right: Sequence[Sequence[float]], *, seed: int = 0) -> Interval:
    """left minus right, row by row of the same tasks, as a mean with its interval."""
    rows = [np.asarray(a, dtype=float) - np.asarray(b, dtype=float) for a, b in zip(left, right, strict=True)]
    return mean_interval([row.tolist() for row in rows], seed=seed)


def _row_means(row: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    means: NDArray[np.float64] = row[random.integers(0, len(row), size=(_DRAWS, len(row)))].mean(1)
    return means
