"""The shared adapter trained to be a good start for a few steps on labelled examples."""

from dataclasses import replace
from random import Random

import pytest
import torch
from tiny import SIZES, write_tasks

from prompt2lora.base.logits import answer_logits
from prompt2lora.errors import UsageError
from prompt2lora.generator.examples import ExampleOptions, taught
from prompt2lora.generator.generator import ExamplesStart, Generator
from prompt2lora.training.finish import train
from prompt2lora.training.questions import draw_questions, draw_tasks
from prompt2lora.training.recipe import Recipe, Stage
from prompt2lora.training.run import Run
from prompt2lora.training.tasks import Example

PRACTICE = Stage(steps=2, tasks=2, budget=100, bare=1.0, alone=1.0, examples=(3,), context=100, practice=2, warmup=0)


@pytest.fixture(scope="module")
def recipe(base, encoder_folder, tmp_path_factory):
    tasks = write_tasks(tmp_path_factory.mktemp("tasks"))
    return Recipe(
        stages=(PRACTICE,),
        tasks=str(tasks),
        base=base,
        encoder=encoder_folder,
        dtype="float32",
        generator=SIZES,
        validation=0.45,
        strengths=(0.01, 1.0, 40.0),
    )


@pytest.fixture(scope="module")
def made(recipe, tmp_path_factory):
    told = []
    folder = tmp_path_factory.mktemp("runs") / "run"
    return train(recipe, folder, told.append), told, folder


def test_no_question_is_practised_and_none_is_shown(recipe, tmp_path):
    run = Run(recipe, tmp_path / "run", print)
    for seed in range(20):
        random = Random(seed)
        tasks = draw_tasks(run.fit, PRACTICE, random, synthetic_share=0.0, families=[])
        questions = draw_questions(tasks, PRACTICE, run.base.chat, random)
        for task, practised, ids in zip(tasks, questions.others, questions.packs.ids.tolist(), strict=True):
            asked = run.base.chat.tokenizer.decode(ids)
            assert 0 < len(practised) <= 3
            inputs = {one.input for one in task.train if f"{one.input}</s><|assistant|>" in asked}
            assert len(inputs) > 3
            assert not inputs & {one.input for one in practised}
            assert task.instruction not in asked


def test_where_one_input_has_several_answers_another_one_is_left_to_practise_on(recipe, tmp_path):
    run = Run(recipe, tmp_path / "run", print)
    few = replace(run.fit[0], train=(Example("a", "1"), Example("a", "2"), Example("b", "3")))
    for seed in range(20):
        questions = draw_questions([few], PRACTICE, run.base.chat, Random(seed))
        (practised,), asked = questions.others, run.base.chat.tokenizer.decode(questions.packs.ids[0])
        assert practised and not any(f"{one.input}</s><|assistant|>" in asked for one in practised)


def test_the_gradient_of_a_start_is_that_of_the_adapter_which_the_steps_made(recipe, tmp_path):
    run = Run(recipe, tmp_path / "run", print)
    start, task = run.generator.start, run.fit[0]
    some = task.train[:3]
    batch = draw_questions([task], PRACTICE, run.base.chat, Random(0)).packs

    def gradient(grid, leaf):
        logits = answer_logits(run.base.model, run.layout, grid, batch)
        (found,) = torch.autograd.grad(torch.nn.functional.cross_entropy(logits, batch.labels), leaf)
        return found

    options = ExampleOptions(steps=2, budget=100)
    after = taught(run.base, start.detach(), [], [(task.prompt(one.input), one.output) for one in some], options)
    alone = after[None].clone().requires_grad_()
    through = run.grids.after_practice([task], [some], PRACTICE)
    assert torch.allclose(through[0], after, atol=1e-6)
    assert torch.allclose(gradient(through, start), gradient(alone, alone)[0], atol=1e-5)


def test_a_start_goes_as_far_as_serves_what_steps_make_of_it_on_held_out_tasks(made):
    generator, told, _ = made
    losses = {record["strength"]: record["after_bare_loss"] for record in told if "strength" in record}
    assert list(losses) == [0.01, 1.0, 40.0]
    assert generator.provenance["strength"] == min(losses, key=losses.get)
    arms = {key for record in told for key in record if key.endswith(("_full", "_bare"))}
    assert arms == {"alone_full", "after_bare"}, "the decoder was not trained and is not measured"


def test_practice_lowers_the_loss_after_the_steps(recipe, tmp_path):
    stage = PRACTICE.changed(steps=30, tasks=3, learning_rate=1e-2, shared=1.0)
    losses = []
    longer = recipe.changed(stages=(stage,), strengths=(1.0,), validate_every=99, log_every=1)
    run = Run(longer, tmp_path / "run", lambda record: losses.append(record["loss"]) if "loss" in record else None)
    run.train()
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


@pytest.mark.parametrize("change", [{"alone": 0.5}, {"distil": 1.0}, {"examples": (0, 4)}])
def test_practice_is_refused_of_anything_but_the_shared_adapter_on_examples(change):
    with pytest.raises(UsageError, match="practice"):
        PRACTICE.changed(**change)


def test_a_start_that_plain_training_follows_is_chosen_as_a_shared_adapter(recipe, tmp_path):
    plain = Stage(steps=1, tasks=2, budget=100, bare=0.0, alone=1.0, warmup=0)
    told = []
    both = recipe.changed(stages=(PRACTICE.changed(steps=1), plain), strengths=(0.5, 1.0))
    train(both, tmp_path / "run", told.append)
    assert [set(record) - {"strength"} for record in told if "strength" in record] == [
        {"alone_full", "alone_full_loss"}
    ] * 2


@pytest.mark.parametrize("practises", [True, False])
def test_a_run_that_moves_a_generators_shared_adapter_finds_anew_what_its_adapters_look_like(
    recipe, plant_generator, tmp_path, practises
):
    start = Generator.from_pretrained(plant_generator)
    start.examples = ExamplesStart(start.start + 0.01)
    start.save_pretrained(tmp_path / "start")
    stage = (
        PRACTICE.changed(learning_rate=1e-2) if practises else Stage(steps=2, tasks=2, bare=0.0, alone=1.0, warmup=0)
    )
    further = recipe.changed(stages=(stage,), strengths=(1.0,), start=str(tmp_path / "start"))
    made = train(further, tmp_path / "run")
    assert not torch.equal(made.start, start.start)
    assert set(made.atlas.names) <= {f"task{i}" for i in range(6)}, "those of this run"
    assert torch.equal(made.examples_start, made.start)
    assert bool(made.examples and made.examples.health) == practises
