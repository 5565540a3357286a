"""The published tasks measured from end to end on tiny models, and how each kind of them is scored."""

import json
from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
import torch
from test_suites import lettered, write, write_suite_files
from tiny import command, tiny_generator

from prompt2lora import api
from prompt2lora.adapter.hooks import adapted
from prompt2lora.base.sampling import Sampling
from prompt2lora.errors import UsageError
from prompt2lora.evaluation.published import scoring
from prompt2lora.evaluation.published.choices import continuations, read_question
from prompt2lora.evaluation.published.measuring import others, seen
from prompt2lora.evaluation.published.scoring import METRICS, Asking
from prompt2lora.generator.atlas import Atlas
from prompt2lora.ground.progress import listening, tell
from prompt2lora.training.suites import SUITES, SuiteKind, read_suite, read_suites
from prompt2lora.training.tasks import Example

QUESTION = "Which is red?\nA. a rose\nB. the grass\nC. A. Miller"


@pytest.fixture
def folder(tmp_path):
    return write_suite_files(tmp_path / "suites")


@pytest.fixture
def short(monkeypatch):
    """The tiny base ends no answer by itself."""
    for name, suite in SUITES.items():
        monkeypatch.setitem(SUITES, name, replace(suite, max_new_tokens=3))


def test_options_are_what_stands_behind_the_letters():
    question = read_question(Example(QUESTION, "B"))
    assert question.text == "Which is red?"
    assert question.options == ("a rose", "the grass", "A. Miller")
    assert (question.answers, question.right) == (("A", "B", "C"), 1)
    assert (
        read_question(Example("Context: c\nQuestion: q\nChoices:\nA. x\nB. y", "A")).text == "Context: c\nQuestion: q"
    )
    plain = read_question(Example("is it red?", "no"))
    assert (plain.text, plain.options, plain.right) == ("is it red?", ("yes", "no"), 1)


@pytest.mark.parametrize(
    ("suite", "text", "pairs"),
    [
        ("arc_e", "Q?\nA. x\nB. y", [("Question: Q?\nAnswer:", " x"), ("Question: Q?\nAnswer:", " y")]),
        ("hellaswag", "He went\nA. home.\nB. on.", [("He went", " home."), ("He went", " on.")]),
        ("boolq", "is it?", [("Question: is it?\nAnswer:", " yes"), ("Question: is it?\nAnswer:", " no")]),
        ("winogrande", "Ann met Eve and _ left.\nA. Ann\nB. Eve", [
            ("Ann met Eve and Ann", " left."), ("Ann met Eve and Eve", " left."),
        ]),
    ],
)  # fmt: skip
def test_the_field_s_form_shows_the_question_alone(suite, text, pairs):
    right = "yes" if suite == "boolq" else "A"
    assert continuations(SUITES[suite], read_question(Example(text, right))) == pairs


def likelihood(frozen, grid, beginning, follows):
    """Of what follows, token by token, by plain arithmetic."""
    ids = frozen.chat.text_ids(beginning)
    whole = frozen.chat.text_ids(beginning + follows)
    with adapted(frozen.model, grid[None], frozen.layout), torch.inference_mode():
        logits = frozen.model(torch.tensor([whole])).logits[0].log_softmax(-1)
    return sum(float(logits[at - 1, whole[at]]) for at in range(len(ids), len(whole)))


@pytest.mark.parametrize("suite", ["arc_e", "winogrande"])
def test_options_are_chosen_by_their_likelihood_as_they_are_and_per_letter(frozen, folder, suite, layout, short):
    published = read_suite(folder, suite)
    grid = torch.randn(layout.shape, generator=torch.Generator().manual_seed(1)) * 0.05
    shown = published.task.train[:1]
    asking = Asking(frozen, grid, shown)
    found = scoring.score(asking, published, 0, 4)
    (before,) = ["".join(continuations(published.suite, read_question(one))[read_question(one).right]) for one in shown]
    for at, example in enumerate(published.task.test[:4]):
        question = read_question(example)
        pairs = continuations(published.suite, question)
        likely = [likelihood(frozen, grid, f"{before}\n\n{begin}", follows) for begin, follows in pairs]
        per_letter = [value / (len(follows) - 1) for value, (_, follows) in zip(likely, pairs, strict=True)]
        for metric, values in (("acc", likely), ("acc_norm", per_letter)):
            assert found[metric][at] == float(values.index(max(values)) == question.right)


