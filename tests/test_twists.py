import json
from dataclasses import replace
from random import Random

import pytest

from prompt2lora.training import augmentation
from prompt2lora.training.questions import draw_tasks
from prompt2lora.training.recipe import Stage
from prompt2lora.training.sampling import wordings
from prompt2lora.training.tasks import Example, Task, is_japanese

TASK = Task(
    name="shift",
    instruction="Say which shift wrote the note.",
    family="shift",
    split="train",
    train=tuple(Example(f"Note {i}", ("early", "late", "night")[i % 3]) for i in range(9)),
    test=(Example("Note 9", "early"),),
)
OPEN = Task("part", "Find the part.", "part", "train", tuple(Example(f"bin {i}", f"P-{i}") for i in range(9)), ())

JAPANESE = replace(TASK, instruction="どの班のメモですか。")


@pytest.mark.parametrize("task", [TASK, OPEN, JAPANESE], ids=["labels", "open", "japanese"])
@pytest.mark.parametrize("seed", range(40))
def test_a_twisted_task_has_the_same_inputs_and_one_sentence_more(task, seed):
    twisted = augmentation.draw(task, Random(seed))
    assert [example.input for example in twisted.train] == [example.input for example in task.train]
    assert twisted.instruction.startswith(f"{task.instruction} ")
    assert (twisted.name, twisted.family, twisted.test) == (task.name, task.family, task.test)
    assert twisted == augmentation.draw(task, Random(seed))


def test_new_labels_are_told_in_the_instruction_and_kept_apart():
    twisted = augmentation.relabelled(TASK, {"early": "A", "late": "B", "night": "C"})
    assert twisted.instruction.endswith("Write A for early, B for late and C for night.")
    assert [example.output for example in twisted.train[:4]] == ["A", "B", "C", "A"]


def test_only_tasks_of_few_labels_get_new_ones():
    instructions = [augmentation.draw(OPEN, Random(seed)).instruction for seed in range(60)]
    assert not any(" for " in instruction for instruction in instructions)
    assert any(" for early" in augmentation.draw(TASK, Random(seed)).instruction for seed in range(60))


def test_what_is_added_to_a_japanese_instruction_is_japanese():
    twisted = augmentation.relabelled(JAPANESE, {"early": "A", "late": "B", "night": "C"})
    assert twisted.instruction.endswith("ただし、earlyはA、lateはB、nightはCと書いてください。")
    assert [example.output for example in twisted.train[:4]] == ["A", "B", "C", "A"]
    added = [augmentation.draw(JAPANESE, Random(seed)).instruction.split(" ", 1)[1] for seed in range(40)]
    assert all(map(is_japanese, added + wordings(JAPANESE.instruction)))
    assert not any(map(is_japanese, wordings(TASK.instruction)))
    assert not any(
        "task" in wording.lower() or "please" in wording.lower() for wording in wordings(JAPANESE.instruction)
    )


@pytest.mark.parametrize("task", [TASK, OPEN, JAPANESE], ids=["labels", "open", "japanese"])
@pytest.mark.parametrize("seed", range(20))
def test_a_lettered_task_asks_for_the_letter_before_the_right_answer(task, seed):
    chosen = augmentation.lettered(task, Random(seed))
    assert is_japanese(chosen.instruction) == is_japanese(task.instruction)
    assert chosen.name != task.name, "its prompts show its options"
    assert len({example.output for example in chosen.train}) > 1, "the right answer has no fixed place"
    for example, before in zip(chosen.train, task.train, strict=True):
        text, *options = example.input.split("\n")
        said = [option.split(" ", 1) for option in options]
        assert text == before.input
        assert [answer for mark, answer in said if example.output in mark] == [before.output]
        assert len({answer for _, answer in said}) == len(options) >= 3


def test_a_task_is_twisted_or_lettered_but_not_both():
    stage = Stage(steps=1, tasks=6, twisted=0.5, lettered=1.0)
    drawn = [
        task for seed in range(20) for task in draw_tasks([TASK], stage, Random(seed), synthetic_share=0, families=[])
    ]
    assert {task.name for task in drawn} == {"shift", "shift_lettered"}
    asked = [task.instruction.removeprefix(TASK.instruction).strip() for task in drawn if task.name == "shift_lettered"]
    assert set(asked) == set(augmentation.LETTERED)


@pytest.mark.parametrize("outputs", ["same", "AB", ["x" * 61, "y"]], ids=["one answer", "letters", "long"])
def test_what_makes_no_options_is_not_lettered(outputs):
    answers = [outputs] if outputs == "same" else list(outputs)
    task = replace(TASK, train=tuple(Example(f"Note {i}", answers[i % len(answers)]) for i in range(6)))
    assert augmentation.lettered(task, Random(1)) is None


@pytest.mark.parametrize("formats", [augmentation.FORMATS, augmentation.FORMATS_IN_JAPANESE], ids=["en", "ja"])
def test_no_two_formats_give_the_same_answer_or_are_asked_for_alike(formats):
    answers = [form.apply('P-7 "x"') for form in formats]
    wordings = [wording for form in formats for wording in form.wordings]
    assert len(set(answers)) == len(answers)
    assert len(set(wordings)) == len(wordings)
    said = [json.loads(answer) for answer in answers if answer.startswith('{"')]
    assert {"answer": 'P-7 "x"'} in said or {"答え": 'P-7 "x"'} in said
