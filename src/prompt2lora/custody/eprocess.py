"""An anytime-valid alarm on a stream of outcomes: has the rate of bad ones risen above what was promised?

In: outcomes from 0 (good) to 1 (bad), one at a time. Out: evidence. Looking at it after every outcome costs nothing:
if the true rate never exceeds `promised`, the chance that the evidence ever reaches 1 / alpha is at most alpha
(Ville 1939; betting martingales: Waudby-Smith and Ramdas 2024, arXiv 2010.09686).

The evidence is the capital of a gambler who spreads it over several stakes and over all moments at which the rate may
have begun to rise: capital that waits for a later moment keeps its value. An average of fair capitals is fair.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_STAKES = (0.05, 0.1, 0.2, 0.4, 0.7)  # shares of the largest fair stake, 1 / promised


@dataclass
class EProcess:
    """promised: the rate of bad outcomes that is acceptable. alpha: the chance of ever raising a false alarm."""

    promised: float
    alpha: float = 0.01
    count: int = 0
    capitals: list[float] = field(default_factory=lambda: [0.0] * len(_STAKES))
    bad: float = 0.0  # the sum of all outcomes: what share was bad is told beside the evidence

    def __post_init__(self) -> None:
        if not 0 < self.promised < 1 or not 0 < self.alpha < 1:
            raise ValueError(f"promised and alpha lie between 0 and 1, not {self.promised} and {self.alpha}")

    def update(self, bad: float) -> bool:
        """Take one outcome in; returns whether the alarm is up."""
        if not 0 <= bad <= 1:
            raise ValueError(f"an outcome lies between 0 and 1, not {bad}")
        entering = self._waiting(self.count) - self._waiting(self.count + 1)
        self.count += 1
        self.bad += bad
        for index, stake in enumerate(_STAKES):
            factor = 1 + stake / self.promised * (bad - self.promised)
            self.capitals[index] = (self.capitals[index] + entering) * factor
        return self.alarm

    @property
    def evidence(self) -> float:
        """Expected to be at most 1 as long as the promise is kept."""
        return self._waiting(self.count) + sum(self.capitals) / len(_STAKES)

    @property
    def alarm(self) -> bool:
        return self.evidence >= 1 / self.alpha

    @staticmethod
    def _waiting(count: int) -> float:
        """Capital not yet staked after so many outcomes: it falls slowly, so that late changes are seen too."""
        return float((1 + count / 50) ** -0.5)
