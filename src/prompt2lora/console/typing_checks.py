"""Advice while somebody types: what costs nothing at once, what needs the models as soon as they have answered.

In: prompts. Out: findings by their kind, as `Plant.check_prompts` names them. One text is looked at at a time; of
those that wait, only the newest is.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from prompt2lora.ground.prompts import LONGEST

FEWEST, MOST = 5, 20  # prompts that are asked for; fewer or more are taken too
_KEPT = 32
_log = logging.getLogger(__name__)

Look = Callable[[Sequence[str]], list[dict[str, Any]]]


class Advice(NamedTuple):
    """`findings` as far as they are known; `more` if there may be others in a moment."""

    findings: list[dict[str, Any]]
    more: bool


@dataclass
class Adviser:
    """`look` is the check that needs the models."""

    look: Look
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="advice"))
    _looked: OrderedDict[str, Future[list[dict[str, Any]]]] = field(default_factory=OrderedDict)

    def advise(self, prompts: Sequence[str], patience: float = 0.3) -> Advice:
        """Never takes longer than `patience` seconds."""
        cheap = at_once(prompts)
        if not prompts or any(finding["kind"] in ("endless", "many") for finding in cheap):
            return Advice(cheap, False)
        name = hashlib.sha256("\0".join(prompts).encode(errors="replace")).hexdigest()
        looked = self._looked.get(name)
        if looked is None or looked.cancelled():
            for older in list(self._looked.values()):
                older.cancel()
            looked = self._looked[name] = self._pool.submit(self._quietly, list(prompts))
            while len(self._looked) > _KEPT:
                self._looked.popitem(last=False)
        wait_for([looked], patience)
        if not looked.done() or looked.cancelled():
            return Advice(cheap, True)
        said = {*(one["kind"] for one in cheap), *(["few"] if len(prompts) < FEWEST else [])}
        deep = [finding for finding in looked.result() if finding["kind"] not in said]
        return Advice(cheap + deep, False)

    def _quietly(self, prompts: Sequence[str]) -> list[dict[str, Any]]:
        """Advice is a help: if it cannot be had, typing goes on without."""
        try:
            return self.look(prompts)
        except Exception:
            _log.exception("no advice")
            return []


def at_once(prompts: Sequence[str]) -> list[dict[str, Any]]:
    """Findings for which it is enough to read the texts."""
    texts = [" ".join(prompt.lower().split()) for prompt in prompts]
    twice = [i for i, text in enumerate(texts) if text in set(texts[:i])] if len(texts) <= 300 else []
    endless = [i for i, prompt in enumerate(prompts) if len(prompt) > LONGEST]
    found = [("endless", endless)] if endless else []
    if len(prompts) < FEWEST:
        found.append(("fewer", []))
    if len(prompts) > 256:
        found.append(("many", []))
    if twice:
        found.append(("duplicate", twice))
    return [{"kind": kind, "prompts": where} for kind, where in found]
