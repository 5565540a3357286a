"""Alignment: what an adapter does with the instruction it then does without it, by least squares, without labels."""

from functools import partial

import pytest
import torch
from tiny import TINY
from transformers import AutoModelForCausalLM, Gemma3TextConfig, MistralConfig, Qwen2Config

from prompt2lora.adapter.grid import factors
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.logits import answer_logits
from prompt2lora.base.packing import UNLIMITED, stack
from prompt2lora.evaluation.arms import ARMS
from prompt2lora.evaluation.resources import Resources
from prompt2lora.generator.alignment import AlignmentOptions, aligned, read_prompts
from prompt2lora.generator.hidden_states import is_read_whole, prompt_ids
from prompt2lora.generator.pipeline import Pipeline
from prompt2lora.generator.text_encoder import Encoder
from prompt2lora.training import objectives
from prompt2lora.training.sampling import make_pack
from prompt2lora.training.tasks import Example, Task, read_tasks

INSTRUCTION, INPUTS = "Say it again.", [f"note {number} of {number * 7}" for number in range(8)]
USUAL = AlignmentOptions()
BEGINNINGS = AlignmentOptions(prompts=8, max_new_tokens=1)  # a base of random numbers never ends an answer
ALIGNED = {"generated": "decoded", "multi-task-aligned": "multi-task"}
PROMPTS = [f"{INSTRUCTION}\n\n{text}" for text in INPUTS]


@pytest.fixture
def grid(layout):
    torch.manual_seed(0)
    return torch.randn(layout.shape) * 0.05


def aligned_to(frozen, grid, prompts, options=USUAL):
    """Aligned to what it does itself with the whole prompts."""
    return aligned(frozen, grid, read_prompts(frozen, grid, prompts, options), options)


def divergence(frozen, grid, other, form):
    """How far an adapter's first token in a form is from that of `grid` in the full form, whose own answer it is."""
    task = Task("told", INSTRUCTION, "", "", tuple(Example(text, "") for text in INPUTS), ())
    packs = {
        form: stack([make_pack(task, task.train, frozen.chat, bare=form == "bare", budget=UNLIMITED)], 0)
        for form in ("full", "bare")
    }
    ask = partial(answer_logits, frozen.model, frozen.layout)
    with torch.no_grad():
        goal = ask(grid[None], packs["full"])
        return objectives.distillation(ask(other[None], packs[form]), goal, packs[form]).item()


def test_without_the_instruction_it_answers_more_like_the_one_that_is_told_and_with_it_nearly_as_before(frozen, grid):
    after = aligned_to(frozen, grid, PROMPTS, BEGINNINGS)
    gap = divergence(frozen, grid, grid, "bare")
    assert divergence(frozen, grid, after, "bare") < 0.5 * gap
    assert divergence(frozen, grid, after, "full") < 0.2 * gap


@pytest.mark.parametrize("kind", [Gemma3TextConfig, MistralConfig, Qwen2Config])
def test_so_it_is_in_every_family_of_bases(kind, chat):
    torch.manual_seed(0)
    config = kind(**TINY, head_dim=16, sliding_window=64, initializer_range=0.2)
    layout = LoraLayout.from_config(config, base_model="tiny")
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    base, grid = Frozen(model, chat, layout), torch.randn(layout.shape) * 0.05
    after = aligned_to(base, grid, PROMPTS, BEGINNINGS)
    assert divergence(base, grid, after, "bare") < 0.7 * divergence(base, grid, grid, "bare")


def test_only_the_attention_s_output_projections_change_and_the_given_grid_stays(frozen, grid, layout):
    given = grid.clone()
    before, after = factors(given[None], layout), factors(aligned_to(frozen, grid, PROMPTS)[None], layout)
    assert torch.equal(grid, given)
    for path in before:
        assert torch.equal(before[path].a, after[path].a) is not path.endswith("o_proj")


def test_the_same_comes_out_twice_and_whatever_the_order_of_the_prompts(frozen, grid):
    found = aligned_to(frozen, grid, PROMPTS)
    assert torch.equal(found, aligned_to(frozen, grid, PROMPTS))
    assert torch.equal(found, aligned_to(frozen, grid, PROMPTS[::-1]))


def test_a_rank_above_the_number_of_tokens_is_filled_up_with_what_changes_nothing(model, chat):
    layout = LoraLayout.from_config(model.config, base_model="tiny", rank=64)
    base, grid = Frozen(model, chat, layout), torch.randn(layout.shape) * 0.05
    after = aligned_to(base, grid, [f"{INSTRUCTION}\n\na"], AlignmentOptions(max_new_tokens=1))
    assert after.shape == grid.shape and torch.isfinite(after).all() and not torch.equal(after, grid)


