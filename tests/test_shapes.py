"""Shapes stand in the types of all tensors that cross a function's boundary, and the tests check them."""

import ast
import importlib
import inspect
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from beartype.roar import BeartypeCallHintViolation

import prompt2lora
from prompt2lora.adapter.hooks import adapted, probe
from prompt2lora.base import decoding, packing

SOURCE = Path(prompt2lora.__file__).parent
SHAPED = ("adapter", "base", "generator", "training")
SERVING = [file for file in sorted((SOURCE / "serving").glob("*.py")) if "import Tensor" in file.read_text("utf-8")]
FILES = [*(file for folder in SHAPED for file in sorted((SOURCE / folder).rglob("*.py"))), *SERVING]
WITH_SHAPES = [file for file in sorted(SOURCE.rglob("*.py")) if "from jaxtyping import" in file.read_text("utf-8")]
# Tensors of many shapes under their names; what a hook is given by the model.
MANY = ("dict[str, Tensor]", "Mapping[str, Tensor]", "tuple[Tensor, ...]")


def bare_tensors(annotation: ast.expr | None) -> bool:
    """Whether a tensor stands in an annotation without its shape."""
    if annotation is None or ast.unparse(annotation) in MANY:
        return False
    if isinstance(annotation, ast.Name):
        return annotation.id == "Tensor"
    if isinstance(annotation, ast.Attribute):
        return annotation.attr == "Tensor"
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in ("Float", "Int", "Bool", "Shaped"):
        return False
    return any(bare_tensors(child) for child in ast.iter_child_nodes(annotation) if isinstance(child, ast.expr))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_every_tensor_that_crosses_a_function_s_boundary_has_its_shape(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = node.args
            annotations = [one.annotation for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            bare = [ast.unparse(one) for one in (*annotations, node.returns) if bare_tensors(one)]
            assert not bare, f"{file.name}:{node.lineno} {node.name}"


def module_of(file: Path) -> str:
    return ".".join(("prompt2lora", *file.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


@pytest.mark.parametrize("file", WITH_SHAPES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_every_annotated_function_beside_a_shape_is_checked_while_tests_run(file):
    module = importlib.import_module(module_of(file))
    functions = [
        found
        for found in vars(module).values()
        if inspect.isfunction(found)
        and found.__module__ == module.__name__
        and not {str(one).removeprefix("typing.") for one in found.__annotations__.values()} <= {"Any"}
    ]
    assert not [found.__qualname__ for found in functions if not hasattr(found, "__wrapped__")]


def test_a_batch_of_packs_whose_parts_do_not_fit_is_refused():
    batch = packing.stack([packing.pack_examples([[1, 2], [1, 3]], [[4], [5]], 20)], padding=0)
    with pytest.raises(BeartypeCallHintViolation):
        packing.PackBatch(**{**vars(batch), "positions": batch.positions[:, 1:]})
    with pytest.raises(BeartypeCallHintViolation):
        packing.PackBatch(**{**vars(batch), "labels": batch.labels[1:]})
    with pytest.raises(BeartypeCallHintViolation):
        packing.PackBatch(**{**vars(batch), "visible": batch.visible.float()})


def test_a_batch_of_adapters_is_no_adapter_to_decoding_nor_one_adapter_a_batch_to_the_hooks(model, chat, layout):
    grid = torch.zeros(layout.shape)
    with pytest.raises(BeartypeCallHintViolation):
        decoding.answers(model, chat, ["a"], layout=layout, grid=grid[None])
    with pytest.raises(BeartypeCallHintViolation):
        probe(model, grid[None], layout, torch.tensor([[1]]))
    with pytest.raises(BeartypeCallHintViolation), adapted(model, grid, layout):
        pass


def test_what_is_padded_for_decoding_has_the_width_of_its_mask():
    tokens, mask, places = decoding._padded_tails([[1, 2, 3], [1, 2, 4, 5]], 2, padding=9)
    assert tokens.tolist() == [[9, 3], [4, 5]]
    assert mask.tolist() == [[1, 1, 0, 1], [1, 1, 1, 1]]
    assert places.tolist() == [[0, 2], [2, 3]]
    with pytest.raises(BeartypeCallHintViolation):
        decoding._padded_tails(SimpleNamespace(), 2, padding=9)
