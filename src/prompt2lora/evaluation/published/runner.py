"""Programs that a model wrote -> whether they ran to their end: each in a process of its own, shut off and limited.

In: the text of a program with its tests. Out: a verdict. No network, no file but those of a folder that is removed
afterwards, bounds on seconds, memory, output, files and processes, an empty environment, nothing to read from stdin.
Two walls: namespaces of the kernel, and refusals of the interpreter itself. Where the system allows no namespaces the
second stands alone; it holds clumsy programs, not hostile ones, and `shut_off_by` says so. A program passes only if it
comes to its end: the harness says a secret word then, which one that leaves early never does.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from prompt2lora.errors import UsageError

NAMESPACES, REFUSALS = "namespaces", "refusals"
_ENCLOSURE, _HARNESS = (Path(__file__).with_name(f"{name}.py") for name in ("enclosure", "harness"))
_PROBE = "import json\nopen('file', 'w').write('text')"
_NOBODY = 65534


@dataclass(frozen=True)
class ProgramLimits:
    """seconds    of the processor; of the clock twice as many, for others may use the machine too
    memory     bytes of address space
    file       bytes of a file and of what is printed; in namespaces four times as much for all files together
    processes  threads at once; other processes are refused, and count here if they are not
    open       files at once
    """

    seconds: int = 5
    memory: int = 1 << 30
    file: int = 1 << 20
    processes: int = 8
    open: int = 64

    def resources(self) -> dict[str, int]:
        """By the names of RLIMIT_*."""
        return {
            "CPU": self.seconds,
            "AS": self.memory,
            "FSIZE": self.file,
            "NPROC": self.processes,
            "NOFILE": self.open,
            "CORE": 0,
        }


class ProgramOutcome(NamedTuple):
    """Whether the program came to its end; else the exception, `out of time`, or `ended early` (it left, or a limit
    ended it)."""

    passed: bool
    reason: str = ""


def run(program: str, limits: ProgramLimits = ProgramLimits()) -> ProgramOutcome:
    """Run a program. Raises UsageError where this machine cannot run any."""
    return _run(program, limits, namespaces=shut_off_by() == NAMESPACES)


@cache
def shut_off_by() -> str:
    """What keeps programs away from the rest: namespaces of the kernel, or refusals of the interpreter."""
    for name in (NAMESPACES, REFUSALS):
        if name == NAMESPACES and sys.platform != "linux":
            continue
        if os.name == "posix" and _run(_PROBE, ProgramLimits(), namespaces=name == NAMESPACES).passed:
            return name
    raise UsageError("answers that are programs cannot be run on this system safely; leave humaneval and mbpp out")


def _run(program: str, limits: ProgramLimits, *, namespaces: bool, refusals: bool = True) -> ProgramOutcome:
    secret = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="prompt2lora-", ignore_cleanup_errors=True) as name:
        place = Path(name).resolve()
        work = place / "work"
        work.mkdir()
        place.chmod(0o755)
        work.chmod(0o777)
        (place / "stdin").write_bytes(f"{secret}\n{program}".encode(errors="replace"))
        with (
            (place / "stdin").open("rb") as given,
            (place / "printed").open("wb") as printed,
            (place / "verdict").open("wb") as verdict,
        ):
            asked = {
                "harness": str(_HARNESS),
                "work": str(work),
                "fd": verdict.fileno(),
                "limits": limits.resources(),
                "namespaces": namespaces,
                "refusals": refusals,
                "user": _NOBODY if os.geteuid() == 0 and _is_open_to_nobody() else 0,
            }
            started = subprocess.Popen(
                [sys.executable, "-I", "-S", "-B", str(_ENCLOSURE), json.dumps(asked)],
                cwd=work,
                env={"HOME": str(work), "TMPDIR": str(work), "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"},
                stdin=given,
                stdout=printed,
                stderr=subprocess.STDOUT,
                pass_fds=[verdict.fileno()],
                start_new_session=True,
            )
            late = _ended_late(started, limits.seconds)
        told = (place / "verdict").read_text(errors="replace")
    if told == secret and not late:
        return ProgramOutcome(True)
    return ProgramOutcome(False, "out of time" if late else told or "ended early")


def _is_open_to_nobody() -> bool:
    """Whether a user without any rights can run this interpreter and read these scripts."""
    places = [Path(name).resolve() for name in (sys.executable, sysconfig.get_path("stdlib"), __file__)]
    return all(parent.stat().st_mode & 0o001 for place in places for parent in place.parents)


def _ended_late(started: subprocess.Popen[bytes], seconds: int) -> bool:
    """Wait for a process, end all that it left behind, and say whether its time was over."""
    try:
        code = started.wait(2 * seconds)
    except subprocess.TimeoutExpired:
        return True
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(started.pid, signal.SIGKILL)
        started.wait()
    return code in (-signal.SIGXCPU, 128 + signal.SIGXCPU)
