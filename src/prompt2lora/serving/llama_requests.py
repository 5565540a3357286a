"""A request in the words of llama.cpp's server, and the chunks of its answer.

In: token ids, a request, the events of a stream. Out: a body as JSON, chunks. It knows no process and no adapter.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import httpx

from prompt2lora.errors import Broken, Misconfigured, UsageError
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.ground.bounded_grammar import Followed, on_one_line
from prompt2lora.serving.event_stream import events
from prompt2lora.serving.protocol import LENGTH, STOP, Chunk, GenerationRequest


def body(ids: Sequence[int], request: GenerationRequest) -> dict[str, Any]:
    """A request in the words of llama.cpp's server, without what that does by default and nobody asked for."""
    sampling = request.sampling
    body = {
        "prompt": list(ids),
        "n_predict": sampling.max_new_tokens,
        "stream": True,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": 0,
        "min_p": 0.0,
        "samplers": ["temperature", "top_p"],
        "stop": list(sampling.stop),
    }
    if sampling.seed is not None:
        body["seed"] = sampling.seed % 2**32
    return {**body, **(_held(request.form) if request.form else {})}


def _held(form: AnswerForm) -> dict[str, Any]:
    """A form as llama.cpp takes it. Raises Misconfigured for one that it does not."""
    if form.kind == "choices":
        return {"grammar": "root ::= " + " | ".join(json.dumps(choice, ensure_ascii=False) for choice in form.choices)}
    if form.kind == "schema":
        return {"json_schema": on_one_line(json.loads(form.text))}
    raise Misconfigured(
        f"llama.cpp holds answers to choices and to JSON, not to a {form.kind}; serve this job with --engine embedded"
    )


async def chunks(client: httpx.AsyncClient, asked: dict[str, Any]) -> AsyncGenerator[Chunk]:
    """The chunks of one answer. Raises httpx.TransportError if the server is gone.

    Of a schema that the server's own llguidance does not take, its log alone tells, and the answer is free ("Error
    Handling" in llama.cpp's docs/llguidance.md; `format: uri` in xllamacpp 2026.10.11549). Raises Misconfigured then.
    """
    form = Followed(asked["json_schema"]) if "json_schema" in asked else None
    async with client.stream("POST", "/completion", json=asked) as reply:
        if reply.status_code != 200:
            said = (await reply.aread()).decode(errors="replace")[:200]
            if reply.status_code < 500:
                raise UsageError(f"the request was refused by llama.cpp ({said}); shorten or correct it")
            raise Broken(f"llama.cpp's server failed ({said}); try again")
        async with aclosing(events(reply.aiter_bytes())) as told:
            async for data in told:
                chunk = _chunk(json.loads(data))
                if form and not form.takes(chunk.text):
                    raise Misconfigured(
                        "llama.cpp does not hold answers to this JSON schema; serve this job with --engine embedded"
                    )
                yield chunk
                if chunk.finish_reason:
                    return
    raise httpx.RemoteProtocolError("the stream ended without a reason")


def _chunk(event: dict[str, Any]) -> Chunk:
    if "error" in event:
        raise Broken(f"llama.cpp's server failed ({str(event['error'])[:200]}); try again")
    ends = (LENGTH if event["stop_type"] == "limit" else STOP) if event["stop"] else None
    cached = event.get("timings", {}).get("cache_n", 0)
    return Chunk(event["content"], event["tokens_evaluated"], event["tokens_predicted"], ends, cached_tokens=cached)
