"""The second stage: never worse than its start, and it says what it did."""

from dataclasses import replace

import pytest
import torch

from prompt2lora.adapter.grid import initial_grid
from prompt2lora.errors import UsageError
from prompt2lora.generator.examples import ExampleOptions
from prompt2lora.ground.comparison import Comparison
from prompt2lora.training import tuning
from prompt2lora.training.tasks import Example, read_tasks
from prompt2lora.training.tuning import TuningOptions, fit, judged, refine

OPTIONS = TuningOptions(steps=12, budget=200, learning_rate=5e-3)
EXAMPLE_OPTIONS = ExampleOptions(steps=12, budget=200, learning_rate=5e-3)


@pytest.fixture
def task(tasks_folder):
    return read_tasks([tasks_folder])[0]


def pairs(task):
    return [(one.input, one.output) for one in task.train]


def test_a_second_stage_goes_on_from_its_start_and_lowers_the_held_out_loss(frozen, task, layout):
    start = fit(frozen, task, task.train[:8], TuningOptions(steps=3, budget=200))
    refined = refine(frozen, start, task.instruction, pairs(task), EXAMPLE_OPTIONS)
    assert refined.after > refined.before
    assert 0 < refined.steps <= OPTIONS.steps
    assert refined.held_out == len(task.train) // 4
    assert not torch.equal(refined.grid, start)
    again = refine(frozen, start, task.instruction, pairs(task), EXAMPLE_OPTIONS)
    assert torch.equal(again.grid, refined.grid)


def test_a_second_stage_tells_every_step(frozen, task, layout):
    told = []
    refine(
        frozen,
        initial_grid(layout, 0),
        task.instruction,
        pairs(task),
        replace(EXAMPLE_OPTIONS, steps=3),
        report=told.append,
    )
    assert told == [{"done": step, "of": 3} for step in (1, 2, 3)]


def test_where_nothing_is_better_the_start_is_kept_and_that_is_said(frozen, task):
    start = fit(frozen, task, task.train, TuningOptions(steps=20, budget=200, learning_rate=1e-2))
    refined = refine(frozen, start, task.instruction, pairs(task), replace(EXAMPLE_OPTIONS, learning_rate=30.0))
    assert refined.steps == 0
    assert refined.before == refined.after
    assert torch.equal(refined.grid, start)


def test_a_second_stage_counts_answers_as_the_job_compares_them(frozen, task):
    start = fit(frozen, task, task.train, TuningOptions(steps=40, budget=200, learning_rate=1e-2))
    wide = [(text, chr(ord(answer) + 0xFEE0)) for text, answer in pairs(task)]  # the answers that it learned are narrow
    stopped = replace(EXAMPLE_OPTIONS, steps=1)
    found = {
        comparison: refine(frozen, start, task.instruction, wide, stopped, comparison=comparison).before[0]
        for comparison in Comparison
    }
    assert found["exact"] == 0 < found["compatible"] == found["number"]


def test_a_second_stage_leaves_its_start_alone(frozen, task, layout):
    start = initial_grid(layout, 0)
    before = start.clone()
    refine(frozen, start, task.instruction, pairs(task), EXAMPLE_OPTIONS)
    assert torch.equal(start, before)


def test_all_held_out_examples_decide_however_long_they_are(frozen, task, layout, monkeypatch):
    start = fit(frozen, task, task.train[:8], TuningOptions(steps=20, budget=200))
    stopped = replace(EXAMPLE_OPTIONS, steps=1)
    whole = refine(frozen, start, task.instruction, pairs(task), stopped).before
    monkeypatch.setattr(tuning, "_HELD_OUT_TOKENS", 50)
    assert refine(frozen, start, task.instruction, pairs(task), stopped).before == pytest.approx(whole, abs=1e-5)


def test_an_example_that_is_given_again_does_not_decide_what_was_learned_from_it(frozen, task, layout):
    once, start = pairs(task)[:16], initial_grid(layout, 0)
    again = [(task.prompt(text), "earlier") for text, _ in once[8:]] + once
    found, wanted = (
        refine(frozen, start, task.instruction, some, EXAMPLE_OPTIONS) for some in (again, once[8:] + once[:8])
    )
    assert found.held_out == 4
    assert torch.equal(found.grid, wanted.grid)


def test_too_few_examples_for_a_second_stage_are_refused(frozen, task, layout):
    with pytest.raises(UsageError, match="at least 8 labelled examples and has 7 with different inputs"):
        refine(frozen, initial_grid(layout, 0), task.instruction, pairs(task)[:7], EXAMPLE_OPTIONS)


def test_an_example_longer_than_the_budget_is_learned_from_and_one_too_long_for_the_base_is_refused(frozen, task):
    def fitted(*examples):
        return fit(frozen, task, [*task.train[:3], *examples], TuningOptions(steps=8, budget=200))

    made = [fitted(Example("x" * 250, answer)) for answer in "xy"]
    assert not torch.equal(*made)
    with pytest.raises(UsageError, match="the base reads"):
        fitted(Example("x" * 100_000, "x"))


def test_fitting_is_repeatable_and_lowers_the_loss(frozen, task, layout):
    made = [fit(frozen, task, task.train, OPTIONS) for _ in range(2)]
    assert torch.equal(*made)
    with torch.no_grad():
        before, after = (judged(frozen, grid, task, task.train[:16]) for grid in (initial_grid(layout, 0), made[0]))
    assert after.loss < before.loss
