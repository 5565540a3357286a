"""The JSON of answers and models, as OpenAI documents it.

In: a release, and chunks of its answers (the choices of a reply). Out: one completion, or the events of a stream. It
knows no engine and no quota.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prompt2lora.custody.releases import Release
from prompt2lora.serving.openai_requests import CompletionFields
from prompt2lora.serving.protocol import Chunk, Token


def fingerprint(release: Release) -> str:
    """Which release answered, in one word."""
    return f"{release.id}:{release.name}"


class Reply:
    """The JSON of one kind of reply, complete or in chunks.

    number    of the request
    tells     whether the tokens of the answer are told
    """

    def __init__(self, kind: str, body: CompletionFields, number: str, *, tells: bool) -> None:
        self.kind, self.job, self.choices = kind, body.model, body.n or 1
        self.chat = kind == "chat.completion"
        self.usage = bool(body.stream_options and body.stream_options.include_usage)
        self.id = f"{'chatcmpl' if self.chat else 'cmpl'}-{number}"
        self.tells, self.created = tells, int(time.time())
        self._lasts: dict[int, Chunk] = {}  # of every choice
        self._offsets = Counter[int]()  # characters of tokens that were told of every choice

    def frame(self, release: Release, choices: list[dict[str, Any]], kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.job,
            "system_fingerprint": fingerprint(release),
            "choices": choices,
        }

    def complete(self, release: Release, answers: Mapping[int, Chunk]) -> dict[str, Any]:
        choices = []
        for index, whole in sorted(answers.items()):
            message = {"role": "assistant", "content": whole.text, "refusal": None}
            said: dict[str, Any] = {"message": message} if self.chat else {"text": whole.text}
            choices.append(self._choice(index, said, whole))
        return {**self.frame(release, choices, self.kind), "usage": _usage(answers.values())}

    def chunks(self, release: Release, index: int, chunk: Chunk) -> Iterator[dict[str, Any]]:
        """The events for a chunk of the choice at `index`; usage follows the last chunk of all."""
        if self.chat:
            kind, role = "chat.completion.chunk", {} if index in self._lasts else {"role": "assistant"}
            said: dict[str, Any] = {"delta": {**role, "content": chunk.text}}
        else:
            kind, said = "text_completion", {"text": chunk.text}
        self._lasts[index] = chunk
        usage = {"usage": None} if self.usage else {}
        yield {**self.frame(release, [self._choice(index, said, chunk)], kind), **usage}
        if self.usage and sum(1 for last in self._lasts.values() if last.finish_reason) == self.choices:
            yield {**self.frame(release, [], kind), "usage": _usage(self._lasts.values())}

    def _choice(self, index: int, said: dict[str, Any], chunk: Chunk) -> dict[str, Any]:
        tokens = [token for token in chunk.tokens if token.text]  # without the one that ends an answer
        told = _chat_logprobs(tokens) if self.chat else _text_logprobs(tokens, self._offsets[index])
        self._offsets[index] += sum(len(token.text) for token in tokens)
        return {"index": index, **said, "logprobs": told if self.tells else None, "finish_reason": chunk.finish_reason}


def _chat_logprobs(tokens: Sequence[Token]) -> dict[str, Any]:
    content = [
        {
            **_logprob(token.text, token.log_probability),
            "top_logprobs": [_logprob(text, likelihood) for text, likelihood in token.likeliest],
        }
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def _logprob(text: str, likelihood: float) -> dict[str, Any]:
    """The bytes of a part of a character are not known here."""
    return {"token": text, "logprob": likelihood, "bytes": None if "\ufffd" in text else list(text.encode())}


def _text_logprobs(tokens: Sequence[Token], start: int) -> dict[str, Any]:
    """`start` is where the first of them begins in the text."""
    return {
        "tokens": [token.text for token in tokens],
        "token_logprobs": [token.log_probability for token in tokens],
        "top_logprobs": [dict(token.likeliest) for token in tokens],
        "text_offset": list(accumulate((len(token.text) for token in tokens), initial=start))[:-1],
    }


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


def _usage(answers: Iterable[Chunk]) -> dict[str, Any]:
    """Of all choices together: the prompt counts once, and as read before counts what was so for every choice."""
    lasts = list(answers)
    prompt, written = lasts[0].prompt_tokens, sum(last.completion_tokens for last in lasts)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": written,
        "total_tokens": prompt + written,
        "prompt_tokens_details": {"cached_tokens": min(last.cached_tokens for last in lasts)},
    }


def as_event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
