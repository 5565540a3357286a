"""Faults that a plant survives: what answers is the old or the new release, and everything verifies. A few times each;
the benchmark does each a hundred times."""

import shutil
import subprocess

import pytest
from faults import FAULTS, World
from tiny import tiny_world

FEW = {"kill while registering, promoting and rolling back": 3, "kill while generating": 3, "kill while refining": 2}


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return tiny_world(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("fault", FAULTS)
def test_the_registry_is_whole_and_answers_after(fault, generator, tmp_path, monkeypatch):
    if fault == "a full disk" and not _namespaces():
        pytest.skip("no user namespaces here, so that no small disk can be mounted")
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    world = World(tmp_path / "home", tmp_path, generator)
    found = list(FAULTS[fault](world, FEW.get(fault, 8)))
    assert found == [""] * len(found) != []


def _namespaces():
    return (
        bool(shutil.which("unshare")) and not subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode
    )
