"""Problems of our own: their steps lead to their results, and their instructions say what the answer shows."""

import re
from fractions import Fraction
from random import Random

import pytest

from prompt2lora.evaluation.published.mathematics import same_value
from prompt2lora.training.recipe import Recipe, Stage
from prompt2lora.training.synthetic import FAMILIES, draw_task, families, synthetic_tasks
from prompt2lora.training.synthetic.problems import MARKS
from prompt2lora.training.tasks import is_japanese

REGISTRIES = ("en-mathematics", "ja-mathematics")
NAMES = [(language, name) for language in REGISTRIES for name in families([language])]


def drawn(name, count=12):
    return [draw_task(Random(f"{name} {seed}"), [name]) for seed in range(count)]


def marked(text):
    """The result behind its mark, if one stands in the last line."""
    last = text.split("\n")[-1]
    found = [re.fullmatch(re.escape(mark.format("X")).replace("X", "(.+)"), last) for mark in MARKS]
    return next((match[1] for match in found if match), None)


@pytest.mark.parametrize(("language", "name"), NAMES)
def test_every_line_of_the_steps_is_true_and_the_last_is_the_result(language, name):
    tasks = drawn(name)
    for task in tasks:
        assert is_japanese(task.instruction) == (language == "ja-mathematics")
        for example in (*task.train, *task.test)[:12]:
            result = marked(example.output)
            steps = example.output.split("\n")[:-1]
            for step in steps:
                equal = re.sub(r".*[:：]|x = |\d+ \* x = | an hour| in \d+ hours", "", step).split("=")
                values = [_value(side) for side in equal]
                assert len(values) > 1
                assert len(set(values)) == 1, step
            if result is None:
                assert "\n" not in example.output
            else:
                assert steps
                assert _value(steps[-1].split("=")[-1].replace(" an hour", "")) == Fraction(result)
    assert {marked(task.train[0].output) is None for task in tasks} == {True, False}, "with steps and without"


def _value(text):
    plain = text.translate(str.maketrans("×÷", "*/")).strip()
    assert re.fullmatch(r"[-+*/() \d]+", plain), text
    return eval(re.sub(r"(\d+)", r"Fraction(\1)", plain), {"Fraction": Fraction})


@pytest.mark.parametrize(("language", "name"), NAMES[::4])
def test_the_judge_of_the_published_tasks_reads_the_result_out_of_the_steps(language, name):
    for task in drawn(name):
        for example in task.train[:3]:
            assert same_value(example.output, marked(example.output) or example.output)


def test_asking_for_more_tasks_than_there_are_instructions_gives_all_there_are():
    tasks = synthetic_tasks(40, 0, ["ja-mathematics"])
    instructions = {task.instruction for task in tasks}
    assert len(tasks) == len(instructions) == 4 + 3 * len(MARKS), "without steps and with, under every mark"


def test_they_are_drawn_only_where_a_recipe_names_them():
    assert not set(families(REGISTRIES)) & set(families(("en", "ja")))
    assert set(families(("en",))) == set(FAMILIES)
    recipe = Recipe(stages=(Stage(steps=1),), languages=("en", "en-mathematics"), synthetic=1.0)
    tasks = synthetic_tasks(len(families(recipe.languages)), 0, recipe.languages)
    assert any("mathematics" in task.family for task in tasks)
