"""The interface for tools: the right version answers, it says which, and whoever may not is refused."""

import asyncio
import json
import logging
import shutil
import subprocess
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import httpx
import openai
import pytest
from serving import GivesItselfAway, bearer, client_of, keys_of, passes, running, service_of
from sqlalchemy import text
from tiny import AT, GOOD, adapter_folder, new_registry

from prompt2lora.console.page_request import Forbidden, NotFound, status_of
from prompt2lora.custody.versions import Origin
from prompt2lora.errors import (
    Broken,
    Busy,
    Conflict,
    Misconfigured,
    NotAllowed,
    OutputError,
    TooLate,
    Unavailable,
    Unfit,
)
from prompt2lora.serving import openai_replies
from prompt2lora.serving.guard import RateLimiter, Refused
from prompt2lora.serving.metrics import MOST_LABELS, OTHER, RequestRecord, ServiceMetrics
from prompt2lora.serving.protocol import Chunk, as_they_come
from prompt2lora.serving.refusals import describe
from prompt2lora.web import create_app

ASK = {"model": "mail", "messages": [{"role": "user", "content": "hello"}]}
FROM = Origin(("one", "two"), "9" * 64, "g", "b", "8" * 64)


@pytest.fixture
def kept(tmp_path):
    registry = new_registry(tmp_path / "home", actor="maker", clock=lambda: AT)
    for job in ("mail", "notes", "fresh"):
        registry.add_job(job)
    yield registry
    registry.engine.dispose()


@pytest.fixture
def version(kept, tmp_path):
    """Add a version of a job and let it answer."""
    count = iter(range(100))

    def added(job="mail", *, release=True):
        folder = adapter_folder(tmp_path / f"adapter-{next(count)}", f"{job}{next(count)}")
        made = kept.add_version(job, folder, FROM)
        if release:
            current = kept.current(job)
            kept.promote(job, made, "better", expected=current.id if current else None)
        return made

    return added


@pytest.fixture
def tokens(kept):
    return keys_of(kept)


@pytest.fixture
def service(kept):
    return service_of(kept)


def ask(service, token, body=ASK, path="/v1/chat/completions", headers=None, **options):
    async def run():
        async with client_of(service, token, **options) as client:
            return await client.post(path, json=body, headers=headers)

    return asyncio.run(run())


def browse(service, token, path="/console"):
    async def run():
        async with client_of(service) as client:
            return await client.get(path, headers={"cookie": f"p2l_key={token}"})

    return asyncio.run(run())


def test_a_job_is_answered_by_its_release_and_the_answer_says_which(service, tokens, version):
    made = version()
    reply = ask(service, tokens["asks"])
    assert reply.status_code == 200
    found = reply.json()
    assert found["choices"][0]["message"]["content"] == f"[{made.name}] hello"
    assert found["system_fingerprint"] == reply.headers["x-prompt2lora-release"] == f"1:{made.name}"
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    assert found["usage"] == usage | {"prompt_tokens_details": {"cached_tokens": 0}}


def test_a_job_whose_release_is_the_base_is_answered_by_it_and_says_so(service, tokens, version, kept):
    version()
    kept.rollback("mail", "worse")
    reply = ask(service, tokens["asks"])
    assert reply.json()["choices"][0]["message"]["content"] == "[base] hello"
    assert reply.headers["x-prompt2lora-release"].endswith(":mail@base")


@pytest.mark.parametrize("job", ["unknown", "fresh", "b", "", "../mail", "mail@v1-00000000"])
def test_what_is_no_released_job_is_an_error_and_never_the_base_in_disguise(service, tokens, version, job):
    version()
    reply = ask(service, tokens["asks"], {**ASK, "model": job})
    assert reply.status_code in (400, 404)
    assert reply.json()["error"]["message"]
    assert not service.engine.asks


