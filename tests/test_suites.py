"""The published tasks: their parts, and what must not be met in training."""

import json

import pytest
from tiny import command

from prompt2lora.errors import TaskFileError, UsageError
from prompt2lora.evaluation.published.measuring import seen
from prompt2lora.generator.generator import Generator
from prompt2lora.training.drawing import Drawing
from prompt2lora.training.recipe import Recipe, Stage
from prompt2lora.training.release import read_plan
from prompt2lora.training.sampling import PromptPool
from prompt2lora.training.selection import training_tasks
from prompt2lora.training.suites import (
    COMMONSENSE,
    SUITES,
    never_trained_on,
    question,
    read_suite,
    read_suites,
    teaching_parts,
    training_part,
    without,
)
from prompt2lora.training.tasks import Example, Task

LETTERED = "{}\nA. first\nB. second"


def lettered(text, answer="B"):
    return {"instruction": "Write the letter.", "input": LETTERED.format(text), "output": answer}


def write(folder, name, rows):
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_suite_files(folder):
    """Every file of the suites, small; nothing occurs twice."""
    folder.mkdir(parents=True, exist_ok=True)
    for suite in SUITES.values():
        for file in {suite.train, suite.test, *suite.also}:
            write(folder, file, [_row(file, at) for at in range(20 if file == "mbpp" else 12)])
    return folder


def _row(file, at):
    if file.startswith("gsm8k"):
        meta = {"solution": f"{at} + 1 = {at + 1}"}
        return {"instruction": "Solve.", "input": f"{file} {at} and one?", "output": str(at + 1), "meta": meta}
    if file.startswith("math"):
        meta = {"solution": f"It is $\\boxed{{\\frac{{{at}}}{{2}}}}$."}
        return {
            "instruction": "Solve.",
            "input": f"{file} half of {at}?",
            "output": f"\\frac{{{at}}}{{2}}",
            "meta": meta,
        }
    if file == "humaneval":
        code = f'def f{at}(x):\n    """ Add {at}. """'
        tests = f"def check(f):\n    assert f(1) == {at + 1}\n\ncheck(f{at})"
        return {"instruction": "Complete.", "input": code, "output": f"return x + {at}", "tests": tests}
    if file == "mbpp":
        number = 11 + at if at < 10 else 601 + at
        meta, tests = {"task_id": number, "setup": ""}, [f"assert g{at}(1) == {at}"] * 3
        row = {
            "instruction": "Write.",
            "input": f"Write g{at}.\n{tests[0]}",
            "output": f"def g{at}(x):\n    return {at}",
        }
        return {**row, "meta": meta, "tests": tests}
    if file.startswith("boolq"):
        return {"instruction": "Answer yes or no.", "input": f"is {file} {at} so?", "output": "yes" if at % 2 else "no"}
    if file.startswith("winogrande"):
        return lettered(f"Ann met Eve in {file} {at} and _ smiled.", "AB"[at % 2])
    return lettered(f"{file} question {at}?", "AB"[at % 2])


@pytest.fixture
def folder(tmp_path):
    return write_suite_files(tmp_path / "suites")


def test_every_suite_has_prompts_and_tests_that_share_no_question(folder):
    for published in read_suites(folder):
        asked = {question(one.input) for one in published.task.test}
        assert asked
        assert published.task.train
        assert not asked & {question(one.input) for one in published.task.train}


def test_a_suite_with_one_part_is_halved_always_alike_and_others_keep_theirs(folder):
    halved, again = read_suite(folder, "piqa").task, read_suite(folder, "piqa").task
    assert halved == again
    assert len(halved.train) == len(halved.test) == 6
    arc = read_suite(folder, "arc_e").task
    assert {one.input.split()[0] for one in arc.train} == {"arc_e_train"}
    assert {one.input.split()[0] for one in arc.test} == {"arc_e_test"}
    assert [one.input for one in arc.test] != sorted(one.input for one in arc.test)


