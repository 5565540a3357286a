"""The judge: fair prompts, really other wrong prompts, and scores that mean what they say."""

import json

import pytest
import torch

from prompt2lora import bases, verbs
from prompt2lora.evaluation import benchmark
from prompt2lora.evaluation.benchmark import Judge
from prompt2lora.evaluation.statistics import paired_difference
from prompt2lora.generator.conditions import Encoder
from prompt2lora.training.packs import ChatFormat
from prompt2lora.training.tasks import read_tasks


def judge(generator, tasks, **changes):
    settings = {"prompts_per_task": 5, "limit": None, "seed": 0, **changes}
    chat = ChatFormat(bases.load_tokenizer(generator.config.layout.base_model))
    return Judge(None, chat, generator, Encoder(generator.config.encoder), tasks, **settings)


@pytest.mark.parametrize("seed", range(5))
def test_wrong_prompts_are_another_task_s_and_every_task_lends_its_own_once(generator, tasks_folder, seed):
    tasks = read_tasks([tasks_folder])
    judging = judge(generator, tasks, seed=seed)
    lenders = [judging.other(task).name for task in tasks]
    assert all(lender != task.name for lender, task in zip(lenders, tasks, strict=True))
    assert sorted(lenders) == sorted(task.name for task in tasks)


def test_prompts_are_inputs_of_the_training_part_and_depend_on_no_answer(generator, tasks_folder):
    (before, *_) = read_tasks([tasks_folder])
    chosen = judge(generator, [before]).prompts(before)
    inputs = {f"{before.instruction}\n\n{row.input}" for row in before.train}
    assert len(set(chosen)) == 5
    assert set(chosen) <= inputs
    file = tasks_folder / "task0.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines = [{**line, "output": "?"} if "output" in line else line for line in lines if line.get("part") != "test"]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (after, *_) = read_tasks([tasks_folder])
    assert judge(generator, [after]).prompts(after) == chosen
    assert judge(generator, [before], seed=1).prompts(before) != chosen


def test_the_adapter_of_a_task_is_made_of_its_prompts_alone(generator, tasks_folder):
    tasks = read_tasks([tasks_folder])
    judging = judge(generator, tasks)
    own = generator.generate(judging.encoder.conditions(judging.prompts(tasks[0])))
    assert torch.equal(judging.grid(tasks[0]), own)
    assert not torch.equal(judging.grid(tasks[1]), own)


def test_the_full_form_asks_with_the_instruction_and_the_bare_form_without(generator, tasks_folder, monkeypatch):
    tasks = read_tasks([tasks_folder])
    asked = []

    def answers(_model, _chat, prompts, **_):
        asked.append(prompts)
        return [prompt.split("\n\n")[-1][0].upper() + " " for prompt in prompts]

    monkeypatch.setattr(benchmark, "answers", answers)
    result = benchmark.run(judge(generator, tasks[:2], limit=3), ["base"], ["full", "bare"])
    inputs = [row.input for row in tasks[0].test[:3]]
    assert asked[0] == [f"First letter.\n\n{text}" for text in inputs]
    assert asked[1] == inputs
    scores = {name: forms["full"]["base"] for name, forms in result["tasks"].items()}
    assert scores == {"task0": {"score": 1, "n": 3}, "task1": {"score": 0, "n": 3}}
    assert result["mean"]["full"]["base"]["score"] == 0.5


def test_the_same_request_gives_the_same_scores(tasks_folder, generator_folder):
    files = [tasks_folder / f"task{number}.jsonl" for number in range(2)]
    results = [
        verbs.benchmark(files, forms=["bare"], generator=generator_folder, limit=1, prompts_per_task=3)
        for _ in range(2)
    ]
    for part in ("tasks", "mean", "difference"):
        assert results[0][part] == results[1][part]


def test_a_difference_is_above_zero_where_the_left_arm_is_better_on_every_row():
    better = paired_difference([[1.0, 1.0], [1.0, 0.5]], [[0.0, 0.5], [0.0, 0.0]])
    assert 0 < better.low <= better.score == 0.75 <= better.high
    worse = paired_difference([[0.0, 0.5]], [[1.0, 1.0]])
    assert worse.high < 0