def test_the_official_client_chats_completes_streams_and_lists(service, tokens, version):
    made = version()
    with running(create_app(service)) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key=tokens["asks"], max_retries=0)
        whole = client.chat.completions.create(**ASK)
        assert whole.choices[0].message.content == f"[{made.name}] hello"
        assert whole.system_fingerprint == f"1:{made.name}"
        chunks = list(client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True}))
        assert "".join(p.choices[0].delta.content for p in chunks if p.choices) == f"[{made.name}] hello"
        assert chunks[-1].usage.total_tokens == 10
        text = client.completions.create(model="mail", prompt="go on", stop=["x"])
        assert text.choices[0].text == f"[{made.name}] go on"
        streamed = client.completions.create(model="mail", prompt="go on", stream=True)
        assert "".join(chunk.choices[0].text for chunk in streamed) == f"[{made.name}] go on"
        assert [model.id for model in client.models.list()] == ["mail"]
        assert client.models.retrieve("mail").id == "mail"
        client.close()


def test_the_official_javascript_client_chats_completes_streams_lists_and_knows_our_errors(service, tokens, version):
    node = shutil.which("node")
    if not node or subprocess.run([node, "-e", "require('openai')"], capture_output=True).returncode:
        pytest.skip("no node with the package openai: npm install openai, and name its node_modules by NODE_PATH")
    made = version()
    with running(create_app(service)) as address:
        words = [node, str(Path(__file__).with_name("openai_client.cjs")), address, tokens["asks"]]
        told = json.loads(subprocess.run(words, capture_output=True, check=True, timeout=60).stdout)
    assert told == {
        "said": f"[{made.name}] hello",
        "by": f"1:{made.name}",
        "streamed": f"[{made.name}] hello",
        "tokens": 10,
        "text": f"[{made.name}] go on",
        "models": ["mail"],
        "errors": ["NotFoundError", "BadRequestError"],
    }


