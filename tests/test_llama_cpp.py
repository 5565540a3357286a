"""llama.cpp's own server as the engine of a service: the packaged base, adapters a request, real processes."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from serving import ask, keys_of
from tiny import damage, write_base_gguf

from prompt2lora.adapter.peft import Adapter
from prompt2lora.base.weights import weights_digest
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.versions import Origin, Version
from prompt2lora.errors import Misconfigured, TooLate, Unavailable, Unfit, UsageError
from prompt2lora.ground import answer_form as forms
from prompt2lora.plant.plant import Plant
from prompt2lora.serving import llama_server
from prompt2lora.serving.deadline import within
from prompt2lora.serving.job_queue import JobQueue
from prompt2lora.serving.llama_cpp import LlamaCppEngine
from prompt2lora.serving.llama_process import PACKAGE, LlamaProcess
from prompt2lora.serving.protocol import GenerationRequest, Message, SamplingParams
from prompt2lora.serving.service import Limits, Service
from prompt2lora.serving.setup import Setup
from prompt2lora.serving.starting import LLAMA_CPP, EngineOptions, start

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec(PACKAGE) is None, reason="xllamacpp is not installed"),
]
SAMPLING = SamplingParams(max_new_tokens=6)
ASK = GenerationRequest("job", (Message("user", "Name a colour."),), sampling=SAMPLING)


@pytest.fixture(scope="module")
def model(base, tmp_path_factory):
    """The tiny base as a file."""
    return write_base_gguf(base, tmp_path_factory.mktemp("gguf") / "base.gguf")


@pytest.fixture(scope="module")
def folder(layout, tmp_path_factory):
    """Adapters by number; the one of the number 0 changes nothing."""
    place = tmp_path_factory.mktemp("adapters")
    for number in range(6):
        torch.manual_seed(number)
        grid = torch.randn(layout.shape) * 0.2 if number else torch.zeros(layout.shape)
        Adapter(layout, grid).save(place / f"{number:064d}")
    return place


@pytest.fixture
def version(base):
    return lambda number: Version(number, f"job{number}", 1, f"{number:064d}", base, "generated", "", None)


@pytest.fixture
def released():
    """What answers now; a test may change it."""
    return []


@pytest.fixture
def engine(base, model, released, folder, tmp_path):
    sizes = {"slots": 2, "context_length": 256, "spare": 1}
    return LlamaCppEngine(
        Setup(base), model, lambda: list(released), lambda one: folder / one.adapter, tmp_path / "exported", **sizes
    )


async def said(engine, one, ask=ASK) -> str:
    return "".join([chunk.text async for chunk in within(ask.seconds, engine.answer(one, ask))])


def closing(engine, work):
    """What comes of asking an engine, which is closed then."""

    async def whole():
        try:
            return await work
        finally:
            await engine.close(1)

    return asyncio.run(whole())


def test_every_request_is_answered_by_its_own_adapter_whatever_was_asked_before_or_beside_it(engine, version, released):
    released += [version(1), version(2)]

    async def work():
        await engine.hold()
        alone = [await said(engine, one) for one in (None, version(1), version(2))]
        beside = await asyncio.gather(*(said(engine, one) for one in (version(1), None, version(2)) * 2))
        return alone, beside

    alone, beside = closing(engine, work())
    assert len(set(alone)) == 3
    assert beside == [alone[1], alone[0], alone[2]] * 2
    assert (engine.stats()["server_starts_total"], engine.stats()["adapters_held"]) == (1, 2)


def test_an_answer_tells_how_much_of_its_prompt_was_read_for_an_earlier_one(engine, version, released):
    released.append(version(1))

    async def end():
        return [chunk async for chunk in engine.answer(version(1), ASK)][-1]

    async def ends():
        return [await end() for _ in range(3)]

    first, *later = closing(engine, ends())
    assert first.cached_tokens < first.prompt_tokens - 1 == max(one.cached_tokens for one in later)


def test_a_prompt_that_comes_back_is_answered_by_the_adapter_that_is_asked_for_and_not_by_the_one_that_read_it(
    engine, version, released
):
    """As llama.cpp's server does with its store in main memory (findings/llama-cpp-cache-of-another-adapter.sh)."""
    released += [version(1), version(2)]
    engine.slots = 1
    first, other = (replace(ASK, messages=(), text=f"{word} " * 20) for word in ("colour", "pump"))

    async def work():
        await engine.hold()
        turns = [(1, first), (2, first), (1, first), (2, other), (2, first)]
        return [await said(engine, version(number), ask) for number, ask in turns]

    by_one, by_two, again, _, back = closing(engine, work())
    assert (by_one != by_two, again, back) == (True, by_one, by_two)


def test_a_version_that_is_new_gets_a_new_server_and_running_answers_end_on_the_old_one(engine, version):
    async def work():
        await engine.hold(version(1))
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


