"""What the experiments beside the benchmark say, typed: one model for each kind of result file.

In: the JSON that a script of `benchmarks/` wrote. Out: the values that the page shows, which nobody changes. What
else a file holds (versions, hardware, single scores) is ignored. It computes nothing.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from prompt2lora.evaluation.results import Estimate
from prompt2lora.evaluation.statistics import Spread


class _Shown(BaseModel):
    model_config = ConfigDict(frozen=True)


class Experiment(_Shown):
    """What every result file says: the command that made it."""

    command: str


class Forced(_Shown):
    """Teacher-forced scores: exact match, and the loss per answer token."""

    exact: float
    loss: float


class ForcedInterval(_Shown):
    """The same, exact match with its interval."""

    exact: Estimate
    loss: float


class Variant(_Shown):
    """What was read, scored in both forms."""

    full: ForcedInterval
    bare: ForcedInterval


class ReadingVariants(Experiment):
    """`benchmarks/reading.py`: what the generator needs to read."""

    variants: dict[str, Variant]
    tasks: int
    generator: str


class Aligned(_Shown):
    """How an adapter answers in both forms, and the seconds that aligning it took."""

    full: Estimate
    bare: Estimate
    seconds: float


class Alignments(Experiment):
    """`benchmarks/alignment.py`: what alignment gives, and how much it has to read."""

    alignments: dict[str, Aligned]
    tasks: tuple[str, ...]
    examples: int


class TrainedRun(_Shown):
    """One short run, scored by form and by whose prompts the adapter was made from."""

    own_full: Forced
    own_bare: Forced
    wrong_bare: Forced
    steps: int
    seconds: float


class Trained(Experiment):
    """`benchmarks/ablations.py`: runs that differ from a recipe in a few things each."""

    trained: dict[str, TrainedRun]
    recipe: str


class ArmCost(_Shown):
    """What an arm takes: seconds to load, to adapt and to answer, and its peak memory."""

    prepare: float
    adapt: Spread
    answer: Spread
    peak_megabytes: int


class Costs(Experiment):
    """`benchmarks/costs.py`: costs by arm; seconds per job by number of jobs and arm; when training has paid off."""

    arms: dict[str, ArmCost]
    generator_training_hours: float
    seconds_per_job: dict[str, dict[str, float]]
    break_even_jobs: dict[str, int | None]
    faster_than: dict[str, float]


class Similarity(_Shown):
    """Cosines between tasks: of their prompts, and of their adapters."""

    prompts: tuple[tuple[float, ...], ...]
    adapters: tuple[tuple[float, ...], ...]
    rank_correlation: float


class Matrix(Experiment):
    """`benchmarks/conditioning.py`: every task's adapter (a line of `loss`) on every task's examples (a column)."""

    own_prompts_best: float
    names: tuple[str, ...]
    loss: tuple[tuple[float, ...], ...]
    own: Forced
    others: Forced
    similarity: Similarity
    generator: str


class Point(Estimate):
    """One way to a score: what it takes in labels, steps and seconds."""

    model_config = ConfigDict(extra="ignore")

    way: str
    labels: int
    steps: int
    ready: float
    asking: float


class Least(_Shown):
    """The least that reaches the generated adapter's score; None where nothing does."""

    labels: int | None = None
    seconds: float | None = None


class SecondStage(Experiment):
    """`benchmarks/refine.py`: the second stage beside training from scratch and examples in the context."""

    break_even: dict[str, Least]
    points: tuple[Point, ...]
    tasks: tuple[str, ...]
    left_out: int
    order: str
    examples: int
    generator: str
