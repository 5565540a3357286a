"""The JSON of answers and models, as OpenAI documents it.

In: a release and chunks of an answer. Out: one completion, or the events of a stream. It knows no engine and no quota.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from prompt2lora.custody.releases import Release
from prompt2lora.serving.openai_requests import CompletionFields
from prompt2lora.serving.protocol import Chunk


def fingerprint(release: Release) -> str:
    """Which release answered, in one word."""
    return f"{release.id}:{release.name}"


class Reply:
    """The JSON of one kind of reply, complete or in chunks; `number` is the request's."""

    def __init__(self, kind: str, body: CompletionFields, number: str) -> None:
        self.kind, self.job = kind, body.model
        self.usage = bool(body.stream_options and body.stream_options.include_usage)
        self.id = f"{'chatcmpl' if kind == 'chat.completion' else 'cmpl'}-{number}"
        self.begun, self.created = False, int(time.time())

    def frame(self, release: Release, choices: list[dict[str, Any]], kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.job,
            "system_fingerprint": fingerprint(release),
            "choices": choices,
        }

    def complete(self, release: Release, text: str, last: Chunk) -> dict[str, Any]:
        body = (
            {"message": {"role": "assistant", "content": text, "refusal": None}}
            if self.kind == "chat.completion"
            else {"text": text}
        )
        choice = {"index": 0, **body, "logprobs": None, "finish_reason": last.finish_reason}
        return {**self.frame(release, [choice], self.kind), "usage": _usage(last)}

    def chunks(self, release: Release, chunk: Chunk) -> Iterator[dict[str, Any]]:
        if self.kind == "chat.completion":
            kind, key = "chat.completion.chunk", "delta"
            body: Any = {**({} if self.begun else {"role": "assistant"}), "content": chunk.text}
            self.begun = True
        else:
            kind, key, body = "text_completion", "text", chunk.text
        choice = {"index": 0, key: body, "logprobs": None, "finish_reason": chunk.finish_reason}
        usage = {"usage": None} if self.usage else {}
        yield {**self.frame(release, [choice], kind), **usage}
        if chunk.finish_reason and self.usage:
            yield {**self.frame(release, [], kind), "usage": _usage(chunk)}


def as_model(release: Release, base: str, *, told: bool | None) -> dict[str, Any]:
    """`base` is the name of the base model that the service holds; `told` whether the instruction is in the weights
    (None: nobody can tell)."""
    return {
        "id": release.job,
        "object": "model",
        "created": 0,
        "owned_by": "prompt2lora",
        "release": fingerprint(release),
        "base": base,
        "instruction_in_weights": told,
    }


def _usage(chunk: Chunk) -> dict[str, Any]:
    return {
        "prompt_tokens": chunk.prompt_tokens,
        "completion_tokens": chunk.completion_tokens,
        "total_tokens": chunk.prompt_tokens + chunk.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": chunk.cached_tokens},
    }


def as_event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
