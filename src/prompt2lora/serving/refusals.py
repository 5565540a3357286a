"""Every error -> its HTTP status and code, once for all routes and all pages."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from prompt2lora.errors import (
    Broken,
    Busy,
    Conflict,
    Misconfigured,
    NotAllowed,
    OutputError,
    Prompt2LoraError,
    TooLate,
    Unavailable,
    Unfit,
    UsageError,
)
from prompt2lora.serving.guard import Refused

_log = logging.getLogger(__name__)
_STATUS: tuple[tuple[type[Prompt2LoraError], int, str], ...] = (
    (NotAllowed, 403, "forbidden"),
    (OutputError, 503, "unavailable"),  # the disk is full: the request is not wrong
    (UsageError, 400, "invalid_request"),
    (Conflict, 409, "conflict"),
    (Busy, 429, "busy"),
    (TooLate, 408, "too_late"),
    (Unfit, 503, "unfit_version"),
    (Misconfigured, 503, "misconfigured"),
    (Broken, 502, "broken_answer"),
    (Unavailable, 503, "unavailable"),
    (Prompt2LoraError, 500, "failed"),
)
_GONE = 499  # nobody is left to read it; for the log


class Cause(BaseModel):
    message: str
    type: str
    param: str | None
    code: str


class Failure(BaseModel):
    error: Cause


_SCHEMAS = "#/components/schemas/"
# By reference: FastAPI would build the model anew for every status of every route, most of the time that an app takes.
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": {"$ref": f"{_SCHEMAS}Failure"}}}}
    for status, text in {
        400: "the request is wrong",
        401: "no key, or not a valid one",
        403: "the key does not allow this",
        404: "not found",
        405: "method not allowed",
        408: "no answer within the time allowed",
        409: "somebody else has changed it in the meantime",
        413: "the request is too large",
        421: "the request is for another host",
        429: "too many requests at once, or in a minute",
        500: "it failed on our side",
        502: "a server behind this one gave no answer that can be read",
        503: "not available now",
    }.items()
}


def failure_schemas() -> dict[str, Any]:
    """What `ERRORS` refers to, as an OpenAPI document has it among its components."""
    schema = Failure.model_json_schema(ref_template=f"{_SCHEMAS}{{model}}")
    return {**schema.pop("$defs", {}), "Failure": schema}


def describe(error: Prompt2LoraError) -> tuple[int, str, dict[str, str]]:
    """(status, code, headers) of an error."""
    status, code = next((status, code) for kind, status, code in _STATUS if isinstance(error, kind))
    return status, code, {"Retry-After": "5"} if status in (429, 502, 503) else {}


def add_handlers(app: FastAPI) -> None:
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return error.response()

    async def known(_: Request, error: Prompt2LoraError) -> JSONResponse:
        status, code, headers = describe(error)
        if status == 500:
            _log.error("%s", error)
        return Refused(status, str(error), code, headers).response()

    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
        return Refused(400, f"{place[:120]}: {first['msg'][:300]}", "invalid_request").response()

    async def missing(_: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
        return Refused(error.status_code, str(error.detail), code, dict(error.headers or {})).response()

    async def gone(_: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=_GONE)

    async def failed(_: Request, error: Exception) -> JSONResponse:
        _log.error("a request failed", exc_info=error)
        return Refused(500, "this failed for a reason that is in the log; nothing was changed", "failed").response()

    handlers: dict[Any, Any] = {
        Refused: refused,
        Prompt2LoraError: known,
        RequestValidationError: invalid,
        HTTPException: missing,
        ClientDisconnect: gone,
        Exception: failed,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
