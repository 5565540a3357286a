#!/usr/bin/env bash
# Expected: a right number is found in an answer in Japanese or Chinese as it is in English: the page says that answers are
#   extracted from a model's output in plain text, and names no language.
# Seen, math-verify 0.9.0: in plain text a number counts only at a beginning, after white space or after "=". After a
#   Japanese or Chinese character or a full-width colon, or with full-width digits or a real minus sign (U+2212),
#   nothing is found and the answer is judged wrong, without a word; "50％" (full width) is 50 and not one half. Between
#   dollar signs or in \boxed{} the same answers are right.
# It matters because a benchmark, or a reward in training, then measures whether a model writes LaTeX.
# Sources: github.com/huggingface/Math-Verify (README); the package math-verify 0.9.0. No issue was found that says it.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    math-verify==0.9.0 latex2sympy2_extended==1.11.0 antlr4-python3-runtime==4.13.2 sympy==1.14.0

cd "$work"
venv/bin/python -W ignore - <<'PYTHON'
import logging
import sys
from importlib.metadata import version

from math_verify import parse, verify

logging.disable(logging.WARNING)
FOUND = ["The answer is 18.", "18個です", "答えは 18 です", "答えは$18$です", "答えは\\boxed{18}です"]
LOST = ["答えは18です", "答え：18", "合計は18個です", "答案是18。", "１８", "答えは１８です"]


def right(answer, gold):
    return verify(parse(gold), parse(answer))


print(", ".join(f"{name} {version(name)}" for name in ("math-verify", "latex2sympy2_extended", "sympy")))
found = [answer for answer in FOUND + LOST if right(answer, "18")]
nothing = [answer for answer in LOST if parse(answer) == []]
minus = [right(answer, "-5") for answer in ("The answer is -5", "The answer is −5", "$−5$")]
percent = [right(answer, "1/2") for answer in ("50%", "50％")]
print(
    f"seen: of {len(LOST)} Japanese and Chinese answers with the right number {len(LOST) - len(nothing)} were read, of "
    f"{len(FOUND)} others {len(found)}; hyphen, minus sign, minus sign in LaTeX: {minus}; 50% and 50％ as 1/2: {percent}"
)
if (found, nothing, minus, percent) != (FOUND, LOST, [True, False, True], [True, False]):
    sys.exit("CHANGED: math-verify no longer reads such answers as it did in 0.9.0")
print("as in the header")
PYTHON
