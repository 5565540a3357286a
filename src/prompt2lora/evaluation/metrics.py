"""Answer and reference -> score. In: texts. Out: numbers from 0 to 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from prompt2lora.ground.comparison import Comparison, composed


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over lower-cased words, as in SQuAD (Rajpurkar et al. 2016)."""
    given, wanted = (composed(composed(text).lower()).split() for text in (answer, reference))
    if not given or not wanted:
        return float(given == wanted)
    common = sum((Counter(given) & Counter(wanted)).values())
    return 2 * common / (len(given) + len(wanted))


# How an answer is measured against the right one under a task's comparison; the first is the score.
METRICS: dict[str, Callable[[Comparison, str, str], float]] = {
    "score": Comparison.score,
    "f1": lambda _, answer, reference: token_f1(answer, reference),
}
