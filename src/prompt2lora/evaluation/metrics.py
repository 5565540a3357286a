"""Answer and reference -> score. In: texts. Out: numbers from 0 to 1."""


def exact_match(answer: str, reference: str) -> float:
    """1 if both are the same after trimming and lower-casing, else 0."""
    return float(answer.strip().lower() == reference.strip().lower())
