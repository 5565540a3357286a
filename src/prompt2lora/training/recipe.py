"""One training run as data: a TOML recipe <-> frozen values. It knows how to refuse, not how to train.

In: a TOML file, or keywords. Out: a `Recipe`, or one line that names the file, the key, the rule and the value.
A recipe says what is done. Where task files and earlier runs lie may be said later: `Recipe.changed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from prompt2lora.base.models import DEFAULT_BASE, DEFAULT_ENCODER
from prompt2lora.errors import UsageError
from prompt2lora.ground.files import read_toml
from prompt2lora.ground.profile import RANKS, TARGETS

PLACES = ("tasks", "suites", "teachers", "start", "shared")  # say where something lies, not what is done
# Older runs lack these: left out where empty.
_LATER = ("published", "published_share", "without", "practice", "lettered", "long_answers_from_base")
_REMEDY = "see the recipes in recipes/"

Objective = Literal["end-to-end", "reconstruction", "product"]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Shape = Annotated[tuple[Count, Count, Count], Field(strict=False)]
T = TypeVar("T", bound="_Settings")


class _Settings(BaseModel):
    """Frozen, with known keys only; a number is no text and no truth value. Raises UsageError in one line."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise UsageError(_told(error.errors()[0], type(self))) from error

    def changed(self: T, **changes: Any) -> T:
        """The same with other values, checked anew."""
        own = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**{**own, **changes})

    def to_dict(self) -> dict[str, Any]:
        return self.model_dump()


class Stage(_Settings):
    """A stretch of training with one objective.

    objective  end-to-end, reconstruction (of teachers' factors) or product (of teachers' updates)
    steps      optimiser steps
    tasks      tasks (adapters) per step
    budget     tokens per packed sequence, one sequence a task (end to end)
    bare       probability that the instruction is left out of the model's prompt (never of the generator's)
    alone      probability that a task whose instruction stays, or that examples are shown of, is answered by the
               shared adapter alone, so that what all jobs need is learned there; 1 trains a plain multi-task LoRA
               (and then the instruction stays wherever there are no examples)
    twisted    probability that a task is drawn with another format or other labels (see augmentation.py)
    lettered   probability that a task that is not twisted is drawn as a choice among lettered options
    distil     where the instruction is left out, weight of the divergence from a teacher that is told it (end to end):
               the task's own teacher if the recipe names a collection that has one, else the shared adapter alone
    examples   how many labelled examples of its task stand as earlier turns before the questions (end to end): one of
               these numbers, drawn anew for every step, so that its packs are about as long as one another
    context    tokens that the examples may take; of more only as many are shown as find room
    practice   gradient steps on the examples instead of showing them, each of `context` tokens at most: the questions
               are asked after them, so that the shared adapter becomes a start from which a few steps go far (first-
               order MAML, arXiv 1703.03400); 0: the examples are shown
    learning_rate  highest rate of the generator, after the warm-up and before a decay
    shared     learning rate of the shared adapter, as a multiple of `learning_rate`; 0 holds it still
    warmup     steps in which the rate rises
    weight_decay  of AdamW
    clip       most that the norm of a step's gradient may be
    """

    steps: Count
    objective: Objective = "end-to-end"
    tasks: Count = 8
    budget: Count = 192
    bare: Share = 0.5
    alone: Share = 0.5
    twisted: Share = 0.25
    lettered: Share = 0.0
    distil: NotNegative = 0.0
    examples: tuple[Annotated[int, Field(ge=0)], ...] = Field((0,), min_length=1, strict=False)
    context: Count = 384
    practice: int = Field(0, ge=0)
    learning_rate: Positive = 7e-4
    shared: NotNegative = 4.0
    warmup: int = Field(100, ge=0)
    weight_decay: NotNegative = 0.01
    clip: Positive = 1.0

    @model_validator(mode="after")
    def _the_shared_adapter_can_learn(self) -> Stage:
        if self.shared == 0 and self.alone > 0:
            raise ValueError(
                f"alone must be 0 where shared is 0, not {self.alone}: a shared adapter held still learns nothing alone"
            )
        if self.practice and (self.alone < 1 or self.distil or min(self.examples) < 1):
            raise ValueError(
                "practice is of the shared adapter alone on examples: alone must be 1, distil 0, examples 1 or more"
            )
        return self


class Sizes(_Settings):
    """Sizes of a generator (see generator/config.py); those not given follow from the base and the encoder."""

    asks_base: bool = False
    width: Count = 1
    states: Count = 1
    hidden: Count = 1
    grid: Shape = (1, 1, 1)
    trunk: tuple[Shape, ...] = Field((), strict=False)
    kernel: Count = 1
    activation: Literal["tanh", "gelu"] = "gelu"
    step: Positive = 1.0
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _the_kernel_has_a_middle(self) -> Sizes:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, not {self.kernel}")
        return self