def test_mbpp_is_tested_on_the_numbers_that_the_field_tests(folder):
    mbpp = read_suite(folder, "mbpp")
    assert {one.input.split()[1] for one in mbpp.task.test} == {f"g{at}." for at in range(10)}
    assert [tests.count("assert") for tests in mbpp.against] == [3] * 10
    assert all(f"g{one.input[7]}(1)" in tests for one, tests in zip(mbpp.task.test, mbpp.against, strict=True))


def test_worked_steps_are_an_option_and_end_with_the_result(folder):
    plain, worked = (read_suite(folder, name).task for name in ("gsm8k", "gsm8k-steps"))
    assert [one.input for one in plain.test] == [one.input for one in worked.test]
    for short, long in zip(plain.test, worked.test, strict=True):
        assert long.output.endswith(f"\n#### {short.output}")
        assert "+ 1 =" in long.output
    assert all("\\boxed{" in one.output for one in read_suite(folder, "math-steps").task.test)
    assert "####" in worked.instruction


@pytest.mark.parametrize("name", SUITES)
def test_nothing_that_is_measured_on_a_suite_was_trained_on_it(folder, name):
    corpus = [Task(other, "", "", "train", (), ()) for other in ("plain", "reasoning_gym_gsm_symbolic")]
    everything = [*corpus, *(training_part(one) for one in read_suites(folder))]
    left = without(everything, folder, [name])
    names = {task.name for task in left}
    assert name not in names
    assert not names & never_trained_on(name)
    assert "plain" in names
    asked = {question(one.input) for one in read_suite(folder, name).task.test}
    assert not asked & {question(one.input) for task in left for one in (*task.train, *task.test)}


def test_suites_of_one_kind_stay_apart_where_the_field_trains_without_both():
    assert {"gsm8k", "math", "reasoning_gym_gsm_symbolic"} <= never_trained_on("math-steps")
    assert {"humaneval", "mbpp"} == never_trained_on("mbpp")
    assert never_trained_on("arc_e") == {"arc_e"}
    assert len(COMMONSENSE) == 7


def test_a_question_of_the_suite_is_taken_out_wherever_it_stands_and_under_other_options(folder):
    known = read_suite(folder, "obqa").task.test[0].input
    same = known.replace("A. first", "A. another").upper()
    task = Task("mine", "Do.", "mine", "train", (Example(same, "A"), Example("own", "B")), (Example(known, "A"),))
    (left,) = without([task], folder, ["obqa"])
    assert left.train == (Example("own", "B"),)
    assert left.test == ()
    assert without([task], folder, ["piqa"]) == [task]


def recipe(folder, tasks, **changes):
    stages, places = (Stage(steps=40, twisted=0.0),), {"tasks": str(tasks), "suites": str(folder)}
    return Recipe(**{"stages": stages, "validation": 0.0, **places, **changes})


def test_a_recipe_trains_on_six_suites_and_the_corpus_and_leaves_the_seventh_out(folder, tasks_folder):
    asked = recipe(folder, tasks_folder, published=COMMONSENSE, without=("boolq",))
    fit, _ = training_tasks(asked)
    names = {task.name for task in fit}
    assert names == {*(set(COMMONSENSE) - {"boolq"}), *(f"task{i}" for i in range(6))}
    assert all(task.train and task.test for task in fit)
    fit, held_out = training_tasks(asked.changed(validation=0.9))
    assert held_out
    assert {task.name for task in fit} >= set(COMMONSENSE) - {"boolq"}, "what is trained on is not held out"


def test_a_published_task_is_drawn_as_often_as_the_recipe_says(folder, tasks_folder, chat):
    asked = recipe(folder, tasks_folder, published=COMMONSENSE, without=("boolq",), published_share=0.5)
    fit, _ = training_tasks(asked)
    prompts = PromptPool(fit, most=4, known=8, seed=0)
    plain = Drawing(asked.changed(published_share=0.0), fit, [], prompts, chat)
    drawn = [task.name for step in range(40) for task in Drawing(asked, fit, [], prompts, chat)(step).questions.tasks]
    assert sum(name in COMMONSENSE for name in drawn) > 0.4 * len(drawn)
    assert "boolq" not in drawn
    assert [task.name for task in plain(0).questions.tasks] != drawn[:8]


