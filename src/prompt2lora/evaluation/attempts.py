"""Attempts: how the base is made to answer a task, with labels and without.

In: what the arms draw on, a task, a seed; how many labels, where some are used. Out: an `Attempt`, which makes its
adapter only if nobody has scored it before. Labels are of the task's training part; nothing here ever reads a test
example.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from prompt2lora.adapter.peft import Adapter
from prompt2lora.base.frozen import Frozen
from prompt2lora.errors import UsageError
from prompt2lora.evaluation.resources import Resources
from prompt2lora.evaluation.score_cache import digest, encoder_key
from prompt2lora.generator.alignment import AlignmentOptions, aligned, instruction_to_align, read_prompts
from prompt2lora.generator.examples import ExampleOptions, taught
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.pipeline import WHOLE_OPTIONS, WHOLE_WEIGHT
from prompt2lora.training.tasks import Example, Task
from prompt2lora.training.teachers import Teachers
from prompt2lora.training.tuning import TuningOptions, fit, random_order
from prompt2lora.training.whole import WholeOptions, fit_whole

T = TypeVar("T")
_READING = ("answers", "prompts", "conditions", "alignment", "lengths")  # components of the code that reads prompts


class Attempt(NamedTuple):
    """How one arm answers one task.

    depends   the data that its answers depend on besides the base, the task's test examples and the form
    code      the components of revisions.toml that make its adapter
    grid      makes the adapter (layers rows cols), or None for the base alone
    examples  labelled examples to be shown before every prompt
    base      who answers: the base that it is given, or another one in its place
    """

    depends: tuple[Any, ...] = ()
    code: tuple[str, ...] = ()
    grid: Callable[[], Tensor | None] = lambda: None
    examples: tuple[Example, ...] = ()
    base: Callable[[Frozen], Frozen] = lambda base: base


class Answerer(NamedTuple):
    """Who answers an attempt, through which adapter, and the seconds that making them took."""

    base: Frozen
    grid: Tensor | None
    seconds: float


def make(attempt: Attempt, base: Frozen) -> Answerer:
    began = time.monotonic()
    answering, grid = attempt.base(base), attempt.grid()
    return Answerer(answering, grid, time.monotonic() - began)


def decoded(resources: Resources, generator: Generator, prompts: Sequence[str]) -> Attempt:
    return Attempt(
        ("decoded", _sha(generator), digest(prompts), *encoder_key(resources.encoder.weights_digest)),
        ("conditions", "decoder"),
        lambda: generator.generate(resources.pipeline(generator).conditions(prompts)),
    )


def generated(resources: Resources, generator: Generator, prompts: Sequence[str]) -> Attempt:
    pipeline, plain = resources.pipeline(generator), decoded(resources, generator, prompts)
    if not pipeline.instruction(prompts):
        return plain
    attempt = _aligned(plain, prompts, lambda: pipeline.make(prompts).grid)
    if _answered_at_length(resources, generator, prompts):
        told = ("begins with the base", WHOLE_WEIGHT, *astuple(WHOLE_OPTIONS))
        return attempt._replace(depends=(*attempt.depends, *told))
    return attempt


def _answered_at_length(resources: Resources, generator: Generator, prompts: Sequence[str]) -> bool:
    """What `Pipeline.answered_at_length` says. Keys of scores hang on it, and the base reads the prompts for it: so it
    is kept beside them."""
    lengths, kept = generator.lengths, resources.kept
    if lengths is None:
        return False
    rule = tensor_digest(lengths.direction), lengths.offset
    key = kept.key(_READING, "answered at length", _sha(generator), *rule, list(prompts))
    known = kept.cache.get(key)
    if known is None:
        known = {"answered_at_length": resources.pipeline(generator).answered_at_length(prompts)}
        kept.cache.add(key, known)
    return bool(known["answered_at_length"])


def _aligned(attempt: Attempt, prompts: Sequence[str], grid: Callable[[], Tensor | None]) -> Attempt:
    """An attempt whose adapter is aligned to the prompts; `grid` makes it."""
    depends = (*attempt.depends, "aligned", *astuple(AlignmentOptions()), digest(prompts))
    return Attempt(depends, tuple(dict.fromkeys((*attempt.code, "conditions", "alignment"))), grid)


def in_context(resources: Resources, task: Task, seed: int, shots: int) -> Attempt:
    examples = resources.examples(task, seed, shots)
    return Attempt(("shown", [astuple(example) for example in examples]), examples=examples)


def trained(resources: Resources, task: Task, seed: int, count: int | None, steps: int) -> Attempt:
    examples = resources.examples(task, seed, count)
    options = TuningOptions(steps=steps, seed=seed)
    shown = digest([astuple(example) for example in examples])
    return Attempt(
        ("trained", *astuple(options), shown),
        ("tuning",),
        lambda: fit(resources.training, task, examples, options),
    )


def trained_whole(resources: Resources, task: Task, seed: int) -> Attempt:
    examples, options = resources.examples(task, seed), WholeOptions(seed=seed)
    return Attempt(
        ("trained whole", *astuple(options), digest([astuple(example) for example in examples])),
        ("tuning",),
        base=lambda base: fit_whole(base.layout, task, examples, options),
    )


def shared_in_context(resources: Resources, task: Task, seed: int, shots: int) -> Attempt:
    start, shown = resources.generator.examples_start, in_context(resources, task, seed, shots)
    return Attempt(("adapter", tensor_digest(start), *shown.depends), (), lambda: start, shown.examples)


def _taught(start: Attempt, task: Task, known: Sequence[Example], resources: Resources, seed: int) -> Attempt:
    """From an adapter, the task's prompts and labelled examples."""
    prompts, examples = resources.prompts(task, seed), [(task.prompt(one.input), one.output) for one in known]

    def grid() -> Tensor:
        begun = start.grid()
        assert begun is not None  # the base alone is no start
        return taught(resources.training, begun, prompts, examples)

    return Attempt(
        ("taught", *start.depends, *astuple(ExampleOptions()), digest([prompts, examples])),
        (*start.code, "examples"),
        grid,
    )


