"""Throughput, latency and memory of many adapters on one base: the embedded engine, llama.cpp's server, vLLM's (where
--vllm-python names a python that has it, see vllm_server.py), PEFT both ways, the base alone.

    python benchmarks/serving.py --out benchmarks/results/serving.json --plot docs/images/serving.png

Every answer has exactly as many tokens as asked for, so that all arms do the same work. Clients ask, wait for the whole
answer and ask again. PEFT answers fixed batches, `adapter_names` (one adapter a sequence), or single requests, swapping
(`set_adapter` before each). Both cores; nothing else should run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import shlex
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import httpx
import torch
from vllm_server import VllmServer

from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.base.chat import ChatFormat
from prompt2lora.base.packaged import packaged_gguf
from prompt2lora.base.versions import origin
from prompt2lora.custody.versions import Version
from prompt2lora.ground.files import write_json
from prompt2lora.serving import llama_cpp, replica
from prompt2lora.serving.embedded import EmbeddedEngine
from prompt2lora.serving.protocol import Engine, GenerationRequest, Message, SamplingParams
from prompt2lora.serving.setup import Setup
from prompt2lora.serving.vllm import VllmServers
from prompt2lora.training.synthetic import synthetic_tasks

FOLDERS = 64
ANSWER = 24


def layout_of(base: str) -> LoraLayout:
    return LoraLayout.from_config(models.load_config(base), base_model=base)


def write_adapters(place: Path, layout: LoraLayout, count: int, size: float = 0.02) -> list[Path]:
    folders = []
    for number in range(count):
        torch.manual_seed(number)
        folders.append(place / str(number))
        Adapter(layout, torch.randn(layout.shape) * size).save(folders[-1])
    return folders


def version(number: int, base: str) -> Version:
    return Version(number, f"job{number}", 1, f"{number:064d}", base, "generated", "", None)


def questions(jobs: Sequence[int]) -> list[str]:
    """A prompt for each of these jobs, always the same; a job has one instruction."""
    random, tasks = Random(0), synthetic_tasks(FOLDERS, seed=5)
    asked = (tasks[job % len(tasks)] for job in jobs)
    return [task.prompt(random.choice(task.train).input) for task in asked]


async def clients(engine: Engine, count: int, adapters: int, requests: int, base: str) -> dict[str, float]:
    """`count` clients ask `requests` questions between them; with 0 adapters the base answers."""
    seconds, first, random, left = list[float](), list[float](), Random(1), list(range(requests))
    jobs = [random.randrange(adapters or FOLDERS) for _ in left]
    texts = questions(jobs)

    async def client() -> None:
        while left:
            i = left.pop()
            question, sampling = Message("user", texts[i]), SamplingParams(max_new_tokens=ANSWER)
            ask = GenerationRequest("job", (question,), sampling=sampling, seconds=3600.0, stream=True)
            began = time.monotonic()
            answer = aiter(engine.answer(version(jobs[i], base) if adapters else None, ask))
            await anext(answer)
            first.append(time.monotonic() - began)
            async for _ in answer:
                pass
            seconds.append(time.monotonic() - began)

    began, worked = time.monotonic(), time.process_time()
    await asyncio.gather(*(client() for _ in range(count)))
    cpu = (time.process_time() - worked) / (requests * ANSWER) * 1000
    told = {"p50_first": round(statistics.median(first), 3), "cpu_seconds_per_1000_tokens": round(cpu, 2)}
    return {**summary(seconds, time.monotonic() - began), **told}


def summary(seconds: list[float], wall: float) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=20, method="inclusive")
    return {
        "requests": len(seconds),
        "per_second": round(len(seconds) / wall, 3),
        "tokens_per_second": round(len(seconds) * ANSWER / wall, 1),
        "p50": round(statistics.median(seconds), 3),
        "p95": round(cuts[-1], 3),
    }


def beside(engine: EmbeddedEngine, work: Any) -> Any:
    """Run a coroutine in another thread while the engine works in this one; then close the engine."""
    found: list[Any] = []

    async def whole() -> None:
        try:
            found.append(await work)
        finally:
            await engine.close(1)

    thread = threading.Thread(target=asyncio.run, args=(whole(),))
    thread.start()
    engine.run()
    thread.join()
    return found[0]


def endless(engine: EmbeddedEngine) -> EmbeddedEngine:
    """Answers go on to their last token, whatever the base would like."""
    engine._scheduler.ends = frozenset()
    return engine


def grid(base: str, folders: list[Path], args: argparse.Namespace) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    async def measure(engine: EmbeddedEngine, count: int) -> None:
        await clients(engine, count, 4, max(8, 2 * count), base)  # warm
        for adapters in (0, *args.adapters):
            for number in range(adapters):  # loading is measured by itself
                engine._adapters.get(version(number, base))
            measured = await clients(engine, count, adapters, max(args.requests, 4 * count), base)
            found.append({"clients": count, "adapters": adapters, **measured})
            print(found[-1], flush=True)

    for count in args.clients:
        engine = EmbeddedEngine.load(
            Setup(base), lambda one: folders[one.id % len(folders)], max_batch_size=32, adapter_cache_size=256
        )
        beside(engine, measure(endless(engine), count))
    return found


def llama_cpp_grid(base: str, folders: list[Path], args: argparse.Namespace) -> list[dict[str, Any]]:
    """llama.cpp's server behind the same engine protocol, on the GGUF file that a package brings (its own numbers)."""
    own, found = llama_cpp.body, list[dict[str, Any]]()
    llama_cpp.body = lambda *given: {**own(*given), "ignore_eos": True}  # answers go on to their last token
    model, threads = packaged_gguf(base), torch.get_num_threads()
    assert model

    async def measure(count: int, adapters: int, exported: Path) -> None:
        engine = llama_cpp.LlamaCppEngine(
            Setup(base),
            model,
            lambda: [version(number, base) for number in range(adapters)],
            lambda one: folders[one.id % len(folders)],
            exported,
            slots=32,
            context_length=512,
            threads=threads,
        )
        await engine.hold()
        await clients(engine, count, min(4, adapters), max(8, 2 * count), base)  # warm
        measured = await clients(engine, count, adapters, max(args.requests, 4 * count), base)
        found.append({"clients": count, "adapters": adapters, "file": model.name, **measured})
        print(found[-1], flush=True)
        await engine.close(1)

    with tempfile.TemporaryDirectory(prefix="gguf-") as place:
        for count in args.clients:
            for adapters in (0, 64):
                asyncio.run(measure(count, adapters, Path(place) / "gguf"))
    return found


