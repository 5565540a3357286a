"""A llama.cpp server by what it holds: which version is which of its adapters, and which of them do not answer there.

In: a process, the names of versions. Out: whether each of them moves the logits. It knows no registry and no request.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cached_property

import httpx

from prompt2lora.base.chat import ChatFormat
from prompt2lora.custody.versions import Version
from prompt2lora.errors import UsageError
from prompt2lora.serving.llama_process import LlamaProcess

_PROBE = "Please answer in one word: größer, 部品, 0.25 mm?"
_PROBABLE = 20  # tokens whose log-probabilities an adapter has to move
_FORCED = 1000.0  # added to a token's logit, so that it is chosen
_MOVED = 1e-4  # smallest change of one that counts as an adapter at work


@dataclass(eq=False)
class LlamaServer:
    """`ids` are its adapters by the names of versions, `unfit` says why a version does not answer there; `lost` if it
    broke off an answer."""

    process: LlamaProcess
    ids: dict[str, int]
    unfit: dict[str, str]
    running: int = 0
    lost: bool = False

    @cached_property
    def client(self) -> httpx.AsyncClient:
        """Of the event loop that asks it first."""
        return self._connected(timeout=None)

    def _connected(self, timeout: float | None) -> httpx.AsyncClient:
        """Over plain HTTP on this machine: certificates, which take long to load, are not asked for."""
        return httpx.AsyncClient(base_url=self.process.url, timeout=timeout, verify=False)

    @property
    def answers(self) -> bool:
        return self.process.is_alive and not self.lost

    def knows(self, version: Version | None) -> bool:
        return version is None or version.name in self.ids or version.name in self.unfit

    async def probe(self, chat: ChatFormat, former: LlamaServer | None) -> int:
        """Mark as unfit what moves no logits; of what a former server held that is known. How many failed just now.

        Raises UsageError unless the file has the base's tokens.
        """
        failed = 0
        async with self._connected(timeout=60.0) as client:
            await self._check_tokens(client, chat)
            for name, id in self.ids.items():
                if former and name in former.ids:
                    unfit = name in former.unfit
                else:
                    unfit = not await _moves(client, chat, id)
                    failed += unfit
                if unfit:
                    self.unfit[name] = f"llama.cpp answers {name} as the base; its adapter is not applied there"
        return failed

    async def end(self) -> None:
        await asyncio.to_thread(self.process.close)
        if "client" in self.__dict__:
            await self.client.aclose()

    async def _check_tokens(self, client: httpx.AsyncClient, chat: ChatFormat) -> None:
        reply = await client.post("/detokenize", json={"tokens": chat.text_ids(_PROBE)})
        if reply.status_code != 200 or reply.json()["content"].strip() != _PROBE:
            raise UsageError(f"{self.process.model} has other tokens than the base; name the base's own GGUF file")


async def _moves(client: httpx.AsyncClient, chat: ChatFormat, id: int) -> bool:
    """Whether an adapter moves the logits there."""
    asked = {"prompt": chat.prompt_ids([_PROBE])[0], "n_predict": 1, "n_probs": _PROBABLE, "temperature": 0.0}
    # Nothing is told of a token that is half a character, so another one is chosen; what is told is from before that.
    asked["logit_bias"] = [[chat.text_ids("a")[-1], _FORCED]]
    found = []
    for strength in (0.0, 1.0):
        lora = [{"id": id, "scale": strength}]
        reply = await client.post("/completion", json={**asked, "lora": lora, "cache_prompt": False})
        reply.raise_for_status()
        likeliest = reply.json()["completion_probabilities"][0]["top_logprobs"]
        found.append({one["id"]: float(one["logprob"]) for one in likeliest})
    base, own = found
    return base.keys() != own.keys() or max(abs(base[token] - own[token]) for token in base) >= _MOVED
