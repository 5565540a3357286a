"""Two replicas on a real local Ray that asks for a token, in a process of its own."""

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ray_cluster import asks_of, said

from prompt2lora.adapter.peft import Adapter
from prompt2lora.errors import Misconfigured, UsageError
from prompt2lora.serving.embedded import EmbeddedEngine
from prompt2lora.serving.ray import RayCluster, RayReplica
from prompt2lora.serving.setup import Setup

COUNT = 4
RAY = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "a" * 64,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",  # as urgent as the tests beside them, which would leave them nothing
}


@pytest.fixture(scope="module")
def adapters(layout, tmp_path_factory):
    place = tmp_path_factory.mktemp("store")
    for number in range(COUNT):
        torch.manual_seed(number)
        Adapter(layout, torch.randn(layout.shape) * 0.3).save(place / f"{number:064d}")
    return place


@pytest.fixture(scope="module")
def right(layout, adapters):
    """What one engine answers alone, with every adapter and as the base."""

    async def answers():
        alone = EmbeddedEngine.load(Setup(layout.base_model), lambda one: adapters / one.adapter, exact=True).start()
        found = [await said(alone, one) for one in asks_of(layout.base_model, COUNT)]
        await alone.close(1)
        return found

    return asyncio.run(answers())


@pytest.fixture(scope="module")
def found(layout, adapters):
    if importlib.util.find_spec("ray") is None:
        pytest.skip("the extra `cluster` is not installed")
    words = [sys.executable, Path(__file__).with_name("ray_cluster.py"), layout.base_model, adapters, COUNT]
    ran = subprocess.run(list(map(str, words)), env={**os.environ, **RAY}, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout.splitlines()[-1])


def test_a_cluster_without_a_token_is_refused(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    with pytest.raises(UsageError, match="RAY_AUTH_MODE=token"):
        RayCluster.start(Setup("base"), tmp_path)


def test_a_replica_with_other_weights_than_the_service_began_with_does_not_start(layout, tmp_path):
    with pytest.raises(Misconfigured, match="are not those that the service began with"):
        RayReplica(Setup(layout.base_model, "0" * 64), str(tmp_path), 2, True)


def test_every_job_is_answered_by_its_own_adapter_wherever_it_runs(found, right):
    assert found["ready"]
    assert found["given"] == right * 3
    assert len(set(right)) == COUNT + 1


def test_both_replicas_answer(found):
    assert found["replicas"] == 2


def test_a_stranger_without_the_token_is_not_let_in(found):
    assert "token" in found["stranger"].lower()


def test_errors_come_back_as_they_are(found):
    assert found["unfit"].startswith("Unfit: ") and "cannot be served" in found["unfit"]
    assert found["late"].startswith("TooLate: ")
    assert found["closed"].startswith("Unavailable: ")


def test_the_service_goes_on_when_a_machine_dies(found, right):
    assert found["after a death"] == right[0]
