r"""Whether a worked answer comes to the right value: 1/2 is 0.5, 16,\!471 is 16471, \boxed{18} is 18 dollars.

In: an answer, perhaps with its steps, and the right result in LaTeX. Out: whether they are the same value. What counts
as the answer's result: what stands after its last ####, else its last \boxed{}, else the last formula or number. An
answer of one line may also be a formula as a whole. Reading and comparing are math-verify's (with SymPy): units and
currencies are passed over, and 65 % is both 65 and 0.65, as the field has it. It is given what it can read: it finds a
number only after white space, and no full-width digits (0.9.0; findings/math-verify-japanese-answers.sh).
"""

from __future__ import annotations

import re
import threading
from functools import cache
from importlib.util import find_spec
from typing import Any

from prompt2lora.errors import UsageError

_MARK = "####"
_SECONDS = 5
_FULL_WIDTH = "".join(chr(code) for code in range(0xFF01, 0xFF5F))
_ASCII = str.maketrans(_FULL_WIDTH + "\u3000\u2212", "".join(chr(code) for code in range(0x21, 0x7F)) + " -")
# Where a number begins right after an East Asian letter, or after a colon that ends a word.
_TOUCHED = re.compile(r"((?<=[\u3001-\u9fff\uac00-\ud7af])|(?<=[^\W\d]:))(?=-?\$?\d)")


def check_installed() -> None:
    """Raises UsageError without the library."""
    if find_spec("math_verify") is None:
        raise UsageError(
            "answers of mathematics are compared by value with math-verify, which is not installed: "
            "pip install 'prompt2lora[mathematics]', or leave gsm8k and math out"
        )


def same_value(answer: str, right: str) -> bool:
    """Whether an answer's result has the value of the right one."""
    check_installed()
    given, wanted = _plain(result(answer)), _plain(right)
    if not given:
        return False
    if given == wanted:
        return True
    readings = [given]
    if "\n" not in given and "\\boxed" not in given:
        readings.append(f"\\boxed{{{given}}}")
    gold = _parsed(f"\\boxed{{{wanted}}}")
    return any(_verified(gold, _parsed(reading)) for reading in readings)


def result(answer: str) -> str:
    """The part of an answer that its result stands in."""
    before, mark, after = answer.rpartition(_MARK)
    return (after.strip().split("\n")[0] if mark else before or after).strip()


def _plain(text: str) -> str:
    r"""Without the separators of thousands in LaTeX, 16,\!471; digits and signs in ASCII, a space before numbers."""
    text = text.translate(_ASCII).replace(",\\!", "").replace("\\!", "").strip()
    return _TOUCHED.sub(" ", text)


@cache
def _reader() -> tuple[Any, ...]:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig

    return LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()


def _seconds() -> int | None:
    """Its bound on time is an alarm, which only the main thread has."""
    return _SECONDS if threading.current_thread() is threading.main_thread() else None


def _parsed(text: str) -> Any:
    from math_verify import parse

    return parse(text, extraction_config=_reader(), parsing_timeout=_seconds())


def _verified(gold: Any, given: Any) -> bool:
    from math_verify import verify

    return bool(verify(gold, given, timeout_seconds=_seconds()))
