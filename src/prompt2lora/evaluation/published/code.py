"""An answer that is code -> the program that shows whether it is right; and pass@k.

In: the prompt of HumanEval or MBPP, an answer, the tests. Out: one program, which ends normally only if the tests pass.
A model answers with a fenced block, a whole function, or the lines that go on where the prompt stops (whose first
indentation is lost, for answers are trimmed): what parses is taken, and nothing is chosen by what passes.
"""

from __future__ import annotations

import re
import textwrap
import warnings
from math import comb

_FENCED = re.compile(r"```[ \t]*(?:python|py|Python)?[ \t]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)
_FUNCTION = re.compile(r"^(?:async )?def (\w+)", re.MULTILINE)
_INDENT = " " * 4


def program(prompt: str, answer: str, tests: str, *, goes_on: bool) -> str:
    """`goes_on`: the prompt is the beginning of the function, which the answer finishes or writes anew."""
    code = fenced(answer)
    if not goes_on:
        return f"{code}\n\n{tests}\n"
    return f"{_finished(prompt, code)}\n\n{tests}\n"


def fenced(answer: str) -> str:
    """The first fenced block of an answer, or all of it if there is none."""
    found = _FENCED.search(answer)
    return found[1] if found else answer


def _finished(prompt: str, code: str) -> str:
    """The prompt's function with the answer for its body; what parses first."""
    names = _FUNCTION.findall(prompt)
    whole = f"{prompt}\n{_INDENT}pass\n\n{code}"  # imports and helpers of the prompt stay; the function is defined anew
    if names and names[-1] in _FUNCTION.findall(code):
        return whole
    body = _body(code)
    first, _, rest = body.partition("\n")
    bodies = [body, f"{_INDENT}{first.strip()}\n{rest}", textwrap.indent(code, _INDENT)]  # the last is at the margin
    made = [f"{prompt}\n{one}" for one in (bodies if _has_indents(code) else bodies[::-1]) if one.strip()]
    return next((one for one in made if _parses(one)), f"{prompt}\n{body}")


def _has_indents(code: str) -> bool:
    return any(line[:1].isspace() for line in code.split("\n") if line.strip())


def _body(code: str) -> str:
    """Up to the first line, but the very first, that stands at the margin: there the function has ended."""
    first, *rest = code.split("\n")
    for number, line in enumerate(rest):
        if line.strip() and not line[0].isspace():
            return "\n".join([first, *rest[:number]])
    return code


def _parses(code: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the model's code, such as an invalid escape
            compile(code, "answer.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def pass_at(k: int, samples: int, right: int) -> float:
    """The chance that one of k samples is right, without bias from n of which c are (Chen et al. 2021, 2107.03374)."""
    return 1.0 - comb(samples - right, k) / comb(samples, k)
