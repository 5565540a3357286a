"""A long day of the service in a quarter of an hour: many jobs, releases that change, clients that vanish, a kill.

    python benchmarks/soak.py --out benchmarks/results/soak.json
    python benchmarks/soak.py --engine llama.cpp --requests 2000 --jobs 30 --out benchmarks/results/soak-llama-cpp.json

The real service (`prompt2lora serve` in a process of its own) on a tiny base: everything but the model's size is as in
a plant. Every version gives itself away: what it answers to each of a few questions was worked out beforehand by the
same kind of engine alone. (In a crowd some round another way now and then; that is counted by itself.) Beside these:
promotions and rollbacks, clients that leave in the middle of an answer, malformed bodies, and one SIGKILL with a
restart. Counted: answers of another version than the one they name, versions named that were never released,
questions lost or answered twice, and memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from random import Random
from typing import Any

import httpx
import torch

from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.base.versions import command, hardware, versions
from prompt2lora.base.weights import weights_digest
from prompt2lora.custody.access import Access
from prompt2lora.custody.evaluations import Evaluation
from prompt2lora.custody.gate import PASS, Policy, Verdict
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.versions import Origin, Version
from prompt2lora.generator.generator import Generator
from prompt2lora.ground.files import write_json
from prompt2lora.serving.embedded import EmbeddedEngine
from prompt2lora.serving.protocol import Engine, GenerationRequest, Message, SamplingParams
from prompt2lora.serving.setup import Setup
from prompt2lora.serving.starting import EMBEDDED, ENGINES, LLAMA_CPP

TEXTS = ("hello", "part KX-4825", "a longer note about pump 3 and its seal")
MAX_NEW_TOKENS = 10
VERSIONS = 2  # of every job
CLIENTS = 24
_MALFORMED = (b"", b"{", b"[]", b"\xff\xfe", b'{"model": 1}', b'{"model":"job1","messages":[{"role":"x"}]}', b"null")


class Plant:
    """A home with jobs, two versions of each, keys, and what every version answers; `gguf`: the base for llama.cpp."""

    def __init__(self, place: Path, generator: Path, jobs: int, gguf: Path | None = None) -> None:
        self.gguf = gguf
        self.home = place / "home"
        os.environ["PROMPT2LORA_HOME"] = str(self.home)
        self.registry = Registry.open(self.home, actor="soak")
        layout = Generator.from_pretrained(generator).config.layout
        self.base = layout.base_model
        digest = weights_digest(self.base)
        self.versions: dict[str, list[Version]] = {}
        for job in range(jobs):
            name = f"job{job}"
            self.registry.add_job(name)
            for number in range(VERSIONS):
                torch.manual_seed(job * VERSIONS + number)
                folder = place / "made" / f"{job}-{number}"
                folder.parent.mkdir(exist_ok=True)
                Adapter(layout, torch.randn(layout.shape) * 0.3).save(folder)
                origin = Origin(("one", "two"), "9" * 64, "g", self.base, digest)
                made = self.registry.add_version(name, folder, origin)
                policy = Policy()
                self.registry.add_verdict(
                    made, self.registry.add_evaluation(made, Evaluation()), Verdict(PASS, ()), policy
                )
                self.versions.setdefault(name, []).append(made)
            self.registry.promote(name, self.versions[name][0], "first", expected=None)
        access = Access(self.registry)
        self.asks = access.add("line", infer=True)[1]
        self.manages = access.add("boss", role="admin")[1]
        self.expected = self._answers()
        self.all_answers = {answer for answers in self.expected.values() for answer in answers}

    def _answers(self) -> dict[tuple[str, str], set[str]]:
        """(version or base, text) -> its answer alone, and in a crowd if bfloat16 rounds another way there."""
        everything = [None, *(one for all_ in self.versions.values() for one in all_)]
        engine = self._engine([one for one in everything if one])

        async def said(version: Version | None, text: str) -> str:
            ask = GenerationRequest(
                "job", (Message("user", text),), sampling=SamplingParams(max_new_tokens=MAX_NEW_TOKENS)
            )
            return "".join([chunk.text async for chunk in engine.answer(version, ask)])

        async def all_of_them() -> dict[tuple[str, str], set[str]]:
            found: dict[tuple[str, str], set[str]] = {}
            for version in everything:
                crowd = await asyncio.gather(*(said(version, text) for text in TEXTS * 4))
                for text, answer in zip(TEXTS * 4, crowd, strict=True):
                    found.setdefault((version.name if version else "base", text), set()).add(answer)
                for text in TEXTS:
                    found[version.name if version else "base", text].add(await said(version, text))
            await engine.close(1)
            return found

        return asyncio.run(all_of_them())

    def _engine(self, versions: list[Version]) -> Engine:
        def folder(version: Version) -> Path:
            return self.registry.store.path(version.adapter)

        if self.gguf is None:
            return EmbeddedEngine.load(Setup(self.base), folder).start()
        from prompt2lora.serving.llama_cpp import LlamaCppEngine

        return LlamaCppEngine(Setup(self.base), self.gguf, lambda: versions, folder, self.home.parent / "gguf")


def engine_options(kind: str, base: Path) -> list[str]:
    """The words of `serve` for a kind of engine; llama.cpp's file of the tiny base is written beside it."""
    if kind == EMBEDDED:
        return []
    from tiny import write_base_gguf

    return ["--engine", kind, "--gguf", str(write_base_gguf(str(base), base.with_name("base.gguf")))]


