"""What the requests of a version begin with, read once: the chat format, the system's text, the instruction.

In: prompts of a version, and what reading them left. Out: the longest beginning of a new prompt that has been read
before. A version's name stands for its weights for good, so nothing here grows old; it is bounded in bytes, and the
least recently used beginning goes first. It knows neither the model nor requests.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from prompt2lora.base.packing import common_length
from prompt2lora.serving.key_values import Beginning


class PrefixCache:
    """One beginning a version, at most `size` bytes together."""

    def __init__(self, size: int) -> None:
        self.size, self.bytes = size, 0
        self._held: OrderedDict[str, Beginning] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._held)

    def find(self, version: str, ids: Sequence[int]) -> tuple[Beginning | None, int]:
        """What the version's prompts begin with, and how many of its tokens this prompt begins with: never all."""
        with self._lock:
            found = self._held.get(version)
            if found is None:
                return None, 0
            self._held.move_to_end(version)
        return found, shared_length(found.ids, ids)

    def learn(self, version: str, ids: Sequence[int], read: Callable[[], Beginning]) -> None:
        """A prompt was read, and `read` copies what that left.

        The first prompt is kept whole and cut by those that follow to what they have in common, as long as that is at
        least half of it; a prompt that is less like it takes its place.
        """
        known, shared = self.find(version, ids)
        if not self.size or (known and shared >= len(known.ids) - 1):
            return
        fresh = known.first(shared) if known and 2 * shared >= len(known.ids) else read()
        with self._lock:
            self._drop(version)
            if fresh.bytes > self.size:
                return
            self._held[version] = fresh
            self.bytes += fresh.bytes
            while self.bytes > self.size:
                self._drop(next(iter(self._held)))

    def drop(self, version: str) -> None:
        with self._lock:
            self._drop(version)

    def _drop(self, version: str) -> None:
        if found := self._held.pop(version, None):
            self.bytes -= found.bytes


def shared_length(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with, of `other` never all."""
    return common_length([[*one, -1], [*other]])
