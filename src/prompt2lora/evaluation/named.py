"""Generator, rivals and base by name -> what the arms of a benchmark draw on.

In: names as they were asked for; `{suite}` in one stands for the name of a published task, such as that of the
generator that was trained without it. Out: loaded `Resources`. It knows no arm and no score.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.base.frozen import Frozen
from prompt2lora.errors import LayoutError, UsageError
from prompt2lora.evaluation.resources import Resources
from prompt2lora.evaluation.score_cache import KeptScores
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.pipeline import fitting_layout
from prompt2lora.generator.text_encoder import cached_encoder
from prompt2lora.training.tasks import Task
from prompt2lora.training.teachers import Teachers

PROMPTS_PER_TASK = 16
_PLACE = "{suite}"


@dataclass(frozen=True)
class Named:
    """Names of folders, or of what comes with prompt2lora; None: what is the default, or no such rival."""

    generator: str | None = None
    base: str | None = None
    multi_task: str | None = None
    teachers: str | None = None
    reference: str | None = None

    def of(self, suite: str) -> Named:
        """The names for a published task."""
        return replace(self, **{what: name.replace(_PLACE, suite) for what, name in vars(self).items() if name})

    def rivals(self, generator: Generator, layout: LoraLayout) -> tuple[Adapter | None, Generator | None]:
        """The multi-task adapter and the reference. Raises LayoutError for one whose adapters are of another layout,
        UsageError for a reference that reads prompts by another encoder than the generator."""
        multi_task = _multi_task(Path(self.multi_task), layout) if self.multi_task else None
        return multi_task, _reference(self.reference, generator, layout) if self.reference else None

    def resources(
        self,
        base: Frozen,
        generator: Generator,
        tasks: Sequence[Task],
        *,
        kept: KeptScores,
        prompts_per_task: int,
        teacher_tasks: Sequence[Task] = (),
        without: Collection[str] = (),
    ) -> Resources:
        """The rivals beside a loaded base and generator; teachers of the tasks `without` take no part.

        Raises LayoutError and UsageError as `rivals` does.
        """
        layout = base.layout
        multi_task, reference = self.rivals(generator, layout)
        return Resources(
            base=base,
            encoder=cached_encoder(generator.config.encoder),
            generator=generator,
            tasks=tasks,
            prompts_per_task=prompts_per_task,
            multi_task=multi_task,
            reference=reference,
            teachers=Teachers(Path(self.teachers), layout, without=without) if self.teachers else None,
            teacher_tasks=teacher_tasks,
            kept=kept,
        )


def _multi_task(folder: Path, layout: LoraLayout) -> Adapter:
    adapter = Adapter.load(folder, models.load_config(layout.base_model))
    _check(folder, adapter.layout, layout)
    return adapter


def _reference(name: str, generator: Generator, layout: LoraLayout) -> Generator:
    found = Generator.from_pretrained(name)
    _check(name, fitting_layout(found, layout.base_model), layout)
    if found.config.encoder != generator.config.encoder:
        raise UsageError(
            f"{name} reads prompts by {found.config.encoder} and the generator by {generator.config.encoder}; name a "
            "reference of the same encoder"
        )
    return found


def _check(name: str | Path, own: LoraLayout, layout: LoraLayout) -> None:
    if own.digest != layout.digest:
        raise LayoutError(f"{name} has another rank, alpha or targets than the generator's adapters; name another one")
