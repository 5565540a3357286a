"""The judge: fair prompts, really other wrong prompts, rivals that get what their names say, scores that are kept."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from tiny import tiny_generator, tiny_generator_config, write_task

from prompt2lora import api
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.base.chat import ChatFormat
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.weights import weights_digest
from prompt2lora.errors import LayoutError, UsageError
from prompt2lora.evaluation import attempts, benchmark, score_cache
from prompt2lora.evaluation import judge as judging
from prompt2lora.evaluation.arms import ARMS
from prompt2lora.evaluation.attempts import shuffled
from prompt2lora.evaluation.judge import BenchmarkRequest, Judge
from prompt2lora.evaluation.resources import Resources
from prompt2lora.evaluation.score_cache import KeptScores, ScoreCache, base_key
from prompt2lora.evaluation.statistics import paired_difference
from prompt2lora.generator.examples import taught
from prompt2lora.generator.generator import ExamplesStart
from prompt2lora.generator.text_encoder import Encoder
from prompt2lora.training import teachers as teaching
from prompt2lora.training.tasks import Example, diverse, read_tasks
from prompt2lora.training.tuning import TuningOptions, fit, judged
from prompt2lora.training.whole import WholeOptions


def resources(generator, tasks, **changes):
    layout = generator.config.layout
    chat = ChatFormat(models.load_tokenizer(layout.base_model))
    settings = {"prompts_per_task": 5, **changes}
    return Resources(Frozen(None, chat, layout), Encoder(generator.config.encoder), generator, tasks, **settings)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A home of its own, so that no answer of another test is found there."""
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    return ScoreCache(tmp_path / "home" / "scores.jsonl")


@pytest.fixture
def collected(base, tasks_folder, tmp_path):
    options = teaching.TeacherOptions(base=base, steps=2, budget=200, least_gain=-1.0)
    teaching.collect(read_tasks([tasks_folder])[:3], tmp_path / "teachers", options)
    return tmp_path / "teachers"


@pytest.mark.parametrize("seed", range(5))
def test_wrong_prompts_are_another_task_s_and_every_task_lends_its_own_once(generator, tasks_folder, seed):
    tasks = read_tasks([tasks_folder])
    bench = resources(generator, tasks)
    lenders = [bench.other(task, seed).name for task in tasks]
    assert all(lender != task.name for lender, task in zip(lenders, tasks, strict=True))
    assert sorted(lenders) == sorted(task.name for task in tasks)


def test_prompts_are_inputs_of_the_training_part_and_depend_on_no_answer(generator, tasks_folder):
    (before, *_) = read_tasks([tasks_folder])
    chosen = resources(generator, [before]).prompts(before, 0)
    inputs = {f"{before.instruction}\n\n{one.input}" for one in before.train}
    assert len(set(chosen)) == 5
    assert set(chosen) <= inputs
    file = tasks_folder / "task0.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines = [{**line, "output": "?"} if "output" in line else line for line in lines if line.get("part") != "test"]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (after, *_) = read_tasks([tasks_folder])
    assert resources(generator, [after]).prompts(after, 0) == chosen
    assert resources(generator, [before]).prompts(before, 1) != chosen


def test_the_generated_adapter_of_a_task_is_made_of_its_prompts_alone(generator, tasks_folder):
    tasks = read_tasks([tasks_folder])
    bench = resources(generator, tasks)
    own = generator.generate(bench.encoder.conditions(bench.prompts(tasks[0], 0)))
    grid = {arm: ARMS[arm].attempt(bench, tasks[0], 0).grid() for arm in ("generated", "wrong-prompt", "random-text")}
    assert torch.equal(grid["generated"], own)
    lender = bench.other(tasks[0], 0)
    assert torch.equal(grid["wrong-prompt"], ARMS["generated"].attempt(bench, lender, 0).grid())
    assert not torch.equal(grid["wrong-prompt"], own)
    assert not torch.equal(grid["random-text"], own)


def test_the_mean_condition_knows_no_task(generator, tasks_folder):
    tasks = read_tasks([tasks_folder])
    bench = resources(generator, tasks)
    attempts = [ARMS["mean-condition"].attempt(bench, task, 0) for task in tasks]
    assert len({attempt.depends for attempt in attempts}) == 1
    seen = (generator.pooling.center - generator.pooling.center) / generator.pooling.spread
    change = generator.decoder(generator.pooling.perceptron(seen[None]).reshape(1, *generator.config.grid))
    assert torch.allclose(attempts[0].grid(), generator.start + generator.config.step * change[0], atol=1e-6)