def test_the_official_client_knows_our_errors(service, tokens, version):
    version()
    with running(create_app(service)) as address:
        url = f"{address}/v1"
        client = openai.OpenAI(base_url=url, api_key=tokens["asks"], max_retries=0)
        for kind, changes in (
            (openai.NotFoundError, {"model": "unknown"}),
            (openai.BadRequestError, {"n": 9}),
            (openai.BadRequestError, {"temperature": 9}),
        ):
            with pytest.raises(kind):
                client.chat.completions.create(**{**ASK, **changes})
        for fault, kind in ((Busy("b"), openai.RateLimitError), (Unavailable("u"), openai.InternalServerError)):
            service.engine.fault = fault
            with pytest.raises(kind):
                client.chat.completions.create(**ASK)
        with pytest.raises(openai.AuthenticationError):
            openai.OpenAI(base_url=url, api_key="wrong", max_retries=0).models.list()
        with pytest.raises(openai.PermissionDeniedError):
            openai.OpenAI(base_url=url, api_key=tokens["admin"], max_retries=0).models.list()
        client.close()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"logprobs": 3}, "logprobs"),
        ({"n": 0}, "n"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages"),
        ({"messages": []}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(service, tokens, version, changes, word):
    version()
    reply = ask(service, tokens["asks"], {**ASK, **changes})
    assert reply.status_code == 400
    assert word in reply.json()["error"]["message"]


def test_several_choices_are_asked_for_and_told_apart(service, tokens, version):
    made = version()
    with running(create_app(service)) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key=tokens["asks"], max_retries=0)
        whole = client.chat.completions.create(**ASK, n=3, seed=5, temperature=1)
        assert [(one.index, one.message.content) for one in whole.choices] == [
            (number, f"[{made.name}] hello") for number in range(3)
        ]
        assert sorted(one.sampling.seed for one in service.engine.asks) == [5, 6, 7]
        assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (7, 9)
        texts, roles, usages = ["", ""], [], []
        for chunk in client.chat.completions.create(**ASK, n=2, stream=True, stream_options={"include_usage": True}):
            usages += [chunk.usage] if chunk.usage else []
            for one in chunk.choices:
                texts[one.index] += one.delta.content
                roles += [one.index] if one.delta.role else []
        assert texts == [f"[{made.name}] hello"] * 2 and sorted(roles) == [0, 1]
        assert [one.completion_tokens for one in usages] == [6]
        text = client.completions.create(model="mail", prompt="go on", n=2)
        assert [one.text for one in text.choices] == [f"[{made.name}] go on"] * 2
        client.close()


def test_choices_count_against_the_quota_of_the_job_and_one_that_fails_leaves_none_behind(kept, tokens, version):
    version()
    service = service_of(kept, per_job=2)
    assert ask(service, tokens["asks"], {**ASK, "n": 2}).status_code == 200
    assert ask(service, tokens["asks"], {**ASK, "n": 3}).status_code == 429
    assert ask(service, tokens["asks"], {**ASK, "n": 3, "stream": True}).status_code == 429
    assert ask(service, tokens["asks"], {**ASK, "n": 2}).status_code == 200


def test_what_one_choice_is_refused_for_comes_before_the_words_of_the_others():
    async def refused():
        raise Busy("no place")
        yield

    async def answered():
        yield Chunk("word", 1, 1, "stop")

    async def first():
        return await anext(as_they_come([answered(), answered(), refused(), answered()]))

    for _ in range(20):
        with pytest.raises(Busy):
            asyncio.run(first())


def test_log_probabilities_are_told_in_the_words_of_the_official_client(service, tokens, version):
    made = version()
    with running(create_app(service)) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key=tokens["asks"], max_retries=0)
        told = client.chat.completions.create(**ASK, logprobs=True, top_logprobs=2).choices[0].logprobs.content
        assert [(one.token, one.logprob) for one in told] == [(f"[{made.name}]", -0.5), (" ", -0.5), ("hello", -0.5)]
        assert bytes(told[2].bytes) == b"hello"
        assert [(one.token, one.logprob) for one in told[2].top_logprobs] == [("hello", -0.5), ("other", -2.0)]
        streamed = list(client.chat.completions.create(**ASK, logprobs=True, stream=True))
        found = [one for chunk in streamed for one in chunk.choices[0].logprobs.content]
        assert [(one.token, one.top_logprobs) for one in found] == [(one.token, []) for one in told]
        text = client.completions.create(model="mail", prompt="go on", logprobs=1).choices[0].logprobs
        assert "".join(text.tokens) == f"[{made.name}] go on"
        assert text.text_offset == [0, len(made.name) + 2, len(made.name) + 3]
        assert text.top_logprobs[2] == {"go on": -0.5}
        parts = [
            one.choices[0].logprobs
            for one in client.completions.create(model="mail", prompt="go on", logprobs=0, stream=True)
        ]
        assert [at for part in parts for at in part.text_offset] == text.text_offset
        assert client.chat.completions.create(**ASK).choices[0].logprobs is None
        client.close()


def test_log_probabilities_are_refused_where_the_engine_tells_none(service, tokens, version):
    version()
    service.engine.tells_tokens = False
    reply = ask(service, tokens["asks"], {**ASK, "logprobs": True})
    assert reply.status_code == 400 and "logprobs" in reply.json()["error"]["message"]
    assert not service.engine.asks


@pytest.mark.parametrize(
    ("fault", "status"), [(Busy("b"), 429), (TooLate("t"), 408), (Unavailable("u"), 503), (ZeroDivisionError("x"), 500)]
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_fault_has_its_status_and_tells_nothing_of_the_inside(service, tokens, version, fault, status, stream):
    version()
    service.engine.fault = fault
    reply = ask(service, tokens["asks"], {**ASK, "stream": stream})
    assert reply.status_code == status
    assert "Traceback" not in reply.text and "ZeroDivision" not in reply.text
    assert ("retry-after" in reply.headers) == (status in (429, 503))


@pytest.mark.parametrize(
    ("table", "path"),
    [
        ("access_keys", "/v1/chat/completions"),
        ("jobs", "/v1/chat/completions"),
        ("versions", "/admin/jobs/mail/versions/x/evaluate"),
    ],
)
def test_a_database_that_is_away_is_told_as_such_and_no_fault_of_the_request(
    service, tokens, version, kept, table, path
):
    version()
    with kept.engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE {table} RENAME TO away"))
    reply = ask(service, tokens["admin" if "admin" in path else "asks"], ASK if "v1" in path else {}, path)
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "unavailable"), reply.text
    assert reply.headers["retry-after"]


