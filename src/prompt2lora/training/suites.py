"""The published tasks (commonsense, mathematics, code) as tasks of this product, and which may not meet in training.

In: a folder of JSONL files, a row {"task", "instruction", "input", "output"} a line, programs with their "tests". Out:
tasks whose train part lends the unlabelled prompts and whose test part is scored. Where a suite has one part alone, it
is halved; the order of both parts is drawn by a fixed seed, so that the first n are the same for everybody. It knows no
scores.

What is measured on a suite may have seen nothing of it in training: none of the suites that are `apart` with it, none
of the task files that were made from it, and no example whose question it has, wherever that stands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from prompt2lora.errors import TaskFileError, UsageError
from prompt2lora.training.tasks import Example, Task, read_records

SPLIT = "published"
_OPTIONS = re.compile(r"\n(?:Choices:\n)?A\. ")
_TEST_EXAMPLES = 64  # at most, of a suite that is trained on
_WORDS = re.compile(r"\w+")


class SuiteKind(StrEnum):
    COMMONSENSE = "commonsense"
    MATHEMATICS = "mathematics"
    CODE = "code"


@dataclass(frozen=True)
class Suite:
    """train, test  files of the parts (without .jsonl); the same one is halved
    max_new_tokens  most tokens of an answer
    apart           other suites that may not be trained on where this one is measured
    made_from_it    task files that were made from it
    also            further files of the same source, which nothing trains on either
    stem            how the field puts a question before an option whose likelihood it takes
    steps           answers show the steps; `instruction` then asks for them
    completes       the prompt is the beginning of a program, which the answer finishes
    ids             where the file has both parts: the first and the last number of the test part and of the train part
    """

    kind: SuiteKind
    train: str
    test: str
    max_new_tokens: int
    apart: tuple[str, ...] = ()
    made_from_it: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    stem: str = ""
    steps: bool = False
    instruction: str = ""
    completes: bool = False
    ids: tuple[tuple[int, int], tuple[int, int]] | None = None


_ASKED = "Question: {}\nAnswer:"
_OWN = "{}"
_GSM, _MATH, _HUMAN, _MBPP = ("gsm8k_train", "gsm8k_test"), ("math_test",) * 2, ("humaneval",) * 2, ("mbpp",) * 2
_MATHEMATICS = ("gsm8k", "gsm8k-steps", "math", "math-steps")
_FROM_GSM = ("reasoning_gym_gsm_symbolic",)  # templates of its problems with other numbers

SUITES: dict[str, Suite] = {
    "arc_e": Suite(SuiteKind.COMMONSENSE, "arc_e_train", "arc_e_test", 8, stem=_ASKED),
    "obqa": Suite(SuiteKind.COMMONSENSE, "obqa_train", "obqa_test", 8, stem=_OWN),
    "arc_c": Suite(SuiteKind.COMMONSENSE, "arc_c_train", "arc_c_test", 8, stem=_ASKED),
    "piqa": Suite(SuiteKind.COMMONSENSE, "piqa_validation", "piqa_validation", 8, stem=_ASKED),
    "hellaswag": Suite(SuiteKind.COMMONSENSE, "hellaswag_val_a", "hellaswag_val_b", 8, stem=_OWN),
    "boolq": Suite(
        SuiteKind.COMMONSENSE,
        "boolq_train_noctx",
        "boolq_validation_noctx",
        8,
        stem=_ASKED,
        also=("boolq_validation_passage",),
    ),
    "winogrande": Suite(
        SuiteKind.COMMONSENSE,
        "winogrande_validation",
        "winogrande_validation",
        8,
        stem="_",
        also=("winogrande_train_open",),
    ),
    "gsm8k": Suite(SuiteKind.MATHEMATICS, *_GSM, 256, _MATHEMATICS, _FROM_GSM),
    "gsm8k-steps": Suite(
        SuiteKind.MATHEMATICS,
        *_GSM,
        256,
        _MATHEMATICS,
        _FROM_GSM,
        steps=True,
        instruction="Solve the math word problem step by step. End with #### and the final number.",
    ),
    "math": Suite(SuiteKind.MATHEMATICS, *_MATH, 256, _MATHEMATICS, _FROM_GSM),
    "math-steps": Suite(
        SuiteKind.MATHEMATICS,
        *_MATH,
        512,
        _MATHEMATICS,
        _FROM_GSM,
        steps=True,
        instruction="Solve the competition math problem step by step. Put the final answer into \\boxed{}.",
    ),
    "humaneval": Suite(SuiteKind.CODE, *_HUMAN, 384, ("humaneval", "mbpp"), completes=True),
    "mbpp": Suite(SuiteKind.CODE, *_MBPP, 384, ("humaneval", "mbpp"), ids=((11, 510), (601, 974))),
}
COMMONSENSE = tuple(name for name, suite in SUITES.items() if suite.kind is SuiteKind.COMMONSENSE)


class PublishedTask(NamedTuple):
    """A suite as a task; `against` has what the answer to each test example is held against: the tests that a program
    must pass, the right result (without the steps), or the right answer."""

    suite: Suite
    task: Task
    against: tuple[str, ...]


def check_names(names: Sequence[str]) -> None:
    """Raises UsageError for a name that is no suite's."""
    for name in names:
        if name not in SUITES:
            raise UsageError(f"unknown suite {name!r}; there are {', '.join(SUITES)}")


