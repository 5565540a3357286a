"""Context distillation: what an adapter does with the instruction it learns to do without it, from its own answers."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch

from prompt2lora.evaluation.distilling import OPTIONS, distil
from prompt2lora.generator.reading import Frozen
from prompt2lora.packs import UNLIMITED, stack
from prompt2lora.training import objectives
from prompt2lora.training.pairs import make_pack
from prompt2lora.training.tasks import Row, Task
from prompt2lora.weights.adapter import Adapter

INSTRUCTION, INPUTS = "Say it again.", [f"note {number}" for number in range(8)]


@pytest.fixture
def pupil(model, chat, layout):
    return Frozen(model, chat, layout)


@pytest.fixture
def grid(layout):
    torch.manual_seed(0)
    return torch.randn(layout.shape) * 0.05


def test_without_the_instruction_it_answers_more_like_the_one_that_is_told(pupil, grid):
    task = Task("told", INSTRUCTION, "", "", tuple(Row(text, text) for text in INPUTS), ())
    told, untold = (
        stack([make_pack(task, task.train, pupil.chat, bare=bare, budget=UNLIMITED)], pupil.chat.padding)
        for bare in (False, True)
    )

    def divergence(other):
        with torch.no_grad():
            ask = partial(objectives.answer_logits, pupil.model, pupil.layout)
            return objectives.distillation(ask(other[None], untold), ask(grid[None], told), told).item()

    taught = distil(pupil, grid, INSTRUCTION, INPUTS, replace(OPTIONS, learning_rate=1e-2))
    assert divergence(taught) < 0.9 * divergence(grid)


def test_the_adapter_that_was_given_stays_as_it_was_and_the_same_comes_out_twice(pupil, grid):
    before, seen = grid.clone(), []
    taught = distil(pupil, grid, INSTRUCTION, INPUTS, replace(OPTIONS, steps=2), seen.append)
    assert torch.equal(grid, before)
    assert not torch.equal(taught, grid)
    assert torch.equal(taught, distil(pupil, grid, INSTRUCTION, INPUTS, replace(OPTIONS, steps=2)))
    assert seen == [{"done": 1, "of": 2}, {"done": 2, "of": 2}]


def test_generate_distils_when_asked_and_the_adapter_says_so(run, generator_folder, model, tmp_path):
    (tmp_path / "p.txt").write_text("\n".join(INPUTS))
    words = ("--prompts", tmp_path / "p.txt", "--instruction", INSTRUCTION, "--generator", generator_folder, "--json")
    found = {}
    for name, more in {"plain": (), "taught": ("--distil", "2")}.items():
        code, out, _ = run("generate", *words, *more, "--out", tmp_path / name)
        assert code == 0
        found[name] = json.loads(out)["seconds"], Adapter.load(tmp_path / name, model.config)
    assert found["taught"][0].keys() - found["plain"][0].keys() == {"distil"}
    assert [found[name][1].provenance.get("distilled", 0) for name in found] == [0, 2]
    assert not torch.equal(found["plain"][1].grid, found["taught"][1].grid)


def test_prompts_without_a_common_instruction_cannot_be_distilled_and_nothing_is_written(run, tmp_path):
    (tmp_path / "p.txt").write_text("\n".join(INPUTS))
    code, _, told = run("generate", "--prompts", tmp_path / "p.txt", "--distil", "2", "--out", tmp_path / "a")
    assert code == 2
    assert "these prompts share none" in told
    assert not (tmp_path / "a").exists()
