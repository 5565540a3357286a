"""Every error that a user can cause or meet, in one tree.

    Prompt2LoraError
    ├── UsageError          the request itself is wrong (exit code 2)
    │   ├── InputError          prompts or examples, or a file of them: none, unreadable, too long
    │   ├── TaskFileError       a task file with a broken line
    │   └── NotAllowed          it takes another person, or another role
    ├── OutputError         a file or folder that cannot be written: the disk is full, say
    ├── Conflict            somebody else changed the same thing meanwhile
    ├── LayoutError         a base, a rank or a target that no LoRA layout fits (exit code 2)
    ├── ModelNotFound       a base, an encoder or a generator that is neither here nor on a reachable hub (exit code 2)
    ├── DamagedFile         a file that is truncated, altered or not what it says it is
    │   └── NoAdapter           a place where no adapter lies (exit code 2)
    └── Unavailable         an answer, or the registry, cannot be had now
        ├── Busy                too much is waiting already
        ├── TooLate             not within the time allowed
        ├── Broken              the server behind this one gave an answer that cannot be read, or half of one
        ├── Unfit               this version cannot be served here, whatever the engine
        └── Misconfigured       this engine was started for other adapters, or another base

A message is one line: the rule, the offending value, the next step. What names something that is not there, or cannot
be, is a wrong request on the command line, whatever it names: exit code 2.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Prompt2LoraError(Exception):
    """Base of all errors of this package; the command line ends with `exit_code`."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        """Offending values come from outside: what would break the line, or steer a terminal, becomes a space."""
        super().__init__("".join(letter if letter.isprintable() else " " for letter in message))


class UsageError(Prompt2LoraError):
    exit_code = 2


class InputError(UsageError):
    """`rule` names what was broken, with its `values`, for whoever tells it in other words or another language."""

    def __init__(self, rule: str, message: str, /, **values: Any) -> None:
        self.rule, self.values = rule, values
        super().__init__(message)


class TaskFileError(UsageError):
    pass


class NotAllowed(UsageError):
    pass


class OutputError(Prompt2LoraError):
    pass


class Conflict(Prompt2LoraError):
    pass


class LayoutError(Prompt2LoraError):
    exit_code = 2


class ModelNotFound(Prompt2LoraError):
    exit_code = 2


class DamagedFile(Prompt2LoraError):
    pass


class NoAdapter(DamagedFile):
    exit_code = 2


class Unavailable(Prompt2LoraError):
    pass


class Busy(Unavailable):
    pass


class TooLate(Unavailable):
    pass


class Broken(Unavailable):
    pass


class Unfit(Unavailable):
    pass


class Misconfigured(Unavailable):
    pass


@contextmanager
def readable_now(what: str) -> Iterator[None]:
    """Inside, a file that is damaged only because the system does not let it be read raises Unavailable instead."""
    try:
        yield
    except DamagedFile as error:
        if _may_pass(error):
            raise Unavailable(f"it cannot be checked now whether {what} is sound: {error}") from error
        raise


_GONE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)


def _may_pass(error: BaseException) -> bool:
    """Whether an error over a file comes of the system's and says nothing of what the file holds: no rights, too many
    open files, a disk that fails. A file that is not there is no such case."""
    reason = error.__cause__
    return isinstance(reason, OSError) and not isinstance(reason, _GONE)


def cause(error: Exception) -> str:
    """Why something failed, in words: without the numbers and codecs that Python tells."""
    if isinstance(error, UnicodeDecodeError):
        return "it is no UTF-8 text"
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else str(error)
