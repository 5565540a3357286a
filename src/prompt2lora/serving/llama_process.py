"""One llama.cpp server in a process of its own: the base, adapters by number, an address.

In: a GGUF file of the base, GGUF files of adapters. Out: a process that answers HTTP on this machine alone, until
it is closed or the process that started it is gone. What its adapters are called is not its business.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prompt2lora.errors import UsageError

PACKAGE = "xllamacpp"
_GRACE = 5.0  # seconds that a process has to end by itself


class LlamaProcess:
    """A running server. `adapters` are known to it by their place in the list; none is applied unless a request says
    so."""

    def __init__(
        self,
        model: Path,
        adapters: Sequence[Path],
        *,
        slots: int,
        context_length: int,
        threads: int,
        seconds: float = 600.0,
    ) -> None:
        """Start it and wait until it listens. Raises UsageError if it does not take the files, or not in time."""
        self.model, self._closing, self._closed = model, threading.Lock(), False
        settings = {
            "model": str(model),
            "adapters": [str(file) for file in adapters],
            "slots": slots,
            "context_length": context_length,
            "threads": threads,
        }
        with tempfile.TemporaryFile() as log:
            command = [sys.executable, "-m", __name__, json.dumps(settings)]
            pipe = subprocess.PIPE
            # In a session of its own: Ctrl+C goes to the service, which lets answers end first.
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=log, text=True, start_new_session=True
            )
            assert self._process.stdout
            end = threading.Timer(seconds, self._process.kill)
            end.daemon = True
            end.start()
            self.url = self._process.stdout.readline().strip()
            end.cancel()
            if not self.url:
                self.close()
                log.seek(0)
                said = log.read().decode(errors="replace").split("\n")
                told = next((line.strip()[:200] for line in reversed(said) if line.strip()), "it says nothing")
                raise UsageError(
                    f"llama.cpp does not start with {model} and {len(adapters)} adapters ({told}); see that --gguf "
                    "names the base's own file"
                )

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        """End it, once, whoever asks; requests that are running are cut off."""
        with self._closing:
            if self._closed:
                return
            try:
                self._process.communicate(timeout=_GRACE)  # closes its stdin, by which it ends
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()
            self._closed = True


def _serve(settings: dict[str, Any]) -> None:
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path = settings["model"]
    options.n_parallel = settings["slots"]
    options.n_ctx = settings["slots"] * settings["context_length"]
    options.hostnames, options.port = ["127.0.0.1"], 0
    options.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(file, 0.0) for file in settings["adapters"]]
    options.lora_init_without_apply = True
    # A prompt that comes back from there is answered by the adapter that read it
    # (findings/llama-cpp-cache-of-another-adapter.sh).
    options.cache_ram_mib = 0
    options.warmup, options.verbosity = False, -1
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = settings["threads"]
    server = xllamacpp.Server(options)
    print(server.listening_address, flush=True)
    sys.stdin.read()  # until the parent closes it or is gone
    os._exit(0)


if __name__ == "__main__":
    _serve(json.loads(sys.argv[1]))
