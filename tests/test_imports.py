"""Imports point one way, and what must be light stays light."""

import ast
import importlib.util
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "prompt2lora"
ORDER = ["weights", "generator", "training", "evaluation"]
LIGHT = [
    "__init__.py",
    "adapter_folder.py",
    "cli.py",
    "errors.py",
    "files.py",
    "home.py",
    "prompts.py",
    "versions.py",
    "training/tasks.py",
]
HEAVY = {"torch", "transformers", "peft", "numpy", "safetensors", "matplotlib"}


def imported(file: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("place", range(len(ORDER)), ids=ORDER)
def test_a_layer_imports_no_layer_above_it(place):
    above = tuple(f"prompt2lora.{name}" for name in ORDER[place + 1 :])
    for file in (SOURCE / ORDER[place]).rglob("*.py"):
        wrong = {name for name in imported(file) if name.startswith(above)} if above else set()
        assert not wrong, f"{file.name} imports {wrong}"
        assert not imported(file) & {"prompt2lora.cli", "prompt2lora.verbs"}


def test_custody_knows_no_mathematics():
    for file in (SOURCE / "custody").rglob("*.py"):
        found = imported(file)
        assert not {module.split(".")[0] for module in found} & (HEAVY - {"numpy"}), file.name
        assert not {name for name in found if name.startswith(tuple(f"prompt2lora.{layer}" for layer in ORDER))}, (
            file.name
        )


@pytest.mark.parametrize("name", LIGHT)
def test_light_modules_load_nothing_heavy(name):
    found = imported(SOURCE / name, top_level_only=True)
    assert not {module.split(".")[0] for module in found} & HEAVY


def test_the_decoder_knows_neither_text_nor_lora():
    assert not [name for name in imported(SOURCE / "generator" / "hyperconv.py") if name.startswith("prompt2lora")]


def scripts():
    top = Path(__file__).parent.parent
    return [*(top / "benchmarks").glob("*.py"), *(top / "examples").glob("*.py")]


@pytest.mark.parametrize("file", scripts(), ids=lambda file: file.name)
def test_what_a_script_imports_of_the_package_is_there(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prompt2lora"):
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}")
