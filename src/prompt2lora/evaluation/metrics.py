"""Answer and reference -> score. In: texts. Out: numbers from 0 to 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable


def exact_match(answer: str, reference: str) -> float:
    """1 if both are the same after trimming and lower-casing, else 0."""
    return float(answer.strip().lower() == reference.strip().lower())


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over lower-cased words, as in SQuAD (Rajpurkar et al. 2016)."""
    given, wanted = answer.lower().split(), reference.lower().split()
    if not given or not wanted:
        return float(given == wanted)
    common = sum((Counter(given) & Counter(wanted)).values())
    return 2 * common / (len(given) + len(wanted))


METRICS: dict[str, Callable[[str, str], float]] = {"score": exact_match, "f1": token_f1}  # the first is the score
