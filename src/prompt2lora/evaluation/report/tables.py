"""Markdown tables. In: cells as text or numbers. Out: lines of a page. It knows no kind of result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prompt2lora.evaluation.results import Estimate


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    body = [f"| {' | '.join(cells)} |" for cells in (heads, *lines)]
    return "\n".join([body[0], "|---" * len(heads) + "|", *body[1:]])


def interval(cell: Estimate) -> str:
    """A mean with the bounds of its 95 % interval."""
    return f"{cell.score:.3f} ({cell.low:.3f} to {cell.high:.3f})"


def counted(count: int, what: str) -> str:
    return f"{count} {what}" + ("" if count == 1 else "s")