def test_a_prompt_that_is_given_many_times_is_read_once(frozen, grid):
    read = read_prompts(frozen, grid, PROMPTS)
    for prompt in PROMPTS:
        assert read_prompts(frozen, grid, [*PROMPTS, *[prompt] * 9]).prompts == read.prompts


@pytest.mark.parametrize("prompts", [PROMPTS[:1], PROMPTS[:1] * 3, [f"{INSTRUCTION}\n\n{'x' * 900}", PROMPTS[0]]])
def test_one_prompt_is_enough_and_repeated_or_long_ones_do_no_harm(frozen, grid, prompts):
    found = aligned_to(frozen, grid, prompts)
    assert torch.isfinite(found).all()
    assert not torch.equal(found, grid)


@pytest.mark.parametrize("prompts", [PROMPTS, INPUTS, [PROMPTS[0], "Do else.\n\nthis"]])
@pytest.mark.parametrize("name", ["asking", "generator"])
def test_it_is_done_where_the_base_is_asked_and_the_prompts_share_an_instruction(
    frozen, grid, encoder_folder, prompts, name, request
):
    pipeline = Pipeline(request.getfixturevalue(name), Encoder(encoder_folder), frozen)
    made = pipeline.make(prompts)
    aligns = name == "asking" and prompts is PROMPTS
    decoded = pipeline.generator.generate(pipeline.conditions(prompts))
    if aligns:
        shared = pipeline.generator.start.detach()
        read = read_prompts(frozen, shared, prompts)
        decoded = pipeline.generator.generate(pipeline.conditions(read.prompts))
        decoded = aligned(frozen, decoded, read)
    assert torch.allclose(made.grid, decoded, atol=1e-4)
    assert made.instruction == (INSTRUCTION if aligns else "")


def test_the_arms_are_the_decoder_s_and_the_one_for_all_tasks_each_with_and_without(
    frozen, grid, asking, encoder_folder, layout, tasks_folder
):
    tasks = read_tasks([tasks_folder])
    bench = Resources(frozen, Encoder(encoder_folder), asking, tasks, multi_task=Adapter(layout, grid, {}))
    found = {name: ARMS[name].attempt(bench, tasks[0], 0) for name in (*ALIGNED, *ALIGNED.values())}
    for name, before in ALIGNED.items():
        assert not torch.equal(found[name].grid(), found[before].grid())
    assert len({attempt.depends for attempt in found.values()}) == 4


def test_generate_says_how_long_it_took_and_writes_what_was_aligned(frozen, asking, layout, encoder_folder, tmp_path):
    pipeline = Pipeline(asking, Encoder(encoder_folder), frozen)
    made = pipeline.write(PROMPTS, tmp_path / "made")
    assert made.seconds["align"] > 0
    assert torch.allclose(
        Adapter.load(tmp_path / "made", frozen.model.config).grid, pipeline.make(PROMPTS).grid, atol=1e-3
    )


def test_of_a_long_prompt_the_instruction_is_read_whole_and_the_input_is_cut(chat):
    rules = "Answer with a code. " * 19
    asked = [f"{rules}{last}\n\n{'x' * 300}{end}" for last in ("Then A.", "Then B.") for end in "yz"]
    read = prompt_ids(chat, asked)
    assert len({*map(tuple, read)}) == len(asked), "neither the last rule nor the end of the input is lost"
    assert {len(ids) for ids in read} == {512} and all(is_read_whole(chat, prompt.split("\n\n")[0]) for prompt in asked)
    for text in ("x" * 900, f"Short.\n\n{'x' * 900}"):
        (ids,), (whole,) = prompt_ids(chat, [text]), chat.prompt_ids([text])
        assert ids == whole[:256] + whole[-256:], "where it finds room, both halves are as the generators know them"


def test_an_instruction_too_long_to_be_read_is_told_with_the_adapter_and_on_its_card(
    frozen, asking, encoder_folder, tmp_path
):
    pipeline = Pipeline(asking, Encoder(encoder_folder), frozen)
    for instruction, whole in ((INSTRUCTION, True), ("Say it again. " * 40, False)):
        prompts, folder = [f"{instruction}\n\n{text}" for text in INPUTS], tmp_path / str(whole)
        pipeline.write(prompts, folder)
        assert ("long instruction" not in {one.kind for one in pipeline.advise(prompts)}) is whole
        assert ("This instruction is in the weights" in (folder / "README.md").read_text()) is whole
