"""The embedded engine: one base model in this process, and questions of many jobs in one running batch.

In: asks with their versions. Out: pieces of answers. One thread (`run`) owns the model: it takes what waits as rows
become free, reads the new prompts together, and then gives every running row one token a turn, whichever job it is of.
It knows no HTTP and no registry.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import math
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base import models
from prompt2lora.base.chat import ChatFormat
from prompt2lora.base.frozen import Frozen
from prompt2lora.custody.registry import Version
from prompt2lora.errors import Busy, Prompt2LoraError, TooLate, Unavailable, Unfit, UsageError
from prompt2lora.serving.adapter_cache import Residents
from prompt2lora.serving.batch import Slots
from prompt2lora.serving.protocol import LENGTH, STOP, Ask, Piece

_PROBE = "Please answer in one word."
_READ_AT_ONCE = 512  # tokens of new prompts between two turns of the running rows
_ROUND = 16  # lengths are rounded up to this: kernels are made anew for every new shape
_log = logging.getLogger(__name__)


@dataclass
class _Row:
    """A question on its way: its tokens, what came of it so far, and where its pieces are awaited."""

    ask: Ask
    ids: list[int]
    grid: Tensor | None
    ends: float
    tell: Callable[[Piece | Prompt2LoraError], None]
    words: Words
    random: torch.Generator | None
    length: int = 0  # tokens held in the slot
    gone: bool = False

    @property
    def room(self) -> int:
        return len(self.ids) + self.ask.sampling.longest


@dataclass
class Words:
    """Tokens -> text that may be told: whole characters only, and nothing that may yet become a stop text."""

    tokenizer: Any
    stops: tuple[str, ...]
    ids: list[int] = field(default_factory=list)
    stopped: bool = False
    kept: list[str] = field(default_factory=list)  # told in one piece at the end
    _before: int = (
        0  # tokens from here to `_read` have been told; they stand before the new ones when these are decoded
    )
    _read: int = 0
    _held: str = ""

    def add(self, token: int) -> str:
        """The text that this token lets go."""
        self.ids.append(token)
        fresh = self._fresh()
        if not fresh or fresh.endswith("\ufffd"):
            return ""
        self._before, self._read = self._read, len(self.ids)
        return self._past_stops(fresh)

    def _fresh(self) -> str:
        told, text = (
            self.tokenizer.decode(self.ids[self._before : end], skip_special_tokens=True)
            for end in (self._read, len(self.ids))
        )
        return str(text[len(told) :])

    def _past_stops(self, fresh: str) -> str:
        held: str = self._held + fresh
        places = [place for place in (held.find(stop) for stop in self.stops) if place >= 0]
        if places:
            self.stopped = True
            self._held = ""
            return held[: min(places)]
        keep = max((n for stop in self.stops for n in range(1, len(stop)) if held.endswith(stop[:n])), default=0)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def rest(self) -> str:
        """What was held back when the answer ends without a stop text."""
        return "" if self.stopped else self._held + self._fresh()


class Embedded:
    """Serves `folder`'s adapters on a frozen base.

    rows        questions answered at once
    waiting     most that wait beyond those; more are refused with Busy
    residents   most adapters in memory
    context     most tokens of a question and its answer together
    """

    def __init__(
        self,
        base: Frozen,
        folder: Callable[[Version], Path],
        *,
        rows: int = 16,
        waiting: int = 256,
        residents: int = 128,
        context: int = 2048,
    ) -> None:
        config = base.model.config
        self._layout, self._chat, self._waiting_most = base.layout, base.chat, waiting
        self._rows = rows
        self._context = min(context, config.max_position_embeddings)
        self._slots = Slots(base.model, base.layout, max(2, rows), self._context)
        self._residents = Residents(
            base.layout, config, folder, most=residents, dtype=self._slots.dtype, device=self._slots.device
        )
        self._reads = copy.deepcopy(base.chat.tokenizer)  # the worker's own: a tokenizer is not for two threads
        self._end = base.chat.tokenizer.eos_token_id
        self._waiting: deque[_Row] = deque()
        self._running: list[_Row] = []
        self._wake = threading.Condition()
        self._over = threading.Event()
        self._closing = self._ended = False
        self._counts = {"prompt_tokens": 0, "answer_tokens": 0, "turns": 0, "failures": 0}
        self._check()

    @classmethod
    def load(
        cls, base: str, folder: Callable[[Version], Path], *, rank: int = 8, exact: bool = False, **sizes: int
    ) -> Embedded:
        """An engine for the base of that name, for adapters up to `rank`.

        `exact` computes in float32 also where bfloat16 is faster: then an answer does not depend on its company.
        bfloat16 rounds another way in a crowd now and then.
        """
        layout = LoraLayout.from_config(models.load_config(base), base_model=base, rank=rank)
        model, tokenizer = models.load_base(base, dtype=torch.float32 if exact else None)
        return cls(Frozen(model, ChatFormat(tokenizer), layout), folder, **sizes)

    @property
    def base(self) -> str:
        return self._layout.base_model

    def start(self) -> Embedded:
        """Work in a thread of its own from now on."""
        threading.Thread(target=self.run, name="engine", daemon=True).start()
        return self

    @torch.inference_mode()
    def run(self) -> None:
        """Work until `close`. Best in the main thread, half as fast in another.

        OpenMP lets its helpers sleep after every operation as soon as it has more threads than there are cores, and it
        counts the main thread always. For the same reason all other threads get one core each from here on.
        """
        single = threading.Thread(target=torch.set_num_threads, args=(1,))  # for threads that are yet to come
        single.start()
        single.join()
        try:
            while self._turn():
                pass
        finally:
            self._closing = True
            for row in (*self._running, *self._waiting):
                row.tell(Unavailable("the service was closed before this was answered; ask again in a minute"))
            self._running.clear()
            self._waiting.clear()
            self._over.set()

    # The side of those who ask

    async def answer(self, version: Version | None, ask: Ask) -> AsyncGenerator[Piece]:
        self._open()
        ids = self._ids(ask)
        ends = time.monotonic() + ask.seconds
        if version is not None and version.base != self.base:
            raise Unfit(f"{version.name} is for the base {version.base} and this engine holds {self.base}")
        grid = await asyncio.to_thread(self._residents.get, version) if version is not None else None
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[Piece | Prompt2LoraError]()

        def tell(piece: Piece | Prompt2LoraError) -> None:
            with suppress(RuntimeError):  # the loop of who asked may be gone
                loop.call_soon_threadsafe(pieces.put_nowait, piece)

        sampling = ask.sampling
        random = None
        if sampling.temperature > 0:
            random = torch.Generator().manual_seed(
                sampling.seed if sampling.seed is not None else int(torch.randint(2**62, ()))
            )
        words = Words(self._reads, sampling.stop)
        row = _Row(ask, ids, grid, ends, tell, words, random)
        with self._wake:
            self._open()  # while an adapter was loaded, others came
            self._waiting.append(row)
            self._wake.notify()
        try:
            while True:
                piece = await pieces.get()
                if isinstance(piece, Prompt2LoraError):
                    raise piece
                yield piece
                if piece.finish:
                    return
        finally:
            row.gone = True

    async def ready(self) -> bool:
        return not self._closing

    def figures(self) -> dict[str, float]:
        return {
            "running": len(self._running),
            "waiting": len(self._waiting),
            "rows": self._rows,
            "residents": len(self._residents),
            "loads": self._residents.loads,
            "evictions": self._residents.evictions,
            **self._counts,
        }

    async def close(self, seconds: float) -> None:
        ends = time.monotonic() + seconds
        self._closing = True
        while (self._running or self._waiting) and time.monotonic() < ends:
            await asyncio.sleep(0.02)
        self.stop()
        await asyncio.to_thread(self._over.wait, 10.0)

    def stop(self) -> None:
        """End at once; whoever waits is told so. From any thread."""
        with self._wake:
            self._closing = self._ended = True
            self._wake.notify()

    def _open(self) -> None:
        if self._closing:
            raise Unavailable("the service is closing and takes nothing new; ask again in a minute")
        if len(self._waiting) >= self._waiting_most:
            raise Busy(f"{len(self._waiting)} questions are waiting already; ask again in a few seconds")

    def _ids(self, ask: Ask) -> list[int]:
        tokenizer = self._chat.tokenizer
        if not ask.messages:
            ids: list[int] = tokenizer(ask.text)["input_ids"]
        elif len(ask.messages) == 1 and ask.messages[0].role == "user":
            ids = self._chat.prompt_ids([ask.messages[0].content])[0]
        elif tokenizer.chat_template:
            text = tokenizer.apply_chat_template(
                [message._asdict() for message in ask.messages], tokenize=False, add_generation_prompt=True
            )
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        else:
            ids = tokenizer("\n\n".join(message.content for message in ask.messages) + "\n")["input_ids"]
        if not ids:
            raise UsageError("a question must hold at least one token; write something")
        if len(ids) + ask.sampling.longest > self._context:
            raise UsageError(
                f"question and answer may have {self._context} tokens together and this asks for {len(ids)} + "
                f"{ask.sampling.longest}; shorten the question or ask for a shorter answer"
            )
        return ids

    # The side of the model: everything below runs where `run` does

    def _turn(self) -> bool:
        with self._wake:
            while not (self._running or self._waiting or self._ended):
                self._wake.wait()
            if self._ended:
                return False
        try:
            self._let_go()
            self._take_in()
            if self._running:
                self._step()
        except Exception:
            _log.exception("a turn of the engine failed")
            self._counts["failures"] += 1
            for row in self._running:
                row.tell(Unavailable("the engine failed at this question; ask again, or differently"))
            self._running.clear()
        return True

    def _let_go(self) -> None:
        """Rows whose asker has gone or whose time is over."""
        now = time.monotonic()

        def over(row: _Row) -> bool:
            if not row.gone and now > row.ends:
                row.tell(TooLate(f"no answer within {row.ask.seconds:g} seconds; ask again, or allow more time"))
                return True
            return row.gone

        self._remove([i for i, row in enumerate(self._running) if over(row)])
        with self._wake:
            self._waiting = deque(row for row in self._waiting if not over(row))

    def _take_in(self) -> None:
        """Waiting questions into free rows, their prompts read together, as many tokens as a turn may take."""
        start, longest = len(self._running), 0
        while self._waiting and len(self._running) < self._rows:
            length = max(longest, len(self._waiting[0].ids))
            if longest and length * (len(self._running) - start + 1) > _READ_AT_ONCE:
                break
            with self._wake:
                row = self._waiting.popleft()
            self._running.append(row)
            longest = length
            self._slots.put(len(self._running) - 1, row.grid)
            row.grid = None  # the slot holds a copy; the resident may go
        fresh = self._running[start:]
        if not fresh:
            return
        longest = math.ceil(longest / _ROUND) * _ROUND
        ids = torch.zeros(len(fresh), longest, dtype=torch.long, device=self._slots.device)
        for place, row in enumerate(fresh):
            ids[place, : len(row.ids)] = torch.tensor(row.ids)
            row.length = len(row.ids)
            self._counts["prompt_tokens"] += row.length
        positions = torch.arange(longest, device=self._slots.device).expand(len(fresh), -1)
        lasts = sorted({row.length - 1 for row in fresh})
        logits = self._slots.forward(start, ids, positions, torch.tensor(lasts, device=self._slots.device))
        chosen = torch.stack([logits[i, lasts.index(row.length - 1)] for i, row in enumerate(fresh)])
        self._give(list(range(start, start + len(fresh))), chosen)

    def _step(self) -> None:
        """One token for every running row."""
        self._counts["turns"] += 1
        device = self._slots.device
        tokens = torch.tensor([[row.words.ids[-1]] for row in self._running], device=device)
        positions = torch.tensor([[row.length] for row in self._running], device=device)
        for row in self._running:
            row.length += 1
        self._give(list(range(len(self._running))), self._slots.forward(0, tokens, positions)[:, -1])

    def _give(self, places: Sequence[int], logits: Tensor) -> None:
        """Pick a token for each row and tell what it lets go; rows that are done leave."""
        likeliest = logits.argmax(-1).tolist()
        done = []
        for place, best, scores in zip(places, likeliest, logits, strict=True):
            row = self._running[place]
            token = best if row.random is None else _drawn(scores, row.ask, row.random)
            finish = STOP if token == self._end else None
            text = ""
            if finish is None:
                self._counts["answer_tokens"] += 1
                text = row.words.add(token)
                if row.words.stopped:
                    finish = STOP
                elif len(row.words.ids) >= row.ask.sampling.longest:
                    finish = LENGTH
            if finish:
                text += row.words.rest()
                done.append(place)
            if finish or (text and row.ask.stream):
                row.tell(self._piece(row, text, finish))
            elif text:
                row.words.kept.append(text)
        self._remove(done)

    def _piece(self, row: _Row, text: str, finish: str | None) -> Piece:
        whole = "".join([*row.words.kept, text])
        return Piece(whole, len(row.ids), len(row.words.ids), finish)

    def _remove(self, places: Sequence[int]) -> None:
        """Take rows out; the last ones move into their places."""
        for place in sorted(places, reverse=True):
            last = len(self._running) - 1
            self._slots.move(last, place, self._running[last].length)
            self._running[place] = self._running[last]
            self._running.pop()

    @torch.inference_mode()
    def _check(self) -> None:
        """See that an adapter in a row moves that row's logits and no other's. Raises Unfit if this base ignores it."""
        ids = torch.tensor(self._chat.prompt_ids([_PROBE]), device=self._slots.device).expand(2, -1)
        positions = torch.arange(ids.shape[1], device=self._slots.device).expand(2, -1)
        plain = self._slots.forward(0, ids, positions).clone()
        self._slots.put(1, torch.full(self._layout.shape, 0.01))
        moved = (self._slots.forward(0, ids, positions) - plain).abs().amax((1, 2))
        self._slots.put(1, None)
        if moved[1] == 0 or moved[0] > 0:
            raise Unfit(f"the base {self.base} does not take adapters row by row; serve it by another engine")


def _drawn(scores: Tensor, ask: Ask, random: torch.Generator) -> int:
    """A token by temperature, out of the likeliest that together hold the share top_p."""
    likely, order = (scores.float().cpu() / ask.sampling.temperature).softmax(-1).sort(descending=True)
    likely[likely.cumsum(0) - likely >= ask.sampling.top_p] = 0
    return int(order[torch.multinomial(likely, 1, generator=random)])