def test_a_disk_that_is_full_is_no_fault_of_the_request():
    full = OutputError("cannot write: no space left; free space")
    assert describe(full)[:2] == (503, "unavailable")


@pytest.mark.parametrize("kind", [Busy, Broken, Unavailable, TooLate, Unfit, OutputError, Conflict, NotAllowed])
def test_an_error_has_one_status_over_http_and_in_the_console(kind):
    assert status_of(kind("e")) == describe(kind("e"))[0]
    assert (status_of(Forbidden("nobody")), status_of(NotFound("no_page"))) == (403, 404)


def test_a_version_that_cannot_be_served_is_taken_back_and_the_next_question_is_answered(
    service, tokens, version, kept
):
    first, second = version(), version()
    service.engine.fault = Unfit("it answers as the base")
    assert ask(service, tokens["asks"]).status_code == 503
    service.engine.fault = None
    assert f"[{first.name}]" in ask(service, tokens["asks"]).text
    assert kept.history("mail")[-1].reason == "not applied"
    assert second.name not in ask(service, tokens["asks"]).text


def test_a_release_changed_while_many_ask_loses_no_request_and_mixes_none(service, tokens, version, kept):
    versions = [version(release=False) for _ in range(2)]
    kept.promote("mail", versions[0], "first", expected=None)
    service.engine.wait = 0.005

    async def run():
        async with client_of(service, tokens["asks"]) as client:
            asks = []
            for number in range(30):
                asks.append(asyncio.create_task(client.post("/v1/chat/completions", json=ASK)))
                if number % 10 == 9:
                    current = kept.current("mail")
                    kept.promote("mail", versions[number // 10 % 2], "again", expected=current.id)
                await asyncio.sleep(0.002)
            return await asyncio.gather(*asks)

    for reply in asyncio.run(run()):
        assert reply.status_code == 200
        name = reply.headers["x-prompt2lora-release"].split(":", 1)[1]
        assert reply.json()["choices"][0]["message"]["content"] == f"[{name}] hello"


def test_who_leaves_is_answered_no_more(service, tokens, version):
    version()
    service.engine.wait = 0.2
    with running(create_app(service)) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key=tokens["asks"], max_retries=0, timeout=0.1)
        for stream in (False, True):
            with pytest.raises(openai.APITimeoutError):
                list(client.chat.completions.create(**ASK, stream=stream))
        client.close()
    assert service.engine.left == 2


def test_one_job_takes_no_more_than_its_share(kept, tokens, version):
    version()
    version("notes")
    service = service_of(kept, per_job=2)
    service.engine.wait = 0.05

    async def run():
        async with client_of(service, tokens["asks"]) as client:
            many = [client.post("/v1/chat/completions", json=ASK) for _ in range(4)]
            other = client.post("/v1/chat/completions", json={**ASK, "model": "notes"})
            return [reply.status_code for reply in await asyncio.gather(*many, other)]

    *many, other = asyncio.run(run())
    assert sorted(many) == [200, 200, 429, 429]
    assert other == 200


class TalksMuch(GivesItselfAway):
    """An engine whose answers are larger than what a connection holds."""

    async def answer(self, version, ask):
        for number in range(1, 61):
            yield Chunk("x" * 200_000, 7, number, "stop" if number == 60 else None)


def test_whoever_stops_reading_takes_nobody_s_place(kept, tokens, version):
    version()
    service = service_of(kept, per_job=1)
    service.engine = TalksMuch()
    with (
        running(create_app(service)) as address,
        httpx.Client(base_url=address, headers=bearer(tokens["asks"])) as client,
        client.stream("POST", "/v1/chat/completions", json={**ASK, "stream": True}) as slow,
    ):
        time.sleep(0.3)  # all of it is made
        service.engine = GivesItselfAway()
        other = client.post("/v1/chat/completions", json=ASK)
        assert (slow.status_code, other.status_code) == (200, 200), other.text
        assert slow.read().endswith(b"data: [DONE]\n\n"), "and the slow one has all of it in the end"


def test_a_key_has_so_many_requests_a_minute_and_strangers_have_too(kept, tokens, version):
    version()
    service = service_of(kept, per_minute=3)

    async def run():
        async with client_of(service) as client:
            mine = [(await client.get("/v1/models", headers=bearer(tokens["asks"]))).status_code for _ in range(5)]
            strange = [(await client.get("/v1/models", headers=bearer(f"x{n}"))).status_code for n in range(5)]
            return mine, strange

    assert asyncio.run(run()) == ([200, 200, 200, 429, 429], [401, 401, 401, 429, 429])


def test_visitors_are_refilled_evenly_and_the_longest_unseen_is_forgotten():
    now = [0.0]
    visitors = RateLimiter(60, clock=lambda: now[0])
    for _ in range(60):
        visitors.take("a")
    with pytest.raises(Refused, match="60 requests"):
        visitors.take("a")
    now[0] = 1.0
    visitors.take("a")
    for number in range(20_000):
        visitors.take(f"v{number}")
    assert len(visitors._left) <= 10_000


def test_more_than_the_body_limit_is_refused_whether_announced_or_not(kept, tokens, version):
    version()
    service = service_of(kept, body=1000)

    async def chunks():
        for _ in range(100):
            yield b" " * 100

    async def run():
        async with client_of(service, tokens["asks"]) as client:
            announced = await client.post("/v1/chat/completions", content=b"x" * 1001)
            trickled = await client.post("/v1/chat/completions", content=chunks())
            return announced.status_code, trickled.status_code

    assert asyncio.run(run()) == (413, 413)


@pytest.mark.parametrize("announced", [True, False])
def test_a_form_of_the_console_that_is_too_large_is_refused_by_a_page(kept, tokens, announced):
    service, form = service_of(kept, body=1000), b"prompts=" + b"x" * 3000

    async def chunks():
        yield form

    async def run():
        headers = {"cookie": f"p2l_key={tokens['operator']}", "content-type": "application/x-www-form-urlencoded"}
        async with client_of(service) as client:
            return await client.post("/console/new", content=form if announced else chunks(), headers=headers)

    reply = asyncio.run(run())
    assert reply.status_code == 400 and reply.headers["content-type"].startswith("text/html")
    assert "That is too much at once" in reply.text and "<h1>" in reply.text


def test_the_deadline_is_what_the_client_says_within_what_the_service_allows(kept, tokens, version):
    version()
    service = service_of(kept, seconds=10.0)
    for given, seconds in (("2.5", 2.5), ("99", 10.0), (None, 10.0)):
        headers = {"x-prompt2lora-timeout": given} if given else {}
        assert ask(service, tokens["asks"], headers=headers).status_code == 200
        assert service.engine.asks[-1].seconds == seconds
    for wrong in ("nan", "-1", "soon", "inf"):
        assert ask(service, tokens["asks"], headers={"x-prompt2lora-timeout": wrong}).status_code == 400


def test_every_answer_has_the_headers_that_keep_a_browser_safe(service, tokens):
    async def run():
        async with client_of(service) as client:
            return [await client.get(path) for path in ("/healthz", "/v1/models", "/nothing", "/openapi.json")]

    for reply in asyncio.run(run()):
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in reply.headers["content-security-policy"]
        assert reply.headers["x-request-id"]
        assert "access-control-allow-origin" not in reply.headers


def test_another_host_is_refused_until_it_is_allowed(service, tokens):
    async def status(host, **options):
        async with client_of(service, **options) as client:
            return (await client.get("/healthz", headers={"host": host})).status_code

    assert asyncio.run(status("evil.example")) == 421
    assert asyncio.run(status("plant.example:8000", hosts=["plant.example"])) == 200
    assert asyncio.run(status("[::1]:8000")) == 200


def test_what_nobody_foresaw_is_counted_and_logged_as_500_and_has_the_headers(service, tokens, version, caplog):
    version()
    service.engine.fault = ZeroDivisionError("x")
    with caplog.at_level(logging.INFO, "prompt2lora.access"):
        reply = ask(service, tokens["asks"], headers={"x-request-id": "line-3.18"})
    assert (reply.status_code, reply.headers["x-request-id"]) == (500, "line-3.18")
    assert reply.headers["x-content-type-options"] == "nosniff" and reply.headers["cache-control"] == "no-store"
    line = json.loads(next(one.getMessage() for one in caplog.records if one.name == "prompt2lora.access"))
    assert line["status"] == 500 and "ZeroDivisionError" in caplog.text

    async def counted():
        async with client_of(service, tokens["viewer"]) as client:
            return (await client.get("/metrics")).text

    assert 'prompt2lora_requests_total{job="mail",status="500"' in asyncio.run(counted())


class BreaksOff(GivesItselfAway):
    """An engine that is gone in the middle of an answer."""

    async def answer(self, version, ask):
        yield Chunk("half", 7, 1, None)
        raise self.fault


@pytest.mark.parametrize("fault", [Broken("the server broke off an answer"), ZeroDivisionError("x")])
def test_a_stream_that_breaks_off_is_counted_and_logged_by_its_error(service, tokens, version, caplog, fault):
    version()
    service.engine = BreaksOff()
    service.engine.fault, status = fault, 502 if isinstance(fault, Broken) else 500

    async def run():
        async with client_of(service) as client:
            asked = {"json": {**ASK, "stream": True}, "headers": bearer(tokens["asks"])}
            with suppress(httpx.ReadError, ZeroDivisionError):
                assert (await client.post("/v1/chat/completions", **asked)).status_code == 200
            return (await client.get("/metrics", headers=bearer(tokens["viewer"]))).text

    with caplog.at_level(logging.INFO, "prompt2lora.access"):
        assert f'prompt2lora_requests_total{{job="mail",status="{status}"' in asyncio.run(run())
    line = json.loads(next(one.getMessage() for one in caplog.records if one.name == "prompt2lora.access"))
    assert line["status"] == status


def test_the_log_tells_every_request_without_texts_or_keys(service, tokens, version, caplog):
    made = version()
    with caplog.at_level(logging.INFO, "prompt2lora.access"):
        ask(service, tokens["asks"], headers={"x-request-id": "line-3.17"})
        ask(service, "p2l_" + "0" * 16 + "_" + "A" * 43)
        browse(service, tokens["viewer"])
        browse(service, tokens["viewer"], "/console/jobs/mail/try?text=hello")
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "prompt2lora.access"]
    assert [line["status"] for line in lines] == [200, 401, 200, 200]
    assert [line["route"] for line in lines[2:]] == ["/console", "/console/jobs/{job}/try"]
    assert [line["job"] for line in lines] == ["mail", "", "", "mail"]
    assert lines[2]["key"] == "the viewer"
    assert lines[0]["key"] == "line 3" and lines[0]["release"] == f"1:{made.name}"
    assert lines[0]["request"] == "line-3.17"
    assert "hello" not in caplog.text and "p2l_" not in caplog.text


