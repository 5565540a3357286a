"""Checks of prompts while somebody types: instant ones at once, those that need the models as soon as they are done.

In: prompts. Out: findings by kind, as `Plant.check_prompts` names them. One set of prompts is checked at a time; of
those that wait, only the newest.
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

from prompt2lora.generator.prompt_checks import enough
from prompt2lora.ground.pictures import Prompt, identity, text_of
from prompt2lora.ground.prompts import MAX_CHARACTERS, repeated

_KEPT = 32
_log = logging.getLogger(__name__)

DeepCheck = Callable[[Sequence[Prompt]], list[dict[str, Any]]]


class Findings(NamedTuple):
    """`findings` so far; `more` if others may follow in a moment."""

    findings: list[dict[str, Any]]
    more: bool


@dataclass
class TypingChecker:
    """`deep_check` needs the models."""

    deep_check: DeepCheck
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, thread_name_prefix="prompt checks"))
    _checks: OrderedDict[str, Future[list[dict[str, Any]]]] = field(default_factory=OrderedDict)

    def check(self, prompts: Sequence[Prompt], patience: float = 0.3) -> Findings:
        """Never takes longer than `patience` seconds."""
        cheap = instant_findings(prompts)
        if not prompts or any(finding["kind"] in ("endless", "many") for finding in cheap):
            return Findings(cheap, False)
        name = hashlib.sha256("\0".join(map(identity, prompts)).encode(errors="replace")).hexdigest()
        pending = self._checks.get(name)
        if pending is None or pending.cancelled():
            for older in list(self._checks.values()):
                older.cancel()
            pending = self._checks[name] = self._pool.submit(self._quietly, list(prompts))
            while len(self._checks) > _KEPT:
                self._checks.popitem(last=False)
        wait_for([pending], patience)
        if not pending.done() or pending.cancelled():
            return Findings(cheap, True)
        said = {one["kind"] for one in cheap}
        deep = [finding for finding in pending.result() if finding["kind"] not in said]
        return Findings(cheap + deep, False)

    def _quietly(self, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
        """Checks are a help: if they fail, typing goes on without them."""
        try:
            return self.deep_check(prompts)
        except Exception:
            _log.exception("the check of prompts failed")
            return []


def instant_findings(prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """Findings for which it is enough to read the texts, and to know the pictures again."""
    twice = repeated(prompts) if len(prompts) <= 300 else []
    endless = [i for i, prompt in enumerate(prompts) if len(text_of(prompt)) > MAX_CHARACTERS]
    found = [("endless", endless)] if endless else []
    if 0 < len(prompts) < enough(prompts):
        found.append(("few", []))
    if len(prompts) > 256:
        found.append(("many", []))
    if twice:
        found.append(("duplicate", twice))
    return [{"kind": kind, "prompts": where} for kind, where in found]
