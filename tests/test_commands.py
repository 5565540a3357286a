"""Whole jobs through the command line: every verb that writes, with its result as pure JSON."""

import json

import pytest
from tiny import SIZES

import prompt2lora
from prompt2lora.generator.generator import Generator


def test_the_version_is_that_of_the_package(run):
    assert run("--version")[:2] == (0, f"{prompt2lora.__version__}\n")


def test_teachers_are_collected_and_a_generator_is_trained_on_them_and_makes_an_adapter(
    run, base, encoder_folder, tasks_folder, tmp_path
):
    task = tasks_folder / "task0.jsonl"
    code, out, told = run("collect", "--tasks", task, "--out", tmp_path / "t", "--base", base, "--steps", "1", "--json")
    assert code == 0
    (record,) = json.loads(out)["teachers"]
    assert record["task"] == "task0"
    assert "task0" in told
    lines = [f'tasks = "{tasks_folder}"', f'base = "{base}"', f'encoder = "{encoder_folder}"', "validation = 0.05"]
    lines += ["log_every = 1", "known = 5", "[generator]", *(f"{key} = {value}" for key, value in SIZES.items())]
    recipe = tmp_path / "r.toml"
    recipe.write_text("\n".join([*lines, "[[stage]]", "steps = 2", "tasks = 2", "budget = 80"]))
    code, out, told = run("train", "--recipe", recipe, "--out", tmp_path / "run", "--json")
    assert code == 0
    made = json.loads(out)
    assert made["provenance"]["steps"] == 2
    assert "loss" in told
    assert Generator.from_pretrained(made["generator"]).provenance["steps"] == 2
    (tmp_path / "p.txt").write_text("one prompt is enough\n")
    words = ("--prompts", tmp_path / "p.txt", "--out", tmp_path / "a", "--generator", made["generator"], "--json")
    code, out, _ = run("generate", *words)
    assert code == 0
    assert json.loads(out)["prompts"] == 1
    code, out, _ = run("ask", "hello", "--adapter", tmp_path / "a", "--base", base, "--max-new-tokens", "2", "--json")
    assert code == 0
    assert set(json.loads(out)) == {"answer", "adapter"}


@pytest.mark.parametrize("verb", ["generate", "benchmark", "collect", "train"])
def test_a_verb_without_its_arguments_is_a_usage_error_that_names_one(run, verb):
    code, out, told = run(verb)
    assert (code, out) == (2, "")
    assert "--" in told