@pytest.mark.parametrize("arm", ["base", "adapter", "examples"])
@pytest.mark.parametrize("suite", ["obqa", "boolq"])
def test_a_written_answer_scores_as_if_it_were_written_whole(frozen, folder, suite, arm, layout, short):
    published = read_suite(folder, suite)
    grid = torch.randn(layout.shape, generator=torch.Generator().manual_seed(3)) * 0.05 if arm == "adapter" else None
    asking = Asking(frozen, grid, published.task.train[:2] if arm == "examples" else ())
    asked = published.task.test
    questions = [read_question(example) for example in asked]
    given = asking.answers(published, asked)
    own = [replace(example, output=answer) for example, answer in zip(asked, given, strict=True)]
    assert scoring._chosen(asking, published, own, questions)["written"] == [1.0] * len(own)
    expected = [float(answer.lower() == example.output.lower()) for answer, example in zip(given, asked, strict=True)]
    assert scoring._chosen(asking, published, asked, questions)["written"] == expected


@pytest.mark.parametrize(
    ("begun", "right", "score"),
    [
        ("A</s>", "A", 1.0),
        ("a</s>", "A", 1.0),
        (" A", "A", None),
        ("A", "A", None),
        ("A.", "A", 0.0),
        ("Ye", "yes", None),
        ("Yes", "no", 0.0),
        ("</s>", "A", 0.0),
        ("yes.....", "yes", 0.0),
        ("  yes    ", "yes", 1.0),
    ],
)
def test_a_begun_answer_is_right_or_wrong_or_not_decided(frozen, begun, right, score):
    ids = frozen.chat.tokenizer(begun, add_special_tokens=False)["input_ids"]
    assert scoring._written(Asking(frozen, None, ()), SUITES["boolq"], ids, right) == score


def test_half_a_letter_decides_nothing(frozen):
    (first, *_), asking = (
        frozen.chat.tokenizer("\u00e9", add_special_tokens=False)["input_ids"],
        Asking(frozen, None, ()),
    )
    assert scoring._written(asking, SUITES["boolq"], [first], "\u00e9") is None


@pytest.mark.parametrize(
    ("suite", "metrics", "unread"), [("obqa", ("letter",), "field"), ("obqa", ("acc_norm",), "chat")]
)
def test_what_no_chosen_metric_needs_is_not_read(frozen, folder, suite, metrics, unread, short):
    published, asking = read_suite(folder, suite), Asking(frozen, None, (), metrics=metrics)
    whole = scoring.score(Asking(frozen, None, ()), published, 0, 3)
    assert scoring.score(asking, published, 0, 3) == {metric: whole[metric] for metric in metrics}
    assert unread not in vars(asking)


