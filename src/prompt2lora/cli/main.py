"""The command line: every command, and how errors become one line and an exit code.

`--help` loads no torch; results go to stdout, all else to stderr. Exit codes: 0 done, 1 it could not be done (or was
interrupted), 2 the request was wrong.
"""

from __future__ import annotations

import signal
import sys

from typer.exceptions import TyperException

from prompt2lora.cli import (
    answer,
    audit,
    benchmark,
    decisions,
    export,
    generate,
    importing,
    monitor,
    pilot,
    plant,
    prompts,
    registry,
    serve,
    train,
)
from prompt2lora.cli.app import Working, app
from prompt2lora.errors import Prompt2LoraError, cause

# Modules whose commands have joined the app, in the order of its help.
COMMANDS = (
    generate,
    answer,
    export,
    importing,
    pilot,
    prompts,
    plant,
    registry,
    decisions,
    audit,
    monitor,
    serve,
    train,
    benchmark,
)
_PLACE = {module.__name__: place for place, module in enumerate(COMMANDS)}
app.registered_commands.sort(key=lambda command: _PLACE[getattr(command.callback, "__module__", "")])
_INTERRUPTED = 130  # how typer tells an interrupt


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="prompt2lora", standalone_mode=False)
    except TyperException as error:
        told = " ".join(error.format_message().split()).rstrip(".").replace(": Value error, ", ": ")  # pydantic's word
        context = getattr(error, "ctx", None)  # of the command that was named, if it was recognised
        print(f"error: {told}; see {context.command_path if context else 'prompt2lora'} --help", file=sys.stderr)
        sys.exit(error.exit_code)
    except Prompt2LoraError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{cause(error)}; check the disk and the path", file=sys.stderr)
        sys.exit(1)
    except MemoryError:
        print("error: not enough memory; close other programs (see `prompt2lora doctor`)", file=sys.stderr)
        sys.exit(1)
    if code == _INTERRUPTED:
        goes_on = f"continue with: {Working.goes_on}" if Working.goes_on else "run it again to start over"
        print(f"error: interrupted; nothing is half written; {goes_on}", file=sys.stderr)
        sys.exit(1)
    sys.exit(code or 0)