class Recipe(_Settings):
    """tasks       folder of task files; only those of split "train" are read; empty: synthetic tasks alone
    suites      folder of the published tasks, if `published` or `without` names any (see suites.py)
    published   published tasks to train on as well; they are never held out
    published_share  probability that a task of a step is one of these (end to end); 0: they are drawn as all others
    without     published tasks that nothing of may be trained on: neither they, nor what was made from them, nor any
                example with one of their questions
    teachers    folder of a collection, for the objectives and the distillation that need it
    canonical   bring the teachers' factors to one fixed form first
    base, encoder, rank, targets  the models, and the layout of the adapters
    dtype       what the base computes in; auto: what this processor is fastest with (another one, other bytes)
    generator   sizes of the generator, where they are not the usual ones (see generator/config.py)
    validation  share of task families held out for every choice
    most        train on at most so many tasks of the folder, of as many families as possible; 0: on all
    synthetic   probability that a task is no task of the folder but a synthetic one, drawn anew (end to end)
    languages   of the synthetic tasks: "en", "ja" (Japanese office and factory work), "en-mathematics" and
                "ja-mathematics" (problems, with worked steps or without), every family of them as often
    prompts     most prompts in a condition (the number is drawn anew for every adapter)
    known       training inputs per task that are encoded as possible prompts
    seed        of the new weights and of every draw
    log_every, validate_every, save_every  steps between two records, two validations, two checkpoints
    strengths   factors to try on what was learned, which is the finished decoder's output or, where no step trains it,
                the way of the shared adapter from where the run began; the one with the least loss on the held-out
                training tasks is kept (below 1 where more was learned than can be carried over)
    long_answers_from_base  whether the finished generator leaves jobs with long answers (programs, queries,
                explanations, letters, worked problems) to the base and puts only their instruction into an adapter
                (lengths.py)
    start       a generator folder to go on from, instead of new weights
    shared      an adapter folder with which the shared adapter begins, instead of the base itself or that of `start`
    """

    stages: tuple[Stage, ...] = Field(min_length=1)
    tasks: str = ""
    suites: str = ""
    published: tuple[str, ...] = Field((), strict=False)
    published_share: Share = 0.0
    without: tuple[str, ...] = Field((), strict=False)
    teachers: str = ""
    canonical: bool = False
    base: str = DEFAULT_BASE
    encoder: str = DEFAULT_ENCODER
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    rank: int = 8
    targets: tuple[str, ...] = Field(TARGETS, min_length=1, strict=False)
    generator: dict[str, Any] = Field(default_factory=dict)
    validation: float = Field(0.1, ge=0, lt=1)
    most: int = Field(0, ge=0)
    synthetic: Share = 0.0
    languages: tuple[Literal["en", "ja", "en-mathematics", "ja-mathematics"], ...] = Field(
        ("en",), min_length=1, strict=False
    )
    prompts: Count = 32
    known: Count = 40
    seed: int = 0
    log_every: Count = 10
    validate_every: Count = 100
    save_every: Count = 50
    long_answers_from_base: bool = False
    strengths: tuple[Positive, ...] = Field((1.0,), min_length=1, strict=False)
    start: str = ""
    shared: str = ""

    @field_validator("generator")
    @classmethod
    def _sizes_are_sizes(cls, given: dict[str, Any]) -> dict[str, Any]:
        try:
            Sizes(**given)
        except UsageError as error:
            raise ValueError(f"[generator] {error}") from error
        return given

    @model_validator(mode="after")
    def _parts_fit_together(self) -> Recipe:
        if self.rank not in RANKS:
            raise ValueError(f"rank must be one of {RANKS}, not {self.rank}")
        unknown = set(self.targets) - set(TARGETS)
        if unknown:
            raise ValueError(f"targets must be out of {', '.join(TARGETS)}, not {min(unknown)!r}")
        if self.long_answers_from_base and not self.generator.get("asks_base"):
            raise ValueError("long_answers_from_base needs a generator that asks the base: asks_base = true")
        for stage in self.stages:
            if stage.objective != "end-to-end" and not self.teachers:
                raise ValueError(f'objective "{stage.objective}" needs teachers: name their folder')
        return self

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    @property
    def practises(self) -> bool:
        """Whether what comes out is a shared adapter that was trained to be a start for steps on labelled examples."""
        return self.stages[-1].practice > 0

    @property
    def decodes(self) -> bool:
        """Whether any of its steps trains more than the shared adapter."""
        return any(stage.objective != "end-to-end" or stage.alone < 1 for stage in self.stages)

    def stage_at(self, step: int) -> tuple[int, int]:
        """(number of the stage, step inside it) of a step of the whole run."""
        for number, stage in enumerate(self.stages):
            if step < stage.steps:
                return number, step
            step -= stage.steps
        raise IndexError(step)

    def leaving_out(self, names: Sequence[str]) -> Recipe:
        """The same recipe, which trains on nothing of these published tasks either."""
        return self.changed(without=tuple(dict.fromkeys([*self.without, *names]))) if names else self

    def method(self) -> dict[str, Any]:
        """The recipe without the places: what two runs have in common that do the same on two machines."""
        said = {key: value for key, value in self.to_dict().items() if key not in PLACES}
        said["stages"] = tuple(_known_early(stage) for stage in said["stages"])
        return _known_early(said)


def read_recipe(file: Path, **changes: Any) -> Recipe:
    """Read a recipe; `changes` take the place of what it says. Raises UsageError that names the file and the key."""
    data = read_toml(file, "a recipe")
    stages = data.pop("stage", [])
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        raise UsageError(f"{file}: stages are written as [[stage]]; {_REMEDY}")
    if not stages:
        raise UsageError(f"{file}: a recipe needs at least one [[stage]]; {_REMEDY}")
    try:
        return Recipe(**{**data, "stages": tuple(Stage(**stage) for stage in stages), **changes})
    except UsageError as error:
        raise UsageError(f"{file}: {error}; {_REMEDY}") from error


def _known_early(said: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in said.items() if value or key not in _LATER}


def _told(error: ErrorDetails, kind: type[BaseModel]) -> str:
    """Key, rule and value of what pydantic found first."""
    key, value = ".".join(map(str, error["loc"])), error["input"]
    match error["type"]:
        case "extra_forbidden":
            known = ", ".join(sorted(kind.model_fields))
            return f"unknown key {key!r}; {kind.__name__.lower()} keys are {known}"
        case "missing":
            return f"{key} is missing; it must be given"
        case "value_error":
            return str(error["ctx"]["error"])
    rule = error["msg"].removeprefix("Input should be ")
    return f"{key} must be {rule}, not {str(value)[:80]!r}"
