"""Shuts its own process off from network, files and other processes, and becomes the harness.

A script of its own, run by runner.py: nothing of this package is at hand here, and no library but the standard one.

In: one argument of JSON (harness, work, fd, limits, namespaces, refusals, user). Out: the harness, running in
namespaces of its own: no network, every file read-only but those of `work`, which is a small file system in memory, and
no other process within reach. Without `namespaces` the limits alone hold. It knows no answer.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from typing import Any

_MOUNTS, _IPC, _USERS, _PROCESSES, _NETWORK = 0x20000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_PRIVATE, _NO_SUID, _NO_DEVICES = 1 << 18 | 1 << 14, 2, 4  # MS_PRIVATE for all mounts below, MS_NOSUID, MS_NODEV
_MOUNT_SETATTR, _HERE, _BELOW, _READ_ONLY = 442, -100, 0x8000, 1
_DEATH_SIGNAL, _DUMPABLE, _NO_NEW_PRIVILEGES = 1, 4, 38


def _checked(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), what)


def _enter_namespaces(libc: Any, work: str, size: int) -> None:
    user, group = os.geteuid(), os.getegid()
    libc.prctl(_DUMPABLE, 1, 0, 0, 0)  # or the maps below belong to root after a change of user
    _checked(libc.unshare(_USERS | _NETWORK | _MOUNTS | _PROCESSES | _IPC), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123
            file.write(text)
    _checked(libc.mount(None, b"/", None, _PRIVATE, None), "mount private")
    options = f"size={size},nr_inodes=256,mode=1777".encode()
    _checked(libc.mount(b"tmpfs", work.encode(), b"tmpfs", _NO_SUID | _NO_DEVICES, options), "mount tmpfs")
    _set_read_only(libc, "/", True)
    _set_read_only(libc, work, False)


def _set_read_only(libc: Any, place: str, wanted: bool) -> None:
    attributes = (ctypes.c_uint64 * 4)(_READ_ONLY if wanted else 0, 0 if wanted else _READ_ONLY, 0, 0)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    below = _BELOW if wanted else 0
    _checked(libc.syscall(_MOUNT_SETATTR, _HERE, place.encode(), below, attributes, size), "mount_setattr")


def _limit(limits: dict[str, int]) -> None:
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}", None)
        if kind is not None:
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            above = value + 1 if name == "CPU" and hard == resource.RLIM_INFINITY else value
            try:
                resource.setrlimit(kind, (value, above))  # of the processor: SIGXCPU, and a second later SIGKILL
            except (ValueError, OSError):  # macOS knows the name and refuses the value
                continue


def main() -> None:
    asked = json.loads(sys.argv[1])
    if asked["user"]:  # limits of processes do not hold for root
        os.setgroups([])
        os.setresgid(*[asked["user"]] * 3)
        os.setresuid(*[asked["user"]] * 3)
    if asked["namespaces"]:
        libc = ctypes.CDLL(None, use_errno=True)
        _enter_namespaces(libc, asked["work"], asked["limits"]["FSIZE"] * 4)
        child = os.fork()  # the first process of the namespace: with it all others end
        if child:
            status = os.waitpid(child, 0)[1]
            sys.exit(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
        libc.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    os.chdir(asked["work"])
    _limit(asked["limits"])
    refusing = "refusing" if asked["refusals"] else ""
    words = [sys.executable, "-I", "-S", "-B", asked["harness"], str(asked["fd"]), refusing]
    os.execve(words[0], words, dict(os.environ))


if __name__ == "__main__":
    main()
