"""How often an answer is right that the base finds so likely: confidences -> shares, learned on inspected examples.

In: the confidence of every answer and whether it was right, or what was measured of a version. Out: a rule that never
ranks two answers the other way round. It knows no models. (Platt 1999, with the targets of Lin, Lin and Weng 2007, so
that a few examples, or only right ones, give no certainty.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from prompt2lora.custody.evaluations import Evaluation
from prompt2lora.ground.comparison import Comparison

ENOUGH = 40  # examples below which confidences are left as they are
_LEAST = 1e-6
_STEPS, _RIDGE = 50, 1e-3


class Calibration(NamedTuple):
    """Share right = logistic(slope * log odds of the confidence + offset)."""

    slope: float = 1.0
    offset: float = 0.0
    examples: int = 0  # that it was learned on; 0: confidences are left as they are

    def share(self, confidence: float) -> float:
        """How many of so confident answers are right, from 0 to 1."""
        return 1 / (1 + math.exp(-(self.slope * _log_odds(confidence) + self.offset))) if self.examples else confidence


PLAIN = Calibration()


def calibrate(confidences: Sequence[float], right: Sequence[bool]) -> Calibration:
    """The rule that fits the examples; none if there are fewer than `ENOUGH`."""
    if len(confidences) < ENOUGH:
        return PLAIN
    odds = np.array([_log_odds(one) for one in confidences])
    hits = sum(right)
    misses = len(right) - hits
    targets = np.where(np.array(right), (hits + 1) / (hits + 2), 1 / (misses + 2))
    slope, offset = _fitted(odds, targets)
    if slope < 0:  # the less confident ones were right more often: confidence says nothing here
        slope, offset = 0.0, _log_odds(float(targets.mean()))
    return Calibration(slope, offset, len(right))


def calibration_of(measured: Evaluation, comparison: Comparison = Comparison.EXACT) -> Calibration:
    """By the inspected examples of a version; none if they are few, or from before confidences were kept."""
    known = [one for one in measured.inspection if one.confidence is not None]
    right = [comparison.same(one.generated, one.right) for one in known]
    return calibrate([one.confidence for one in known if one.confidence is not None], right)


def _fitted(odds: Any, targets: Any) -> tuple[float, float]:
    """The logistic regression by Newton's method."""
    inputs = np.stack([odds, np.ones_like(odds)], 1)
    weights = np.array([0.0, 0.0])
    for _ in range(_STEPS):
        shares = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        gradient = inputs.T @ (shares - targets) + _RIDGE * weights
        curvature = inputs.T @ (inputs * (shares * (1 - shares))[:, None]) + _RIDGE * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        weights = weights - step * min(1.0, 4.0 / max(float(np.abs(step).max()), 1e-12))
        if float(np.abs(step).max()) < 1e-6:
            break
    return float(weights[0]), float(weights[1])


def _log_odds(share: float) -> float:
    bounded = min(1 - _LEAST, max(_LEAST, share))
    return math.log(bounded / (1 - bounded))
