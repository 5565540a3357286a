"""One training run as data: a TOML recipe <-> frozen dataclasses. It knows how to refuse, not how to train."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from prompt2lora.base.models import DEFAULT_BASE, DEFAULT_ENCODER
from prompt2lora.errors import UsageError
from prompt2lora.ground.files import read_toml, refuse_unknown
from prompt2lora.ground.profile import RANKS, TARGETS

OBJECTIVES = ("end-to-end", "reconstruction", "product")


@dataclass(frozen=True)
class Stage:
    """A stretch of training with one objective.

    objective  end-to-end, reconstruction (of teachers' factors) or product (of teachers' updates)
    steps      optimiser steps
    tasks      tasks (adapters) per step
    budget     tokens per packed sequence, one sequence a task (end to end)
    bare       probability that the instruction is left out of the model's prompt (never of the generator's)
    alone      probability that a task whose instruction stays is answered by the shared adapter alone, so that
               what all jobs need is learned there; 1 with bare = 0 trains a plain multi-task LoRA
    twisted    probability that a task is drawn with another format or other labels (see twists.py)
    distil     where the instruction is left out, weight of the divergence from a teacher that is told it (end to end):
               the task's own teacher if the recipe names a collection that has one, else the shared adapter alone
    shared     learning rate of the shared adapter, as a multiple of `learning_rate`; 0 holds it still
    """

    steps: int
    objective: Literal["end-to-end", "reconstruction", "product"] = "end-to-end"
    tasks: int = 8
    budget: int = 192
    bare: float = 0.5
    alone: float = 0.5
    twisted: float = 0.25
    distil: float = 0.0
    learning_rate: float = 7e-4
    shared: float = 4.0
    warmup: int = 100
    weight_decay: float = 0.01
    clip: float = 1.0

    def __post_init__(self) -> None:
        _require(self.objective in OBJECTIVES, f"objective must be one of {OBJECTIVES}, not {self.objective!r}")
        for key in ("steps", "tasks", "budget"):
            _require(_whole(getattr(self, key)), f"{key} must be a whole number of at least 1")
        _require(isinstance(self.warmup, int) and self.warmup >= 0, "warmup must be a whole number of at least 0")
        for key in ("bare", "alone", "twisted"):
            _require(0 <= getattr(self, key) <= 1, f"{key} must be a probability")
        for key in ("weight_decay", "distil", "shared"):
            _require(getattr(self, key) >= 0, f"{key} must be at least 0")
        for key in ("learning_rate", "clip"):
            _require(getattr(self, key) > 0, f"{key} must be above 0")
        learns = self.shared > 0 or self.alone == 0
        _require(learns, "alone must be 0 where shared is 0: a shared adapter that is held still learns nothing alone")


@dataclass(frozen=True)
class Recipe:
    """tasks       folder of task files; only those of split "train" are read
    teachers    folder of a collection, for the objectives and the distillation that need it
    canonical   bring the teachers' factors to one fixed form first
    validation  share of task families held out for every choice
    most        train on at most so many tasks of the folder, of as many families as possible; 0: on all
    synthetic   probability that a task is no task of the folder but a synthetic one, drawn anew (end to end)
    prompts     most prompts in a condition (the number is drawn anew for every adapter)
    known       training inputs per task that are encoded as possible prompts
    strengths   factors to try on the finished decoder's output; the one with the least loss on the held-out training
                tasks, full and bare together, is kept (below 1 where it has learned more than it can carry over)
    start       a generator folder to go on from, instead of new weights
    shared      an adapter folder with which the shared adapter begins, instead of the base itself or that of `start`
    """

    stages: tuple[Stage, ...]
    tasks: str = "tasks"
    teachers: str = ""
    canonical: bool = False
    base: str = DEFAULT_BASE
    encoder: str = DEFAULT_ENCODER
    rank: int = 8
    targets: tuple[str, ...] = TARGETS
    generator: dict[str, Any] = field(default_factory=dict)
    validation: float = 0.1
    most: int = 0
    synthetic: float = 0.0
    prompts: int = 32
    known: int = 40
    seed: int = 0
    log_every: int = 10
    validate_every: int = 100
    save_every: int = 50
    strengths: tuple[float, ...] = (1.0,)
    start: str = ""
    shared: str = ""

    def __post_init__(self) -> None:
        _require(self.rank in RANKS, f"rank must be one of {RANKS}, not {self.rank!r}")
        for key in ("tasks", "teachers", "base", "encoder", "start", "shared"):
            _require(isinstance(getattr(self, key), str), f"{key} must be a text")
        _require(type(self.seed) is int, "seed must be a whole number")
        sound = (
            isinstance(self.strengths, tuple) and self.strengths and all(strength > 0 for strength in self.strengths)
        )
        _require(bool(sound), "strengths must be a list of numbers above 0")
        _require(isinstance(self.canonical, bool), "canonical must be true or false")
        _require(isinstance(self.generator, dict), "generator must be a table")
        known = isinstance(self.targets, tuple) and self.targets and set(self.targets) <= set(TARGETS)
        _require(bool(known), f"targets must be a list out of {TARGETS}")
        _require(0 <= self.validation < 1, "validation must be a share below 1")
        _require(0 <= self.synthetic <= 1, "synthetic must be a probability")
        _require(self.most == 0 or _whole(self.most), "most must be a whole number, 0 for all")
        for key in ("prompts", "known", "log_every", "validate_every", "save_every"):
            _require(_whole(getattr(self, key)), f"{key} must be a whole number of at least 1")
        for stage in self.stages:
            needless = stage.objective == "end-to-end" or bool(self.teachers)
            _require(needless, f'objective "{stage.objective}" needs teachers: name their folder')

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> tuple[int, int]:
        """(number of the stage, step inside it) of a step of the whole run."""
        for number, stage in enumerate(self.stages):
            if step < stage.steps:
                return number, step
            step -= stage.steps
        raise IndexError(step)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_recipe(file: Path, **changes: Any) -> Recipe:
    """Read a recipe. Raises UsageError that names the file and the unknown or missing key."""
    data = read_toml(file, "a recipe")
    stages = data.pop("stage", [])
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        raise UsageError(f"{file}: stages are written as [[stage]]; see the recipes in recipes/")
    refuse_unknown(file, data, Recipe)
    for stage in stages:
        refuse_unknown(file, stage, Stage)
    try:
        for key in ("targets", "strengths"):
            if isinstance(data.get(key), list):
                data[key] = tuple(data[key])
        recipe = Recipe(**{**data, "stages": tuple(Stage(**stage) for stage in stages), **changes})
    except (TypeError, UsageError) as error:
        raise UsageError(f"{file}: {error}; see the recipes in recipes/") from error
    if not stages:
        raise UsageError(f"{file}: a recipe needs at least one [[stage]]; see the recipes in recipes/")
    return recipe


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise UsageError(rule)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
