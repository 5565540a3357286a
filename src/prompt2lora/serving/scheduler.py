"""The loop that owns the model: waiting sequences join the batch as places become free, and all advance together.

In: sequences. Out: chunks, through each sequence's `send`. A turn reads new prompts and gives every running sequence
one token, all in one pass of the model, whichever jobs they belong to. Everything but `submit` and `stop` runs in the
thread of `run`. It knows neither HTTP nor jobs.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.errors import Prompt2LoraError, Unavailable
from prompt2lora.serving.admission import check_open, check_room
from prompt2lora.serving.batch import BatchCache
from prompt2lora.serving.key_values import Part
from prompt2lora.serving.prefix_cache import PrefixCache, shared_length
from prompt2lora.serving.protocol import LENGTH, STOP
from prompt2lora.serving.sequence import TokenSequence

_PREFILL_TOKENS = 256  # tokens of new prompts that are read in one turn
_WORTH_A_TURN = 8  # tokens that a sequence waits a turn for, so as not to read them itself
_COUNTED = ("prompt_tokens", "shared_prompt_tokens", "completion_tokens", "decode_steps", "failures")
_FAILED = "the engine failed at this request; try again, or change the request"
_log = logging.getLogger(__name__)


class Scheduler:
    """At most `max_batch_size` sequences run and `max_waiting` wait; more are refused with Busy.

    Each of the tokens `ends` ends an answer.
    """

    def __init__(
        self, cache: BatchCache, prefixes: PrefixCache, ends: Sequence[int], max_batch_size: int, max_waiting: int
    ) -> None:
        self.cache, self.prefixes, self.ends = cache, prefixes, frozenset(ends)
        self.max_batch_size, self.max_waiting = max_batch_size, max_waiting
        self.running: list[TokenSequence] = []
        self.waiting: deque[TokenSequence] = deque()
        self.closing = False
        self.counts = dict.fromkeys(_COUNTED, 0)
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
            self._advance()
        except Exception:
            _log.exception("a turn of the engine failed")
            self.counts["failures"] += 1
            for sequence in self.running:
                sequence.send(Unavailable(_FAILED))
            self.running.clear()
        return True

    def _drop_cancelled(self) -> None:
        """Sequences for which nobody waits any more."""
        self._remove([place for place, sequence in enumerate(self.running) if sequence.cancelled])
        with self._wake:
            self.waiting = deque(sequence for sequence in self.waiting if not sequence.cancelled)

    def _advance(self) -> None:
        """One token more for every running sequence, those that join now included; finished sequences leave, and one
        that fails leaves alone."""
        parts = [Part(place, each.length, each.detokenizer.ids[-1:]) for place, each in enumerate(self.running)]
        self.counts["decode_steps"] += bool(parts)
        joining = self._admit()
        if not self.running:
            return
        logits = self.cache.read([*parts, *joining])
        for part in parts:
            self.running[part.place].length += 1
        for part in joining:
            sequence = self.running[part.place]
            read = partial(self.cache.held.beginning, part.place, sequence.prompt_ids)
            self.prefixes.learn(sequence.version, sequence.prompt_ids, read)
        self._choose_all(logits)

    def _admit(self) -> list[Part]:
        """Waiting sequences into free places; what is new of their prompts is read together, in bounded turns."""
        start, tokens = len(self.running), 0
        parts: list[Part] = []
        while self.waiting and len(self.running) < self.max_batch_size:
            sequence = self.waiting[0]
            beginning, known = self.prefixes.find(sequence.version, sequence.prompt_ids)
            tokens += len(sequence.prompt_ids) - known
            if parts and (tokens > _PREFILL_TOKENS or self._begins_alike(sequence, known, start)):
                break
            with self._wake:
                self.waiting.popleft()
            place = len(self.running)
            self.running.append(sequence)
            self.cache.adapters.set(place, sequence.grid)
            sequence.grid = None  # the batch holds a copy; the adapter cache may drop its own
            if beginning:
                self.cache.held.begin(place, beginning, known)
            parts.append(Part(place, known, sequence.prompt_ids[known:]))
            sequence.length, sequence.cached = len(sequence.prompt_ids), known
            self.counts["prompt_tokens"] += sequence.length
            self.counts["shared_prompt_tokens"] += known
        return parts

    def _begins_alike(self, sequence: TokenSequence, known: int, start: int) -> bool:
        """Whether a sequence that joined in this turn, from `start` on, is about to read what this one begins with: to
        wait for it is quicker."""
        return self.prefixes.size > 0 and any(
            other.version == sequence.version
            and shared_length(other.prompt_ids, sequence.prompt_ids) > known + _WORTH_A_TURN
            for other in self.running[start:]
        )

    def _choose_all(self, logits: Float[Tensor, "sequences vocabulary"]) -> None:
        """The next token of every running sequence."""
        done = []
        for place, (likeliest, scores) in enumerate(zip(logits.max(-1).indices.tolist(), logits, strict=True)):
            sequence = self.running[place]
            try:
                ended = self._choose(sequence, likeliest, scores)
            except Prompt2LoraError as error:
                sequence.send(error)
                ended = True
            except Exception:
                _log.exception("a request failed in the engine")
                self.counts["failures"] += 1
                sequence.send(Unavailable(_FAILED))
                ended = True
            if ended:
                done.append(place)
        self._remove(done)

    def _choose(self, sequence: TokenSequence, likeliest: int, scores: Float[Tensor, " vocabulary"]) -> bool:
        """Choose a token and send the text that it releases: whether the answer has ended."""
        token = sequence.choose(likeliest, scores)
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
        sequence.deliver(text, finish_reason)
        return finish_reason is not None

    def _remove(self, places: Sequence[int]) -> None:
        """Take sequences out; the last ones move into their places."""
        for place in sorted(places, reverse=True):
            last = len(self.running) - 1
            self.cache.move(last, place, self.running[last].length)
            self.running[place] = self.running[last]
            self.running.pop()
