"""`prompt2lora serve` as a process: it starts, answers with a real adapter, and ends when it is told to."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import command, tiny_world

from prompt2lora.adapter.peft import Adapter
from prompt2lora.base.weights import weights_digest
from prompt2lora.cli import serve
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.versions import Origin
from prompt2lora.generator.generator import Generator

PROGRAM = str(Path(sys.executable).with_name("prompt2lora"))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A home with one released job, beside a tiny generator."""
    place = tmp_path_factory.mktemp("served")
    generator = tiny_world(place)
    layout = Generator.from_pretrained(generator).config.layout
    torch.manual_seed(0)
    Adapter(layout, torch.randn(layout.shape) * 0.3).save(place / "adapter")
    registry = Registry.open(place / "home", actor="maker")
    registry.add_job("mail")
    origin = Origin(("one", "two"), "9" * 64, "g", layout.base_model, weights_digest(layout.base_model))
    version = registry.add_version("mail", place / "adapter", origin)
    registry.promote("mail", version, "first", expected=None)
    registry.engine.dispose()
    return place, generator, version


def cut_off():
    """The words before a command that leave it no network but its loopback; none where the system has none for that."""
    words = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    try:
        subprocess.run([*words, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return words


@pytest.fixture(scope="module")
def served(world):
    """What came of serving once, cut off from any network if that can be done here."""
    place, generator, _ = world
    shutil.copytree(place / "home", place / "serving")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMPT2LORA_HOME", str(place / "serving"))
        token = json.loads(command("keys", "add", "line", "--inference", "--json")[1])["token"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    alone = cut_off()
    words = [*alone, sys.executable, Path(__file__).with_name("offline.py"), PROGRAM, port, generator, token]
    environment = {**os.environ, "PROMPT2LORA_HOME": str(place / "serving"), "PYTHONUNBUFFERED": "1"}
    if alone:
        environment.pop("HF_HUB_OFFLINE", None)  # nobody has to know of it
    ran = subprocess.run(list(map(str, words)), env=environment, capture_output=True, text=True, timeout=400)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return {**json.loads(ran.stdout), "token": token}


def test_the_service_starts_answers_and_ends(served, world):
    version = world[2]
    assert served["by"] == f"1:{version.name}"
    assert served["answer"]
    status, page = served["page"]
    assert status in (200, 401) and "<h1" in page
    assert served["ended"] == 0, served["log"]
    assert re.search(r"console/first\?code=\S{20,}", served["out"]), "no admin yet: the link of the first start is told"
    assert "hello" not in served["log"] and served["token"] not in served["log"]


def test_it_starts_and_answers_on_a_machine_without_any_network(served):
    if not cut_off():
        pytest.skip("no network can be cut off here: that takes network namespaces, and the programs unshare and ip")
    assert not served["outside"] and served["answer"]


def test_an_address_that_is_open_to_others_needs_a_key_first(run, world, monkeypatch):
    place, generator, _ = world
    monkeypatch.setenv("PROMPT2LORA_HOME", str(place / "home"))
    code, out, told = run("serve", "--host", "0.0.0.0", "--generator", generator)
    assert (code, out) == (2, "")
    assert told.strip().splitlines()[-1].startswith("error: 0.0.0.0 can be reached by others")


@pytest.mark.parametrize(
    ("host", "allowed", "told"),
    [
        ("127.0.0.1", [], "127.0.0.1"),
        ("0.0.0.0", [], "127.0.0.1"),
        ("0.0.0.0", ["*", "plant.example"], "plant.example"),
        ("::", [], "[::1]"),
        ("::1", [], "[::1]"),
    ],
)
def test_the_address_that_is_told_is_one_that_the_service_answers_for(host, allowed, told):
    assert serve._called(host, allowed) == told


def test_how_large_a_request_may_be_is_an_option_and_queued_work_is_of_the_base(run, world, monkeypatch):
    place, generator, version = world
    monkeypatch.setenv("PROMPT2LORA_HOME", str(place / "home"))
    made = []
    monkeypatch.setattr(serve, "_run", lambda service, *_: made.append((service.limits.body, service.queue._base)))
    for words in ((), ("--request-mb", "5")):
        code, _, told = run("serve", "--port", "0", "--generator", generator, *words)
        assert code == 0, told
    assert made == [(2 * 2**20, version.base_digest), (5 * 2**20, version.base_digest)]


def test_a_port_that_is_taken_is_told_in_one_line_before_anything_is_loaded(run, world, monkeypatch):
    place, generator, _ = world
    monkeypatch.setenv("PROMPT2LORA_HOME", str(place / "home"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, out, told = run("serve", "--port", taken.getsockname()[1], "--generator", generator)
    assert (code, out, told.count("\n")) == (2, "", 1)
    assert "--port" in told