def test_metrics_are_for_those_who_may_look_and_count_by_job_and_version(service, tokens, version):
    made = version()
    app_options = {}

    async def run():
        async with client_of(service, **app_options) as client:
            await client.post("/v1/chat/completions", json=ASK, headers=bearer(tokens["asks"]))
            refused = await client.get("/metrics", headers=bearer(tokens["asks"]))
            return refused.status_code, (await client.get("/metrics", headers=bearer(tokens["viewer"]))).text

    refused, text = asyncio.run(run())
    assert refused == 403
    assert f'prompt2lora_requests_total{{job="mail",status="200",version="{made.name}"}} 1.0' in text
    assert 'prompt2lora_tokens_total{job="mail",kind="completion"} 3.0' in text
    assert "prompt2lora_engine_requests_running 0.0" in text


def test_labels_do_not_grow_without_bound():
    meters = ServiceMetrics(dict)
    for number in range(3 * MOST_LABELS):
        meters.count(RequestRecord("r", job=f"job{number}", status=200), 0.1)
    text = meters.text().decode()
    assert text.count("prompt2lora_requests_total{") <= MOST_LABELS + 1
    assert f'job="{OTHER}"' in text


def test_readiness_tells_of_a_dead_engine_and_health_of_a_living_process(service, tokens):
    async def run():
        async with client_of(service) as client:
            before = await client.get("/readyz")
            service.engine.fault = Unavailable("dead")
            return before, await client.get("/readyz"), await client.get("/healthz")

    before, after, health = asyncio.run(run())
    assert (before.status_code, after.status_code, health.status_code) == (200, 503, 200)
    assert after.json() == {"ready": False, "engine": False, "registry": True}


