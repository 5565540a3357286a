"""Tasks whose right answers are the base's own, so that adapters keep what it can do."""

import ast
from random import Random

import pytest
import torch
from tiny import SIZES, write_tasks

from prompt2lora.base.decoding import ScoredAnswer
from prompt2lora.errors import UsageError
from prompt2lora.ground.progress import silent
from prompt2lora.training import self_answered
from prompt2lora.training.drawing import Drawing
from prompt2lora.training.finish import train
from prompt2lora.training.recipe import Recipe, Stage
from prompt2lora.training.run import Run
from prompt2lora.training.self_answered import PREFIX, parted, self_answered_tasks
from prompt2lora.training.synthetic import mathematics
from prompt2lora.training.synthetic.problems import MARKS
from prompt2lora.training.synthetic.requests import KINDS, Asking, Request, draw_asking
from prompt2lora.training.tasks import Task


def requests(kind, count=40):
    number = list(KINDS).index(kind)
    for seed in range(count):
        random = Random(seed)
        _, asking = draw_asking(number, random)
        yield asking, asking.request(random)


@pytest.mark.parametrize("kind", KINDS)
def test_requests_of_every_kind_differ_and_are_drawn_again_from_their_seed(kind):
    drawn = [(asking.instruction, request.text) for asking, request in requests(kind)]
    assert drawn == [(asking.instruction, request.text) for asking, request in requests(kind)]
    assert len({text for _, text in drawn}) > 20
    assert len({instruction for instruction, _ in drawn}) > 2


def test_what_a_function_is_shown_to_give_is_a_value_of_python():
    shown = [request.text.partition("\nassert ")[2] for _, request in requests("functions", 80)]
    assert sum(map(bool, shown)) > 20
    for line in filter(None, shown):
        (call,) = ast.parse(line).body
        ast.literal_eval(call.value.comparators[0])


def test_a_function_to_be_completed_is_python_as_far_as_it_goes():
    for _, request in requests("completions"):
        ast.parse(f"{request.text}\n    pass")


def test_a_program_is_kept_if_it_parses_fenced_or_not():
    _, request = next(requests("functions", 1))
    whole = "Here it is:\n```python\ndef f(x):\n    return x\n```\nThat is all."
    assert request.kept(whole) == whole
    assert request.kept("def f(x):\n    return x") == "def f(x):\n    return x"
    assert request.kept("Here it is:\n```python\ndef f(x:\n```") == ""
    assert request.kept("I cannot do that.") == ""


def test_a_worked_problem_is_kept_if_its_result_is_right_and_gets_the_mark_that_it_lacks():
    for seed in range(60):
        random = Random(seed)
        _, asking = draw_asking(list(KINDS).index("worked"), random)
        state = random.getstate()
        request = asking.request(random)
        random.setstate(state)
        result = random.choice(mathematics.PROBLEMS)(random).result
        (form,) = (form for form in MARKS if form.format("N") in asking.instruction)
        right = f"That is 7 or, better, {result}"
        assert request.kept(f"{right}.") == f"{right}.\n{form.format(result)}"
        assert request.kept(f"worked\n{form.format(result)}") == f"worked\n{form.format(result)}"
        assert request.kept(f"It is {result}0.") == ""
        assert request.kept("no number at all") == ""


@pytest.fixture
def talkative(monkeypatch):
    """A tiny base says nothing worth keeping: what it says is kept as it is here, and is asked for a few tokens."""
    kinds = {
        "words": lambda random: self_answered_asking("Say something.", random),
        "others": lambda random: self_answered_asking("Say something else.", random),
    }
    monkeypatch.setattr("prompt2lora.training.synthetic.requests.KINDS", kinds)
    monkeypatch.setattr(self_answered, "_MAX_NEW_TOKENS", 6)
    asked = []
    real = self_answered.scored_answers

    def uncut(model, chat, prompts, **options):
        asked.append(prompts)
        given = real(model, chat, prompts, **options)
        return [ScoredAnswer(f"{one.text} {number % 3}", [], cut=number % 12 == 11) for number, one in enumerate(given)]

    monkeypatch.setattr(self_answered, "scored_answers", uncut)
    return asked


def self_answered_asking(instruction, random):
    return Asking(
        instruction, lambda random: Request(f"topic {random.randint(0, 9999)}", lambda answer: answer.removesuffix("0"))
    )


@pytest.fixture
def recipe(base, encoder_folder, tmp_path):
    return Recipe(
        stages=(Stage(steps=3, tasks=2, budget=60, alone=1.0, bare=0.0, warmup=0),),
        tasks=str(write_tasks(tmp_path / "tasks")),
        base=base,
        encoder=encoder_folder,
        dtype="float32",
        generator=SIZES,
        self_answered=11,
        self_answered_share=0.5,
        seed=4,
    )


