"""What a benchmark says, typed: the cells of single tasks, the summaries over tasks, and how they came about.

In: numbers, or the JSON of a result file. Out: values that nobody changes, and the same JSON. A result that lacks a
field, or has one too many, is refused when it is read. It computes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from prompt2lora.errors import DamagedFile
from prompt2lora.evaluation.statistics import Interval


class Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


class Estimate(Value):
    """A mean with the bounds of its 95 % interval."""

    score: float
    low: float
    high: float

    @classmethod
    def of(cls, interval: Interval) -> Estimate:
        return cls(**{name: round(value, 4) for name, value in interval._asdict().items()})


class Summary(Estimate):
    """Exact match over all tasks, and token F1."""

    f1: Estimate


class Seconds(Value):
    """Seconds to make the adapter, and to answer all examples of a task."""

    adapt: float
    answer: float

    def rounded(self) -> Seconds:
        """To milliseconds."""
        return Seconds(adapt=round(self.adapt, 3), answer=round(self.answer, 3))


class ExampleScores(Value):
    """One arm on one task, example by example: scores by metric, and what they took."""

    scores: dict[str, list[float]]
    seconds: Seconds


class Scored(ExampleScores):
    """The same in one form, with the mean tokens of a prompt."""

    prompt_tokens: float


class Cell(Value):
    """The same in short: means over `n` examples."""

    score: float
    f1: float
    n: int
    seconds: Seconds
    prompt_tokens: float


class BenchmarkAsked(Value):
    """What was to be scored."""

    arms: tuple[str, ...]
    forms: tuple[str, ...]
    seeds: tuple[int, ...]
    limit: int | None
    tasks: int
    prompts_per_task: int


class ScoreTable(Value):
    """Cells by task, form and arm; summaries by form and arm, and of the differences between two arms.

    `seconds` is what adapting and answering took when it was done, one seed counted, kept scores included.
    """

    tasks: dict[str, dict[str, dict[str, Cell]]]
    mean: dict[str, dict[str, Summary]]
    difference: dict[str, dict[str, Summary]]
    request: BenchmarkAsked
    seconds: float


class GeneratorStamp(Value):
    sha256: str
    steps: int | None

    @classmethod
    def of(cls, provenance: Mapping[str, Any]) -> GeneratorStamp:
        return cls(sha256=provenance.get("sha256", ""), steps=provenance.get("steps"))


class BenchmarkResult(ScoreTable):
    """A table of scores and how it came about.

    `seen`: tasks that the generator was trained or validated on; None if it does not tell its tasks.
    """

    base: str
    generator: GeneratorStamp
    seen: tuple[str, ...] | None = None
    command: str
    versions: dict[str, str]
    hardware: dict[str, str | int]


Read = TypeVar("Read", bound=BaseModel)


def read_result(model: type[Read], file: Path, data: Any) -> Read:
    """What a file holds, as `model` says. Raises DamagedFile, which names the first field that is wrong."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DamagedFile(f"{file} is not a result of a benchmark ({place}: {first['msg']}); make it again") from error
