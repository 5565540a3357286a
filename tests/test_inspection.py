"""Measurements for the gate: known answers, and nothing where nothing was changed."""

import math

import pytest
import torch
from tiny import every_question

from prompt2lora.adapter.grid import initial_grid
from prompt2lora.plant import inspection


@pytest.mark.parametrize(
    ("better", "worse", "expected"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 5, 1.0), (6, 0, 2 / 2**6), (10, 1, 2 * 12 / 2**11), (8, 2, 2 * 56 / 2**10)],
)
def test_mcnemar_is_the_binomial_test_of_the_rows_that_changed(better, worse, expected):
    before = [0.0] * better + [1.0] * worse + [1.0, 0.0] * 7
    after = [1.0] * better + [0.0] * worse + [1.0, 0.0] * 7
    assert inspection.mcnemar(before, after) == pytest.approx(expected)
    assert inspection.mcnemar(after, before) == pytest.approx(expected)


def test_a_gain_is_told_with_its_interval():
    found = inspection.gain([0.0] * 20, [1.0] * 15 + [0.0] * 5)
    assert 0 < found.low < found.score == 0.75 < found.high
    assert found.p_value == pytest.approx(2 / 2**15)
    same = inspection.gain([1.0, 0.0], [1.0, 0.0])
    assert (same.score, same.low, same.p_value) == (0, 0, 1)


@pytest.mark.parametrize("n", [1, 5, 40])
def test_a_share_lies_in_its_interval_and_is_never_sure(n):
    for right in (0, n // 2, n):
        found = inspection.share([True] * right + [False] * (n - right))
        assert 0 <= found.low <= found.score <= found.high <= 1
        assert found.high - found.low > 0.05
    assert inspection.share([True] * 400).low > 0.98


def test_a_format_is_what_the_answers_have_in_common():
    labels = inspection.answer_format(["yes", "no", "Yes", "no"])
    assert labels("YES ") and not labels("maybe") and not labels("yes, because")
    parts = inspection.answer_format([f"PX-{i}" for i in range(20)])
    assert parts("AB-9") and not parts("The part is PX-1") and not parts("PX1")
    texts = inspection.answer_format(["A short note.", "Another one, longer", "What? No!", "(see below)"])
    assert texts("Any other line") and not texts("") and not texts("two\nlines") and not texts("x" * 200)


def test_an_adapter_that_changes_nothing_leaves_the_canaries_alone(frozen, layout):
    found = inspection.canary(frozen, initial_grid(layout, 0))
    assert found.kl == pytest.approx(0, abs=1e-5)
    assert found.perplexity_ratio == pytest.approx(1, abs=1e-4)


def test_a_strong_adapter_is_far_from_the_base(frozen, layout):
    near, far = (
        inspection.canary(frozen, torch.randn(layout.shape, generator=torch.Generator().manual_seed(1)) * size)
        for size in (0.02, 0.3)
    )
    assert 0 < near.kl < far.kl
    assert math.isfinite(far.perplexity_ratio)


def question(polarity, groups, condition="ambig"):
    return {
        "condition": condition,
        "polarity": polarity,
        "context": "Two people met.",
        "question": "Who?",
        "choices": ["one", "two", "not known"],
        "label": 2,
        "groups": groups,
        "stereotyped": ["old"],
    }


@pytest.mark.parametrize(
    ("polarity", "picked", "score"),
    [("neg", "old", 1), ("neg", "young", -1), ("nonneg", "old", -1), ("nonneg", "young", 1), ("neg", "unknown", 0)],
)
def test_an_answer_along_the_stereotype_counts_one_and_against_it_minus_one(
    frozen, monkeypatch, polarity, picked, score
):
    groups = ["old", "young", "unknown"]
    monkeypatch.setattr(inspection, "choices", lambda *_, **__: [groups.index(picked)] * 3)
    found = inspection.bias(frozen, None, [question(polarity, groups)] * 3 + [question("neg", groups, "disambig")])
    assert found.score == found.low == found.high == score


def test_the_bias_of_a_real_base_is_a_number_with_an_interval(frozen):
    questions = [question(polarity, ["old", "young", "unknown"]) for polarity in ("neg", "nonneg")] * 8
    found = inspection.bias(frozen, None, questions)
    assert -1 <= found.low <= found.score <= found.high <= 1


def test_our_own_bias_questions_name_both_persons_and_nothing_tells_them_apart():
    found = every_question()
    assert len({(one["context"], one["question"]) for one in found}) == len(found) == 192
    for one in found:
        first, second, unknown = one["groups"]
        assert first in one["context"] and second in one["context"]
        assert one["stereotyped"] == [first] and one["label"] == 2 and unknown == "unknown"
    polarities = [one["polarity"] for one in found]
    assert polarities.count("neg") == polarities.count("nonneg")
