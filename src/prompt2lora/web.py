"""The service over HTTP: one application out of the interface for tools, management, and what operators look at.

In: a service. Out: an ASGI application. It owns the service's end: when it shuts down, running requests are
finished or, at last, refused, and long work is left to the next start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from prompt2lora import __version__
from prompt2lora.console import routing
from prompt2lora.console.context import ROOT
from prompt2lora.custody.access import LOOK
from prompt2lora.errors import Prompt2LoraError
from prompt2lora.serving import answered_files, management, openai_api
from prompt2lora.serving.guard import Authenticator, RequestGuard
from prompt2lora.serving.metrics import ServiceMetrics
from prompt2lora.serving.refusals import ERRORS, add_handlers, failure_schemas
from prompt2lora.serving.service import Service

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
GRACE = 30.0  # seconds for what runs when the service ends
_ROUND = 30.0  # seconds between two looks at the engine and at the files of what answers
_log = logging.getLogger(__name__)


def create_app(service: Service, *, hosts: Sequence[str] = (), round_seconds: float = _ROUND) -> FastAPI:
    """`hosts` are names, beside loopback, under which the service may be asked."""
    metrics, gate = ServiceMetrics(service.engine.stats), Authenticator(service)

    @asynccontextmanager
    async def living(_: FastAPI) -> AsyncGenerator[None]:
        service.loop = asyncio.get_running_loop()
        await asyncio.to_thread(service.go_on)
        rounds = asyncio.create_task(_rounds(service, round_seconds))
        try:
            yield
        finally:
            rounds.cancel()
            with suppress(asyncio.CancelledError):
                await rounds
            await asyncio.to_thread(service.queue.leave)
            await service.engine.close(GRACE)
            await asyncio.to_thread(service.queue.close)

    app = FastAPI(
        title="prompt2lora",
        version=__version__,
        description="Jobs answered by generated adapters on one base model.",
        docs_url=None,
        redoc_url=None,
        lifespan=living,
    )
    app.add_middleware(RequestGuard, body=service.limits.body, hosts=[*LOOPBACK, *hosts], metrics=metrics, forms=ROOT)
    add_handlers(app)
    app.include_router(openai_api.router(service, gate))
    app.include_router(management.router(service, gate))
    app.include_router(routing.router(service, metrics.text))
    _operations(app, service, metrics, gate)
    _tell_the_truth(app)
    return app


def _operations(app: FastAPI, service: Service, metrics: ServiceMetrics, gate: Authenticator) -> None:
    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz", tags=["operations"], responses={421: ERRORS[421]})
    async def healthz() -> dict[str, str]:
        """The process is alive."""
        return {"status": "alive"}

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", tags=["operations"], responses={421: ERRORS[421], 503: {"description": "not ready"}})
    async def readyz() -> JSONResponse:
        """The engine answers and the registry can be read."""
        engine = await service.engine.ready()
        try:
            await asyncio.to_thread(service.plant.registry.jobs)
            registry = True
        except Prompt2LoraError:
            registry = False
        ready = engine and registry
        return JSONResponse({"ready": ready, "engine": engine, "registry": registry}, 200 if ready else 503)

    @app.get(
        "/metrics",
        tags=["operations"],
        dependencies=[Depends(gate.managing(LOOK))],
        response_class=PlainTextResponse,
        responses={status: ERRORS[status] for status in (401, 403, 421, 429)},
    )
    def prometheus() -> Response:
        """Prometheus text; needs the key of a viewer."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/", include_in_schema=False)
    async def front() -> RedirectResponse:
        return RedirectResponse("/console")


async def _rounds(service: Service, seconds: float) -> None:
    """Again and again: every replica holds what is released, which lies in the store as it was signed and had no alarm;
    canaries that are due are asked again; what another process left unfinished goes on; old answered files are
    deleted. Where one of these fails, the others are done all the same."""

    async def reconcile() -> None:
        await service.engine.reconcile(await asyncio.to_thread(service.released))

    def forget() -> None:
        answered_files.forget(service.plant.registry.clock())

    blocking = (service.check_releases, service.replay_due, service.go_on, forget)
    parts: list[Callable[[], Awaitable[None]]] = [reconcile, *(partial(asyncio.to_thread, one) for one in blocking)]
    while True:
        await asyncio.sleep(seconds)
        for part in parts:
            try:
                await part()
            except Prompt2LoraError as error:
                _log.error("%s", error)
            except Exception:  # a database that is away for a moment must not end the rounds
                _log.exception("a part of a round failed; the next one comes in %g seconds", seconds)


def _tell_the_truth(app: FastAPI) -> None:
    """The document says 400 for a wrong request, which is what comes, and names the key that is wanted."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema:
            return app.openapi_schema
        found = original()
        components = found.setdefault("components", {})
        components.setdefault("schemas", {}).update(failure_schemas())
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        for path, operations in found["paths"].items():
            for operation in operations.values():
                operation["responses"].pop("422", None)
                if path not in ("/healthz", "/readyz"):
                    operation["security"] = [{"key": []}]
        for name in ("HTTPValidationError", "ValidationError"):
            components.get("schemas", {}).pop(name, None)
        return found

    app.openapi = openapi  # type: ignore[method-assign]
