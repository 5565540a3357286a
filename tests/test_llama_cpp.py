"""llama.cpp's own server as the engine of a service: the packaged base, adapters a request, real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from importlib.util import find_spec
from pathlib import Path

import gguf
import pytest
import torch
from serving import ask, keys_of
from tiny import write_gguf

from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.base.weights import weights_digest
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.versions import Origin, Version
from prompt2lora.errors import Misconfigured, TooLate, Unfit, UsageError
from prompt2lora.ground import answer_form as forms
from prompt2lora.plant.plant import Plant
from prompt2lora.serving.job_queue import JobQueue
from prompt2lora.serving.llama_cpp import LlamaCppEngine
from prompt2lora.serving.llama_process import PACKAGE
from prompt2lora.serving.protocol import GenerationRequest, Message, Sampling
from prompt2lora.serving.service import Limits, Service
from prompt2lora.serving.setup import Setup
from prompt2lora.serving.starting import LLAMA_CPP, EngineOptions, start

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec(PACKAGE) is None, reason="xllamacpp is not installed"),
]
SAMPLING = Sampling(max_new_tokens=6)
ASK = GenerationRequest("job", (Message("user", "Name a colour."),), sampling=SAMPLING)


@pytest.fixture(scope="module")
def model(base, tmp_path_factory):
    """The tiny base as a file."""
    model, tokenizer = models.load_base(base, dtype=torch.float32)
    ids = range(model.config.vocab_size)
    tokens = [tokenizer.convert_ids_to_tokens(id) if id < len(tokenizer) else f"<{id}>" for id in ids]
    special = {*tokenizer.all_special_ids, *ids[len(tokenizer) :]}
    kinds = [gguf.TokenType.CONTROL if id in special else gguf.TokenType.NORMAL for id in ids]
    file = tmp_path_factory.mktemp("gguf") / "base.gguf"
    return write_gguf(model, file, tokens, eos=tokenizer.eos_token_id, kinds=kinds)


@pytest.fixture(scope="module")
def folder(layout, tmp_path_factory):
    """Adapters by number; the one of the number 0 changes nothing."""
    place = tmp_path_factory.mktemp("adapters")
    for number in range(3):
        torch.manual_seed(number)
        grid = torch.randn(layout.shape) * 0.2 if number else torch.zeros(layout.shape)
        Adapter(layout, grid).save(place / f"{number:064d}")
    return place


@pytest.fixture
def version(base):
    return lambda number: Version(number, f"job{number}", 1, f"{number:064d}", base, "generated", "", None)


@pytest.fixture
def engine(base, model, folder, tmp_path):
    return LlamaCppEngine(
        Setup(base), model, lambda one: folder / one.adapter, tmp_path / "exported", slots=2, context_length=256
    )


async def said(engine, one, ask=ASK) -> str:
    return "".join([chunk.text async for chunk in engine.answer(one, ask)])


def closing(engine, work):
    """What comes of asking an engine, which is closed then."""

    async def whole():
        try:
            return await work
        finally:
            await engine.close(1)

    return asyncio.run(whole())


def test_every_request_is_answered_by_its_own_adapter_whatever_was_asked_before_or_beside_it(engine, version):
    async def work():
        await engine.hold([version(1), version(2)])
        alone = [await said(engine, one) for one in (None, version(1), version(2))]
        beside = await asyncio.gather(*(said(engine, one) for one in (version(1), None, version(2)) * 2))
        return alone, beside

    alone, beside = closing(engine, work())
    assert len(set(alone)) == 3
    assert beside == [alone[1], alone[0], alone[2]] * 2
    assert (engine.stats()["server_starts_total"], engine.stats()["adapters_held"]) == (1, 2)


def test_a_version_that_is_new_gets_a_new_server_and_running_answers_end_on_the_old_one(engine, version):
    async def work():
        await engine.hold([version(1)])
        first = await said(engine, version(1))
        long = asyncio.create_task(said(engine, version(1), GenerationRequest("job", ASK.messages)))
        while not engine.stats()["requests_running"]:
            await asyncio.sleep(0.01)
        async with engine._lock:  # as while a server starts
            assert await said(engine, version(1)) == first
        return first, await said(engine, version(2)), await long

    first, other, long = closing(engine, work())
    assert first != other
    assert long.startswith(first)
    assert engine.stats()["server_starts_total"] == 2


def test_a_server_that_dies_is_started_again_and_the_request_is_answered(engine, version):
    async def work():
        before = await said(engine, version(1))
        os.kill(engine._server.process._process.pid, signal.SIGKILL)
        return before, await said(engine, version(1))

    before, after = closing(engine, work())
    assert before == after
    assert engine.stats()["server_starts_total"] == 2


def test_what_it_cannot_do_is_refused_by_name_and_never_answered_by_the_base(engine, version):
    elsewhere = Version(9, "job9", 1, "9" * 64, "some/other", "generated", "", None)
    number = GenerationRequest("job", ASK.messages, sampling=SAMPLING, form=forms.number())
    choices = GenerationRequest("job", ASK.messages, sampling=SAMPLING, form=forms.choices(("zzz", "qqq")))
    long = GenerationRequest("job", (Message("user", "word " * 300),))

    async def work():
        with pytest.raises(Unfit, match="answers job0@v1-00000000 as the base"):
            await said(engine, version(0))
        with pytest.raises(Misconfigured, match="some/other"):
            await said(engine, elsewhere)
        with pytest.raises(Misconfigured, match="not to a number; serve this job with --engine embedded"):
            await said(engine, version(1), number)
        with pytest.raises(UsageError, match="256 tokens together"):
            await said(engine, version(1), long)
        with pytest.raises(TooLate, match=r"within 0\.001 seconds"):
            await said(engine, version(1), GenerationRequest("job", ASK.messages, seconds=0.001))
        assert await said(engine, version(1), choices) in ("zzz", "qqq")
        chunks = [chunk async for chunk in engine.answer(version(1), ASK)]
        assert (chunks[-1].finish_reason, chunks[-1].completion_tokens) == ("length", 6)
        assert await engine.ready()

    closing(engine, work())
    assert not asyncio.run(engine.ready())


def test_another_file_than_the_bases_is_refused_in_one_line(engine, tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"GGUF nothing")
    engine.model = tmp_path / "broken.gguf"
    with pytest.raises(UsageError, match=r"does not start with .*broken.gguf .*; see that --gguf names the base's own"):
        closing(engine, engine.hold([]))


def test_a_service_is_started_with_it_and_a_release_answers_by_its_name(base, model, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    registry = Registry.open(tmp_path / "home", actor="maker")
    registry.add_job("mail")
    digest = weights_digest(base)
    origin = Origin(("one", "two"), "9" * 64, "g", base, digest)
    registry.promote("mail", registry.add_version("mail", folder / f"{1:064d}", origin), "first", expected=None)
    engine = start(EngineOptions(LLAMA_CPP, model, max_batch_size=2), Setup(base, digest), registry)
    service = Service(Plant(registry), engine, JobQueue(registry.clock), Limits())
    reply = ask(service, keys_of(registry)["asks"])
    asyncio.run(engine.close(0))
    registry.engine.dispose()
    assert (reply.status_code, reply.headers["x-prompt2lora-release"][:10]) == (200, "1:mail@v1-")
    assert reply.json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"kind": "vllm"}, "embedded, llama.cpp, not 'vllm'"),
        ({"kind": LLAMA_CPP, "replicas": 2}, "--ray-replicas and --engine name more"),
        ({"gguf": Path("base.gguf")}, "--gguf is for --engine llama.cpp alone"),
        ({"kind": LLAMA_CPP, "exact": True}, "--exact is not for llama.cpp"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, told):
    with pytest.raises(UsageError, match=told):
        EngineOptions(**options)


def test_a_base_without_a_gguf_file_is_refused_and_the_option_named(base, tmp_path):
    registry = Registry.open(tmp_path / "home", actor="maker")
    with pytest.raises(UsageError, match="as a GGUF file, not None; name one by --gguf"):
        start(EngineOptions(LLAMA_CPP), Setup(base), registry)
    registry.engine.dispose()
