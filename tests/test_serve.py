"""`prompt2lora serve` as a process: it starts, answers with a real adapter, and ends when it is told to."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import openai
import pytest
import torch
from offline import until_ready
from tiny import tiny_world

from prompt2lora.adapter.peft import Adapter
from prompt2lora.base.weights import weights_digest
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.versions import Origin
from prompt2lora.generator.generator import Generator

PROGRAM = str(Path(sys.executable).with_name("prompt2lora"))


@pytest.fixture
def world(tmp_path):
    """A home with one released job, beside a tiny generator."""
    generator = tiny_world(tmp_path)
    layout = Generator.from_pretrained(generator).config.layout
    torch.manual_seed(0)
    Adapter(layout, torch.randn(layout.shape) * 0.3).save(tmp_path / "adapter")
    registry = Registry.open(tmp_path / "home", actor="maker")
    registry.add_job("mail")
    origin = Origin(("one", "two"), "9" * 64, "g", layout.base_model, weights_digest(layout.base_model))
    version = registry.add_version("mail", tmp_path / "adapter", origin)
    registry.promote("mail", version, "first", expected=None)
    registry.engine.dispose()
    return tmp_path, generator, version


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def program(place, *words):
    environment = {**os.environ, "PROMPT2LORA_HOME": str(place / "home"), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def test_the_service_starts_answers_and_ends(world):
    place, generator, version = world
    port = free_port()
    added = program(place, "keys", "add", "line", "--inference", "--json")
    token = json.loads(added.communicate(timeout=60)[0])["token"]
    serving = program(place, "serve", "--port", str(port), "--generator", str(generator))
    try:
        until_ready(serving, f"http://127.0.0.1:{port}")
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=token, max_retries=0)
        reply = client.chat.completions.create(
            model="mail", messages=[{"role": "user", "content": "hello"}], max_tokens=8
        )
        client.close()
        page = httpx.get(f"http://127.0.0.1:{port}/console", follow_redirects=True)
    finally:
        serving.send_signal(signal.SIGTERM)
        out, log = serving.communicate(timeout=60)
    assert reply.system_fingerprint == f"1:{version.name}"
    assert reply.choices[0].message.content
    assert page.status_code in (200, 401) and "<h1" in page.text
    assert serving.returncode == 0, log
    assert re.search(r"console/first\?code=\S{20,}", out), "no admin yet: the link of the first start is told"
    assert "hello" not in log and token not in log


def test_an_address_that_is_open_to_others_needs_a_key_first(run, world, monkeypatch):
    place, generator, _ = world
    monkeypatch.setenv("PROMPT2LORA_HOME", str(place / "home"))
    code, out, told = run("serve", "--host", "0.0.0.0", "--generator", generator)
    assert (code, out) == (2, "")
    assert told.strip().splitlines()[-1].startswith("error: 0.0.0.0 can be reached by others")


def test_a_port_that_is_taken_is_told_in_one_line_before_anything_is_loaded(run, world, monkeypatch):
    place, generator, _ = world
    monkeypatch.setenv("PROMPT2LORA_HOME", str(place / "home"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, out, told = run("serve", "--port", taken.getsockname()[1], "--generator", generator)
    assert (code, out, told.count("\n")) == (2, "", 1)
    assert "--port" in told


def test_it_starts_and_answers_on_a_machine_without_any_network(world):
    place, generator, _ = world
    cut_off = ["unshare", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    try:
        subprocess.run([*cut_off, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system makes no network namespaces")
    words = [sys.executable, Path(__file__).with_name("offline.py"), PROGRAM, generator]
    environment = {**os.environ, "PROMPT2LORA_HOME": str(place / "home")}
    environment.pop("HF_HUB_OFFLINE", None)  # nobody has to know of it
    ran = subprocess.run([*cut_off, *map(str, words)], env=environment, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert json.loads(ran.stdout) == {"outside": False, "status": 200, "ended": 0}
