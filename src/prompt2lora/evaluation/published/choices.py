"""Questions with options, as the product asks them and as the field does.

In: an example of a commonsense suite. Out: its options, and the pairs of a beginning and a continuation whose
likelihoods decide. The product shows lettered options and asks for the letter. The field (lm-evaluation-harness) shows
the question alone and takes the option whose text is the likeliest: as it is (acc), or per letter of its text
(acc_norm). In winogrande the option stands in the beginning, and the rest of the sentence is what may follow.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from prompt2lora.ground.comparison import Comparison
from prompt2lora.training.suites import Suite
from prompt2lora.training.tasks import Example

_LETTERS = "ABCDEFGH"
_CHOICES = re.compile(r"\nChoices:$")
_BLANK = "_"


class ChoiceQuestion(NamedTuple):
    """answers  what may be written: letters, or yes and no; `right` is the index of the right one
    options  the texts that they stand for
    """

    text: str
    answers: tuple[str, ...]
    options: tuple[str, ...]
    right: int


def read_question(example: Example) -> ChoiceQuestion:
    """The parts of an example: what stands behind "A. ", "B. ", ... at the beginning of lines, in this order."""
    rest, options = f"\n{example.input}", list[str]()
    answers: tuple[str, ...] = ("yes", "no")
    for letter in _LETTERS:
        before, mark, after = rest.partition(f"\n{letter}. ")
        if not mark:
            break
        options.append(before)
        rest = after
    if not options:
        return ChoiceQuestion(example.input, answers, answers, _place(answers, example))
    text, *options = [*options, rest]
    answers = tuple(_LETTERS[: len(options)])
    return ChoiceQuestion(_CHOICES.sub("", text).strip(), answers, tuple(options), _place(answers, example))


def _place(answers: Sequence[str], example: Example) -> int:
    return [Comparison.EXACT.same(answer, example.output) for answer in answers].index(True)


def continuations(suite: Suite, question: ChoiceQuestion) -> list[tuple[str, str]]:
    """(beginning, what may follow) of every option."""
    if suite.stem == _BLANK:
        before, _, after = question.text.partition(_BLANK)
        return [(before + option, f" {after.strip()}") for option in question.options]
    return [(suite.stem.format(question.text), f" {option}") for option in question.options]
