"""What a benchmark says, typed: the cells of single tasks, the summaries over tasks, and how they came about.

In: numbers, or the JSON of a result file. Out: values that nobody changes, and the same JSON. A result that lacks a
field, or has one too many, is refused when it is read. It computes nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from prompt2lora.errors import DamagedFile
from prompt2lora.evaluation.statistics import Interval


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


class Estimate(_Value):
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


class Seconds(_Value):
    """Seconds to make the adapter, and to answer all examples of a task."""

    adapt: float
    answer: float


class Scored(_Value):
    """One arm on one task in one form, example by example: scores by metric, costs, mean tokens of a prompt."""

    scores: dict[str, list[float]]
    seconds: Seconds
    prompt_tokens: float


class Cell(_Value):
    """The same in short: means over `n` examples."""

    score: float
    f1: float
    n: int
    seconds: Seconds
    prompt_tokens: float


class BenchmarkAsked(_Value):
    """What was to be scored."""

    arms: tuple[str, ...]
    forms: tuple[str, ...]
    seeds: tuple[int, ...]
    limit: int | None
    tasks: int
    prompts_per_task: int


class ScoreTable(_Value):
    """Cells by task, form and arm; summaries by form and arm, and of the differences between two arms.

    `seconds` is what adapting and answering took when it was done, one seed counted, kept scores included.
    """

    tasks: dict[str, dict[str, dict[str, Cell]]]
    mean: dict[str, dict[str, Summary]]
    difference: dict[str, dict[str, Summary]]
    request: BenchmarkAsked
    seconds: float


class GeneratorStamp(_Value):
    sha256: str
    steps: int | None


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