def test_examples_in_context_are_labelled_examples_of_the_training_part(generator, tasks_folder):
    (task, *_) = read_tasks([tasks_folder])
    bench = resources(generator, [task])
    for shots in (1, 4):
        examples = ARMS[f"icl-{shots}"].attempt(bench, task, 0).examples
        assert len(examples) == shots
        assert set(examples) <= set(task.train)
    ids = bench.base.chat.prompt_ids(["c"], [("a", "b")])[0]
    assert bench.base.chat.tokenizer.decode(ids) == "<|user|>a</s><|assistant|>b</s><|user|>c</s><|assistant|>"


def test_examples_go_into_the_weights_as_many_as_the_arm_s_name_says_and_no_test_row(
    generator, model, tasks_folder, monkeypatch
):
    tasks = read_tasks([tasks_folder])
    made = resources(generator, tasks)
    made.base = made.training = made.base._replace(model=model)
    start = generator.start.detach()
    made.multi_task = Adapter(made.base.layout, start + 0.01, {})
    monkeypatch.setattr(generator, "examples", ExamplesStart(start + 0.02))
    task = tasks[0]

    def taught_by(task, count, start):
        pairs = [(task.prompt(one.input), one.output) for one in made.examples(task, 0, count)]
        return taught(made.base, start, made.prompts(task, 0), pairs)

    def attempt(name):
        return ARMS[name].attempt(made, task, 0)

    assert torch.equal(attempt("examples-4").grid(), taught_by(task, 4, start + 0.02))
    assert torch.equal(attempt("multi-task-examples-4").grid(), taught_by(task, 4, start + 0.01))
    assert torch.equal(attempt("examples-16-other").grid(), taught_by(made.other(task, 0), 16, start + 0.02))
    names = [name for name in ARMS if "examples-" in name]
    assert len({attempt(name).depends for name in names}) == len(names)


def test_shuffled_answers_are_the_same_answers_at_other_inputs():
    examples = [Example(text, text.upper()) for text in "abcdef"]
    mixed = shuffled(examples, 0)
    assert sorted(one.output for one in mixed) == sorted(one.output for one in examples)
    assert all(one.output != one.input.upper() for one in mixed)


def test_the_adapter_that_examples_are_put_into_is_shown_them_too(generator, tasks_folder):
    (task, *_) = read_tasks([tasks_folder])
    attempt = ARMS["shared-icl-4"].attempt(resources(generator, [task]), task, 0)
    assert attempt.examples == ARMS["icl-4"].attempt(resources(generator, [task]), task, 0).examples
    assert torch.equal(attempt.grid(), generator.examples_start)


@pytest.mark.parametrize(("arm", "count"), [("few-shot-16", 16), ("full-shot", None)])
def test_a_trained_rival_sees_as_many_examples_as_its_name_says_and_no_test_example(
    generator, model, tasks_folder, arm, count, monkeypatch
):
    (task, *_) = read_tasks([tasks_folder])
    bench = resources(generator, [task])
    bench.base = bench.base._replace(model=model)
    seen = []
    monkeypatch.setattr(attempts, "fit", lambda base, task, examples, options: seen.append(examples))
    ARMS[arm].attempt(bench, task, 0).grid()
    assert len(seen[0]) == min(count or len(task.train), len(task.train))
    assert set(seen[0]) <= set(task.train)


def test_full_fine_tuning_changes_all_weights_of_a_base_of_its_own(generator, frozen, tasks_folder, monkeypatch):
    (task, *_) = read_tasks([tasks_folder])
    bench = resources(generator, [task])
    bench.base, before = frozen, {name: weight.clone() for name, weight in frozen.model.state_dict().items()}
    options = WholeOptions(steps=12, learning_rate=1e-3)
    monkeypatch.setattr(attempts, "WholeOptions", lambda seed: replace(options, seed=seed))
    attempt = ARMS["full-fine-tuning"].attempt(bench, task, 0)
    made = attempts.make(attempt, frozen)
    assert made.grid is None and made.base.model is not frozen.model
    assert not any(weight.requires_grad for weight in made.base.model.parameters())
    assert all(torch.equal(weight, before[name]) for name, weight in frozen.model.state_dict().items())
    assert all(not torch.equal(weight, before[name]) for name, weight in made.base.model.named_parameters())
    losses = [float(judged(base, None, task, task.train).loss) for base in (frozen, made.base)]
    assert losses[1] < 0.8 * losses[0]
    assert attempt.depends != ARMS["full-fine-tuning"].attempt(bench, task, 1).depends
    assert attempts.make(ARMS["base"].attempt(bench, task, 0), frozen).base is frozen


