"""The evaluator: all that custody asks of the mathematics, and how a kept version is measured by it.

In: the registry, a version and inspection examples. Out: an evaluation, kept in the registry. Examples that a version
has learned from never measure it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from prompt2lora.adapter import folder as adapter_folder
from prompt2lora.adapter.folder import LEARNED
from prompt2lora.custody.costs import Tuning
from prompt2lora.custody.evaluations import Evaluation, Signature
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.versions import Origin, Version
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.ground.pictures import Prompt
from prompt2lora.ground.prompts import input_digest


class MadeAdapter(NamedTuple):
    """An adapter folder, where it comes from, and the seconds of every step."""

    folder: Path
    origin: Origin
    seconds: dict[str, float]


class Evaluator(Protocol):
    """What makes adapters, measures them, and fine-tunes to compare times."""

    def advise(self, prompts: Sequence[Prompt]) -> list[dict[str, Any]]: ...

    def make(
        self,
        prompts: Sequence[Prompt],
        folder: Path,
        examples: Sequence[tuple[Prompt, str]] = (),
        form: AnswerForm | None = None,
    ) -> MadeAdapter: ...

    def measure(self, folder: Path, origin: Origin, inspection: Sequence[tuple[Prompt, str]]) -> Evaluation: ...

    def tune(self, instruction: str, inspection: Sequence[tuple[Prompt, str]]) -> Tuning: ...


def making(examples: Sequence[tuple[Prompt, str]]) -> float:
    """About how many seconds it takes to make an adapter, beside other steps."""
    return 4.0 + 3 * min(12, len(examples))


def measuring(inspection: Sequence[tuple[Prompt, str]]) -> float:
    """About how many seconds measuring takes, beside other steps."""
    return 35.0 + inspecting(inspection)


def inspecting(inspection: Sequence[tuple[Prompt, str]]) -> float:
    """About how many seconds of it the inspection examples take, beside other steps."""
    return 20.0 + 4.5 * len(inspection) if inspection else 0.0


def evaluated(
    registry: Registry,
    evaluator: Evaluator,
    version: Version,
    inspection: Sequence[tuple[Prompt, str]],
) -> tuple[int, Evaluation]:
    """Measure a kept version and keep what was found, so that a later version can be held against it; with its id.

    Examples whose inputs (or all but the same ones) are in its weights are set aside: they would only show what it
    learned by heart.
    """
    folder, known = registry.store.path(version.adapter), learned(registry, version)
    origin = registry.origin(version)
    fresh = [pair for pair in inspection if known.isdisjoint(_names(pair[0], origin.instruction))]
    measured = evaluator.measure(folder, origin, fresh)
    signature = Signature(registry.store.is_sound(version.adapter))
    metrics = replace(measured.metrics, signature=signature)
    found = replace(measured, metrics=metrics, set_aside=len(inspection) - len(fresh))
    return registry.add_evaluation(version, found), found


def learned(registry: Registry, version: Version) -> set[str]:
    """By what a version remembers the inputs whose right answers are in its weights."""
    return set(adapter_folder.read(registry.store.path(version.adapter)).provenance.get(LEARNED, ()))


def _names(prompt: Prompt, instruction: str) -> set[str]:
    """By what an adapter may remember an input; the second name is of versions refined before 28 November 2026."""
    older = {hashlib.sha256(prompt.strip().encode()).hexdigest()[:16]} if isinstance(prompt, str) else set()
    return {input_digest(prompt, instruction), *older}


def stored_inspection(registry: Registry, job: str) -> list[tuple[Prompt, str]]:
    """(input, right answer) of the newest inspection examples that any version of a job was measured on."""
    found = (registry.measured(version).pairs for version in reversed(registry.versions(job)))
    return next((pairs for pairs in found if pairs), [])


def canaries(registry: Registry, job: str) -> list[tuple[Prompt, str]]:
    """The examples that what answers a job is asked again: those that it was inspected on itself, since what was
    promised of it was seen on them; the job's newest ones if it never was."""
    current = registry.current(job)
    judged_on = registry.measured(current.version).pairs if current and current.version else []
    return judged_on or stored_inspection(registry, job)