def test_drawn_answers_are_the_same_for_the_same_seed_and_others_for_another(frozen, folder, short):
    published, asking = read_suite(folder, "mbpp"), Asking(frozen, None, ())
    asked = published.task.test[:3]
    first, again, other = (asking.answers(published, asked, Sampling(seed=seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert asking.answers(published, asked[:2], Sampling(seed=1)) == first[:2]
    cold = asking.answers(published, asked, Sampling(temperature=1e-4, seed=1))
    assert cold == asking.answers(published, asked)


@dataclass(frozen=True)
class Answering(Asking):
    """Who is asked gives these answers, whatever the base would write."""

    given: dict[str, list[str]] = field(default_factory=dict)

    def answers(self, published, asked, sampling=None):
        return [self.given[one.input].pop(0) for one in asked]


def answering(frozen, given, samples=0):
    return Answering(frozen, None, (), samples, given={text: list(texts) for text, texts in given.items()})


def test_mathematics_is_scored_by_value_and_to_the_letter(frozen, folder):
    published = read_suite(folder, "gsm8k-steps")
    one, two, three = published.task.test[:3]
    value = published.against[0]
    given = {one.input: [f"So it is ${value}.00"], two.input: [two.output], three.input: ["#### 99999"]}
    found = scoring.score(answering(frozen, given), published, 0, 3)
    assert found == {"value": [1.0, 1.0, 0.0], "exact": [0.0, 1.0, 0.0]}


def test_programs_are_scored_by_their_tests_and_drawn_ones_by_how_many_pass(frozen, folder):
    published = read_suite(folder, "humaneval")
    one, two = published.task.test[:2]
    right = {example.input: answer for example, answer in ((one, one.output), (two, two.output))}
    assert scoring.score(answering(frozen, {text: [code] for text, code in right.items()}), published, 0, 2) == {
        "pass@1": [1.0, 1.0]
    }
    given = {one.input: ["return None", right[one.input], *["import os; os._exit(0)"] * 4], two.input: ["return"] * 6}
    found = scoring.score(answering(frozen, given, samples=5), published, 0, 2)
    assert found == {"pass@1": [0.0, 0.0], "pass@5": [1.0, 0.0]}


@pytest.mark.parametrize(("metrics", "share"), [(("pass@1",), 1.0), (("pass@5",), 1 / 6)])
def test_greedy_programs_are_all_of_the_work_where_none_are_drawn(frozen, folder, metrics, share):
    published = read_suite(folder, "humaneval")
    one = published.task.test[0]

    @dataclass(frozen=True)
    class Telling(Answering):
        def answers(self, published, asked, sampling=None):
            tell({"share": 1.0})
            return super().answers(published, asked, sampling)

    told = []
    with listening(told.append):
        scoring.score(Telling(frozen, None, (), 5, metrics, given={one.input: [one.output] * 6}), published, 0, 1)
    assert told[0]["share"] == pytest.approx(share)


@pytest.mark.slow
def test_every_kind_is_measured_from_end_to_end_and_goes_on_where_it_was(
    folder, generator_folder, tmp_path, monkeypatch, short
):
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    words = ["benchmark", "--suites", folder, "--suite", "obqa,gsm8k,humaneval", "--generator", generator_folder]
    words += ["--arms", "base,icl-4,generated,wrong-prompt", "--limit", 2, "--samples", 5, "--prompts-per-task", 4]
    code, shown, told = command(*words, "--out", tmp_path / "one.json")
    assert code == 0, told
    assert "obqa, 2 of 12 examples" in shown
    first = json.loads((tmp_path / "one.json").read_text())
    for name, suite in first["published"].items():
        metrics = set(METRICS[SuiteKind(suite["kind"])])
        assert set(suite["arms"]) == {"base", "icl-4", "generated", "wrong-prompt"}
        for arm, found in suite["arms"].items():
            assert set(found["scores"]) == metrics, name
            assert set(found["gain"]) == (set() if arm == "base" else metrics)
    assert set(first["mean"]["generated"]) == set(METRICS[SuiteKind.COMMONSENSE])
    assert first["shut_off_by"] in ("namespaces", "refusals")
    kept = (tmp_path / "home" / "scores.jsonl").read_text()
    monkeypatch.setattr(scoring, "answers", None)  # nothing is asked again
    assert command(*words, "--out", tmp_path / "two.json")[0] == 0
    assert json.loads((tmp_path / "two.json").read_text())["published"] == first["published"]
    assert (tmp_path / "home" / "scores.jsonl").read_text() == kept


def test_a_generator_of_its_own_for_every_suite_is_found_by_the_suite_s_name(
    folder, generator, tmp_path, monkeypatch, short
):
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    for number, name in enumerate(("piqa", "boolq")):
        generator.provenance = {"steps": number}
        generator.save_pretrained(tmp_path / f"without-{name}")
    result = api.benchmark_published(
        folder, ["piqa", "boolq"], arms=["base"], limit=1, generator=str(tmp_path / "without-{suite}")
    )
    assert [suite.generator.steps for suite in result.published.values()] == [0, 1]


def test_a_generator_that_was_trained_on_what_the_suite_forbids_is_told(generator_config, plant_generator, generator):
    assert seen(tiny_generator(generator_config), "gsm8k") is None
    generator.atlas = Atlas(("math", "reasoning_gym_gsm_symbolic", "task3"), *generator.atlas[1:])
    assert seen(generator, "gsm8k") == ("math", "reasoning_gym_gsm_symbolic")
    assert seen(generator, "boolq") == ()
    earlier = {"recipe": {"published": ["piqa", "boolq"]}}
    recipe = {"published": ["piqa", "arc_e", "obqa"], "without": ["obqa"]}
    generator.provenance = {"recipe": recipe, "shared": {"recipe": {}, "start": earlier, "examples": 3}}
    told = {suite: seen(generator, suite) for suite in ("arc_e", "obqa", "piqa", "boolq", "winogrande")}
    assert told == {"arc_e": ("arc_e",), "obqa": (), "piqa": ("piqa",), "boolq": ("boolq",), "winogrande": ()}


def test_what_an_earlier_run_saw_of_the_task_files_that_a_suite_was_made_into_is_not_told(plant_generator, generator):
    generator.atlas = Atlas(("task3",), *generator.atlas[1:])
    without = {"recipe": {"without": ["gsm8k"]}}
    generator.provenance = {**without, "shared": {"recipe": {}}}
    assert seen(generator, "gsm8k") is None
    assert seen(generator, "boolq") == (), "no task file was made from it"
    generator.provenance = {**without, "shared": without}
    assert seen(generator, "gsm8k") == ()


def test_wrong_prompts_are_of_other_files_and_of_another_instruction(folder):
    every = read_suites(folder)
    for published in every:
        own, *wrong = others(published, every)
        assert own is published.task
        assert wrong
        assert all(task.instruction != own.instruction for task in wrong)
    gsm = {one.task.name: one for one in every}["gsm8k"]
    assert "gsm8k-steps" not in [task.name for task in others(gsm, every)]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--suite", "arc"], "unknown suite 'arc'"),
        (["--arms", "best"], "unknown arm 'best'"),
        (["--metrics", "accuracy"], "unknown metric 'accuracy'; there are written, letter, "),
        (["--suite", "boolq,gsm8k", "--metrics", "letter"], "gsm8k has none of the metrics letter; add one of value, "),
        (["--suite", "mbpp", "--metrics", "pass@5", "--samples", "4"], "mbpp has none of the metrics pass@5"),
        (["--tasks", "."], "either task files with --tasks or"),
        (["--forms", "bare"], "--forms bare is for task files without --suites; leave --forms out"),
        (["--split", "dev"], "--split dev is for task files without --suites; leave --split out"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_loaded(folder, generator_folder, tmp_path, words, told):
    code, _, said = command(
        "benchmark", "--suites", folder, "--generator", generator_folder, "--out", tmp_path / "o.json", *words
    )
    assert (code, told in said) == (2, True), said


def test_a_result_is_never_written_over(folder, generator_folder, tmp_path):
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(UsageError, match="must not exist"):
        api.benchmark_published(folder, ["piqa"], out=tmp_path / "result.json", generator=generator_folder)
    with pytest.raises(UsageError, match="at least one arm"):
        api.benchmark_published(folder, ["piqa"], arms=[], generator=generator_folder)


def test_scores_hang_on_the_question_and_on_the_answers_of_the_suite(folder, generator_folder, tmp_path, short):
    kept = tmp_path / "kept.jsonl"
    ask = {"arms": ["base"], "limit": 1, "generator": generator_folder, "scores": kept}
    lines = []
    for answer in ("A", "A", "B"):
        write(folder, "obqa_test", [lettered("the one question?", answer)])
        api.benchmark_published(folder, ["obqa"], **ask)
        lines.append(len(kept.read_text().splitlines()))
    assert [after - before for before, after in pairwise(lines)] == [0, 1]


def test_some_metrics_are_measured_alone_and_taken_from_what_was_measured_whole(
    folder, generator_folder, tmp_path, short, monkeypatch
):
    ask = {"arms": ["base"], "limit": 2, "generator": generator_folder, "scores": tmp_path / "kept.jsonl"}
    some = api.benchmark_published(folder, ["boolq"], metrics=["letter", "acc"], **ask)
    whole = api.benchmark_published(folder, ["boolq"], **ask)
    monkeypatch.setattr(scoring, "read", None)  # nothing is asked again
    again = api.benchmark_published(folder, ["boolq"], metrics=["acc_norm"], **ask)
    assert set(again.published["boolq"].arms["base"].scores) == set(again.mean["base"]) == {"acc_norm"}
    for part in (some, again):
        for metric, found in part.published["boolq"].arms["base"].scores.items():
            assert found == whole.published["boolq"].arms["base"].scores[metric]
    assert some.request.metrics == ("letter", "acc")