def vllm_grid(base: str, folders: list[Path], args: argparse.Namespace) -> list[dict[str, Any]]:
    """vLLM's server behind the same engine protocol, in its own dtype; every adapter is loaded and probed before."""
    own, found, chat = replica._body, list[dict[str, Any]](), ChatFormat.load(base)
    replica._body = lambda *given: {**own(*given), "ignore_eos": True}  # answers go on to their last token
    options = ["--max-loras", "32", "--max-cpu-loras", "64", "--max-lora-rank", "8", "--max-num-seqs", "32"]
    options += ["--max-model-len", "512", *shlex.split(args.vllm_options)]

    async def measure(url: str, release: str, count: int, adapters: int) -> None:
        client = httpx.AsyncClient(base_url=url, timeout=None, limits=httpx.Limits(max_connections=100))
        engine = VllmServers([(url, client)], base, chat, lambda one: folders[one.id % len(folders)], seconds=600.0)
        held = await engine.reconcile([version(number, base) for number in range(adapters)])
        assert len(held[url]) == adapters, held
        await clients(engine, count, adapters, max(8, 2 * count), base)  # warm
        measured = await clients(engine, count, adapters, max(args.requests, 4 * count), base)
        del measured["cpu_seconds_per_1000_tokens"]  # those of another process
        found.append({"clients": count, "adapters": adapters, "vllm": release, "options": options, **measured})
        print(found[-1], flush=True)
        await engine.close(1)

    with tempfile.TemporaryDirectory(prefix="vllm-") as place:
        server = VllmServer(args.vllm_python, base, Path(place) / "log", *options)
        try:
            server.start()
            for count in args.clients:
                for adapters in (0, 64):
                    asyncio.run(measure(server.url, server.version(), count, adapters))
        finally:
            server.end()
    return found