def test_the_end_of_the_service_finishes_what_runs(service, tokens, version):
    made = version()
    service.engine.wait = 0.1
    app = create_app(service)
    with running(app) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key=tokens["asks"], max_retries=0)
        stream = client.chat.completions.create(**ASK, stream=True)
        first = next(iter(stream))
    assert first.choices[0].delta.content == f"[{made.name}]"
    assert "".join(chunk.choices[0].delta.content for chunk in stream) == " hello"
    client.close()
    assert service.engine.closed > 0


@pytest.mark.parametrize("reached", [True, False])
def test_every_round_takes_altered_files_back_even_if_the_engine_cannot_be_reached(service, version, kept, reached):
    async def reconcile(released):
        if not reached:
            raise Unavailable("no replica answers")

    service.engine.reconcile = reconcile
    made = version()
    file = kept.store.path(made.adapter) / "adapter_model.safetensors"
    file.chmod(0o644)
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)

    async def run():
        app = create_app(service, round_seconds=0.01)
        async with app.router.lifespan_context(app):
            for _ in range(200):
                await asyncio.sleep(0.01)
                if kept.current("mail").version is None:
                    return True
        return False

    assert asyncio.run(run())
    assert kept.history("mail")[-1].reason == "altered files"


def test_a_release_whose_alarm_went_up_in_vain_is_taken_back_by_the_next_round(
    service, kept, version, tmp_path, monkeypatch
):
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    version(), version()
    monitor = service.plant.monitor()
    watch = monitor.watch("mail", {"canary": 0.1})
    watch.crossed = ["canary", "evidence 103 against a rate of at most 0.100"]
    monitor._keep(watch)  # as it is when the rollback failed
    service.check_releases()
    assert kept.current("mail").version.number == 1
    assert kept.history("mail")[-1].reason == watch.crossed[1]


