"""What measuring the published tasks gives, typed. In and out: values that nobody changes, written and read as JSON.

It computes nothing and knows no models.
"""

from __future__ import annotations

from pydantic import Field

from prompt2lora.evaluation.results import Estimate, GeneratorStamp, Seconds, Value


class ArmScores(Value):
    """One arm on one suite: means by metric, the same minus the base's, and what it took."""

    scores: dict[str, Estimate]
    gain: dict[str, Estimate] = Field(default_factory=dict)
    seconds: Seconds


class SuiteScores(Value):
    """`seen`: tasks that the generator was trained on and should not have been; None if it does not tell its tasks."""

    kind: str
    examples: int
    of: int
    arms: dict[str, ArmScores]
    generator: GeneratorStamp
    seen: tuple[str, ...] | None


class PublishedAsked(Value):
    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    limit: int | None
    prompts_per_task: int
    samples: int
    metrics: tuple[str, ...] = ()


class PublishedResult(Value):
    """Scores by suite; `mean` by arm and metric over the commonsense suites.

    `shut_off_by` says what kept programs away from the machine, if any were run.
    """

    published: dict[str, SuiteScores]
    mean: dict[str, dict[str, Estimate]]
    request: PublishedAsked
    base: str
    shut_off_by: str
    command: str
    versions: dict[str, str]
    hardware: dict[str, str | int]
