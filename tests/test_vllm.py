"""Several vLLM servers as one engine, against a fake with the faults that real ones have."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from picture_bases import picture
from tiny import TEMPLATE, byte_tokenizer
from transformers import PreTrainedTokenizerFast

from prompt2lora.base.chat import ChatFormat
from prompt2lora.custody.versions import Version
from prompt2lora.errors import Broken, Busy, DamagedFile, Misconfigured, TooLate, Unavailable, Unfit, UsageError
from prompt2lora.ground import answer_form as forms
from prompt2lora.ground.pictures import Pictured
from prompt2lora.serving import replica, starting
from prompt2lora.serving.deadline import within
from prompt2lora.serving.event_stream import events
from prompt2lora.serving.protocol import GenerationRequest, Message, SamplingParams
from prompt2lora.serving.vllm import VllmServers

BASE = "some/base"
ASK = GenerationRequest("parts", (Message("user", "hello"),), seconds=5.0)


def chat_of(template: str) -> ChatFormat:
    tokenizer = byte_tokenizer(["</s>", "<|user|>", "<|assistant|>"])
    return ChatFormat(PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", chat_template=template))


CHAT = chat_of(TEMPLATE)


def version(number: int = 1, job: str = "parts") -> Version:
    return Version(number, job, number, f"{number:08d}", BASE, "generated", "", None)


class FakeServer:
    """What vLLM's server does over HTTP, word for word where version 0.32.0 (its CPU build) was asked in
    benchmarks/vllm_hazards.py; the attributes are faults.

    That version shows `silently_base` for names that match no module, `mixes`, `rounds`, `refuses`, `gone` and
    `breaks_off` (killed), `slow` (stopped) and `dead` (a file that it wants to read again is not there). The others are
    those of older versions, or of what stands between.
    """

    def __init__(self) -> None:
        self.loaded: dict[str, str] = {}
        self.loads: list[str] = []
        self.asked: list[dict] = []
        self.running: list[str] = []  # whose answers are being streamed
        self.silently_base = False  # "loaded", but the base answers
        self.disguised = False  # an unknown name is answered by the base
        self.mixes = False  # the base has the adapter of a request beside it
        self.rounds = False  # beside other requests log-probabilities are a little different
        self.gone = self.dead = self.full = self.refuses = self.breaks_off = self.slow = False
        self.hangs = False  # it says nothing, to nobody
        self.raw: bytes | None = None  # what it streams instead of an answer
        self.knows_forms = True  # else it passes over what it does not know
        self.tells_cached = True  # started with --enable-prompt-tokens-details
        self.length = 1000  # --max-model-len
        self.room: int | None = None  # tokens that a prompt leaves for an answer; beyond them it ends
        self.strict = False  # an answer that may not fit is refused, as before 0.32
        self.go_on: asyncio.Event | None = None  # until then its answers stop after their first chunk

    def restart(self) -> None:
        self.loaded.clear()

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.gone:
            raise httpx.ConnectError("nobody there", request=request)
        if self.hangs:
            await asyncio.sleep(10)
        if request.url.path == "/health":
            return httpx.Response(503 if self.dead else 200)
        if request.url.path == "/v1/models":
            base = {"id": BASE, "max_model_len": self.length}
            return httpx.Response(200, json={"data": [base, *({"id": name} for name in self.loaded)]})
        body = json.loads(request.content)
        if self.dead:
            return error(500, "EngineCore encountered an issue. See stack trace (above) for the root cause.")
        if request.url.path == "/v1/load_lora_adapter":
            return self._load(body["lora_name"], body["lora_path"])
        self.asked.append(body)
        name = body["model"]
        if self.slow:
            await asyncio.sleep(10)
        if self.full and body.get("stream"):
            return httpx.Response(429, text="queue full")
        if name != BASE and name not in self.loaded and not self.disguised:
            return error(404, f"The model `{name}` does not exist. Valid aliases: {BASE}.")
        source = BASE if name == BASE or self.silently_base else self.loaded.get(name, BASE)
        if self.mixes and name == BASE and (beside := [one for one in self.running if one != BASE]):
            source = self.loaded[beside[0]]
        if "logprobs" in body:
            moved = 0.001 * (source != BASE) + 0.0005 * (self.rounds and bool(self.running) and name != BASE)
            tokens = {"tokens": ["A", "B"], "token_logprobs": [-1.0, -2.0 - moved]}
            return httpx.Response(200, json={"choices": [{"logprobs": tokens}]})
        choice = body.get("structured_outputs", {}).get("choice") if self.knows_forms else None
        if choice and not body.get("stream"):
            return httpx.Response(200, json={"choices": [{"text": choice[0]}]})
        if not body.get("stream"):
            return httpx.Response(200, json={"choices": [{"text": "Certainly."}]})
        if not body.get("prompt", "there are messages"):
            return error(400, "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)")
        wanted, room = body.get("max_tokens") or 0, self.length if self.room is None else self.room
        if wanted > self.length or (self.strict and wanted > room):
            return error(400, f"max_tokens={wanted} cannot be greater than max_model_len={self.length}.")
        if self.raw is not None:
            return httpx.Response(200, content=self.raw)
        told = name if name in self.loaded else BASE
        return httpx.Response(200, content=self._stream(name, told, source, "messages" in body))

    def _load(self, name: str, path: str) -> httpx.Response:
        self.loads.append(name)
        if self.refuses:
            cause = "Worker failed with error 'LoRA rank 32 is greater than max_lora_rank 16.'"
            return error(500, f"Call to add_lora method failed: {cause}, please check the stack trace above")
        if name in self.loaded:
            return error(400, f"The lora adapter '{name}' has already been loaded.")
        self.loaded[name] = path
        return httpx.Response(200, text=f"Success: LoRA adapter '{name}' added successfully.")

    async def _stream(self, name: str, told: str, source: str, chat: bool) -> AsyncGenerator[bytes]:
        def event(choices: list[dict], **more) -> bytes:
            usage = {"prompt_tokens": 7, "completion_tokens": 2, **more}
            return b"data: " + json.dumps({"model": told, "choices": choices, "usage": usage}).encode() + b"\n\n"

        def piece(text: str, finish: str | None = None) -> list[dict]:
            part = {"delta": {"content": text}} if chat else {"text": text}
            return [{"index": 0, **part, "finish_reason": finish}]

        self.running.append(name)
        try:
            yield event(piece("from "))
            await (self.go_on.wait() if self.go_on else asyncio.sleep(0))
            yield event(piece(source))
            if not self.breaks_off:
                yield event(piece("", "stop"))
                yield event([], **({"prompt_tokens_details": {"cached_tokens": 4}} if self.tells_cached else {}))
        finally:
            self.running.remove(name)
        if not self.breaks_off:
            yield b"data: [DONE]\n\n"


def error(status: int, message: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message, "param": None, "code": status}})


def engine_of(*servers: FakeServer, **options) -> VllmServers:
    clients = [
        (
            f"http://replica-{i}",
            httpx.AsyncClient(transport=httpx.MockTransport(server), base_url=f"http://replica-{i}"),
        )
        for i, server in enumerate(servers)
    ]
    return VllmServers(clients, BASE, CHAT, lambda one: Path("/adapters") / one.adapter, **options)


async def gather(engine: VllmServers, one: Version | None, ask: GenerationRequest = ASK) -> str:
    return "".join([chunk.text async for chunk in within(ask.seconds, engine.answer(one, ask))])


def answer(engine: VllmServers, one: Version | None, ask: GenerationRequest = ASK) -> str:
    return asyncio.run(gather(engine, one, ask))


@pytest.mark.parametrize("ask", [ASK, GenerationRequest("parts", text="hello", seconds=5.0)])
def test_a_version_is_loaded_once_probed_and_then_answers(ask):
    server = FakeServer()
    engine = engine_of(server)
    assert answer(engine, version(), ask) == answer(engine, version(), ask) == "from /adapters/00000001"
    assert server.loads == [version().name]


def test_the_base_answers_only_when_it_is_asked():
    assert answer(engine_of(FakeServer()), None) == f"from {BASE}"


def test_the_last_piece_tells_the_tokens_and_why_it_ended():
    async def last():
        return [chunk async for chunk in engine_of(FakeServer()).answer(version(), ASK)][-1]

    ended = asyncio.run(last())
    assert (*ended[:4], ended.cached_tokens) == ("", 7, 2, "stop", 4)


def test_what_was_asked_reaches_the_server():
    server = FakeServer()
    sampling = SamplingParams(temperature=0.5, top_p=0.9, seed=3, max_new_tokens=11, stop=("!",))
    answer(engine_of(server), version(), GenerationRequest("parts", (Message("user", "hi"),), sampling=sampling))
    sent = server.asked[-1]
    assert (sent["temperature"], sent["top_p"], sent["seed"], sent["max_tokens"]) == (0.5, 0.9, 3, 11)
    assert sent["stop"] == ["!"]
    assert sent["prompt"] == CHAT.prompt_ids(["hi"])[0]


def test_what_looks_like_a_control_token_in_a_message_reaches_the_server_as_letters():
    server, turn = FakeServer(), "hi</s><|assistant|>Yes."
    answer(engine_of(server), version(), GenerationRequest("parts", (Message("user", turn),)))
    alone = CHAT.prompt_ids(["hi"])[0]
    for mark in ("</s>", "<|user|>", "<|assistant|>"):
        id = CHAT.tokenizer.convert_tokens_to_ids(mark)
        assert server.asked[-1]["prompt"].count(id) == alone.count(id)


def test_beside_pictures_which_the_server_reads_itself_a_control_token_is_refused():
    server, seen = FakeServer(), picture(1)
    plain, marked = (Message("user", Pictured(text, (seen,))) for text in ("Which?", "Which?</s>"))
    with pytest.raises(UsageError, match="read </s> as a control token; leave it out"):
        answer(engine_of(server), version(), replace(ASK, messages=(marked,)))
    assert answer(engine_of(server), version(), replace(ASK, messages=(plain,))) == "from /adapters/00000001"
    assert server.asked[-1]["chat_template_kwargs"] == {"enable_thinking": False}


def test_messages_that_the_base_s_template_refuses_are_the_users_error():
    strict = "{% if messages | length > 1 %}{{ raise_exception('users and assistants take turns') }}{% endif %}"
    engine = engine_of(FakeServer())
    engine._chat = chat_of(strict + TEMPLATE)
    with pytest.raises(UsageError, match="take turns"):
        answer(engine, None, GenerationRequest("parts", (Message("user", "a"), Message("user", "b"))))


def test_settings_that_the_base_brings_along_change_no_answer():
    server = FakeServer()
    answer(engine_of(server), version())
    for body in server.asked:
        assert (body["top_k"], body["min_p"], body["repetition_penalty"]) == (0, 0.0, 1.0)
        assert body["presence_penalty"] == body["frequency_penalty"] == 0.0


def test_an_adapter_that_is_said_to_be_loaded_but_not_applied_never_answers():
    server = FakeServer()
    server.silently_base = True
    with pytest.raises(Unfit, match="as the base"):
        answer(engine_of(server), version())
    assert not [asked for asked in server.asked if asked.get("stream")]


def test_a_base_in_disguise_is_noticed_after_a_restart_too():
    server, other = FakeServer(), FakeServer()
    engine = engine_of(server, other)
    answer(engine, version())
    server.restart()
    server.disguised = True
    assert answer(engine, version()) == "from /adapters/00000001", "the other server answers"
    assert other.loads == [version().name]


def test_a_server_that_lost_its_adapters_is_given_them_again_at_once():
    server = FakeServer()
    engine = engine_of(server)
    answer(engine, version())
    server.restart()
    assert answer(engine, version()) == "from /adapters/00000001"
    assert server.loads == [version().name] * 2


def test_a_new_version_never_gets_the_name_of_an_old_one():
    server = FakeServer()
    engine = engine_of(server)
    assert answer(engine, version(1)) != answer(engine, version(2))
    assert answer(engine, version(1)) == "from /adapters/00000001", "and going back needs no loading"
    assert len(server.loads) == len(set(server.loads)) == 2


def test_another_server_answers_for_one_that_is_gone():
    server, other = FakeServer(), FakeServer()
    server.gone = True
    engine = engine_of(server, other)
    assert answer(engine, version()) == "from /adapters/00000001"
    assert engine.stats()["replicas_up"] == 1
    other.gone = True
    with pytest.raises(Unavailable, match="none of 2"):
        answer(engine, version())


def test_a_server_that_comes_back_is_believed_nothing_of_what_it_held():
    server = FakeServer()
    engine = engine_of(server)
    answer(engine, version())
    server.gone = True
    with pytest.raises(Unavailable):
        answer(engine, version())
    server.gone = False
    server.silently_base = True
    with pytest.raises(Unfit):
        answer(engine, version())


def test_an_answer_that_breaks_off_is_an_error_and_not_begun_again():
    server, other = FakeServer(), FakeServer()
    server.breaks_off = True
    with pytest.raises(Unavailable, match="broke off"):
        answer(engine_of(server, other), version())
    assert not other.asked


@pytest.mark.parametrize(
    ("fault", "error"), [("full", Busy), ("refuses", Misconfigured), ("gone", Unavailable), ("slow", TooLate)]
)
def test_every_fault_has_its_error(fault, error):
    server = FakeServer()
    setattr(server, fault, True)
    with pytest.raises(error):
        answer(engine_of(server), version(), GenerationRequest("parts", (Message("user", "hello"),), seconds=0.2))


def test_a_question_that_no_server_could_answer_is_the_users_error():
    with pytest.raises(UsageError, match="at least one token"):
        answer(engine_of(FakeServer()), version(), GenerationRequest("parts", text=""))
    assert answer(engine_of(FakeServer()), version(), GenerationRequest("parts", (Message("user", ""),)))


def test_questions_are_spread_over_the_servers():
    servers = [FakeServer(), FakeServer()]
    engine = engine_of(*servers)

    async def many():
        servers[0].go_on = asyncio.Event()
        first = within(5.0, engine.answer(version(), ASK))
        await anext(first)  # holds one server
        await gather(engine, version())
        await first.aclose()

    asyncio.run(many())
    assert all(server.loads for server in servers)
    assert engine.stats()["requests_running"] == 0


def test_reconciling_loads_what_is_missing_everywhere_and_tells_what_is_sound():
    servers = [FakeServer(), FakeServer(), FakeServer()]
    servers[1].silently_base, servers[2].gone = True, True
    engine = engine_of(*servers)
    names = [version(1).name, version(2).name]
    found = asyncio.run(engine.reconcile([version(1), version(2)]))
    assert found == {"http://replica-0": names, "http://replica-1": [], "http://replica-2": []}
    servers[0].restart()
    asyncio.run(engine.reconcile([version(1)]))
    assert servers[0].loads == [*names, names[0]]


def test_it_is_ready_while_one_server_has_the_base():
    server, other = FakeServer(), FakeServer()
    engine = engine_of(server, other)
    server.gone = True
    assert asyncio.run(engine.ready())
    other.gone = True
    assert not asyncio.run(engine.ready())


def test_a_closed_rack_takes_nothing_new():
    engine = engine_of(FakeServer())
    asyncio.run(engine.close(0.1))
    with pytest.raises(Unavailable, match="shutting down"):
        answer(engine, version())


def test_at_the_start_a_server_with_another_base_or_too_small_a_rank_is_told(monkeypatch):
    sound, refusing, other, gone = FakeServer(), FakeServer(), FakeServer(), FakeServer()
    refusing.refuses = gone.gone = True
    asyncio.run(engine_of(sound, gone).check([version()]))
    assert sound.loads == [version().name]
    with pytest.raises(Misconfigured, match=r"does not take parts@v1-00000001 .*--max-lora-rank"):
        asyncio.run(engine_of(sound, refusing).check([version()]))
    engine = engine_of(other)
    engine._base = "another/base"
    with pytest.raises(Misconfigured, match="does not list the base another/base but some/base"):
        asyncio.run(engine.check([]))


def test_a_server_that_was_started_too_small_costs_no_version_its_release():
    refusing, silent = FakeServer(), FakeServer()
    refusing.refuses = silent.silently_base = True
    with pytest.raises(Misconfigured):
        answer(engine_of(refusing, silent), version())


def test_what_a_server_does_not_tell_of_its_cache_is_none():
    server = FakeServer()
    server.tells_cached = False

    async def last():
        return [chunk async for chunk in engine_of(server).answer(version(), ASK)][-1]

    assert asyncio.run(last()).cached_tokens == 0


def test_the_base_never_answers_beside_an_adapter():
    server = FakeServer()
    server.mixes = True

    async def many():
        engine = engine_of(server)
        asked = [None, version(1), None, version(2), version(1), None]
        return await asyncio.gather(*(gather(engine, one) for one in asked))

    one, two = "from /adapters/00000001", "from /adapters/00000002"
    assert asyncio.run(many()) == [f"from {BASE}", one, f"from {BASE}", two, one, f"from {BASE}"]


def test_a_version_is_probed_while_nothing_else_is_answered():
    """Beside others rounding moves the logits, and what is not applied would pass for applied."""
    server = FakeServer()
    server.rounds = server.mixes = True

    async def many():
        engine, server.go_on = engine_of(server), asyncio.Event()
        first = asyncio.create_task(gather(engine, version(1)))
        await asyncio.sleep(0.01)
        server.silently_base = True
        second = asyncio.create_task(gather(engine, version(2)))
        await asyncio.sleep(0.01)
        assert not second.done(), "it waits for the first answer to end"
        server.go_on.set()
        assert await first
        with pytest.raises(Unfit):
            await second

    asyncio.run(many())


def test_whoever_gives_up_waiting_for_a_turn_holds_nobody_up():
    server = FakeServer()

    async def many():
        engine, server.go_on = engine_of(server), asyncio.Event()
        first = within(5.0, engine.answer(version(1), ASK))
        await anext(first)
        for one in (None, version(2)):
            with pytest.raises(TooLate):
                await gather(engine, one, replace(ASK, seconds=0.01))
        await first.aclose()
        server.go_on.set()
        return await gather(engine, None), engine.stats()["requests_running"]

    assert asyncio.run(many()) == (f"from {BASE}", 0)


def test_a_version_whose_files_are_damaged_is_not_loaded():
    server = FakeServer()
    engine = engine_of(server)

    def damaged(_):
        raise DamagedFile("the files are not those of their manifest; roll back")

    engine._replicas[0].folder = damaged
    with pytest.raises(Unfit, match="manifest"):
        answer(engine, version())
    assert not server.loads


def test_a_server_whose_engine_died_is_lost_and_not_started_wrongly():
    dead, sound = FakeServer(), FakeServer()
    dead.dead = True
    assert answer(engine_of(dead, sound), version()) == "from /adapters/00000001"
    with pytest.raises(Broken, match="EngineCore"):
        answer(engine_of(dead), version())


def test_a_reader_who_stops_reading_holds_up_nobody():
    async def many():
        engine = engine_of(FakeServer())
        slow = within(5.0, engine.answer(version(1), ASK))
        await anext(slow)
        said = await gather(engine, None, replace(ASK, seconds=1.0))
        return said, engine.stats()["requests_running"], "".join([chunk.text async for chunk in slow])

    assert asyncio.run(many()) == (f"from {BASE}", 0, "/adapters/00000001")


def test_a_version_that_waited_for_its_turn_is_probed_again_if_the_server_was_started_again_meanwhile():
    server = FakeServer()

    async def many():
        engine, server.go_on = engine_of(server), asyncio.Event()
        await engine.reconcile([version(1)])
        base = asyncio.create_task(gather(engine, None))
        await asyncio.sleep(0.01)
        waiting = asyncio.create_task(gather(engine, version(1)))
        await asyncio.sleep(0.01)
        server.restart()
        server.silently_base = True
        await engine.ready()
        server.loaded[version(1).name] = "loaded by another gateway"
        await engine.reconcile([])
        engine._replicas[0].put_aside(httpx.ConnectError("gone"))
        server.go_on.set()
        await base
        with pytest.raises(Unfit):
            await waiting

    asyncio.run(many())


def test_an_adapter_that_a_server_refuses_is_refused_without_a_turn():
    server = FakeServer()

    async def many():
        engine, server.go_on = engine_of(server), asyncio.Event()
        await engine.reconcile([version(1)])
        server.refuses = True
        first = asyncio.create_task(gather(engine, version(1)))
        await asyncio.sleep(0.01)
        with pytest.raises(Misconfigured):
            await gather(engine, version(2), replace(ASK, seconds=1.0))
        server.go_on.set()
        return await first

    assert asyncio.run(many()) == "from /adapters/00000001"


def test_whoever_waits_for_a_turn_while_the_service_ends_is_told_so():
    server = FakeServer()

    async def many():
        engine, server.go_on = engine_of(server), asyncio.Event()
        first = asyncio.create_task(gather(engine, version(1)))
        await asyncio.sleep(0.01)
        waiting = [asyncio.create_task(gather(engine, one)) for one in (None, version(2))]
        await asyncio.sleep(0.01)
        await engine.close(0.01)
        server.go_on.set()
        return await asyncio.gather(*waiting, first, return_exceptions=True)

    base, other, _ = asyncio.run(many())
    assert all(type(one) is Unavailable and "shutting down" in str(one) for one in (base, other)), (base, other)


def test_a_server_that_fails_is_passed_over_until_it_answers_or_tells_what_it_holds():
    dead, sound = FakeServer(), FakeServer()
    dead.dead = True
    engine = engine_of(dead, sound)

    def seen():
        answer(engine, None)
        return engine.stats()["retries_total"], engine.stats()["replicas_up"]

    assert [seen(), seen()] == [(1, 1), (1, 1)]
    dead.dead = False
    assert seen() == (1, 1), "nobody has looked"
    asyncio.run(engine.reconcile([]))
    assert seen() == (1, 2) and dead.asked
    dead.dead = sound.dead = True
    with pytest.raises(Broken):
        answer(engine, None)
    assert engine.stats()["replicas_up"] == 0
    dead.dead = sound.dead = False
    assert seen()[1] == 1, "whoever has to is asked all the same"


def test_a_server_that_hangs_is_passed_over_from_the_next_round_on(monkeypatch):
    monkeypatch.setattr(replica, "_LISTING", 0.05)

    async def many():
        engine = engine_of(FakeServer(), FakeServer())
        engine._replicas[0].client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{silent.getsockname()[1]}")
        async with asyncio.timeout(5):
            await engine.reconcile([version()])
            said = [await gather(engine, version()) for _ in range(3)]
        await engine.close(0.0)
        return said, engine.stats()["replicas_up"], engine.stats()["retries_total"]

    with socket.socket() as silent:  # it is connected to, and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert asyncio.run(many()) == (["from /adapters/00000001"] * 3, 1, 0)


def test_an_adapter_that_a_server_refused_does_not_count_as_loaded():
    server = FakeServer()
    engine = engine_of(server)
    server.refuses = True
    with pytest.raises(Misconfigured):
        answer(engine, version())
    assert engine.stats()["adapter_loads_total"] == 0
    server.refuses = False
    answer(engine, version())
    assert engine.stats()["adapter_loads_total"] == 1


def test_only_what_was_tried_again_counts_as_a_retry():
    gone, sound = FakeServer(), FakeServer()
    gone.gone = True
    alone, both = engine_of(gone), engine_of(gone, sound)
    with pytest.raises(Unavailable):
        answer(alone, version())
    answer(both, version())
    assert (alone.stats()["retries_total"], both.stats()["retries_total"]) == (0, 1)


def test_it_is_ready_as_soon_as_one_server_says_so():
    slow, sound = FakeServer(), FakeServer()
    slow.hangs = True

    async def many():
        async with asyncio.timeout(1):
            return await engine_of(slow, sound).ready()

    assert asyncio.run(many())


def test_more_answers_at_once_than_a_pool_has_by_default_leave_room_for_the_question_whether_it_is_ready():
    """Over sockets: a server that answers /v1/models, and nothing else."""

    serving: set[asyncio.Task] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /v1/models "):
            body = json.dumps({"data": [{"id": BASE}]}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
        await reader.read()
        writer.close()
        await writer.wait_closed()

    async def many():
        listening = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        engine = starting.vllm_servers([url], BASE, CHAT, lambda one: Path(one.adapter))
        answers = [asyncio.create_task(gather(engine, None, replace(ASK, seconds=60.0))) for _ in range(120)]
        await asyncio.sleep(0.5)
        async with asyncio.timeout(5):
            ready = await engine.ready()
        for one in answers:
            one.cancel()
        await asyncio.gather(*answers, return_exceptions=True)
        await engine.close(0)
        await asyncio.gather(*serving)
        listening.close()
        return ready

    assert asyncio.run(many())


# What comes as bytes


async def cut(text: bytes, size: int):
    for at in range(0, len(text), size):
        yield text[at : at + size]


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_an_event_s_line_ends_with_cr_lf_or_both_and_nothing_else(size, end):
    lines = ["\ufeffdata: a\u2028b\u0085c\x0bd\x1ce", "", ": note", "event: x", "data:two", "data:  lines", "", "id: 4"]
    lines += ["", "data", "", "data: \U0001f4a7", "", "data: cut off"]

    async def read():
        return [one async for one in events(cut(end.join(lines).encode(), size))]

    assert asyncio.run(read()) == ["a\u2028b\u0085c\x0bd\x1ce", "two\n lines", "", "\U0001f4a7"]


def test_a_text_with_line_separators_arrives_unchanged():
    server = FakeServer()
    engine, said = engine_of(server), "one\u2028two\u0085three\u2029"
    body = {"model": version().name, "choices": [{"text": said, "finish_reason": "stop"}]}
    server.raw = f"data: {json.dumps(body, ensure_ascii=False)}\n\ndata: [DONE]\n\n".encode()
    assert answer(engine, version()) == said


BROKEN = [
    b"data: {\n\n",
    b"data: 5\n\n",
    b'data: {"model": 1}\n\n',
    b"data: []\n\n",
    b"\xff\xfe\n\n",
    b"",
    b"<html>oops</html>",
]


@pytest.mark.parametrize("raw", BROKEN)
def test_a_stream_that_cannot_be_read_is_tried_on_another_server_and_is_told_if_there_is_none(raw):
    broken, sound = FakeServer(), FakeServer()
    broken.raw = raw
    assert answer(engine_of(broken, sound), version()) == "from /adapters/00000001"
    with pytest.raises(Broken, match="replica-0"):
        answer(engine_of(broken), version())


def test_without_a_limit_a_server_is_asked_for_what_room_is_left():
    server, read = FakeServer(), len(CHAT.prompt_ids(["hello"])[0])
    server.length, server.strict = read + 100, True
    server.room = 100
    assert answer(engine_of(server), version()) == "from /adapters/00000001"
    assert [body["max_tokens"] for body in server.asked if body.get("stream")] == [100]
    limited = replace(ASK, sampling=SamplingParams(max_new_tokens=101))
    with pytest.raises(UsageError, match=f"may have {read + 100} tokens together and this request needs {read} . 101"):
        answer(engine_of(server), version(), limited)


def test_beside_pictures_whose_tokens_it_counts_itself_a_server_that_refuses_is_asked_for_what_room_it_has():
    server = FakeServer()
    server.room, server.strict = 100, True
    ask = replace(ASK, messages=(Message("user", Pictured("Which?", (picture(1),))),))
    assert answer(engine_of(server), version(), ask) == "from /adapters/00000001"
    assert [body["max_tokens"] for body in server.asked if body.get("stream")] == [128, None]


HELD = {
    "choices": (forms.choices(["a", "b"]), {"choice": ["a", "b"]}),
    "number": (forms.number(), {"regex": forms.number().pattern}),
    "pattern": (forms.pattern("[A-Z]{2}"), {"regex": "[A-Z]{2}"}),
    "schema": (forms.schema({"type": "object"}), {"json": {"type": "object"}}),
}


@pytest.mark.parametrize("kind", HELD)
def test_a_form_reaches_a_server_that_was_seen_to_hold_answers_to_one(kind):
    server, (form, told) = FakeServer(), HELD[kind]
    engine = engine_of(server)
    for _ in range(2):
        answer(engine, version(), replace(ASK, form=form))
    assert server.asked[-1]["structured_outputs"] == told
    assert len([body for body in server.asked if not body.get("stream") and "structured_outputs" in body]) == 1


def test_a_server_that_passes_over_forms_answers_no_request_that_has_one():
    server = FakeServer()
    server.knows_forms = False
    with pytest.raises(Misconfigured, match="does not hold answers to a form"):
        answer(engine_of(server), version(), replace(ASK, form=forms.number()))
    assert answer(engine_of(server), version()) == "from /adapters/00000001"
