"""Arms: every way to make the base answer a task, ours, the rivals and the controls.

In: what the arms draw on, a task, a seed. Out: an `Attempt`, which makes its adapter only if nobody has scored it
before. An arm may use labels of the task's training part where its name says so (icl, examples, few-shot, full-shot);
nothing here ever reads a test example.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from prompt2lora.adapter.peft import Adapter
from prompt2lora.errors import UsageError
from prompt2lora.evaluation.resources import Resources
from prompt2lora.generator.alignment import AlignmentOptions, aligned, instruction_to_align, read_prompts
from prompt2lora.generator.examples import ExampleOptions, taught
from prompt2lora.generator.generator import Generator
from prompt2lora.training.tasks import Example, Task
from prompt2lora.training.teachers import Teachers
from prompt2lora.training.tuning import TuningOptions, fit, random_order

T = TypeVar("T")


class Attempt(NamedTuple):
    """How one arm answers one task.

    depends   the data that its answers depend on besides the base, the task's test examples and the form
    code      the components of revisions.toml that make its adapter
    grid      makes the adapter (layers rows cols), or None for the base alone
    examples  labelled examples to be shown before every prompt
    """

    depends: tuple[Any, ...] = ()
    code: tuple[str, ...] = ()
    grid: Callable[[], Tensor | None] = lambda: None
    examples: tuple[Example, ...] = ()


class Arm(NamedTuple):
    """What it is, in a newcomer's words, and how it attempts a task with a seed."""

    says: str
    attempt: Callable[[Resources, Task, int], Attempt]


def _decoded(resources: Resources, generator: Generator, prompts: Sequence[str]) -> Attempt:
    return Attempt(
        ("decoded", _sha(generator), digest(prompts)),
        ("conditions", "decoder"),
        lambda: generator.generate(resources.pipeline(generator).conditions(prompts)),
    )


def _generated(resources: Resources, generator: Generator, prompts: Sequence[str]) -> Attempt:
    pipeline, decoded = resources.pipeline(generator), _decoded(resources, generator, prompts)
    if not pipeline.instruction(prompts):
        return decoded
    return _aligned(decoded, prompts, lambda: pipeline.make(prompts).grid)


def _aligned(attempt: Attempt, prompts: Sequence[str], grid: Callable[[], Tensor | None]) -> Attempt:
    """An attempt whose adapter is aligned to the prompts; `grid` makes it."""
    depends = (*attempt.depends, "aligned", *astuple(AlignmentOptions()), digest(prompts))
    return Attempt(depends, tuple(dict.fromkeys((*attempt.code, "conditions", "alignment"))), grid)


def _in_context(shots: int) -> Arm:
    def attempt(resources: Resources, task: Task, seed: int) -> Attempt:
        examples = resources.examples(task, seed, shots)
        return Attempt(("shown", [astuple(example) for example in examples]), examples=examples)

    few = "one labelled example" if shots == 1 else f"{shots} labelled examples"
    return Arm(f"the base, with {few} before every question", attempt)


def _trained(says: str, count: int | None, steps: int) -> Arm:
    def attempt(resources: Resources, task: Task, seed: int) -> Attempt:
        examples = resources.examples(task, seed, count)
        options = TuningOptions(steps=steps, seed=seed)
        shown = digest([astuple(example) for example in examples])
        return Attempt(
            ("trained", *astuple(options), shown),
            ("tuning",),
            lambda: fit(resources.training, task, examples, options),
        )

    return Arm(says, attempt)


def _shared_in_context(shots: int) -> Arm:
    def attempt(resources: Resources, task: Task, seed: int) -> Attempt:
        start, shown = resources.generator.examples_start, _in_context(shots).attempt(resources, task, seed)
        return Attempt(("adapter", tensor_digest(start), *shown.depends), (), lambda: start, shown.examples)

    return Arm(f"{shots} labelled examples before every question to the adapter that examples are put into", attempt)


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


def _from_examples(count: int) -> Arm:
    def attempt(resources: Resources, task: Task, seed: int) -> Attempt:
        return _taught(_examples_start(resources), task, resources.examples(task, seed, count), resources, seed)

    few = "one labelled example, which goes" if count == 1 else f"{count} labelled examples, which go"
    return Arm(f"**this product** with {few} into the weights", attempt)


def _generated_examples(count: int) -> Arm:
    def attempt(resources: Resources, task: Task, seed: int) -> Attempt:
        start = _generated(resources, resources.generator, resources.prompts(task, seed))
        return _taught(start, task, resources.examples(task, seed, count), resources, seed)

    return Arm(f"the same {count} labelled examples, put into the adapter generated from the prompts", attempt)


def _multi_task_examples(count: int) -> Arm:
    def attempt(resources: Resources, task: Task, seed: int) -> Attempt:
        start = _multi_task(resources, task, seed)
        return _taught(start, task, resources.examples(task, seed, count), resources, seed)

    return Arm(f"the same {count} labelled examples, put into the LoRA of all training tasks", attempt)


def _shuffled_examples(resources: Resources, task: Task, seed: int) -> Attempt:
    return _taught(
        _examples_start(resources), task, shuffled(resources.examples(task, seed, 16), seed), resources, seed
    )


