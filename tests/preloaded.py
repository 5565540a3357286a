"""Programs that begin with torch and its like loaded: forked off a process that loaded them once, and nothing of ours.

Each is a process of its own all the same, with its own arguments, environment and output, and can be killed. Light to
import, for every one of them does.
"""

import os
import runpy
import sys
from multiprocessing import Pipe, get_context

_LIBRARIES = ["torch", "transformers.models.llama.modeling_llama", "transformers.models.bert.modeling_bert"]


class Program:
    """A file of Python that runs with these words and this environment; `stdout` is what it says, a line at a time."""

    def __init__(self, file, *words, environment):
        context = get_context("forkserver")
        context.set_forkserver_preload(_LIBRARIES)
        said, saying = Pipe(duplex=False)
        given = (str(file), list(map(str, words)), environment, saying)
        self._process = context.Process(target=_run, args=given, daemon=True)
        self._process.start()
        saying.close()
        self.stdout = os.fdopen(os.dup(said.fileno()), encoding="utf-8")
        said.close()

    def kill(self):
        """End it without warning."""
        self._process.kill()
        self.end()

    def end(self):
        """Wait until it is over: (exit code, what else it said)."""
        with self.stdout:
            said = self.stdout.read()
        self._process.join(300)
        return self._process.exitcode, said


def _run(file, words, environment, saying):
    os.dup2(saying.fileno(), sys.stdout.fileno())
    saying.close()
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [file, *words]
    runpy.run_path(file, run_name="__main__")