def read_suite(folder: Path, name: str) -> PublishedTask:
    """One suite. Raises UsageError for another name, TaskFileError for a missing file or a broken row."""
    check_names([name])
    suite = SUITES[name]
    rows = {file: _rows(folder, file) for file in {suite.train, suite.test}}
    train, test = rows[suite.train], rows[suite.test]
    if suite.ids:
        tested, known = suite.ids
        test, train = ([row for row in test if low <= row["meta"]["task_id"] <= high] for low, high in (tested, known))
    Random(suite.test).shuffle(test)
    if train is not test:
        Random(suite.train).shuffle(train)
    else:
        train, test = train[: len(train) // 2], train[len(train) // 2 :]
    asked = {question(row["input"]) for row in test}
    train = [row for row in train if question(row["input"]) not in asked]
    if not train or not test:
        raise TaskFileError(f"{folder / suite.test}.jsonl: a suite needs rows to train on and to test; add some")
    task = Task(
        name=name,
        instruction=suite.instruction or test[0]["instruction"],
        family=name,
        split=SPLIT,
        train=tuple(_example(suite, row) for row in train),
        test=tuple(_example(suite, row) for row in test),
    )
    against = map(_tests, test) if suite.kind is SuiteKind.CODE else (row["output"] for row in test)
    return PublishedTask(suite, task, tuple(against))


def read_suites(folder: Path, names: Sequence[str] = tuple(SUITES)) -> list[PublishedTask]:
    return [read_suite(folder, name) for name in names]


def training_part(published: PublishedTask) -> Task:
    """A suite to be trained on: a few examples of its train part take the place of its test part."""
    examples = published.task.train
    held = min(_TEST_EXAMPLES, len(examples) // 5)
    return replace(published.task, split="train", train=examples[held:], test=examples[:held])


def teaching_parts(folder: Path, names: Sequence[str]) -> list[Task]:
    """Suites to be trained on one by one, each without what any other suite that it may be measured on asks."""
    check_names(names)
    found = []
    for name in names:
        apart = [other for other in SUITES if name not in never_trained_on(other)]
        found += without([training_part(read_suite(folder, name))], folder, apart)
    return found


def never_trained_on(name: str) -> frozenset[str]:
    """Names of the tasks that nothing which is measured on a suite may have been trained on."""
    suite = SUITES[name]
    return frozenset({name, *suite.apart, *suite.made_from_it})


def without(tasks: Sequence[Task], folder: Path, names: Sequence[str]) -> list[Task]:
    """The tasks from which all is gone that what is measured on these suites may not be trained on."""
    check_names(names)
    forbidden = frozenset().union(*map(never_trained_on, names))
    suites = [SUITES[name] for name in sorted(forbidden & SUITES.keys())]
    files = {file for suite in suites for file in (suite.train, suite.test, *suite.also)}
    asked = {question(row["input"]) for file in sorted(files) for row in _rows(folder, file)}
    return [_unseen(task, asked) for task in tasks if task.name not in forbidden]


def question(text: str) -> str:
    """What is asked, without its options, case and marks: the same question under other options is the same."""
    return " ".join(_WORDS.findall(_OPTIONS.split(text)[0].lower()))


def _unseen(task: Task, asked: set[str]) -> Task:
    train, test = (
        tuple(example for example in part if question(example.input) not in asked) for part in (task.train, task.test)
    )
    return replace(task, train=train, test=test)


def _example(suite: Suite, row: dict[str, Any]) -> Example:
    if not suite.steps:
        return Example(row["input"], row["output"])
    solution, result = row["meta"]["solution"], row["output"]
    return Example(row["input"], solution if "\\boxed" in solution else f"{solution}\n#### {result}")


def _tests(row: dict[str, Any]) -> str:
    tests = row["tests"]
    return tests if isinstance(tests, str) else "\n".join([row["meta"].get("setup", ""), *tests])


def _rows(folder: Path, name: str) -> list[dict[str, Any]]:
    file, wanted = folder / f"{name}.jsonl", ("instruction", "input", "output")
    found = []
    for number, row in read_records(file):
        if not all(isinstance(row.get(key), str) for key in wanted):
            raise TaskFileError(f"{file}:{number}: a row needs the texts {', '.join(wanted)}; correct the line")
        found.append(row)
    return found
