"""How each kind of published task is scored: one function a kind, from an adapter to scores, example by example.

In: the base, an adapter or none, some examples of a suite, labelled examples to be shown. Out: scores from 0 to 1 by
metric. It knows no arms and no files.

    commonsense  written   the answer is written, in the form that was asked for
                 letter    of all allowed answers the right one is the likeliest
                 acc       of all options' texts the right one is the likeliest, the question being shown alone
                 acc_norm  the same per letter of the text
    mathematics  value     the answer's result has the right value
                 exact     the answer is the right one to the letter: its form was learned, too
    code         pass@1    the program that is written greedily passes the tests
                 pass@5    the chance that one of five programs that are drawn does
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Float
from torch import Tensor

from prompt2lora.base.decoding import answers
from prompt2lora.base.forest import Reader
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.sampling import Sampling
from prompt2lora.evaluation.likelihood import Asked, read, read_options
from prompt2lora.evaluation.published import code
from prompt2lora.evaluation.published.choices import ChoiceQuestion, continuations, read_question
from prompt2lora.evaluation.published.mathematics import same_value
from prompt2lora.evaluation.published.runner import run
from prompt2lora.ground.comparison import Comparison
from prompt2lora.ground.progress import part, tell
from prompt2lora.training.suites import PublishedTask, Suite, SuiteKind
from prompt2lora.training.tasks import Example

Scores = dict[str, list[float]]
Options = Sequence[tuple[str, str]]  # of a question, each as a beginning and what may follow
METRICS: dict[SuiteKind, tuple[str, ...]] = {
    SuiteKind.COMMONSENSE: ("written", "letter", "acc", "acc_norm"),
    SuiteKind.MATHEMATICS: ("value", "exact"),
    SuiteKind.CODE: ("pass@1", "pass@5"),
}
MAIN = {kind: metrics[0] for kind, metrics in METRICS.items()}
_DRAWN = 5  # the k of pass@k
FEWEST_SAMPLES = {"pass@5": _DRAWN}  # of drawn programs, which a metric needs
_HALF = "\ufffd"  # stands at the end of a text for a letter of which only the first bytes are there


@dataclass(frozen=True)
class Asking:
    """Who is asked: the base, through an adapter if there is one, with labelled examples before every question.

    `metrics` are what is to be found out (none named: everything), `samples` how many programs are drawn for pass@5.
    """

    base: Frozen
    grid: Float[Tensor, "layers rows cols"] | None
    examples: Sequence[Example]
    samples: int = 10
    metrics: Sequence[str] = ()

    def wants(self, *metrics: str) -> bool:
        return not self.metrics or any(metric in self.metrics for metric in metrics)

    @cached_property
    def chat(self) -> Reader:
        """Reads questions as the product puts them."""
        return Reader(self.base, self.grid)

    @cached_property
    def field(self) -> Reader:
        """Reads questions as the field puts them."""
        return Reader(self.base, self.grid)

    def answers(
        self, published: PublishedTask, asked: Sequence[Example], sampling: Sampling | None = None
    ) -> list[str]:
        task = published.task
        return answers(
            self.base.model,
            self.base.chat,
            [task.prompt(one.input) for one in asked],
            examples=self.shown(published),
            layout=self.base.layout,
            grid=self.grid,
            max_new_tokens=published.suite.max_new_tokens,
            sampling=sampling,
        )

    def shown(self, published: PublishedTask) -> list[tuple[str, str]]:
        return [(published.task.prompt(one.input), one.output) for one in self.examples]


def score(asking: Asking, published: PublishedTask, start: int, end: int) -> Scores:
    """Scores of the test examples from `start` to `end`, by the metrics that are wanted."""
    found = _SCORINGS[published.suite.kind](asking, published, range(start, min(end, len(published.task.test))))
    return {metric: scores for metric, scores in found.items() if asking.wants(metric)}


def _commonsense(asking: Asking, published: PublishedTask, places: range) -> Scores:
    asked = [published.task.test[place] for place in places]
    questions = [read_question(example) for example in asked]
    found: Scores = {}
    if asking.wants("written", "letter"):
        with part(tell, 0.0, 0.5):
            found |= _chosen(asking, published, asked, questions)
    if asking.wants("acc", "acc_norm"):
        with part(tell, 0.5, 1.0):
            pairs = [continuations(published.suite, question) for question in questions]
            likely = _likelihoods(asking, published.suite, pairs)
        picked = list(map(_picked, likely, pairs))
        found["acc"] = [float(plain == it.right) for (plain, _), it in zip(picked, questions, strict=True)]
        found["acc_norm"] = [float(normed == it.right) for (_, normed), it in zip(picked, questions, strict=True)]
    return found


def _chosen(
    asking: Asking, published: PublishedTask, asked: Sequence[Example], questions: Sequence[ChoiceQuestion]
) -> Scores:
    """By one reading of every question: which answer is the likeliest, and whether the right one is written."""
    prompts, shown = [published.task.prompt(example.input) for example in asked], asking.shown(published)
    with part(tell, 0.0, 0.8):
        given = read_options(asking.chat, prompts, [question.answers for question in questions], examples=shown)
    letter = [float(int(one.scores[:, 0].argmax()) == it.right) for one, it in zip(given, questions, strict=True)]
    found: Scores = {"letter": letter}
    if asking.wants("written"):
        begun = [
            _written(asking, published.suite, one.written, it.output) for one, it in zip(given, asked, strict=True)
        ]
        with part(tell, 0.8, 1.0):
            rest = [one for one, known in zip(asked, begun, strict=True) if known is None]
            more = iter(asking.answers(published, rest) if rest else [])
        found["written"] = [
            Comparison.EXACT.score(next(more), one.output) if known is None else known
            for one, known in zip(asked, begun, strict=True)
        ]
    return found


def _written(asking: Asking, suite: Suite, begun: Sequence[int], right: str) -> float | None:
    """The score of an answer of which these tokens are known; None if what follows decides."""
    chat, begun = asking.base.chat, begun[: suite.max_new_tokens]
    ended = begun[-1] in chat.ends
    text = chat.tokenizer.decode(begun[:-1] if ended else begun, skip_special_tokens=True).strip()
    if ended or len(begun) == suite.max_new_tokens:
        return Comparison.EXACT.score(text, right)
    so_far, wanted = (str(*Comparison.EXACT.key(one)) for one in (text.rstrip(_HALF), right))
    return None if wanted.startswith(so_far) else 0.0


def _likelihoods(asking: Asking, suite: Suite, pairs: Sequence[Options]) -> list[list[float]]:
    """Of every option of every question the log probability of what follows, after the shown examples."""
    before = "".join(f"{''.join(_right(suite, example))}\n\n" for example in asking.examples)
    together: list[Asked] = []
    for options in pairs:
        by_beginning: dict[str, list[str]] = {}
        for beginning, follows in options:
            by_beginning.setdefault(before + beginning, []).append(follows)
        together += [_tokens(asking, beginning, follows) for beginning, follows in by_beginning.items()]
    scores = [float(value) for one in read(asking.field, together) for value in one.scores[:, 0]]
    found, at = [], 0
    for options in pairs:
        found.append(scores[at : at + len(options)])
        at += len(options)
    return found


def _right(suite: Suite, example: Example) -> tuple[str, str]:
    question = read_question(example)
    return continuations(suite, question)[question.right]


def _tokens(asking: Asking, beginning: str, follows: Sequence[str]) -> Asked:
    """Token ids of a beginning, and of what may follow as it is read there."""
    ids = asking.base.chat.text_ids(beginning)
    return ids, [asking.base.chat.text_ids(beginning + text)[len(ids) :] for text in follows]


def _picked(likely: Sequence[float], options: Options) -> tuple[int, int]:
    """The likeliest option as it is, and per letter of its text."""
    lengths = [max(1, len(follows) - 1) for _, follows in options]
    places = range(len(likely))
    plain = max(places, key=lambda place: likely[place])
    return plain, max(places, key=lambda place: likely[place] / lengths[place])


def _mathematics(asking: Asking, published: PublishedTask, places: range) -> Scores:
    asked = [published.task.test[place] for place in places]
    given = asking.answers(published, asked)
    right = [published.against[place] for place in places]
    return {
        "value": [float(same_value(answer, value)) for answer, value in zip(given, right, strict=True)],
        "exact": [Comparison.EXACT.score(one, example.output) for one, example in zip(given, asked, strict=True)],
    }


def _code(asking: Asking, published: PublishedTask, places: range) -> Scores:
    asked = [published.task.test[place] for place in places]
    samples = asking.samples if asking.samples >= _DRAWN and asking.wants("pass@5") else 0
    share = 1 / (1 + samples)
    with part(tell, 0.0, share):
        greedy = asking.answers(published, asked)
        found = {"pass@1": [float(_passes(published, place, one)) for place, one in zip(places, greedy, strict=True)]}
    if not samples:
        return found
    right = [0] * len(asked)
    for number in range(samples):
        with part(tell, (1 + number) * share, (2 + number) * share):
            # an answer's number in its call is its place in the suite, so that the draws depend on nothing else
            sampling = Sampling(seed=number * 10_007 + places.start)
            for at, answer in enumerate(asking.answers(published, asked, sampling)):
                right[at] += _passes(published, places[at], answer)
    return {**found, "pass@5": [code.pass_at(_DRAWN, samples, count) for count in right]}


def _passes(published: PublishedTask, place: int, answer: str) -> bool:
    prompt, tests = published.task.test[place].input, published.against[place]
    return run(code.program(prompt, answer, tests, goes_on=published.suite.completes)).passed


_SCORINGS: dict[SuiteKind, Callable[[Asking, PublishedTask, range], Scores]] = {
    SuiteKind.COMMONSENSE: _commonsense,
    SuiteKind.MATHEMATICS: _mathematics,
    SuiteKind.CODE: _code,
}