def test_a_new_server_holds_what_is_released_and_the_few_others_that_were_asked_for_last(engine, version, released):
    def held():
        """The numbers of versions that the server holds; files are kept of the same ones."""
        files = {int(place.name) for place in engine.exported.iterdir()}
        assert {version(number).name for number in files} == engine._server.ids.keys()
        return files

    async def promoted(*numbers):
        released[:] = map(version, numbers)
        await said(engine, version(numbers[-1]))
        return held()

    async def work():
        assert await promoted(1, 2) == {1, 2}
        assert await promoted(1, 3) == {1, 2, 3}, "2 answered a moment ago"
        await said(engine, version(1))
        first = await said(engine, version(2))
        assert await promoted(1, 4) == {1, 2, 4}, "of 2 and 3, 2 was asked for last"
        assert await promoted(1, 2) == {1, 2, 4}, "a return to what is held needs no new server"
        assert await said(engine, version(3)) != await said(engine, version(2)) == first
        assert held() == {1, 2, 3, 4}, "3 was asked for though it is not released, and 4 stays beside it"
        return engine.stats()

    stats = closing(engine, work())
    assert (stats["server_starts_total"], stats["adapters_held"]) == (4, 4)


def test_no_more_than_three_servers_are_alive_at_once_and_those_that_wait_are_served_together(
    engine, version, released
):
    async def work():
        for number in (1, 2, 3):
            await engine.hold(version(number))
            engine._server.running += 1  # as with an answer that takes long
        first, *others = sorted(engine._servers, key=lambda server: list(server.ids))
        released[:] = version(4), version(5)
        waiting = [asyncio.create_task(said(engine, one)) for one in released]
        await asyncio.sleep(0.3)
        assert (engine.stats()["servers"], engine.stats()["server_starts_total"]) == (3, 3)
        assert await said(engine, version(3)), "what is held answers meanwhile"
        first.running -= 1
        await asyncio.gather(*waiting)
        assert engine.stats()["server_starts_total"] == 4
        for server in others:
            server.running -= 1

    closing(engine, work())


def test_a_server_that_is_gone_is_started_again_before_anybody_asks(engine):
    async def work():
        await engine.hold()
        os.kill(engine._server.process._process.pid, signal.SIGKILL)
        engine._server.process._process.wait()
        gone = await engine.ready()
        await engine.reconcile([])
        back = await engine.ready()
        engine.model = engine.model.with_name("nothing.gguf")
        await engine.reconcile([])
        assert engine.stats()["server_starts_total"] == 2, "one that is there is left alone"
        os.kill(engine._server.process._process.pid, signal.SIGKILL)
        engine._server.process._process.wait()
        await engine.reconcile([])
        return gone, back, await engine.ready()

    assert closing(engine, work()) == (False, True, False)


def test_a_file_that_was_altered_or_lost_is_made_again_and_what_nobody_needs_is_removed(engine, version, released):
    released.append(version(1))

    async def work():
        first = await said(engine, version(1))
        file = engine.exported / version(1).adapter / "adapter.gguf"
        damage(file)
        (engine.exported / f".{version(2).adapter}-left").mkdir()
        (engine.exported / version(2).adapter).mkdir()
        os.kill(engine._server.process._process.pid, signal.SIGKILL)
        second = await said(engine, version(1))
        file.unlink()
        os.kill(engine._server.process._process.pid, signal.SIGKILL)
        return first, second, await said(engine, version(1))

    assert len(set(closing(engine, work()))) == 1
    assert [place.name for place in engine.exported.iterdir()] == [version(1).adapter]


def test_a_version_whose_answer_begins_with_half_a_character_is_no_unfit_one(
    engine, version, released, layout, tmp_path
):
    engine._files = replace(engine._files, folder=lambda one: tmp_path / one.adapter)
    probe = GenerationRequest("job", (Message("user", llama_server._PROBE),), sampling=SAMPLING)
    for number in range(6):
        torch.manual_seed(number)
        Adapter(layout, torch.randn(layout.shape) * 0.3).save(tmp_path / version(number).adapter)
        released.append(version(number))

    async def work():
        return [await said(engine, one, probe) for one in released]

    assert any("\ufffd" in answer[:1] for answer in closing(engine, work()))
    assert engine.stats()["failed_probes_total"] == 0


def test_files_of_another_base_s_releases_are_kept(engine, version, released):
    other = Version(9, "job9", 1, "9" * 64, "some/other", "generated", "", None)
    released += [version(1), other]
    (engine.exported / other.adapter).mkdir(parents=True)
    closing(engine, engine.hold())
    assert {place.name for place in engine.exported.iterdir()} == {version(1).adapter, other.adapter}
    assert engine.stats()["adapters_held"] == 1


def test_a_released_version_that_cannot_be_read_is_unfit_and_keeps_no_other_from_answering(
    engine, version, released, folder, tmp_path
):
    broken = Version(7, "job7", 1, "7" * 64, version(1).base, "generated", "", None)
    released += [broken, version(1)]

    async def work():
        assert await said(engine, version(1))
        for _ in range(2):
            with pytest.raises(Unfit, match="job7@v1-77777777 cannot be served: "):
                await said(engine, broken)

    closing(engine, work())
    assert engine.stats()["server_starts_total"] == 1