class Server:
    """The service as a process."""

    def __init__(self, generator: Path, log: Path, options: list[str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.words = ["serve", "--port", str(self.port), "--generator", str(generator), "--per-minute", "1000000"]
        self.words += options
        self.log, self.process = log, None
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> float:
        """Seconds until it is ready."""
        began = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).with_name("prompt2lora")), *self.words], stderr=log, stdout=log
            )
        while time.monotonic() - began < 120 and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/readyz", timeout=1).status_code == 200:
                    return time.monotonic() - began
            except httpx.TransportError:
                time.sleep(0.05)
        raise SystemExit(f"the service did not start; see {self.log}")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def end(self) -> float:
        """Seconds until it has ended by itself after SIGTERM."""
        began = time.monotonic()
        self.process.terminate()
        self.process.wait(60)
        return time.monotonic() - began

    def megabytes(self) -> float:
        """Of the service, and of the engine's processes below it."""
        return sum(map(_megabytes, (self.process.pid, *self.engines())))

    def engines(self) -> list[int]:
        """The processes below the service."""
        found: list[int] = []
        for task in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with suppress(OSError):
                found += map(int, task.read_text().split())
        return found


def _megabytes(process: int) -> float:
    with suppress(OSError):  # it has ended
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20
    return 0.0


async def soak(plant: Plant, server: Server, requests: int) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    seconds: list[float] = []
    memory: list[float] = []
    engines: list[int] = []
    released: dict[str, set[str]] = {job: {plant.versions[job][0].name} for job in plant.versions}
    down = asyncio.Event()
    numbers = iter(range(requests))
    limits = httpx.Limits(max_connections=CLIENTS + 8)
    client = httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits)
    asks, manages = ({"Authorization": f"Bearer {token}"} for token in (plant.asks, plant.manages))

    def judge(reply: httpx.Response, job: str, text: str) -> None:
        """Whether an answer is that of the version which it names, and whether that one was ever released."""
        name = reply.headers["x-prompt2lora-release"].split(":", 1)[1]
        given = reply.json()["choices"][0]["message"]["content"]
        own = "base" if name == f"{job}@base" else name
        if given not in plant.expected[own, text]:
            if given in plant.all_answers:
                wrong.append(f"{job}: {name} said {given!r}")
            counts["of no version: rounded another way"] += 1
        if own != "base" and own not in released[job]:
            wrong.append(f"{job}: {name} was never released")

    async def one(number: int, random: Random) -> None:
        job, text = f"job{random.randrange(len(plant.versions))}", random.choice(TEXTS)
        body = {"model": job, "messages": [{"role": "user", "content": text}], "max_tokens": MAX_NEW_TOKENS}
        kind = random.random()
        if kind < 0.02:
            reply = await client.post("/v1/chat/completions", headers=asks, content=random.choice(_MALFORMED))
            counts["malformed"] += 1
            counts[f"malformed {reply.status_code}"] += 1
            return
        if kind < 0.05:
            counts["vanished"] += 1
            async with client.stream("POST", "/v1/chat/completions", headers=asks, json={**body, "stream": True}) as s:
                async for _ in s.aiter_lines():
                    return
            return
        began = time.monotonic()
        reply = await client.post("/v1/chat/completions", headers={**asks, "x-request-id": f"q{number}"}, json=body)
        seconds.append(time.monotonic() - began)
        counts[f"status {reply.status_code}"] += 1
        if reply.status_code == 200:
            if reply.json()["id"] != f"chatcmpl-q{number}":
                wrong.append(f"q{number} got the answer of {reply.json()['id']}")
            judge(reply, job, text)
            counts["answered"] += 1

    async def ask_on(seed: int) -> None:
        random = Random(seed)
        for number in numbers:
            while True:
                try:
                    await one(number, random)
                    break
                except httpx.TransportError:  # the service was killed: the same question again when it is back
                    counts["asked again"] += 1
                    await asyncio.sleep(0.3)

    async def change(random: Random) -> None:
        while not down.is_set():
            job = f"job{random.randrange(len(plant.versions))}"
            version = random.choice(plant.versions[job])
            try:
                if random.random() < 0.7:
                    released[job].add(version.name)
                    body = {"version": version.name, "reason": "soak"}
                    reply = await client.post(f"/admin/jobs/{job}/promote", headers=manages, json=body)
                else:
                    reply = await client.post(f"/admin/jobs/{job}/rollback", headers=manages, json={"reason": "soak"})
                counts[f"release changes {reply.status_code}"] += 1
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.5)

    async def watch() -> None:
        killed = False
        while not down.is_set():
            await asyncio.sleep(1)
            done = sum(value for key, value in counts.items() if key.startswith("status"))
            if not killed and done > requests / 2:
                killed = True
                server.kill()
                counts["restart seconds"] = round(await asyncio.to_thread(server.start))
            memory.append(server.megabytes())
            engines.append(len(server.engines()))
            if len(memory) % 20 == 0:
                print(done, dict(counts), round(memory[-1]), flush=True)

    began = time.monotonic()
    helpers = [asyncio.create_task(change(Random(99))), asyncio.create_task(watch())]
    await asyncio.gather(*(ask_on(seed) for seed in range(CLIENTS)))
    wall = time.monotonic() - began
    down.set()
    await asyncio.gather(*helpers)
    metrics = (await client.get("/metrics", headers=manages)).text
    await client.aclose()
    half = len(memory) * 3 // 4
    return {
        "requests": requests,
        "jobs": len(plant.versions),
        "versions": sum(map(len, plant.versions.values())),
        "distinct_answers": round(len(plant.all_answers) / len(plant.expected), 3),
        "counts": dict(sorted(counts.items())),
        "wrong": wrong[:20],
        "wrong_answers": len(wrong),
        "seconds": round(wall, 1),
        "per_second": round(requests / wall, 1),
        "p50": round(statistics.median(seconds), 4),
        "p95": round(statistics.quantiles(seconds, n=20)[-1], 4),
        "megabytes": {
            "a quarter after the restart": round(memory[half], 1),
            "at the end": round(memory[-1], 1),
            "most": round(max(memory), 1),
        },
        "most_engine_processes": max(engines),
        "files_of_llama_cpp": len(list((plant.home / "gguf").glob("*"))),
        "metric_lines": metrics.count("\n"),
        "audit_lines": plant.registry.verify_audit(),
        "verified_versions": plant.registry.verify(),
    }


