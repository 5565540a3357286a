"""Examples go into the weights: fewer tokens asked, the right answers nearer, nothing else touched."""

from dataclasses import replace

import pytest
import torch

from prompt2lora.base.packing import UNLIMITED, pack_examples, stack
from prompt2lora.errors import UsageError
from prompt2lora.generator.examples import ExampleOptions, Labelled, _Example, _turns, practice, taught
from prompt2lora.ground.prompts import instruction_of
from prompt2lora.training import objectives

INSTRUCTION = "Say the first letter."
INPUTS = ["apple", "bread", "cherry", "dill", "egg", "fig"]
PROMPTS = [f"{INSTRUCTION}\n\n{text}" for text in INPUTS]
EXAMPLES = [(prompt, text[0]) for prompt, text in zip(PROMPTS, INPUTS, strict=True)]


@pytest.fixture
def grid(layout):
    torch.manual_seed(0)
    return torch.randn(layout.shape) * 0.05


def loss(frozen, grid, examples, turns=()):
    """Of the right answers to the inputs alone, perhaps after turns."""
    prompts = frozen.chat.prompt_ids([prompt.split("\n\n")[-1] for prompt, _ in examples], turns)
    pack = pack_examples(prompts, frozen.chat.answer_ids([answer for _, answer in examples]), UNLIMITED)
    batch = stack([pack], 0)
    with torch.no_grad():
        return objectives.end_to_end(frozen.model, frozen.layout, grid[None], batch).loss.item()


def test_the_inputs_alone_are_answered_better_than_before_and_steps_help_further(frozen, grid):
    before = loss(frozen, grid, EXAMPLES)
    after = loss(frozen, taught(frozen, grid, PROMPTS, EXAMPLES), EXAMPLES)
    more = loss(frozen, taught(frozen, grid, PROMPTS, EXAMPLES, ExampleOptions(least=12)), EXAMPLES)
    assert more < after < before


def test_the_given_grid_stays_as_it_is(frozen, grid):
    given = grid.clone()
    assert not torch.equal(taught(frozen, grid, PROMPTS, EXAMPLES), given)
    assert torch.equal(grid, given)


def test_the_same_comes_out_twice_whatever_the_order_and_wherever_the_instruction_stands(frozen, grid):
    found = taught(frozen, grid, PROMPTS, EXAMPLES)
    assert torch.equal(found, taught(frozen, grid, PROMPTS, EXAMPLES))
    assert torch.equal(found, taught(frozen, grid, PROMPTS[::-1], EXAMPLES[::-1]))
    bare = [(text, answer) for text, (_, answer) in zip(INPUTS, EXAMPLES, strict=True)]
    assert torch.equal(found, taught(frozen, grid, PROMPTS, bare))
    assert torch.equal(found, taught(frozen, grid, [], EXAMPLES))
    assert torch.equal(found, taught(frozen, grid, PROMPTS, EXAMPLES * 2)), "one example twice is one example"


@pytest.mark.parametrize(
    "examples",
    [
        EXAMPLES[:1],
        EXAMPLES[:2],
        [(PROMPTS[0], "a"), (PROMPTS[0], "b")],
        [(f"{INSTRUCTION}\n\n{'x' * 300}", "x"), EXAMPLES[0]],
        [(text, text[0]) for text in INPUTS],
    ],
    ids=["one", "two", "one input with two answers", "a long one", "no instruction"],
)
def test_few_contradicting_or_long_examples_do_no_harm(frozen, grid, examples):
    found = taught(frozen, grid, [], examples)
    assert torch.isfinite(found).all()
    assert not torch.equal(found, grid)


def test_the_steps_ask_every_example_with_the_instruction_and_without_it(chat):
    known = [_Example(text, text[0]) for text in INPUTS]
    first, again = _turns(chat, INSTRUCTION, known, 120)
    asked = [chat.tokenizer.decode(pack.ids) for packs in first for pack in packs]
    assert again == []
    for text in INPUTS:
        holding = [INSTRUCTION in sequence for sequence in asked if text in sequence]
        assert sorted(holding) == [False, True]
    (((only,),), _) = _turns(chat, "", known, UNLIMITED)
    assert len(set(only.label_example)) == len(INPUTS)