def from_examples(resources: Resources, task: Task, seed: int, count: int) -> Attempt:
    return _taught(_examples_start(resources), task, resources.examples(task, seed, count), resources, seed)


def generated_examples(resources: Resources, task: Task, seed: int, count: int) -> Attempt:
    start = generated(resources, resources.generator, resources.prompts(task, seed))
    return _taught(start, task, resources.examples(task, seed, count), resources, seed)


def multi_task_examples(resources: Resources, task: Task, seed: int, count: int) -> Attempt:
    start = multi_task(resources, task, seed)
    return _taught(start, task, resources.examples(task, seed, count), resources, seed)


def shuffled_examples(resources: Resources, task: Task, seed: int, count: int) -> Attempt:
    examples = shuffled(resources.examples(task, seed, count), seed)
    return _taught(_examples_start(resources), task, examples, resources, seed)


def other_examples(resources: Resources, task: Task, seed: int, count: int) -> Attempt:
    return from_examples(resources, resources.other(task, seed), seed, count)


def _examples_start(resources: Resources) -> Attempt:
    start = resources.generator.examples_start
    return Attempt(("adapter", tensor_digest(start)), grid=lambda: start)


def shuffled(examples: Sequence[Example], seed: int) -> list[Example]:
    """The same inputs and the same answers, each answer at another input than before."""
    order = random_order(examples, f"{seed} shuffled")
    return [Example(one.input, other.output) for one, other in zip(order, [*order[1:], order[0]], strict=True)]


def mean_condition(resources: Resources, _task: Task, _seed: int) -> Attempt:
    generator = resources.generator
    return Attempt(
        ("mean condition", _sha(generator)), ("decoder",), lambda: generator.generate(generator.pooling.center[None])
    )


def multi_task(resources: Resources, _task: Task, _seed: int) -> Attempt:
    adapter = _shared(resources, "multi-task")
    return Attempt(("adapter", tensor_digest(adapter.grid)), grid=lambda: adapter.grid)


def multi_task_aligned(resources: Resources, task: Task, seed: int) -> Attempt:
    grid, prompts = _shared(resources, "multi-task-aligned").grid, resources.prompts(task, seed)
    plain = multi_task(resources, task, seed)
    if not instruction_to_align(resources.base.layout, prompts):
        return plain
    return _aligned(plain, prompts, lambda: aligned(resources.base, grid, read_prompts(resources.base, grid, prompts)))


def reference(resources: Resources, task: Task, seed: int) -> Attempt:
    made = _needed(resources.reference, "reference-decoder", "name its generator folder by --reference")
    return generated(resources, made, resources.prompts(task, seed))


def mean_teacher(resources: Resources, _task: Task, _seed: int) -> Attempt:
    teachers = _teachers(resources, "mean-teacher")
    return Attempt(("mean of", teachers.digest), ("teachers",), teachers.mean)


def best_teacher(resources: Resources, _task: Task, _seed: int) -> Attempt:
    teachers = _teachers(resources, "best-teacher")
    best = teachers.best
    return Attempt(("one of", teachers.digest, best), ("teachers",), lambda: teachers.last(best))


def nearest_teacher(resources: Resources, task: Task, seed: int) -> Attempt:
    teachers = _teachers(resources, "nearest-teacher")
    name = resources.nearest(resources.prompts(task, seed))
    return Attempt(("one of", teachers.digest, name), ("teachers",), lambda: teachers.last(name))


def tensor_digest(*tensors: Tensor) -> str:
    return hashlib.sha256(b"".join(tensor.detach().contiguous().numpy().tobytes() for tensor in tensors)).hexdigest()


def _sha(generator: Generator) -> str:
    return str(generator.provenance.get("sha256", "")) or tensor_digest(*generator.state_dict().values())


def _shared(resources: Resources, arm: str) -> Adapter:
    return _needed(resources.multi_task, arm, "name its adapter folder by --multi-task")


def _teachers(resources: Resources, arm: str) -> Teachers:
    return _needed(resources.teachers, arm, "name their folder by --teachers")


def _needed(found: T | None, arm: str, remedy: str) -> T:
    if found is None:
        raise UsageError(
            f"the arm {arm} is asked for and what it stands on is not there; {remedy} or leave the arm out"
        )
    return found
