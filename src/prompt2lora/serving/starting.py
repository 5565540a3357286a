"""Where a service's answers come from: this process, a llama.cpp server beside it, vLLM servers, or a Ray cluster.

In: the registry, what the engine has to hold, what was asked for on the command line. Out: an engine; or one line,
before the first question, if it cannot hold what is released.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prompt2lora.custody.registry import Registry
from prompt2lora.custody.versions import Version
from prompt2lora.errors import UsageError
from prompt2lora.ground.home import home
from prompt2lora.serving.protocol import Engine
from prompt2lora.serving.setup import Setup
from prompt2lora.serving.sizes import MAX_BATCH_SIZE

if TYPE_CHECKING:
    from prompt2lora.base.chat import ChatFormat
    from prompt2lora.serving.vllm import VllmServers

ENGINES = EMBEDDED, LLAMA_CPP = ("embedded", "llama.cpp")
_TAKES = {
    "--engine embedded": {"max_batch_size", "adapter_cache_size", "exact", "prefix_cache_mb"},
    "--engine llama.cpp": {"max_batch_size", "gguf"},
    "--engine-url": set[str](),
    "--ray-replicas": {"max_batch_size", "exact"},
}


@dataclass(frozen=True)
class EngineOptions:
    """`kind` is what answers here, unless there are `urls` (vLLM servers) or `replicas` (on a Ray cluster); `gguf` is
    the base as llama.cpp reads it. A size that is None is the usual one."""

    kind: str = EMBEDDED
    gguf: Path | None = None
    urls: Sequence[str] = ()
    replicas: int = 0
    max_batch_size: int | None = None
    adapter_cache_size: int | None = None
    exact: bool = False
    prefix_cache_mb: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in ENGINES:
            raise UsageError(f"--engine must be one of {', '.join(ENGINES)}, not {self.kind!r}; name one of these")
        elsewhere = {"--engine-url": self.urls, "--ray-replicas": self.replicas, "--engine": self.kind != EMBEDDED}
        if len(named := [option for option, value in elsewhere.items() if value]) > 1:
            raise UsageError(f"answers come from one place and {' and '.join(named)} name more; leave out all but one")
        for url in self.urls:
            if not re.match(r"https?://[^/]", url):
                raise UsageError(f"--engine-url must be an address such as http://10.0.0.5:8000, not {url!r}; name one")
        place = "--engine-url" if self.urls else "--ray-replicas" if self.replicas else f"--engine {self.kind}"
        for name, value in self.given.items():
            if name not in _TAKES[place]:
                option = f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}")
                takers = " or ".join(other for other, takes in _TAKES.items() if name in takes)
                raise UsageError(f"{option} is for {takers}, not for {place}; leave it out")

    @property
    def given(self) -> dict[str, Any]:
        """Which of the options that some engines take were given, and as what."""
        asked = {name: getattr(self, name) for name in sorted(set[str]().union(*_TAKES.values()))}
        return {name: value for name, value in asked.items() if value is not None and value is not False}


def start(options: EngineOptions, setup: Setup, registry: Registry) -> Engine:
    """Raises UsageError, Misconfigured or ModelNotFound if the engine cannot hold what is released."""
    released = [version for version in registry.released() if setup.serves(version)]
    store = registry.store

    def folder(version: Version) -> Path:
        store.verify(version.adapter)  # a flipped byte is noticed before it answers anybody
        return store.path(version.adapter)

    if options.urls:
        return _vllm(options, setup, folder, released)
    if options.replicas:
        from prompt2lora.serving.ray import RayCluster

        return RayCluster.start(setup, store.root, replicas=options.replicas, **options.given)
    if options.kind == LLAMA_CPP:
        return _llama_cpp(options, setup, registry.released, folder)
    from prompt2lora.serving.embedded import EmbeddedEngine

    return EmbeddedEngine.load(setup, folder, **options.given)


def _vllm(
    options: EngineOptions, setup: Setup, folder: Callable[[Version], Path], released: Sequence[Version]
) -> Engine:
    from prompt2lora.base.chat import ChatFormat

    chat = ChatFormat.load(setup.base)

    async def check() -> None:
        tried = vllm_servers(options.urls, setup.base, chat, folder)
        try:
            await tried.check(released)
        finally:
            await tried.close(0)

    asyncio.run(check())
    return vllm_servers(options.urls, setup.base, chat, folder)


def vllm_servers(urls: Sequence[str], base: str, chat: ChatFormat, folder: Callable[[Version], Path]) -> VllmServers:
    import httpx

    from prompt2lora.serving.vllm import VllmServers

    limits = httpx.Limits(max_connections=None)  # requests wait there, not here before a question how it is
    return VllmServers([(url, httpx.AsyncClient(base_url=url, limits=limits)) for url in urls], base, chat, folder)


def _llama_cpp(
    options: EngineOptions,
    setup: Setup,
    released: Callable[[], Sequence[Version]],
    folder: Callable[[Version], Path],
) -> Engine:
    from importlib.util import find_spec

    import torch

    from prompt2lora.base.packaged import packaged_gguf
    from prompt2lora.serving.llama_cpp import LlamaCppEngine
    from prompt2lora.serving.llama_process import PACKAGE

    if find_spec(PACKAGE) is None:
        raise UsageError(f"--engine llama.cpp needs the package {PACKAGE}: pip install {PACKAGE}")
    model = options.gguf or packaged_gguf(setup.base)
    if model is None or not model.is_file():
        raise UsageError(f"llama.cpp needs the base {setup.base} as a GGUF file, not {model}; name one by --gguf")
    slots, threads = options.max_batch_size or MAX_BATCH_SIZE, torch.get_num_threads()
    engine = LlamaCppEngine(setup, model, released, folder, home() / "gguf", slots=slots, threads=threads)
    asyncio.run(engine.hold())
    return engine