def peft(base: str, folders: list[Path], args: argparse.Namespace) -> list[dict[str, Any]]:
    """PEFT on the same questions, in batches of as many as there are clients."""
    from peft import PeftModel

    found = []
    model, tokenizer = models.load_base(base)
    wrapped = PeftModel.from_pretrained(model, folders[0], adapter_name="0")
    tokenizer.padding_side = "left"
    random = Random(1)

    def generate(texts: list[str], **names: Any) -> None:
        asked = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
            )
            for text in texts
        ]
        batch = tokenizer(asked, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            wrapped.generate(
                **batch,
                max_new_tokens=ANSWER,
                min_new_tokens=ANSWER,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
                **names,
            )

    def timed(arm: str, count: int, adapters: int) -> dict[str, Any]:
        """Batches of as many requests as there are clients, or one after the other, the adapter changed before each."""
        requests = max(args.requests // 2, 2 * count)
        jobs, seconds = [random.randrange(adapters) for _ in range(requests)], list[float]()
        texts = questions(jobs)
        began = time.monotonic()
        for at in range(0, requests, count) if arm == "adapter_names" else range(max(8, requests // 4)):
            start = time.monotonic()
            if arm == "adapter_names":
                some = texts[at : at + count]
                generate(some, adapter_names=[str(job) for job in jobs[at : at + count]])
            else:
                some = [texts[at % requests]]
                wrapped.set_adapter(str(jobs[at % requests]))
                generate(some)
            seconds += [time.monotonic() - start] * len(some)
        return {"arm": arm, "clients": count, "adapters": adapters, **summary(seconds, time.monotonic() - began)}

    for adapters in sorted(args.adapters):
        loading = None
        while (held := len(wrapped.peft_config)) < adapters:
            began = time.monotonic()
            wrapped.load_adapter(folders[held % len(folders)], adapter_name=str(held))
            loading = round(time.monotonic() - began, 4)  # of the last one: it grows with the adapters that are there
        wrapped.to(model.dtype).eval()  # PEFT loads adapters in float32
        for count in args.clients:
            for arm in ("adapter_names", "swapping"):
                found.append({**timed(arm, count, adapters), "last_load_seconds": loading})
                print(found[-1], flush=True)
    return found


def memory(base: str, folders: list[Path]) -> dict[str, Any]:
    """Growth of this process's memory with adapters held, and the seconds of every load."""
    engine = EmbeddedEngine.load(Setup(base), lambda one: folders[one.id % len(folders)], adapter_cache_size=256)
    cache, seconds, sizes = engine._adapters, [], {}
    for number in range(1000):
        if number in (0, 64, 128, 256, 999):
            sizes[number] = resident_bytes()
        began = time.perf_counter()
        cache.get(version(number, base))
        seconds.append(time.perf_counter() - began)
    around = {n: round(statistics.median(seconds[max(0, n - 25) : n + 25]), 5) for n in (1, 100, 999)}
    return {
        "bytes_per_adapter": round((sizes[256] - sizes[64]) / 192),
        "bytes_after_1000_loads_of_256_held": sizes[999] - sizes[256],
        "load_seconds_around_the_nth": around,
        "first_load_seconds": round(seconds[0], 5),
    }


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def same_as_alone(base: str, folders: list[Path], count: int) -> list[dict[str, Any]]:
    """How many answers of a full batch equal, to the letter, those of the same engine asked one by one."""
    texts = questions(range(count))

    async def both(engine: EmbeddedEngine) -> tuple[list[str], list[str]]:
        async def said(i: int) -> str:
            ask = GenerationRequest("job", (Message("user", texts[i]),), sampling=SamplingParams(max_new_tokens=ANSWER))
            return "".join([chunk.text async for chunk in engine.answer(version(i % 64, base), ask)])

        crowd = await asyncio.gather(*(said(i) for i in range(count)))
        return crowd, [await said(i) for i in range(count)]

    found = []
    for exact in (False, True):
        engine = EmbeddedEngine.load(
            Setup(base), lambda one: folders[one.id % len(folders)], exact=exact, max_batch_size=32
        )
        began = time.monotonic()
        crowd, alone = beside(engine, both(endless(engine)))
        same = sum(a == b for a, b in zip(crowd, alone, strict=True))
        seconds = round(time.monotonic() - began, 1)
        found.append({"exact": exact, "answers": count, "same": same, "seconds": seconds})
    return found


def plot(result: dict[str, Any], file: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4))
    counts = sorted({point["clients"] for point in result["engine"]})
    kinds = sorted({point["adapters"] for point in result["engine"]})
    for axis, field in zip(axes, ("tokens_per_second", "p95"), strict=True):
        for kind in kinds:
            values = [point[field] for point in result["engine"] if point["adapters"] == kind]
            axis.plot(
                counts,
                values,
                "o-",
                label="base alone" if not kind else f"{kind} adapters",
                color="black" if not kind else None,
            )
        for arm in ("adapter_names", "swapping"):
            values = [point[field] for point in result["peft"] if (point["arm"], point["adapters"]) == (arm, 64)]
            if values:
                axis.plot(counts, values, "s--", label=f"PEFT {arm}, 64")
        axis.set_xscale("log", base=2)
        axis.set_xticks(counts, [str(count) for count in counts])
        axis.set_xlabel("clients at once")
    axes[0].set_ylabel("answer tokens a second")
    axes[1].set_ylabel("seconds of a request, 95 %")
    axes[1].set_yscale("log")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--base", default=models.DEFAULT_BASE)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--adapters", type=int, nargs="+", default=[1, 8, 64, 256])
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--vllm-python", type=Path, help="python of an environment that has vLLM")
    parser.add_argument("--vllm-options", default="", help="options of its server beside ours")
    parts = ("engine", "llama.cpp", "vllm", "memory", "same_as_alone", "peft")
    parser.add_argument("--only", choices=parts, nargs="+")
    args = parser.parse_args()
    chosen = args.only or [part for part in parts if part != "vllm" or args.vllm_python]
    if "vllm" in chosen and not args.vllm_python:
        parser.error("vllm needs --vllm-python")
    result: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {}
    with tempfile.TemporaryDirectory(prefix="serving-") as place:
        folders = write_adapters(Path(place), layout_of(args.base), FOLDERS)
        result |= {
            "base": args.base,
            "completion_tokens": ANSWER,
            "threads": torch.get_num_threads(),
            **origin(),
        }
        measures = {
            "engine": lambda: grid(args.base, folders, args),
            "llama.cpp": lambda: llama_cpp_grid(args.base, folders, args),
            "vllm": lambda: vllm_grid(args.base, folders, args),
            "memory": lambda: memory(args.base, folders),
            "same_as_alone": lambda: same_as_alone(args.base, folders, 96),
            "peft": lambda: peft(args.base, folders, args),
        }
        for name in chosen:
            result[name] = measures[name]()
            write_json(args.out, result)  # what is measured is kept, whatever happens to the rest
    rates = {(point["clients"], point["adapters"]): point["tokens_per_second"] for point in result.get("engine", [])}
    mixed = {
        point["clients"]: point["tokens_per_second"]
        for point in result.get("peft", [])
        if (point["arm"], point["adapters"]) == ("adapter_names", 64)
    }
    result["ratios"] = {
        str(count): {
            "of_base": round(rates[count, 64] / rates[count, 0], 3),
            **({"of_peft": round(rates[count, 64] / mixed[count], 2)} if count in mixed else {}),
        }
        for count in args.clients
        if (count, 64) in rates
    }
    write_json(args.out, result)
    print(json.dumps({key: result[key] for key in ("ratios", "memory", "same_as_alone") if key in result}, indent=1))
    if args.plot:
        plot(result, args.plot)


if __name__ == "__main__":
    main()