def _other_examples(resources: Resources, task: Task, seed: int) -> Attempt:
    return ARMS["examples-16"].attempt(resources, resources.other(task, seed), seed)


def _examples_start(resources: Resources) -> Attempt:
    start = resources.generator.examples_start
    return Attempt(("adapter", tensor_digest(start)), grid=lambda: start)


def shuffled(examples: Sequence[Example], seed: int) -> list[Example]:
    """The same inputs and the same answers, each answer at another input than before."""
    order = random_order(examples, f"{seed} shuffled")
    return [Example(one.input, other.output) for one, other in zip(order, [*order[1:], order[0]], strict=True)]


def _mean_condition(resources: Resources, _task: Task, _seed: int) -> Attempt:
    generator = resources.generator
    return Attempt(
        ("mean condition", _sha(generator)), ("decoder",), lambda: generator.generate(generator.pooling.center[None])
    )


def _multi_task(resources: Resources, _task: Task, _seed: int) -> Attempt:
    adapter = _shared(resources, "multi-task")
    return Attempt(("adapter", tensor_digest(adapter.grid)), grid=lambda: adapter.grid)


def _multi_task_aligned(resources: Resources, task: Task, seed: int) -> Attempt:
    grid, prompts = _shared(resources, "multi-task-aligned").grid, resources.prompts(task, seed)
    plain = _multi_task(resources, task, seed)
    if not instruction_to_align(resources.base.layout, prompts):
        return plain
    return _aligned(plain, prompts, lambda: aligned(resources.base, grid, read_prompts(resources.base, grid, prompts)))


def _reference(resources: Resources, task: Task, seed: int) -> Attempt:
    made = _needed(resources.reference, "reference-decoder", "name its generator folder by --reference")
    return _generated(resources, made, resources.prompts(task, seed))


def _mean_teacher(resources: Resources, _task: Task, _seed: int) -> Attempt:
    teachers = _teachers(resources, "mean-teacher")
    return Attempt(("mean of", teachers.digest), ("teachers",), teachers.mean)


def _best_teacher(resources: Resources, _task: Task, _seed: int) -> Attempt:
    teachers = _teachers(resources, "best-teacher")
    best = teachers.best
    return Attempt(("one of", teachers.digest, best), ("teachers",), lambda: teachers.last(best))


def _nearest_teacher(resources: Resources, task: Task, seed: int) -> Attempt:
    teachers = _teachers(resources, "nearest-teacher")
    name = resources.nearest(resources.prompts(task, seed))
    return Attempt(("one of", teachers.digest, name), ("teachers",), lambda: teachers.last(name))


ARMS: dict[str, Arm] = {
    "base": Arm("the base without any adapter", lambda *_: Attempt()),
    "icl-1": _in_context(1),
    "icl-4": _in_context(4),
    "icl-16": _in_context(16),
    "multi-task": Arm("one LoRA, trained on all training tasks at once", _multi_task),
    "multi-task-aligned": Arm(
        "that LoRA, aligned to the task's instruction: what is reached without the decoder", _multi_task_aligned
    ),
    **{f"shared-icl-{count}": _shared_in_context(count) for count in (4, 16)},
    "mean-teacher": Arm("the average of the LoRAs that were trained on one training task each", _mean_teacher),
    "best-teacher": Arm("the one of these LoRAs that does best on validation tasks", _best_teacher),
    "nearest-teacher": Arm("the one of these LoRAs whose task has the most similar prompts", _nearest_teacher),
    "reference-decoder": Arm("generated by a decoder of the published shape", _reference),
    "decoded": Arm(
        "generated without the alignment: the decoder alone", lambda r, t, s: _decoded(r, r.generator, r.prompts(t, s))
    ),
    "generated": Arm(
        "**this product**: an adapter made from unlabelled prompts of the task",
        lambda r, t, s: _generated(r, r.generator, r.prompts(t, s)),
    ),
    "wrong-prompt": Arm(
        "a control: the adapter made from another task's prompts",
        lambda r, t, s: _generated(r, r.generator, r.prompts(r.other(t, s), s)),
    ),
    "random-text": Arm(
        "a control: the adapter made from random words", lambda r, _, s: _generated(r, r.generator, r.words(s))
    ),
    "mean-condition": Arm("a control: the adapter made from the average of the training tasks", _mean_condition),
    **{f"examples-{count}": _from_examples(count) for count in (1, 4, 16, 64)},
    **{f"generated-examples-{count}": _generated_examples(count) for count in (4, 16)},
    **{f"multi-task-examples-{count}": _multi_task_examples(count) for count in (4, 16)},
    "examples-16-shuffled": Arm("a control: 16 labelled examples with each other's answers", _shuffled_examples),
    "examples-16-other": Arm("a control: the prompts and 16 labelled examples of another task", _other_examples),
    "few-shot-16": _trained("a LoRA, trained on 16 labelled examples of the task", 16, 24),
    "few-shot-64": _trained("a LoRA, trained on 64 labelled examples of the task", 64, 36),
    "full-shot": _trained("a LoRA, trained on all labelled examples of the task's training part", None, 64),
}


def digest(data: Any) -> str:
    """SHA-256 of anything that JSON can say."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


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
