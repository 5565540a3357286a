import json
import re
from collections import Counter
from functools import cache
from random import Random

import pytest

from prompt2lora.training.synthetic import FAMILIES, composed, materials, synthetic_tasks
from prompt2lora.training.tasks import read_tasks


@cache
def tasks():
    return synthetic_tasks(4 * len(FAMILIES), seed=3)


@cache
def by_family():
    return {name: [task for task in tasks() if task.family == f"synthetic_{name}"] for name in FAMILIES}


def examples(family):
    return [(task, example) for task in by_family()[family] for example in (*task.train, *task.test)]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_makes_learnable_tasks(name):
    assert by_family()[name]
    for task in by_family()[name]:
        inputs = [example.input for example in (*task.train, *task.test)]
        assert len(set(inputs)) == len(inputs), "no test example was seen in training"
        assert all(example.output and example.input for example in (*task.train, *task.test))
        assert len(task.train) >= 16
        assert task.instruction.strip() == task.instruction != ""


def test_the_same_seed_gives_the_same_tasks_and_another_seed_others():
    again = synthetic_tasks(60, seed=3)
    assert again == tasks()[:60]
    assert synthetic_tasks(60, seed=4) != again


def test_no_two_tasks_are_asked_for_alike():
    assert len({task.instruction for task in tasks()}) == len({task.name for task in tasks()}) == len(tasks())


@pytest.mark.parametrize("name", ["contains_letter", "is_above", "is_topic", "names_field", "is_of_category"])
def test_questions_have_both_answers_often_enough_to_learn_them(name):
    for task in by_family()[name]:
        counts = Counter(example.output for example in task.train)
        assert len(counts) == 2
        assert min(counts.values()) > 0.1 * len(task.train)
        assert all(label in task.instruction for label in counts)


def test_answers_do_what_the_instructions_say():
    for task, example in examples("add"):
        (n,) = re.findall(r"\d+", task.instruction)
        assert int(example.output) == int(example.input) + int(n)
    for task, example in examples("contains_letter"):
        letter = re.search(r"letter (\w)", task.instruction)[1]
        good = re.search(r"(?:Answer|Write|Say) (\S+)", task.instruction)[1]
        assert (example.output == good) == (letter in example.input)
    for _, example in examples("field_of_note"):
        assert example.output in example.input
    for task, example in examples("always"):
        assert example.output in task.instruction
    for _, example in examples("fields_as_json"):
        assert all(value in example.input for value in json.loads(example.output).values())
    for _, example in examples("shortest_item"):
        assert len(example.output) <= min(map(len, re.split(r"[^a-z]+", example.input)))


@pytest.mark.parametrize("name", materials.KINDS)
def test_the_parts_of_an_input_stand_in_it_and_have_the_same_names_in_every_draw(name):
    draw = materials.KINDS[name](Random(5))
    drawn = [draw(Random(seed)) for seed in range(20)]
    assert all(part and part in material.text for material in drawn for part in material.parts.values())
    assert len({tuple(sorted(material.parts)) for material in drawn}) == 1


def test_a_composed_task_changes_the_part_that_it_names():
    assert "the third word" in materials.KINDS["words"](Random(0))(Random(0)).parts
    change = composed.TextChange('"x: " and then {}', "x: {}".format)
    assert change.apply("abc") == "x: abc"
    for plain in composed.PLAIN:
        assert "{}" in plain.applied and plain.apply("Berlin") != "Berlin"


@pytest.mark.parametrize("name", [name for name in FAMILIES if name.startswith("rule_on_")])
def test_a_rule_is_told_with_its_labels_and_both_sides_of_it_occur(name):
    for task in by_family()[name]:
        common, count = Counter(example.output for example in task.train).most_common(1)[0]
        assert count < 0.95 * len(task.train)
        assert common in task.instruction or all(
            example.output in example.input for example in task.train if example.output == common
        )


@pytest.mark.parametrize("name", [name for name in FAMILIES if name.startswith("legend_on_")])
def test_every_answer_of_a_legend_stands_in_its_instruction(name):
    assert all(example.output in task.instruction for task, example in examples(name))


def test_programs_do_what_they_say():
    for task, example in examples("one_step"):
        before, after = (re.findall(r"\d+", text) for text in (example.input, example.output))
        if "reverse" in task.instruction.lower():
            assert after == before[::-1]
        if "drop the first number" in task.instruction.lower():
            assert after == before[1:]


def test_one_kind_of_input_is_asked_different_things():
    asked = {task.instruction for task, example in examples("nth_letter") + examples("spell") + examples("put_after")}
    assert len(asked) >= 8


def test_no_synthetic_task_has_the_name_of_a_real_one(tasks_folder):
    assert not {task.name for task in tasks()} & {task.name for task in read_tasks([tasks_folder])}
