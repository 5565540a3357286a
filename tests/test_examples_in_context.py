"""Labelled examples as earlier turns: drawn beside the questions, and asked themselves."""

from dataclasses import replace
from random import Random

import pytest
import torch
from tiny import SIZES, write_task

from prompt2lora.adapter.grid import initial_grid
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.base.logits import answer_logits
from prompt2lora.base.packing import UNLIMITED, stack
from prompt2lora.errors import UsageError
from prompt2lora.training.finish import train
from prompt2lora.training.recipe import Stage, read_recipe
from prompt2lora.training.sampling import draw_examples, draw_turns, make_pack
from prompt2lora.training.tasks import read_task

TURNS = [("one", "o"), ("two", "tt"), ("three", "t")]


@pytest.fixture
def task(tmp_path):
    return read_task(write_task(tmp_path, "one", "First letter.", lambda text: text[0]))


@pytest.mark.parametrize("bare", [True, False])
def test_every_answer_of_a_conversation_is_asked_as_if_the_examples_before_it_were_all(frozen, task, bare):
    grid = initial_grid(frozen.layout, 0)[None]
    pack = make_pack(task, task.train[:2], frozen.chat, bare=bare, budget=UNLIMITED, turns=TURNS)
    batch = stack([pack], frozen.chat.padding)
    logits = answer_logits(frozen.model, frozen.layout, grid, batch)
    asked = [(TURNS[:at], prompt, answer) for at, (prompt, answer) in enumerate(TURNS)]
    put = str if bare else task.prompt
    questions = [(TURNS, put(one.input), one.output) for one in task.train[:2]]
    for number, (before, prompt, answer) in enumerate([*questions, *asked]):
        ids = frozen.chat.prompt_ids([prompt], before)[0]
        labels = frozen.chat.answer_ids([answer])[0]
        whole = torch.tensor([[*ids, *labels]])
        alone = frozen.model(whole).logits[0, len(ids) - 1 : -1]
        assert torch.equal(batch.labels[batch.label_example == number], torch.tensor(labels))
        assert torch.allclose(logits[batch.label_example == number], alone, atol=1e-4)


def test_examples_cost_their_tokens_once_a_pack_and_leave_the_questions_their_budget(chat, task):
    plain, shown = (make_pack(task, task.train[:6], chat, bare=True, budget=80, turns=turns) for turns in ((), TURNS))
    assert plain.used == shown.used
    extra = len(chat.prompt_ids([""], TURNS)[0]) - len(chat.prompt_ids([""])[0])
    assert len(shown.ids) == len(plain.ids) + extra


@pytest.mark.parametrize("seed", range(8))
def test_no_question_is_its_own_example_and_only_those_are_shown_that_find_room(chat, task, seed):
    random = Random(seed)
    examples = draw_examples(task, random)[:4]
    room = random.randrange(20, 200)
    turns = draw_turns(task, examples, 16, chat, random, bare=bool(seed % 2), room=room)
    asked = {one.input for one in examples}
    assert not asked & {prompt.split("\n\n")[-1] for prompt, _ in turns}
    frame = len(chat.prompt_ids([""])[0])
    assert len(chat.prompt_ids([""], turns)[0]) - frame <= room


def test_before_a_bare_question_the_instruction_stands_in_all_examples_or_the_first_or_none(chat, task):
    def told(seed, bare):
        turns = draw_turns(task, [], 4, chat, Random(seed), bare=bare, room=UNLIMITED)
        return tuple(prompt.startswith(task.instruction) for prompt, _ in turns)

    first = (True, False, False, False)
    assert {told(seed, True) for seed in range(30)} == {(True,) * 4, first, (False,) * 4}
    assert {told(seed, False) for seed in range(30)} == {(True,) * 4}


def test_an_example_whose_answer_reads_otherwise_in_its_place_is_not_asked(chat):
    chat = replace(chat, tokenizer=_Merging(chat.tokenizer))
    assert len(chat.answers_within(TURNS)) == len(TURNS) - 1


class _Merging:
    """A tokenizer that reads the answer of the second turn as another token where something stands before it."""

    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __call__(self, texts, **options):
        found = self.inner(texts, **options)["input_ids"]
        mark = self.inner("tt</s>", add_special_tokens=False)["input_ids"]
        return {"input_ids": [_without(ids, mark) for ids in found]}


def _without(ids, mark):
    at = next((i for i in range(len(ids)) if ids[i : i + len(mark)] == mark), None)
    return ids if at is None else [*ids[:at], 1, *ids[at + 2 :]]


@pytest.mark.parametrize("examples", [(), (-1,), (0, -4)])
def test_a_stage_refuses_numbers_of_examples_that_are_none(examples):
    with pytest.raises(UsageError, match="examples"):
        Stage(steps=1, examples=examples)


def test_a_recipe_with_examples_trains_the_shared_adapter_in_both_forms(base, encoder_folder, tasks_folder, tmp_path):
    file = tmp_path / "examples.toml"
    file.write_text(
        f'tasks = "{tasks_folder}"\nbase = "{base}"\nencoder = "{encoder_folder}"\nvalidation = 0.5\n'
        "[[stage]]\nsteps = 3\ntasks = 2\nbare = 0.5\nalone = 1.0\nexamples = [0, 2]\ncontext = 64\n"
    )
    recipe = read_recipe(file, generator=SIZES)
    assert recipe.stages[0].examples == (0, 2)
    made = train(recipe, tmp_path / "run")
    shared = Adapter.load(tmp_path / "run" / "shared-adapter", models.load_config(base)).grid
    assert torch.allclose(shared, made.start.detach(), atol=1e-3)
    assert not torch.allclose(shared, initial_grid(made.config.layout, recipe.seed))
