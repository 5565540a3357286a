"""Runs one program and says whether it came to its end: a script of its own, run by enclosure.py.

In: on stdin a secret word, a newline and the program; as arguments where the verdict goes (a file descriptor), and
whether sockets, processes and files elsewhere are refused. Out: the secret word if the program ran to its end, else the
name of the exception that ended it. A program that ends its process says nothing, and that is no pass.
"""

import os
import sys
from typing import Any

_REFUSED = ("socket.", "subprocess.", "os.fork", "os.exec", "os.posix_spawn", "os.system", "os.spawn", "ctypes.")
_CHANGED = tuple(f"os.{what}" for what in "remove rename rmdir mkdir link symlink chmod chown truncate kill".split())


def _refuse(work: str) -> None:
    """No sockets, no other processes, and no file outside of `work` is changed."""

    def inside(path: Any) -> bool:
        return isinstance(path, (str, bytes)) and os.path.realpath(os.fsdecode(path)).startswith(work + os.sep)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        written = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event.startswith(_REFUSED) or ((written or event in _CHANGED) and not inside(arguments[0])):
            raise PermissionError(f"{event} is refused")

    sys.addaudithook(hook)


def main() -> None:
    verdict, refusing = int(sys.argv[1]), bool(sys.argv[2])
    secret, _, program = sys.stdin.read().partition("\n")
    sys.argv = ["answer.py"]
    if refusing:
        _refuse(os.path.realpath(os.getcwd()))  # noqa: PTH109
    try:
        exec(compile(program, "answer.py", "exec"), {"__name__": "answer"})
        told = secret
    except BaseException as error:  # SystemExit too: the tests did not run to their end
        told = type(error).__name__
    os.write(verdict, told.encode())
    os._exit(0)


if __name__ == "__main__":
    main()