def test_the_approver_is_not_the_maker(service, tokens, kept, tmp_path):
    access = service.access
    maker = access.find(tokens["admin"]).name
    own = service.plant.as_actor(maker).registry
    made = own.add_version("mail", adapter_folder(tmp_path / "a", "a"), FROM)
    passes(own, made, GOOD)
    body = {"version": made.name, "reason": "good"}
    mine = ask(service, tokens["admin"], body, "/admin/jobs/mail/promote")
    assert mine.status_code == 400 and "second person" in mine.text
    other = ask(service, tokens["approver"], body, "/admin/jobs/mail/promote")
    assert other.status_code == 200 and other.json()["actor"] == "the approver"
    assert kept.audit_lines()[-1].actor == "the approver"


def test_the_chunks_of_an_answer_are_of_one_moment(service, tokens, version, monkeypatch):
    version()
    monkeypatch.setattr(openai_replies, "time", SimpleNamespace(time=count(1000).__next__))
    reply = ask(service, tokens["asks"], {**ASK, "stream": True})
    assert {json.loads(line[6:])["created"] for line in reply.text.split("\n\n") if line.startswith("data: {")} == {
        1000
    }


@pytest.mark.parametrize(("prompt", "status"), [(["hello"], 200), (["a", "b"], 400), ([], 400), ([[1, 2]], 400)])
def test_one_text_in_a_list_is_gone_on_with_and_others_are_refused_by_name(service, tokens, version, prompt, status):
    version()
    reply = ask(service, tokens["asks"], {"model": "mail", "prompt": prompt}, "/v1/completions")
    assert reply.status_code == status
    assert ("hello" if status == 200 else "prompt") in reply.text


