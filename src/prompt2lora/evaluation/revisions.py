"""Revisions of the code behind kept scores, so that scores of other code are never taken for scores of this one.

In: revisions.toml, which gives every component a revision, its modules, and the SHA-256 of both together. Out: the
revisions, which go into the key of a kept score. The digest is of what the modules say, without comments, docstrings
and layout; a test compares it. Whoever changes a module decides:

    python -m prompt2lora.evaluation.revisions same               what it computes is the same: kept scores stay valid
    python -m prompt2lora.evaluation.revisions changed alignment  it computes something else: kept scores are made anew

"""

from __future__ import annotations

import ast
import hashlib
import sys
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from prompt2lora.errors import UsageError
from prompt2lora.ground.files import write_text

TABLE = Path(__file__).with_suffix(".toml")
_SOURCE = Path(__file__).parents[1]
_HEAD = """\
# Components of the code behind kept scores; python -m prompt2lora.evaluation.revisions rewrites it (see revisions.py).
# Scores kept under another revision are not used. sha256 is of revision and modules together.
"""


@dataclass(frozen=True)
class Component:
    revision: int
    modules: tuple[str, ...]
    sha256: str

    def digest(self) -> str:
        """SHA-256 of the revision and of what the modules say now."""
        told = [self.revision, *(said(ast.parse((_SOURCE / module).read_text("utf-8"))) for module in self.modules)]
        return hashlib.sha256(repr(told).encode()).hexdigest()


@cache
def components(table: Path = TABLE) -> dict[str, Component]:
    found = tomllib.loads(table.read_text(encoding="utf-8"))
    return {name: Component(**{**entry, "modules": tuple(entry["modules"])}) for name, entry in found.items()}


def revisions(*names: str) -> dict[str, int]:
    """The revisions of these components."""
    return {name: components()[name].revision for name in names}


def said(node: Any) -> Any:
    """What code says, in plain lists: no comments, docstrings, places or empty fields; the same in every Python."""
    if isinstance(node, list):
        return [said(item) for item in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
        fields["body"] = node.body[1:]
    return [type(node).__name__, *([name, said(value)] for name, value in fields.items() if value not in (None, []))]


def refreshed(known: dict[str, Component], changed: tuple[str, ...]) -> dict[str, Component]:
    """The components with the digests of today's code; those that compute something else have the next revision."""
    for name in changed:
        if name not in known:
            raise UsageError(f"unknown component {name!r}; there are {', '.join(known)}")
    raised = {name: replace(one, revision=one.revision + (name in changed)) for name, one in known.items()}
    return {name: replace(one, sha256=one.digest()) for name, one in raised.items()}


def text(known: dict[str, Component]) -> str:
    """The table as a file."""
    return _HEAD + "".join(
        f"\n[{name}]\nrevision = {one.revision}\nmodules = [\n"
        + "".join(f'    "{module}",\n' for module in one.modules)
        + f']\nsha256 = "{one.sha256}"\n'
        for name, one in known.items()
    )


def main(words: list[str]) -> None:
    match words:
        case ["same"]:
            changed: tuple[str, ...] = ()
        case ["changed", _, *_]:
            changed = tuple(words[1:])
        case _:
            raise SystemExit(__doc__)
    try:
        write_text(TABLE, text(refreshed(components(), changed)))
    except UsageError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main(sys.argv[1:])
