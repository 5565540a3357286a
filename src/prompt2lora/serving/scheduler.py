"""The loop that owns the model: waiting sequences join the batch as places become free, and all advance together.

In: sequences. Out: chunks, through each sequence's `send`. A turn reads new prompts together, then gives every running
sequence one token, whichever job it belongs to. Everything but `submit` and `stop` runs in the thread of `run`.
It knows neither HTTP nor jobs.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.errors import Prompt2LoraError, Unavailable
from prompt2lora.serving.admission import check_open, check_room
from prompt2lora.serving.batch import BatchCache
from prompt2lora.serving.deadline import too_late
from prompt2lora.serving.protocol import LENGTH, STOP
from prompt2lora.serving.sequence import TokenSequence

_PREFILL_TOKENS = 512  # tokens of new prompts that are read between two turns of the running sequences
_ROUND = 16  # lengths are rounded up to this: kernels are built anew for every new shape
_log = logging.getLogger(__name__)


class Scheduler:
    """At most `max_batch_size` sequences run and `max_waiting` wait; more are refused with Busy.

    Each of the tokens `ends` ends an answer.
    """

    def __init__(self, cache: BatchCache, ends: Sequence[int], max_batch_size: int, max_waiting: int) -> None:
        self.cache, self.ends = cache, frozenset(ends)
        self.max_batch_size, self.max_waiting = max_batch_size, max_waiting
        self.running: list[TokenSequence] = []
        self.waiting: deque[TokenSequence] = deque()
        self.closing = False
        self.counts = dict.fromkeys(("prompt_tokens", "completion_tokens", "decode_steps", "failures"), 0)
        self.ended = threading.Event()
        self._wake = threading.Condition()
        self._stopped = False

    # From any thread

    def check_open(self) -> None:
        """Raises Unavailable or Busy if no request is taken now."""
        check_open(self.closing)
        check_room(len(self.waiting), self.max_waiting)

    def submit(self, sequence: TokenSequence) -> None:
        """Raises Unavailable or Busy: while its adapter was loaded, others came."""
        with self._wake:
            self.check_open()
            self.waiting.append(sequence)
            self._wake.notify()

    def stop(self) -> None:
        """End at once; whoever waits is told so."""
        with self._wake:
            self.closing = self._stopped = True
            self._wake.notify()

    # In the thread that owns the model

    @torch.inference_mode()
    def run(self) -> None:
        """Work until `stop`."""
        try:
            while self._turn():
                pass
        finally:
            self.closing = True
            for sequence in (*self.running, *self.waiting):
                sequence.send(Unavailable("the service shut down before this was answered; try again in a minute"))
            self.running.clear()
            self.waiting.clear()
            self.ended.set()

    def _turn(self) -> bool:
        with self._wake:
            while not (self.running or self.waiting or self._stopped):
                self._wake.wait()
            if self._stopped:
                return False
        try:
            self._drop_cancelled()
            self._admit()
            if self.running:
                self._decode()
        except Exception:
            _log.exception("a turn of the engine failed")
            self.counts["failures"] += 1
            for sequence in self.running:
                sequence.send(Unavailable("the engine failed at this request; try again, or change the request"))
            self.running.clear()
        return True

    def _drop_cancelled(self) -> None:
        """Sequences whose client has gone or whose time is up."""
        now = time.monotonic()

        def over(sequence: TokenSequence) -> bool:
            if not sequence.cancelled and now > sequence.deadline:
                sequence.send(too_late(sequence.request.seconds))
                return True
            return sequence.cancelled

        self._remove([i for i, sequence in enumerate(self.running) if over(sequence)])
        with self._wake:
            self.waiting = deque(sequence for sequence in self.waiting if not over(sequence))

    def _admit(self) -> None:
        """Waiting sequences into free places, their prompts read together, as many tokens as a turn may take."""
        start, length = len(self.running), 0
        while self.waiting and len(self.running) < self.max_batch_size:
            longer = max(length, len(self.waiting[0].prompt_ids))
            if length and longer * (len(self.running) - start + 1) > _PREFILL_TOKENS:
                break
            with self._wake:
                sequence = self.waiting.popleft()
            self.running.append(sequence)
            length = longer
            self.cache.set_adapter(len(self.running) - 1, sequence.grid)
            sequence.grid = None  # the batch holds a copy; the adapter cache may drop its own
        new = self.running[start:]
        if not new:
            return
        device, length = self.cache.device, math.ceil(length / _ROUND) * _ROUND
        ids = torch.zeros(len(new), length, dtype=torch.long, device=device)
        for place, sequence in enumerate(new):
            ids[place, : len(sequence.prompt_ids)] = torch.tensor(sequence.prompt_ids)
            sequence.length = len(sequence.prompt_ids)
            self.counts["prompt_tokens"] += sequence.length
        positions = torch.arange(length, device=device).expand(len(new), -1)
        lasts = sorted({sequence.length - 1 for sequence in new})
        logits = self.cache.forward(start, ids, positions, torch.tensor(lasts, device=device))
        chosen = torch.stack([logits[i, lasts.index(sequence.length - 1)] for i, sequence in enumerate(new)])
        self._advance(range(start, start + len(new)), chosen)

    def _decode(self) -> None:
        """One token for every running sequence."""
        self.counts["decode_steps"] += 1
        device = self.cache.device
        tokens = torch.tensor([[sequence.detokenizer.ids[-1]] for sequence in self.running], device=device)
        positions = torch.tensor([[sequence.length] for sequence in self.running], device=device)
        for sequence in self.running:
            sequence.length += 1
        self._advance(range(len(self.running)), self.cache.forward(0, tokens, positions)[:, -1])

    def _advance(self, places: Sequence[int], logits: Float[Tensor, "sequences vocabulary"]) -> None:
        """Choose a token for each sequence and send the text that it releases; finished sequences leave."""
        done = []
        for place, likeliest, scores in zip(places, logits.argmax(-1).tolist(), logits, strict=True):
            sequence = self.running[place]
            try:
                token = sequence.choose(likeliest, scores)
            except Prompt2LoraError as error:
                sequence.send(error)
                done.append(place)
                continue
            finish_reason = STOP if token in self.ends else None
            text = ""
            if finish_reason is None:
                self.counts["completion_tokens"] += 1
                text = sequence.detokenizer.add(token)
                if sequence.follow(token) or sequence.detokenizer.stopped:
                    finish_reason = STOP
                elif len(sequence.detokenizer.ids) >= sequence.max_new_tokens:
                    finish_reason = LENGTH
            if finish_reason:
                text += sequence.detokenizer.rest()
                done.append(place)
            sequence.deliver(text, finish_reason)
        self._remove(done)

    def _remove(self, places: Sequence[int]) -> None:
        """Take sequences out; the last ones move into their places."""
        for place in sorted(places, reverse=True):
            last = len(self.running) - 1
            self.cache.move(last, place, self.running[last].length)
            self.running[place] = self.running[last]
            self.running.pop()
