import json

import pytest
import torch
from tiny import greedy, write_task

from prompt2lora import api
from prompt2lora.base.decoding import answers
from prompt2lora.errors import UsageError
from prompt2lora.evaluation.metrics import token_f1
from prompt2lora.evaluation.statistics import mean_interval, paired_difference, spread
from prompt2lora.ground.comparison import Comparison


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [("Paris", " paris ", 1), ("Paris.", "paris", 0), ("", "", 1), ("12", "12", 1), ("12", "1 2", 0)],
)
def test_exact_match_looks_past_case_and_outer_space_only(answer, reference, score):
    assert Comparison.EXACT.score(answer, reference) == score


@pytest.mark.parametrize(
    ("answer", "reference", "score"),
    [("a b", "A B", 1), ("a", "a b", 2 / 3), ("a a", "a", 2 / 3), ("c", "a b", 0), ("", "", 1), ("", "a", 0)],
)
def test_token_f1_counts_common_words(answer, reference, score):
    assert token_f1(answer, reference) == pytest.approx(score)


def test_batched_greedy_answers_are_those_of_the_library_one_by_one(model, chat):
    prompts = ["a", "some longer text", "something", "b" * 40]
    ids = chat.prompt_ids(prompts)
    together = greedy(model, ids, chat, max_new_tokens=10)
    for sequence, found in zip(ids, together, strict=True):
        alone = model.generate(
            input_ids=torch.tensor([sequence]),
            attention_mask=torch.ones(1, len(sequence), dtype=torch.long),
            max_new_tokens=10,
            do_sample=False,
            eos_token_id=chat.tokenizer.eos_token_id,
            pad_token_id=chat.tokenizer.pad_token_id,
        )[0, len(sequence) :].tolist()
        assert found == [token for token in alone if token != chat.tokenizer.eos_token_id]


def test_finished_rows_leave_the_batch_without_disturbing_the_others(model, chat):
    prompts = [f"{letter}{number}" for letter in "abcdefgh" for number in range(4)]
    ids = chat.prompt_ids(prompts)
    short = greedy(model, ids, chat, max_new_tokens=1)
    first = [sequence[0] for sequence in short if sequence]
    end = max(first, key=first.count)  # let the commonest first token be the end
    before = chat.tokenizer.eos_token_id
    try:
        chat.tokenizer.eos_token_id = end
        together = greedy(model, ids, chat, max_new_tokens=5)
        alone = [greedy(model, [sequence], chat, max_new_tokens=5)[0] for sequence in ids]
    finally:
        chat.tokenizer.eos_token_id = before
    assert [] in together
    assert together == alone


def test_an_adapter_of_zeros_answers_like_the_base(model, chat, layout):
    asked = ["one", "two"]
    zero = answers(model, chat, asked, layout=layout, grid=torch.zeros(layout.shape), max_new_tokens=5)
    assert zero == answers(model, chat, asked, max_new_tokens=5)


def test_an_interval_holds_its_mean_and_narrows_with_more_tasks():
    few = mean_interval([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    many = mean_interval([[0.0, 1.0], [1.0, 1.0], [0.0, 0.0]] * 20)
    assert few.low <= few.score <= few.high
    assert few.score == many.score == 0.5
    assert many.high - many.low < few.high - few.low
    assert mean_interval([[0.0, 1.0], [1.0, 1.0]]) == mean_interval([[0.0, 1.0], [1.0, 1.0]])


def test_an_arm_compared_with_itself_differs_by_zero():
    scores = [[0.0, 1.0, 1.0], [1.0, 0.0]]
    assert paired_difference(scores, scores) == (0, 0, 0)


def test_a_spread_is_the_median_the_least_and_the_greatest():
    assert spread([3.0, 1.0, 2.00004]) == (2.0, 1.0, 3.0)
    assert spread([0.04, 0.16], digits=1)._asdict() == {"median": 0.1, "low": 0.0, "high": 0.2}


def test_a_benchmark_says_what_the_documentation_promises(tasks_folder, generator_folder, tmp_path):
    write_task(tasks_folder, "plain", "", lambda text: text[0])
    out = tmp_path / "result.json"
    files = [tasks_folder / f"{name}.jsonl" for name in ("task0", "task3", "plain")]
    result = api.benchmark(files, out=out, generator=generator_folder, limit=3, prompts_per_task=4)
    assert json.loads(out.read_text()) == result.to_dict()
    assert set(result.tasks) == {"task0", "task3", "plain"}
    assert set(result.tasks["task0"]) == {"full", "bare"}
    assert set(result.tasks["plain"]) == {"full"}, "a task without instruction has no bare form"
    for form in ("full", "bare"):
        for arm in ("base", "generated", "wrong-prompt"):
            cell = result.tasks["task0"][form][arm]
            assert cell.n == 3
            assert 0 <= cell.score <= 1
            assert 0 <= cell.f1 <= 1
            mean = result.mean[form][arm]
            for interval in (mean, mean.f1):
                assert interval.low <= interval.score <= interval.high
    assert {"torch", "prompt2lora"} <= result.versions.keys()
    assert result.request.seeds == (0,)
    later = api.benchmark(files[:2], seed=3, seeds=2, limit=1, generator=generator_folder)
    assert later.request.seeds == (3, 4)
    with pytest.raises(UsageError, match="must not exist"):
        api.benchmark([tasks_folder], out=out, generator=generator_folder)


def test_the_base_does_not_depend_on_the_generator_s_prompts(tasks_folder, generator_folder):
    scores = [
        api.benchmark([tasks_folder], arms=["base"], generator=generator_folder, prompts_per_task=k).mean
        for k in (1, 8)
    ]
    assert scores[0] == scores[1]


@pytest.mark.parametrize(
    ("arms", "forms", "told"),
    [(["best"], ["full"], "unknown arm 'best'"), (["base"], ["half"], "unknown form 'half'")],
)
def test_an_unknown_arm_or_form_is_refused(tasks_folder, generator_folder, arms, forms, told):
    with pytest.raises(UsageError, match=told):
        api.benchmark([tasks_folder], arms=arms, forms=forms, generator=generator_folder)


def test_wrong_prompts_need_a_second_task(tasks_folder, generator_folder):
    with pytest.raises(UsageError, match="at least two tasks"):
        api.benchmark([tasks_folder / "task0.jsonl"], generator=generator_folder)


def test_a_task_without_training_examples_is_refused_by_name(tasks_folder, generator_folder):
    file = tasks_folder / "task0.jsonl"
    file.write_text(file.read_text().replace('"train"}', '"test"}'))
    with pytest.raises(UsageError, match='task0 has no examples of part "train"'):
        api.benchmark([tasks_folder], generator=generator_folder)
