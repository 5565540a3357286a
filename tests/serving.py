"""A service to test against: a registry with jobs, keys of every role, and an engine that gives itself away."""

import asyncio
import threading
import time
from contextlib import contextmanager

import httpx
import uvicorn

from prompt2lora.custody.access import ROLES, Access
from prompt2lora.custody.evaluations import Evaluation, Metrics
from prompt2lora.custody.gate import Policy, judge
from prompt2lora.plant.plant import Plant
from prompt2lora.serving.job_queue import JobQueue
from prompt2lora.serving.protocol import Chunk, Token
from prompt2lora.serving.service import Limits, Service
from prompt2lora.web import create_app


class GivesItselfAway:
    """Answers with the name of the version it was given and the question; `wait` holds it up, `fault` breaks it."""

    base = "b"
    tells_tokens = True

    def __init__(self):
        self.wait, self.fault, self.left, self.asks = 0.0, None, 0, []

    async def answer(self, version, ask):
        self.asks.append(ask)
        if self.fault:
            raise self.fault
        said = ask.messages[-1].content if ask.messages else ask.text
        words = [f"[{version.name if version else 'base'}]", " ", said]
        told = ask.logprobs is not None
        try:
            for number, word in enumerate(words, 1):
                await asyncio.sleep(self.wait)
                tokens = (Token(word, -0.5, ((word, -0.5), ("other", -2.0))[: ask.logprobs]),) if told else ()
                ended = number == len(words)
                yield Chunk(word, 7, number, "stop" if ended else None, tokens + (Token("", -0.1),) * (told and ended))
        except (asyncio.CancelledError, GeneratorExit):
            self.left += 1
            raise

    async def reconcile(self, versions):
        pass

    async def ready(self):
        return self.fault is None

    def stats(self):
        return {"requests_running": 0.0}

    async def close(self, seconds):
        self.closed = seconds


def service_of(registry, **limits):
    return Service(Plant(registry), GivesItselfAway(), JobQueue(registry.clock), Limits(**limits))


def keys_of(registry):
    """A token of every role, one that asks, and one that is revoked."""
    access = Access(registry)
    tokens = {role: access.add(f"the {role}", role=role)[1] for role in ROLES}
    tokens["asks"] = access.add("line 3", infer=True)[1]
    tokens["revoked"] = access.add("gone", role="admin")[1]
    access.revoke("gone")
    return tokens


def passes(registry, version, good):
    measured = Evaluation(Metrics.read(good))
    number = registry.add_evaluation(version, measured)
    registry.add_verdict(version, number, judge(measured.metrics, Policy()), Policy())


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def app_of(service, **options):
    """The application of a service, one for all that a test asks of it: making it takes longer than a request."""
    made, known = vars(service).setdefault("made for tests", {}), repr(options)
    if known not in made:
        made[known] = create_app(service, **options)
    return made[known]


def client_of(service, token=None, **options):
    transport = httpx.ASGITransport(app_of(service, **options), raise_app_exceptions=False)
    headers = bearer(token) if token else {}
    return httpx.AsyncClient(transport=transport, base_url="http://localhost", headers=headers)


@contextmanager
def running(app):
    """A real server in a thread: its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://localhost:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def ask(service, token):
    """What the job mail answers."""

    async def asked():
        async with client_of(service, token) as client:
            body = {"model": "mail", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
            return await client.post("/v1/chat/completions", json=body)

    return asyncio.run(asked())
