"""A process of its own for Ray: starts a local one with two replicas, asks, and prints what came as JSON.

It computes nothing itself and loads no torch; who imports it loads no Ray.
"""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

from prompt2lora.custody.versions import Version
from prompt2lora.errors import Prompt2LoraError
from prompt2lora.serving import ray as serving
from prompt2lora.serving.deadline import within
from prompt2lora.serving.protocol import GenerationRequest, Message, SamplingParams
from prompt2lora.serving.ray import RayCluster, RayReplica
from prompt2lora.serving.setup import Setup


class Noting(RayReplica):
    """A replica that leaves a file behind when it has answered."""

    async def answer(self, version, ask):
        (self._folder / f"answered-{os.getpid()}").touch()
        async for chunk in super().answer(version, ask):
            yield chunk


def stranger(address):
    """A process that shows another token; it waits long before it gives up."""
    code = f"import ray; ray.init(address={address!r}, log_to_driver=False)"
    env = {**os.environ, "RAY_AUTH_TOKEN": "b" * 64}
    return subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE, text=True)


def fate(process):
    """What was told to a process that was refused."""
    told = process.communicate(timeout=120)[1]
    return told[-1000:] if process.returncode else "let in"


def version(base, number):
    return Version(number, f"job{number}", 1, f"{number:064d}", base, "generated", "", None)


def asks_of(base, count):
    """Every version, and the base itself."""
    return [*(version(base, number) for number in range(count)), None]


async def said(engine, chosen, seconds=60.0):
    ask = GenerationRequest(
        "job", (Message("user", "hello"),), sampling=SamplingParams(max_new_tokens=8), seconds=seconds
    )
    return "".join([chunk.text async for chunk in within(ask.seconds, engine.answer(chosen, ask))])


async def refusal(engine, chosen, seconds=60.0):
    try:
        return await said(engine, chosen, seconds)
    except Prompt2LoraError as error:
        return f"{type(error).__name__}: {error}"


async def after_a_death(cluster, chosen):
    """One replica is killed; whoever asks then may be told so, and is answered on a second try."""
    import ray

    killed = next(one for one in ray.util.list_named_actors(all_namespaces=True) if "engine" in one["name"])
    ray.kill(ray.get_actor(**killed))
    for _ in range(100):
        given = await refusal(cluster, chosen)
        if not given.startswith("Unavailable"):
            return given
        await asyncio.sleep(0.2)
    return given


async def main(base, adapters, count):
    import ray

    serving.RayReplica = Noting
    beside = stranger(ray.get_runtime_context().gcs_address)
    cluster = RayCluster.start(Setup(base), adapters, replicas=2, max_batch_size=4, exact=True)
    asks = asks_of(base, count)
    found = {
        "ready": await cluster.ready(),
        "given": await asyncio.gather(*(said(cluster, one) for one in asks * 3)),
        "replicas": len(list(adapters.glob("answered-*"))),
        "stranger": fate(beside),
        "unfit": await refusal(cluster, version(base, 99)),
        "late": await refusal(cluster, None, 1e-6),
        "after a death": await after_a_death(cluster, asks[0]),
    }
    await cluster.close(5)
    return {**found, "closed": await refusal(cluster, None)}


if __name__ == "__main__":
    import ray
    from ray import serve

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    found = asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
    serve.shutdown()
    ray.shutdown()
    print(json.dumps(found))
