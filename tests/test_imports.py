"""Imports point one way, and what must be light stays light."""

import ast
import importlib.util
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "prompt2lora"
# From the ground up; what stands side by side does not know each other.
FLOORS = [
    {"errors"},
    {"ground"},
    {"adapter"},
    {"base", "custody"},
    {"generator"},
    {"training"},
    {"evaluation"},
    {"plant", "machine"},
    {"api"},
    {"serving"},
    {"console"},
    {"web"},
    {"cli"},
    {"__main__"},
]
LIGHT = [
    "__init__.py",
    "adapter/folder.py",
    "adapter/settings.py",
    "adapter/tensors.py",
    "base/versions.py",
    "cli/main.py",
    "errors.py",
    "ground/files.py",
    "ground/home.py",
    "ground/prompts.py",
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


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(file): file for file in SOURCE.rglob("*.py")}


def known_imports(module: str) -> set[str]:
    """The modules of this package that a module imports, at any place in it."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "prompt2lora":
            origin = ".".join(node.module.split(".")[1:])
            names = {f"{origin}.{alias.name}".strip(".") for alias in node.names}
            found |= {name if name in MODULES else origin for name in names}
    return found - {"", module}


def floor(module: str) -> int:
    top = module.split(".")[0]
    return next(level for level, floor in enumerate(FLOORS) if top in floor)


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"__init__", ""}))
def test_imports_point_down_the_floors_and_never_up(module):
    own = module.split(".")[0]
    for other in known_imports(module):
        folder = other.split(".")[0]
        assert folder == own or floor(other) < floor(module), f"{module} imports {other}"


def test_no_two_modules_import_each_other_by_any_way_round():
    graph = {module: known_imports(module) for module in MODULES}
    list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_custody_stands_on_the_ground_and_the_adapter_folder_alone():
    for module in MODULES:
        if module.startswith("custody."):
            for other in known_imports(module):
                assert other.split(".")[0] in {"custody", "ground", "errors"} or other == "adapter.folder", module
            assert not {name.split(".")[0] for name in imported(MODULES[module])} & (HEAVY - {"numpy"}), module


@pytest.mark.parametrize("name", LIGHT)
def test_light_modules_load_nothing_heavy(name):
    found = imported(SOURCE / name, top_level_only=True)
    assert not {module.split(".")[0] for module in found} & HEAVY


def test_the_decoder_knows_neither_text_nor_lora():
    assert not [name for name in imported(SOURCE / "generator" / "decoder.py") if name.startswith("prompt2lora")]


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