def test_whatever_is_only_looked_at_has_a_head(service, tokens, version):
    version()

    async def run():
        async with client_of(service, tokens["asks"]) as client:
            return [await client.head(path) for path in ("/healthz", "/readyz", "/v1/models", "/v1/models/mail")]

    assert [(reply.status_code, reply.content) for reply in asyncio.run(run())] == [(200, b"")] * 4


def test_what_the_official_client_appends_of_our_own_reply_is_taken(service, tokens, version):
    made = version()
    with running(create_app(service)) as address:
        client = openai.OpenAI(base_url=f"{address}/v1", api_key=tokens["asks"], max_retries=0)
        said = client.chat.completions.create(**ASK).choices[0].message
        for message in (said, said.model_dump(), said.to_dict()):
            turns = [*ASK["messages"], message, {"role": "user", "content": "and then?"}]
            again = client.chat.completions.create(model="mail", messages=turns)
            assert again.choices[0].message.content == f"[{made.name}] and then?"
            assert [one.role for one in service.engine.asks[-1].messages] == ["user", "assistant", "user"]
        client.close()


NEUTRAL = {
    "tools": [], "logit_bias": {}, "store": False, "metadata": {}, "parallel_tool_calls": False, "n": 1,
    "functions": [], "tool_choice": "none", "top_logprobs": 0, "logprobs": False, "modalities": ["text"],
    "presence_penalty": 0.0, "frequency_penalty": 0.0, "stop": [], "service_tier": "auto", "prediction": None,
    "reasoning_effort": None, "response_format": {"type": "text"}, "stream_options": None, "audio": None,
    "safety_identifier": "x", "prompt_cache_key": "x",
}  # fmt: skip
TELLING = {
    "tools": [{"type": "function", "function": {"name": "f"}}], "logit_bias": {"5": 100}, "store": True,
    "metadata": {"a": "b"}, "n": 9, "tool_choice": "required", "modalities": ["audio"], "presence_penalty": 0.5,
    "reasoning_effort": "high", "top_logprobs": 21, "service_tier": "flex",
}  # fmt: skip


def test_a_field_that_asks_for_nothing_is_taken_and_refused_by_name_when_it_asks(service, tokens, version):
    version()

    async def replies(fields):
        async with client_of(service, tokens["asks"]) as client:
            return {
                field: await client.post("/v1/chat/completions", json={**ASK, field: value})
                for field, value in fields.items()
            }

    taken, refused = asyncio.run(replies(NEUTRAL)), asyncio.run(replies(TELLING))
    assert {field: reply.text for field, reply in taken.items() if reply.status_code != 200} == {}
    assert all(one == service.engine.asks[0] for one in service.engine.asks)
    assert len(service.engine.asks) == len(NEUTRAL)
    for field, reply in refused.items():
        assert reply.status_code == 400 and field in reply.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_is_set_up_for_other_versions_costs_none_its_release(service, tokens, version, kept, stream):
    version()
    second = version()
    service.engine.fault = Misconfigured("it has rank 16 and this engine was started for rank 8; start it again")
    reply = ask(service, tokens["asks"], {**ASK, "stream": stream})
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "misconfigured")
    assert kept.current("mail").version == second
    service.engine.fault = Broken("half an answer")
    assert ask(service, tokens["asks"]).status_code == 502
