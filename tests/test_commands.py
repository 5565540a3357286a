"""Whole jobs through the command line: every verb that writes, with its result as pure JSON."""

import inspect
import json
import re
from pathlib import Path

import pytest
import typer
from tiny import SIZES

import prompt2lora
from prompt2lora import api
from prompt2lora.cli.main import app
from prompt2lora.generator.generator import Generator
from prompt2lora.plant import candidates, refinement
from prompt2lora.plant.plant import Plant

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted({*ROOT.glob("docs/*.md")} - {ROOT / "docs/benchmark.md", ROOT / "docs/log.md"})]
THEIRS = {  # options of vLLM and llama.cpp
    *("--enable-lora", "--max-lora-rank", "--max-cpu-loras", "--enable-prompt-tokens-details", "--tokenizer-mode"),
    "--cache-ram",
}
COMMANDS = typer.main.get_command(app).commands


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


def test_every_verb_of_the_command_line_is_one_in_python():
    verbs = {name for name, command in COMMANDS.items() if not hasattr(command, "commands")}
    verbs -= {"serve", "answer"}  # ask an engine
    names = {"import": "import_adapter"}
    places = (prompt2lora, Plant, candidates, refinement)
    assert [one for one in verbs if not any(hasattr(place, names.get(one, one)) for place in places)] == []
    own = {name for name, one in inspect.getmembers(api, inspect.isfunction) if one.__module__ == api.__name__}
    assert {name for name in own if not name.startswith("_")} == {*prompt2lora._VERBS}


def options(command):
    """Those of a command, and of its own commands."""
    found = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
    return found.union(*(options(one) for one in getattr(command, "commands", {}).values()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_a_page_shows_is_one_of_the_command_it_is_shown_with(page):
    wrong = []
    for block, span in re.findall(r"```.*?\n(.*?)```|`([^`\n]+)`", page.read_text(encoding="utf-8"), re.DOTALL):
        for line in (block or span).replace("\\\n", " ").split("\n"):
            command = typer.main.get_command(app)
            for word in line.removeprefix("prompt2lora ").split():
                if word not in getattr(command, "commands", {}):
                    break
                command = command.commands[word]
            shown = {*re.findall(r"(?<![\w-])--[a-z][a-z-]*", line)} - THEIRS
            wrong += [(line, option) for option in shown - options(command)]
    assert wrong == []