def test_teachers_are_averaged_ranked_and_found_by_their_prompts(generator, collected, tasks_folder, layout):
    tasks = read_tasks([tasks_folder])
    teachers = teaching.Teachers(collected, layout)
    bench = resources(generator, tasks, teachers=teachers, teacher_tasks=tasks)
    mean = sum(teachers.last(name) for name in teachers.names) / 3
    assert torch.allclose(ARMS["mean-teacher"].attempt(bench, tasks[5], 0).grid(), mean, atol=1e-6)
    for task in tasks[:3]:
        assert torch.equal(ARMS["nearest-teacher"].attempt(bench, task, 0).grid(), teachers.last(task.name))
    with pytest.raises(UsageError, match="never compared"):
        ARMS["best-teacher"].attempt(bench, tasks[5], 0)
    best = api.compare(collected, [tasks_folder], validation=0.45)
    ranking = json.loads((collected / "best.json").read_text())["exact"]
    assert ranking.keys() == teachers.names
    assert ranking[best] == max(ranking.values())
    assert torch.equal(ARMS["best-teacher"].attempt(bench, tasks[5], 0).grid(), teachers.last(best))


def test_what_stands_for_a_base_tells_adapters_of_another_rank_alpha_or_targets_from_the_usual_ones(
    layout, monkeypatch
):
    usual = replace(layout, rank=8, alpha=16)
    assert base_key(usual) != weights_digest(layout.base_model)
    monkeypatch.setattr(score_cache, "_USUALLY_ASKED", {score_cache._asked(layout.base_model)})
    assert base_key(usual) == weights_digest(layout.base_model)
    others = [replace(usual, rank=4), replace(usual, alpha=8), replace(usual, targets=usual.targets[:2])]
    assert len({base_key(one) for one in (usual, *others)}) == 4


@pytest.mark.parametrize(
    ("changed", "old", "new"),
    [
        ("chat_template.jinja", "</s>", ""),
        ("config.json", '"rope_theta": 10000.0', '"rope_theta": 20000.0'),
        ("generation_config.json", '"eos_token_id": 2', '"eos_token_id": 3'),
        ("tokenizer.json", '"add_prefix_space": false', '"add_prefix_space": true'),
    ],
)
def test_a_base_that_is_asked_otherwise_never_meets_old_scores(layout, tmp_path, changed, old, new):
    shutil.copytree(layout.base_model, tmp_path / "base")
    before = base_key(replace(layout, base_model=str(tmp_path / "base")))
    assert before == base_key(layout), "wherever it lies"
    file = tmp_path / "base" / changed
    file.write_text(file.read_text().replace(old, new))
    assert base_key(replace(layout, base_model=str(tmp_path / "base"))) != before


def test_a_benchmark_in_bfloat16_computes_and_trains_in_it_and_never_meets_scores_in_float32(
    generator_folder, tasks_folder, tmp_path, monkeypatch
):
    trained = []
    monkeypatch.setattr(attempts, "fit", lambda base, *given: trained.append(base.model.dtype) or fit(base, *given))
    given = {"arms": ["few-shot-16"], "generator": generator_folder, "limit": 1, "scores": tmp_path / "scores.jsonl"}
    for dtype in ("float32", "bfloat16", "bfloat16"):
        result = api.benchmark([tasks_folder / "task0.jsonl"], dtype=dtype, **given)
        assert result.hardware["dtype"] == dtype
    assert trained == [torch.float32, torch.bfloat16]
    with pytest.raises(UsageError, match="float32 or bfloat16; 'int8' is neither"):
        api.benchmark([tasks_folder / "task0.jsonl"], dtype="int8", **given)


def test_an_encoder_of_other_weights_never_meets_the_scores_of_the_usual_one(generator, tasks_folder, monkeypatch):
    tasks = read_tasks([tasks_folder])

    def depends(weights):
        monkeypatch.setattr(score_cache, "_USUAL_ENCODER", weights)
        return ARMS["generated"].attempt(bench, tasks[0], 0).depends

    bench = resources(generator, tasks)
    own = weights_digest(generator.config.encoder)
    assert depends("another") == (*depends(own), own), "which is not named, as it was not before"


@pytest.mark.parametrize("arm", ["multi-task", "mean-teacher", "best-teacher", "nearest-teacher", "reference-decoder"])
def test_an_arm_that_stands_on_something_missing_says_what(tasks_folder, generator_folder, arm):
    with pytest.raises(UsageError, match=f"the arm {arm} .* by --"):
        api.benchmark([tasks_folder], arms=[arm], generator=generator_folder, limit=1)