def test_a_recipe_that_names_no_suite_is_the_one_it_was(tasks_folder):
    plain = Recipe(stages=(Stage(steps=1),), tasks=str(tasks_folder))
    assert not {"published", "published_share", "without", "suites"} & plain.method().keys()
    assert plain.changed(without=("boolq",)).method()["without"] == ("boolq",)


def test_an_unknown_suite_a_missing_folder_and_a_broken_row_are_told(folder, tasks_folder):
    with pytest.raises(UsageError, match="unknown suite 'arc'; there are arc_e, obqa"):
        read_suite(folder, "arc")
    with pytest.raises(UsageError, match="--suites"):
        training_tasks(recipe("", tasks_folder, without=("boolq",)))
    write(folder, "obqa_test", [{"input": "x", "output": "y"}])
    with pytest.raises(TaskFileError, match=r"obqa_test\.jsonl:1: a row needs the texts instruction"):
        read_suite(folder, "obqa")


@pytest.mark.slow
def test_a_generator_is_trained_without_a_suite_by_one_command(folder, tasks_folder, base, encoder_folder, tmp_path):
    (tmp_path / "recipe.toml").write_text(
        f'base = "{base}"\nencoder = "{encoder_folder}"\nvalidation = 0.0\npublished = ["boolq", "obqa"]\n'
        "published_share = 0.5\n[generator]\nwidth = 64\nhidden = 16\ngrid = [2, 2, 16]\ntrunk = [[2, 112, 16]]\n"
        "[[stage]]\nsteps = 1\ntasks = 2\nbudget = 120\n"
    )
    words = ["train", "--recipe", tmp_path / "recipe.toml", "--tasks", tasks_folder, "--suites", folder]
    code, _, told = command(*words, "--without", "boolq", "--out", tmp_path / "run")
    assert code == 0, told
    made = Generator.from_pretrained(tmp_path / "run" / "generator")
    assert "obqa" in made.atlas.names
    assert seen(made, "boolq") == ()
    assert seen(made, "obqa") == ("obqa",)
    assert made.provenance["recipe"]["without"] == ["boolq"]


def test_a_release_without_a_suite_trains_no_run_on_it(folder, tmp_path):
    recipe = 'without = ["boolq"]\npublished = ["obqa", "piqa"]\n\n[[stage]]\nsteps = 1\ntasks = 1\nbudget = 64\n'
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text(recipe)
    plan = tmp_path / "plan.toml"
    plan.write_text('[[run]]\nrecipe = "one.toml"\n[[run]]\nrecipe = "two.toml"\nshared = "one"\n')
    for run in read_plan(plan, tmp_path, folder, ["obqa"]):
        assert run.recipe.without == ("boolq", "obqa")
        assert run.recipe.suites == str(folder)
    for words, told in (
        (["--without", "obqa"], "name their folder by --suites"),
        (["--suites", folder, "--without", "arc"], "unknown suite 'arc'"),
        ([], "one.toml trains on the published tasks; name their folder by --suites"),
    ):
        code, _, said = command("release", "--tasks", tmp_path, "--plan", plan, "--out", tmp_path / "out", *words)
        assert (code, told in said) == (2, True), said
    assert not (tmp_path / "out").exists()


def test_a_suite_is_taught_without_what_any_other_suite_asks(folder):
    write(folder, "piqa_validation", [lettered(f"piqa {at}?") for at in range(12)])
    asked = json.loads((folder / "piqa_validation.jsonl").read_text().splitlines()[0])
    known = [lettered(f"obqa {at}?") for at in range(11)]
    write(folder, "obqa_train", [*known, asked])
    obqa, piqa = teaching_parts(folder, ["obqa", "piqa"])
    examples = {
        name: {question(one.input) for one in (*part.train, *part.test)} for name, part in [("o", obqa), ("p", piqa)]
    }
    assert examples["o"] == {question(row["input"]) for row in known}
    assert question(asked["input"]) not in examples["p"]
    assert obqa.split == piqa.split == "train"