def test_examples_that_fill_a_step_each_are_all_asked_before_one_is_asked_the_other_way(chat):
    known = [_Example(text, text[0]) for text in INPUTS[:4]]
    first, again = _turns(chat, INSTRUCTION, known, 20)
    asked = [chat.tokenizer.decode(pack.ids) for (pack,) in first + again]
    assert len(first) == 4
    which = [next(text for text in INPUTS if text in sequence) for sequence in asked]
    assert sorted(which[:4]) == sorted(INPUTS[:4]) == sorted(which[4:])
    told = [INSTRUCTION in sequence for sequence in asked]
    assert told == [False, True, False, True, True, False, True, False]
    ((bare,),), ((full,),) = _turns(chat, INSTRUCTION, known[:1], UNLIMITED)
    assert [INSTRUCTION in chat.tokenizer.decode(pack.ids) for pack in (bare, full)] == [False, True], (
        "a single one too"
    )


def test_there_are_as_many_steps_as_it_takes_to_ask_every_example_once(frozen, grid):
    def steps(count, length, **options):
        job = Labelled(INSTRUCTION, [(f"{number} {'x' * length}", "x") for number in range(count)])
        return len(list(practice(frozen, [grid.clone().requires_grad_()], [job], ExampleOptions(**options))))

    assert [steps(count, 1) for count in (1, 4, 16, 60)] == [4, 4, 8, 12], "by their number where all find room"
    assert steps(20, 60, budget=100) == 20 > steps(20, 60, budget=100, steps=3) == 3


def test_an_example_that_the_base_cannot_read_is_refused(frozen, grid):
    with pytest.raises(UsageError, match=r"the base reads \d+ tokens"):
        taught(frozen, grid, [], [*EXAMPLES, (f"{INSTRUCTION}\n\n{'x' * 100_000}", "x")])


def test_jobs_that_go_side_by_side_change_nothing_for_one_another(frozen, grid):
    other = [(text, text[-1]) for text in INPUTS[:3]]
    jobs = [Labelled(INSTRUCTION, EXAMPLES), Labelled("", other)]
    grids = [grid.clone().requires_grad_(), (grid * 0.5).requires_grad_()]
    options = ExampleOptions(budget=80, steps=3)
    for _ in practice(frozen, grids, jobs, options):
        pass
    for made, start, job in zip(grids, (grid, grid * 0.5), jobs, strict=True):
        alone = taught(frozen, start, [], job.examples, options)
        assert torch.allclose(made.detach(), alone, atol=2e-4)
        assert not torch.allclose(made.detach(), start, atol=2e-4)


def test_other_answers_make_another_adapter(frozen, grid):
    wrong = [(prompt, "z") for prompt, _ in EXAMPLES]
    right, other = (taught(frozen, grid, PROMPTS, examples) for examples in (EXAMPLES, wrong))
    assert loss(frozen, right, EXAMPLES) < loss(frozen, other, EXAMPLES)


def test_more_examples_than_a_step_holds_are_asked_in_turn(frozen, grid):
    small = replace(ExampleOptions(), budget=60, least=2)
    assert loss(frozen, taught(frozen, grid, PROMPTS, EXAMPLES, small), EXAMPLES) < loss(frozen, grid, EXAMPLES)


@pytest.mark.parametrize("prompts", [["Do it.\n\na"], []])
def test_the_instruction_is_that_of_the_prompts_whatever_the_examples_hold_or_else_theirs(prompts):
    examples = [("a text\n\nof two parts", "b")] if prompts else [("Do it.\n\na", "b"), ("Do it.\n\nc", "d")]
    assert instruction_of(prompts, examples) == "Do it."
