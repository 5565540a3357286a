"""What guards the service: who may call it, how often, with how much, and what is logged of it.

In: every HTTP request. Out: the same request with an id, or a refusal in the form that all errors have;
security headers on every reply; one line in the log. It never sees texts, and never writes keys.
"""

from __future__ import annotations

import json
import logging
import math
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from prompt2lora.custody.access import Key
from prompt2lora.serving.metrics import RequestRecord, ServiceMetrics
from prompt2lora.serving.service import Service

_log = logging.getLogger("prompt2lora.access")
_REQUEST_ID = re.compile(r"[\w.-]{1,64}")
_MOST_CLIENTS = 10_000
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Refused(HTTPException):
    """A request that is not answered; becomes the one form of errors, which is OpenAI's.

    An HTTPException, because FastAPI lets no other one through while it reads a body.
    """

    def __init__(self, status: int, message: str, code: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, message, headers)
        self.code = code

    def response(self) -> JSONResponse:
        body = failure(self.status_code, self.detail, self.code)
        return JSONResponse(body, self.status_code, headers=dict(self.headers or {}))


def failure(status: int, message: str, code: str) -> dict[str, Any]:
    kind = "invalid_request_error" if status < 500 and status != 429 else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


class RateLimiter:
    """At most so many requests a minute from each client, evenly refilled; the longest unseen is forgotten first."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = per_minute, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> None:
        """Raises Refused if a client has none left."""
        now = self._clock()
        left, at = self._left.pop(client, (float(self._most), now))
        left = min(self._most, left + (now - at) * self._most / 60)
        self._left[client] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > _MOST_CLIENTS:
            self._left.popitem(last=False)
        if left < 1:
            wait = max(1, round((1 - left) * 60 / self._most))
            message = f"more than {self._most} requests a minute; wait {wait} s"
            raise Refused(429, message, "rate_limit_exceeded", {"Retry-After": str(wait)})


class RequestGuard:
    """Middleware around the whole application; what answers below `forms` limits bodies itself, in its own words."""

    def __init__(self, app: ASGIApp, *, body: int, hosts: Sequence[str], metrics: ServiceMetrics, forms: str) -> None:
        self._app, self._body, self._metrics, self._forms = app, body, metrics, f"{forms}/"
        self._hosts = {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        record = RequestRecord(given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8))
        scope.setdefault("state", {})["record"] = record
        most = math.inf if scope["path"].startswith(self._forms) else self._body
        began, status, taken = time.monotonic(), 0, 0

        async def send_guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                out = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    out.setdefault(name, value)
                out.setdefault("Cache-Control", "no-store")
                out["X-Request-Id"] = record.request
            await send(message)

        async def receive_limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > most:
                raise self._too_large()
            return message

        self._metrics.running.inc()
        try:
            self._check(headers, most)
            await self._app(scope, receive_limited, send_guarded)
        except Refused as refused:
            if status:
                raise
            await refused.response()(scope, receive, send_guarded)
        except Exception as error:  # here and not outside, where the reply would have no headers
            if status:
                record.status = 500
                raise
            reply = await scope["app"].exception_handlers[Exception](Request(scope), error)
            await reply(scope, receive, send_guarded)
        finally:
            self._metrics.running.dec()
            seconds = time.monotonic() - began
            record.status = record.status or status
            self._metrics.count(record, seconds)
            _log.info("%s", json.dumps(_line(scope, record, seconds), ensure_ascii=False))

    def _check(self, headers: Headers, most: float) -> None:
        host = headers.get("host", "").rsplit("@", 1)[-1].lower()
        name = host[: host.rfind(":")] if ":" in host.rsplit("]", 1)[-1] else host
        if name not in self._hosts and "*" not in self._hosts:
            raise Refused(
                421,
                f"this service does not answer for the host {name[:80]!r}; start it with --allow-host",
                "unknown_host",
            )
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > most:
            raise self._too_large()

    def _too_large(self) -> Refused:
        return Refused(413, f"a request may have at most {self._body} bytes; send less", "too_large")


def _line(scope: Scope, record: RequestRecord, seconds: float) -> dict[str, Any]:
    """What is logged of a request: no text, no query, no key."""
    route = scope.get("route")
    return {
        "request": record.request,
        "method": scope["method"],
        "route": getattr(route, "path", ""),
        "status": record.status,
        "seconds": round(seconds, 4),
        "key": record.key,
        "job": record.job or scope.get("path_params", {}).get("job", "")[:80],
        "release": record.release,
        "prompt_tokens": record.prompt_tokens,
        "completion_tokens": record.completion_tokens,
    }


def record_of(request: Request) -> RequestRecord:
    found: RequestRecord = request.scope["state"]["record"]
    return found


class Authenticator:
    """Finds whose key a request shows, and refuses whoever may not do what it asks."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._limiter = RateLimiter(service.limits.per_minute)

    def key(self, request: Request) -> Key:
        """The key that a request shows. Raises Refused without a valid one."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        key = self._service.access.find(token.strip()) if scheme.lower() == "bearer" else None
        if key is None:
            self._limiter.take(f"address {request.client.host if request.client else ''}")
            message = "a key is required (Authorization: Bearer p2l_...); an admin makes one: prompt2lora keys add"
            raise Refused(401, message, "invalid_api_key", {"WWW-Authenticate": "Bearer"})
        record_of(request).key = key.name
        self._limiter.take(key.id)
        return key

    def inference(self, request: Request) -> Key:
        """A key for inference."""
        key = self.key(request)
        if not key.infer:
            raise Refused(403, f"the key {key.name} is for management; use one for inference", "forbidden")
        return key

    def managing(self, verb: str) -> Callable[[Request], Key]:
        """A key whose role allows the verb."""

        def check(request: Request) -> Key:
            key = self.key(request)
            if not key.may(verb):
                raise Refused(403, f"the key {key.name} ({key.role or 'inference'}) may not {verb}", "forbidden")
            return key

        return check