def test_a_version_that_cannot_be_read_just_now_is_not_unfit_and_keeps_no_other_from_answering(
    engine, version, released, folder
):
    released += [version(1), version(2)]

    def away(one):
        if one.name == version(1).name:
            raise Unavailable("too many open files")
        return folder / one.adapter

    async def work():
        found, engine._files = engine._files, replace(engine._files, folder=away)
        assert await said(engine, version(2))
        for _ in range(2):
            with pytest.raises(Unavailable, match="too many open files") as refused:
                await said(engine, version(1))
            assert not isinstance(refused.value, Unfit)
        starts = engine.stats()["server_starts_total"]
        engine._files = found
        return starts, await said(engine, version(1))

    starts, answer = closing(engine, work())
    assert starts == 1 and answer


def test_a_server_that_does_not_start_is_no_fault_of_the_request_and_the_old_one_goes_on(engine, version, tmp_path):
    async def work():
        first = await said(engine, version(1))
        engine.model = tmp_path / "gone.gguf"
        with pytest.raises(Unavailable, match=r"cannot be started now .*gone.gguf"):
            await said(engine, version(2))
        assert await said(engine, version(1)) == first

    closing(engine, work())


def test_what_it_cannot_do_is_refused_by_name_and_never_answered_by_the_base(engine, version):
    elsewhere = Version(9, "job9", 1, "9" * 64, "some/other", "generated", "", None)
    number = GenerationRequest("job", ASK.messages, sampling=SAMPLING, form=forms.number())
    choices = GenerationRequest("job", ASK.messages, sampling=SAMPLING, form=forms.choices(("zzz", "qqq")))
    held, free = (
        GenerationRequest("job", ASK.messages, sampling=SamplingParams(max_new_tokens=40), form=forms.schema(schema))
        for schema in (
            {"type": "object", "properties": {"a": {"enum": ["高", "低"]}}, "required": ["a"]},
            {"type": "string", "format": "uri"},
        )
    )
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
        assert re.match(r'\{ *"a" *: *"[高低]"[^\n]*$', await said(engine, version(1), held))
        with pytest.raises(Misconfigured, match="does not hold answers to this JSON schema"):
            await said(engine, version(1), free)
        chunks = [chunk async for chunk in engine.answer(version(1), ASK)]
        assert (chunks[-1].finish_reason, chunks[-1].completion_tokens) == ("length", 6)
        assert await engine.ready()

    closing(engine, work())
    assert not asyncio.run(engine.ready())


def test_another_file_than_the_bases_is_refused_in_one_line(engine, tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"GGUF nothing")
    engine.model = tmp_path / "broken.gguf"
    with pytest.raises(UsageError, match=r"does not start with .*broken.gguf .*; see that --gguf names the base's own"):
        closing(engine, engine.hold())


def test_a_start_that_comes_to_nothing_is_ended_and_holds_up_nobody_for_ever(tmp_path):
    os.mkfifo(tmp_path / "base.gguf")  # whoever opens it waits for somebody who writes
    with pytest.raises(UsageError, match="does not start with"):
        LlamaProcess(tmp_path / "base.gguf", [], slots=1, context_length=64, threads=1, seconds=1.0)


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
        ({"gguf": Path("base.gguf")}, "--gguf base.gguf is for --engine llama.cpp, not for --engine embedded; leave"),
        ({"kind": LLAMA_CPP, "exact": True}, "--exact is for --engine embedded or --ray-replicas, not for --engine ll"),
        ({"kind": LLAMA_CPP, "adapter_cache_size": 3}, "--adapter-cache-size 3 is for --engine embedded, not for"),
        ({"urls": ["http://a"], "adapter_cache_size": 3}, "--adapter-cache-size 3 is for --engine embedded, not for"),
        ({"urls": ["http://a"], "prefix_cache_mb": 0}, "--prefix-cache-mb 0 is for --engine embedded, not for --engin"),
        ({"urls": ["http://a"], "max_batch_size": 16}, "--max-batch-size 16 is for .*, not for --engine-url; leave it"),
        ({"urls": ["http://a"], "exact": True}, "--exact is for .*, not for --engine-url; leave it out"),
        ({"replicas": 2, "prefix_cache_mb": 256}, "--prefix-cache-mb 256 is for --engine embedded, not for --ray-r"),
    ],
)
def test_options_that_contradict_each_other_or_that_the_engine_does_not_take_are_refused(options, told):
    with pytest.raises(UsageError, match=told):
        EngineOptions(**options)


def test_a_base_without_a_gguf_file_is_refused_and_the_option_named(base, tmp_path):
    registry = Registry.open(tmp_path / "home", actor="maker")
    with pytest.raises(UsageError, match="as a GGUF file, not None; name one by --gguf"):
        start(EngineOptions(LLAMA_CPP), Setup(base), registry)
    registry.engine.dispose()