def test_every_arm_runs_on_a_real_base(
    tasks_folder, generator, generator_folder, collected, base, layout, tmp_path, monkeypatch
):
    monkeypatch.setattr(attempts, "TuningOptions", lambda steps, seed: TuningOptions(steps=8, seed=seed))
    monkeypatch.setattr(attempts, "WholeOptions", lambda seed: WholeOptions(steps=8, seed=seed))
    api.compare(collected, [tasks_folder], validation=0.45)
    torch.manual_seed(3)
    Adapter(layout, torch.randn(layout.shape) * 0.05).save(tmp_path / "multi-task")
    file = tasks_folder / "task5.jsonl"
    result = api.benchmark(
        [file, tasks_folder / "task0.jsonl"],
        arms=list(ARMS),
        forms=["bare"],
        limit=2,
        generator=generator_folder,
        multi_task=tmp_path / "multi-task",
        teachers=collected,
        reference=generator_folder,
        prompts_per_task=3,
    )
    assert result.mean["bare"].keys() == ARMS.keys()
    cells = result.tasks[file.stem]["bare"]
    assert cells["reference-decoder"].score == cells["generated"].score, "it is the same generator here"
    assert cells["full-shot"].seconds.adapt > cells["generated"].seconds.adapt
    assert cells["full-fine-tuning"].seconds.adapt > cells["generated"].seconds.adapt
    assert cells["icl-4"].prompt_tokens > cells["icl-1"].prompt_tokens > cells["base"].prompt_tokens
    compared = {tuple(name.split(" - ")) for name in result.difference["bare"]}
    assert {(own, arm) for own, arm in compared if own == "generated"} == {
        ("generated", arm) for arm in ARMS.keys() - {"generated"}
    }
    assert {(own, arm) for own, arm in compared if own != "generated"} >= {
        ("examples-4", "icl-4"),
        ("examples-16", "few-shot-16"),
        ("examples-16", "examples-16-shuffled"),
    }
    assert ("examples-16", "icl-4") not in compared


def test_tasks_that_the_generator_was_trained_or_validated_on_are_told(
    tasks_folder, plant_generator, generator, tmp_path
):
    generator.atlas = generator.atlas._replace(names=("task1", *generator.atlas.names[1:]))
    generator.provenance = {"validation_tasks": ["task5"]}
    generator.save_pretrained(tmp_path / "made")
    files = [tasks_folder / f"task{number}.jsonl" for number in (0, 1, 5)]
    result = api.benchmark(files, arms=["base"], forms=["bare"], generator=tmp_path / "made", limit=1)
    assert result.seen == ("task1", "task5")


def test_a_rival_adapter_of_another_rank_is_refused(tasks_folder, generator_folder, base, tmp_path):
    other = LoraLayout.from_config(models.load_config(base), base_model=base, rank=16)
    Adapter(other, torch.zeros(other.shape)).save(tmp_path / "multi-task")
    with pytest.raises(LayoutError, match="another rank"):
        api.benchmark(
            [tasks_folder], arms=["multi-task"], generator=generator_folder, multi_task=tmp_path / "multi-task"
        )


@pytest.mark.parametrize(("rank", "other", "told"), [(16, "", "another rank"), (8, "2", "reads prompts by")])
def test_a_reference_of_another_rank_or_encoder_is_refused(
    tasks_folder, generator_folder, layout, encoder_folder, tmp_path, rank, other, told
):
    unlike = LoraLayout.from_config(models.load_config(layout.base_model), base_model=layout.base_model, rank=rank)
    config = tiny_generator_config(unlike, encoder_folder + other, trunk=((2, 14 * rank, 16),))
    tiny_generator(config).save_pretrained(tmp_path / "reference")
    with pytest.raises((LayoutError, UsageError), match=told):
        api.benchmark([tasks_folder], arms=["base"], generator=generator_folder, reference=tmp_path / "reference")