def test_answers_are_kept_and_the_base_is_asked_once(talkative, recipe, tmp_path):
    run = Run(recipe, tmp_path / "run", silent)
    assert len(talkative) == 3
    tasks = self_answered_tasks(tmp_path / "run" / "self-answered", 11, 4, lambda: pytest.fail("asked again"), silent)
    assert len(tasks) == 11
    assert sorted(task.name for task in [*run.answered, *run.validation] if task.name.startswith(PREFIX)) == sorted(
        task.name for task in tasks
    )
    for task in tasks:
        assert all(example.output for example in (*task.train, *task.test))
        assert not {one.input for one in task.train} & {one.input for one in task.test}
        assert len(task.train) + len(task.test) < 12, "those cut off or not worth keeping are left out"


def test_every_fifth_is_held_out_and_the_others_are_drawn_as_often_as_the_recipe_says(talkative, recipe, tmp_path):
    run = Run(recipe, tmp_path / "run", silent)
    held = [task for task in run.validation if task.name.startswith(PREFIX)]
    assert len(held) == 3
    assert len(run.answered) == 8
    assert not {task.name for task in held} & {task.name for task in run.answered}
    longer = recipe.changed(stages=(recipe.stages[0].changed(steps=100),))
    drawing = Drawing(longer, run.fit, run.fresh_families, run.prompts, run.base.chat, run.answered)
    drawn = [task.name for step in range(100) for task in drawing(step).questions.tasks]
    assert 0.4 < sum(name.startswith(PREFIX) for name in drawn) / len(drawn) < 0.6
    assert not {task.name for task in held} & set(drawn)


def test_of_every_kind_the_first_in_five_is_held_out():
    tasks = [Task(f"{PREFIX}{n}", "", f"kind {n % 2}", "train", (), ()) for n in range(14)]
    fit, held_out = parted(tasks)
    assert [task.name for task in held_out] == [f"{PREFIX}{n}" for n in (0, 1, 10, 11)]
    assert sorted([*fit, *held_out], key=tasks.index) == tasks


def test_a_folder_of_another_recipe_is_refused_before_the_base_is_asked(talkative, recipe, tmp_path):
    Run(recipe, tmp_path / "run", silent)
    asked = len(talkative)
    for other in (recipe.changed(seed=5), recipe.changed(self_answered=16)):
        with pytest.raises(UsageError, match="belongs to another recipe"):
            Run(other, tmp_path / "run", silent)
    Run(recipe.changed(self_answered=0, self_answered_share=0.0), tmp_path / "plain", silent)
    with pytest.raises(UsageError, match="belongs to another recipe"):
        Run(recipe, tmp_path / "plain", silent)
    assert len(talkative) == asked


def test_after_a_kill_only_what_is_missing_is_answered(talkative, recipe, tmp_path, monkeypatch):
    answering = self_answered.scored_answers

    def killed(*given, **options):
        if len(talkative) == 2:
            raise KeyboardInterrupt
        return answering(*given, **options)

    monkeypatch.setattr(self_answered, "scored_answers", killed)
    with pytest.raises(KeyboardInterrupt):
        Run(recipe, tmp_path / "run", silent)
    monkeypatch.setattr(self_answered, "scored_answers", answering)
    twice = Run(recipe, tmp_path / "run", silent)
    assert len(talkative) == 3
    once = Run(recipe, tmp_path / "another", silent)
    assert [task.digest for task in twice.everyone] == [task.digest for task in once.everyone]


def test_a_base_that_says_nothing_worth_keeping_is_told_and_not_asked_again(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(self_answered, "_MAX_NEW_TOKENS", 3)
    for _ in range(2):
        with pytest.raises(UsageError, match=r"of 11 tasks that .* answered itself too few are worth keeping"):
            Run(recipe, tmp_path / "run", silent)
        monkeypatch.setattr(self_answered, "scored_answers", lambda *_, **__: pytest.fail("asked again"))


@pytest.mark.parametrize("half", [{"self_answered": 5}, {"self_answered_share": 0.5}])
def test_a_number_without_a_share_is_refused_and_the_other_way_round(half):
    with pytest.raises(UsageError, match="self_answered and self_answered_share go together"):
        Recipe(stages=(Stage(steps=1),), **half)


def test_the_base_is_the_teacher_of_what_it_has_answered_and_the_shared_adapter_of_the_rest(
    talkative, recipe, tmp_path
):
    run = Run(recipe, tmp_path / "run", silent)
    run.generator.start.data.normal_()
    theirs, own = run._told([run.fit[0], run.answered[0]])
    assert torch.equal(theirs, run.generator.start)
    assert not own.any()


def test_a_run_with_them_ends_in_a_generator_that_counts_them(talkative, recipe, tmp_path):
    made = train(recipe, tmp_path / "run")
    assert made.provenance["fit_tasks"] == len(Run(recipe, tmp_path / "run", silent).fit) + 8
    assert made.provenance["recipe"]["self_answered"] == 11
    assert len(talkative) == 3
