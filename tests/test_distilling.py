"""Context distillation: what an adapter does with the instruction it learns to do without it, and nobody tells it the answers."""

import json
from dataclasses import replace

import pytest
import torch

from prompt2lora.evaluation.decoding import answers
from prompt2lora.evaluation.distilling import OPTIONS, distil
from prompt2lora.generator.reading import Frozen
from prompt2lora.training.tasks import Row, Task
from prompt2lora.training.tuning import judged
from prompt2lora.weights.adapter import Adapter

INSTRUCTION, INPUTS = "Say it again.", [f"note {number}" for number in range(8)]


@pytest.fixture
def pupil(model, chat, layout):
    return Frozen(model, chat, layout)


@pytest.fixture
def grid(layout):
    torch.manual_seed(0)
    return torch.randn(layout.shape) * 0.05


def test_the_answers_of_the_full_form_become_likely_in_the_bare_form(pupil, layout, grid):
    prompts = [f"{INSTRUCTION}\n\n{text}" for text in INPUTS]
    told = answers(pupil.model, pupil.chat, prompts, layout=layout, grid=grid, longest=64)
    rows = [Row(*pair) for pair in zip(INPUTS, told, strict=True)]
    task = Task("told", INSTRUCTION, "", "", tuple(rows), ())
    before = judged(pupil, grid, task, rows, bare=True).loss
    taught = distil(pupil, grid, INSTRUCTION, INPUTS, replace(OPTIONS, steps=24))
    assert judged(pupil, taught, task, rows, bare=True).loss < 0.9 * before


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
    assert [found[name][1].provenance.get("distilled", False) for name in found] == [False, True]
    assert not torch.equal(found["plain"][1].grid, found["taught"][1].grid)


def test_prompts_without_a_common_instruction_cannot_be_distilled_and_nothing_is_written(run, tmp_path):
    (tmp_path / "p.txt").write_text("\n".join(INPUTS))
    code, _, told = run("generate", "--prompts", tmp_path / "p.txt", "--distil", "2", "--out", tmp_path / "a")
    assert code == 2
    assert "these prompts share none" in told
    assert not (tmp_path / "a").exists()