def test_the_full_form_asks_with_the_instruction_and_the_bare_form_without(generator, tasks_folder, cache, monkeypatch):
    tasks = read_tasks([tasks_folder])
    asked = []

    def answers(_model, _chat, prompts, **_):
        asked.append(prompts)
        return [prompt.split("\n\n")[-1][0].upper() + " " for prompt in prompts]

    monkeypatch.setattr(judging, "answers", answers)
    judge = Judge(resources(generator, tasks[:2], kept=KeptScores(cache, "")), BenchmarkRequest(("base",), limit=3))
    result = benchmark.run(judge)
    inputs = [one.input for one in tasks[0].test[:3]]
    assert asked[0] == [f"First letter.\n\n{text}" for text in inputs]
    assert asked[1] == inputs
    cells = [result.tasks[name]["full"]["base"] for name in ("task0", "task1")]
    assert [(cell.score, cell.n) for cell in cells] == [(1, 3), (0, 3)]
    assert result.mean["full"]["base"].score == 0.5
    asked_in = result.tasks["task0"]
    assert asked_in["full"]["base"].prompt_tokens > asked_in["bare"]["base"].prompt_tokens


def test_what_was_answered_once_is_not_asked_again_until_something_it_depends_on_changes(
    generator, tasks_folder, cache, monkeypatch
):
    tasks = read_tasks([tasks_folder])[:2]
    asked = []
    monkeypatch.setattr(judging, "answers", lambda _m, _c, prompts, **_: asked.append(prompts) or prompts)

    def ask(base="one base", seeds=(0,), count=5):
        asked.clear()
        request = BenchmarkRequest(("base", "generated"), ("full",), seeds, limit=2)
        bench = resources(generator, tasks, prompts_per_task=count, kept=KeptScores(cache, base))
        result = benchmark.run(Judge(bench, request))
        return len(asked), result.mean

    first, mean = ask()
    assert first == 4, "two tasks, two arms"
    assert ask() == (0, mean)
    assert ask(seeds=(0, 1))[0] == 2, "other prompts make other adapters; the base has none"
    assert ask(count=4)[0] == 2
    assert ask(base="another base")[0] == 4
    write_task(tasks_folder, "task0", "Another instruction.", str.upper)
    tasks = [read_tasks([tasks_folder])[0], tasks[1]]
    assert ask()[0] == 2


def test_what_is_kept_outlives_a_crash_in_the_middle_of_a_line_and_two_writers(tmp_path):
    file = tmp_path / "answers.jsonl"
    one, other = ScoreCache(file), ScoreCache(file)
    one.add("a", {"task": "ä\nb"})
    other.add("b", {"scores": []})
    with file.open("a") as stream:
        stream.write('{"key": "c", "row')
    with file.open("ab") as stream:
        stream.write('{"key": "e", "answer": "外'.encode()[:-1])  # within a letter
    after = ScoreCache(file)
    after.add("d", {"scores": [1.0]})
    found = ScoreCache(file)
    assert [found.get(key) for key in "abcd"] == [
        {"task": "ä\nb"},
        {"scores": []},
        None,
        {"scores": [1.0]},
    ]


def test_scores_are_means_over_the_seeds(generator, tasks_folder, monkeypatch):
    tasks = read_tasks([tasks_folder])[:1]
    outputs = [one.output for one in tasks[0].test[:2]]
    turns = iter([outputs, ["wrong", outputs[1]]])
    monkeypatch.setattr(judging, "answers", lambda *_, **__: next(turns))
    judge = Judge(resources(generator, tasks), BenchmarkRequest(("generated",), ("full",), (0, 1), limit=2))
    assert judge.scored(tasks[0], "full", "generated").scores["score"] == [0.5, 1.0]


def test_the_same_request_gives_the_same_scores(tasks_folder, generator_folder, tmp_path, monkeypatch):
    files = [tasks_folder / f"task{number}.jsonl" for number in range(2)]
    results = []
    for turn in range(2):
        monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / f"home{turn}"))
        results.append(api.benchmark(files, forms=["bare"], generator=generator_folder, limit=1, prompts_per_task=3))
    assert results[0].mean == results[1].mean
    assert results[0].difference == results[1].difference


def test_tasks_are_taken_from_as_many_families_as_possible(tasks_folder):
    for number in range(4):
        write_task(tasks_folder, f"twin{number}", "Say it again.", str.upper, family="twins")
    tasks = read_tasks([tasks_folder])
    families = {task.family for task in tasks}
    chosen = diverse(tasks, len(families))
    assert {task.family for task in chosen} == families
    assert diverse(tasks, 99) == tasks
    assert set(chosen) <= set(diverse(tasks, len(families) + 1))


def test_a_difference_is_above_zero_where_the_left_arm_is_better_on_every_row():
    better = paired_difference([[1.0, 1.0], [1.0, 0.5]], [[0.0, 0.5], [0.0, 0.0]])
    assert 0 < better.low <= better.score == 0.75 <= better.high
    worse = paired_difference([[0.0, 0.5]], [[1.0, 1.0]])
    assert worse.high < 0