def engine_version(kind: str) -> dict[str, str]:
    if kind == LLAMA_CPP:
        from prompt2lora.serving.llama_process import PACKAGE

        return {PACKAGE: metadata.version(PACKAGE)}
    return {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--engine", choices=ENGINES, default=EMBEDDED)
    args = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from tiny import tiny_world

    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        place = Path(name)
        generator = tiny_world(place)
        options = engine_options(args.engine, place / "base")
        plant = Plant(place, generator, args.jobs, Path(options[-1]) if options else None)
        server = Server(generator, place / "serve.log", options)
        start = server.start()
        try:
            found = asyncio.run(soak(plant, server, args.requests))
        finally:
            ended = server.end()
        log = (place / "serve.log").read_text(encoding="utf-8", errors="replace")
    result = {
        "command": command(),
        "engine": {"kind": args.engine, **engine_version(args.engine)},
        **found,
        "start_seconds": round(start, 2),
        "end_seconds": round(ended, 2),
        "tracebacks_in_the_log": log.count("Traceback"),
        "keys_in_the_log": log.count("p2l_"),
        "device": models.default_device(),
        "hardware": hardware(),
        "versions_of": versions(),
    }
    write_json(args.out, result)
    print(json.dumps({key: value for key, value in result.items() if key != "versions_of"}, indent=1))


if __name__ == "__main__":
    main()
