"""Advice on prompts before an adapter is made of them: what looks wrong, which prompts, what to do.

In: prompts and their conditions. Out: findings, the gravest first. Nothing is changed or refused here.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from prompt2lora.generator.alignment import AlignmentOptions
from prompt2lora.generator.text_encoder import MAX_WORD_PIECES
from prompt2lora.ground.pictures import Prompt, pictures_of, text_of
from prompt2lora.ground.prompts import instruction_of, repeated, split

ENOUGH = 16  # prompts that describe a job well; more do no harm
ENOUGH_INSTRUCTED = AlignmentOptions.prompts  # that share an instruction: no more are read
_NEAR = 0.985  # cosine above which two prompts say the same
_MOST_COMPARED = 1024  # prompts that are held against one another; time and memory grow with their square
_APART = 0.35  # mean silhouette above which two groups are two jobs (Rousseeuw 1987)
_FAR = 3.5  # robust deviations from the median distance
_FOREIGN = 0.3  # share of letters of another script
# Pieces a byte above which a tokenizer spells a script letter by letter or finer. Qwen2.5 takes 0.22 to 0.33 for
# Russian, Arabic, Thai, Japanese, Chinese and Korean, 0.48 and more for Greek and Hindi; SmolLM2 0.41 and more for all.
_SPELLED = 0.38

_PERSONAL = {
    "an e-mail address": r"[\w.+-]+@[\w-]+\.[\w.]+",
    "a telephone number": (
        r"(?<![\w.-])(?<!\d )(?:\+\d{1,3}[ -]?)?(?:\(?\d{2,5}\)?[ -])\d{2,4}[ -]\d{3,4}(?![\w.-])(?! \d)"
    ),
    "a bank account": r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}\b",
    "a card number": r"\b(?:\d[ -]?){13,19}\b",
}


class Finding(NamedTuple):
    """kind and grave are for machines; `prompts` are the indices it is about; `text` and `remedy` for people."""

    kind: str
    grave: bool
    prompts: tuple[int, ...]
    text: str
    remedy: str

    def to_dict(self) -> dict[str, Any]:
        return {**self._asdict(), "prompts": list(self.prompts)}

    def __str__(self) -> str:
        which, more = ", ".join(str(i + 1) for i in self.prompts[:8]), len(self.prompts) - 8
        which += f" and {more} more" if more > 0 else ""
        return f"{'!!' if self.grave else ' -'} {f'prompts {which}: ' if which else ''}{self.text}; {self.remedy}"


LONG_INSTRUCTION = Finding(
    "long instruction",
    True,
    (),
    "the instruction is longer than what the base reads of it; without right answers to learn from, its last words do "
    "not go into the weights",
    "shorten it, or give examples with right answers",
)


def advise(
    prompts: Sequence[Prompt],
    conditions: Float[Tensor, "prompts width"],
    count: Callable[[str], int] = len,
    base_count: Callable[[str], int] | None = None,
) -> list[Finding]:
    """All findings on a job's prompts, whose pictures only tell them apart. `count` tells how many word pieces a text
    has for the encoder, `base_count` how many it has for the base; without the latter the base is taken to read Latin
    letters alone."""
    texts = [text_of(prompt) for prompt in prompts]
    found = [
        *_number(texts),
        *_repeated(prompts),
        *_alike(prompts[:_MOST_COMPARED], conditions[:_MOST_COMPARED]),
        *_outliers(conditions),
        *_mixed(texts[:_MOST_COMPARED], conditions[:_MOST_COMPARED]),
        *_long(texts, count),
        *_foreign(texts, base_count),
        *_personal(texts),
    ]
    return sorted(found, key=lambda finding: not finding.grave)


def enough(prompts: Sequence[Prompt]) -> int:
    """How many prompts describe the job of these well."""
    return ENOUGH_INSTRUCTED if instruction_of(prompts) else ENOUGH


def _number(prompts: Sequence[str]) -> list[Finding]:
    n, wanted = len(prompts), enough(prompts)
    if n >= wanted:
        return []
    return [
        Finding(
            "few",
            n < ENOUGH_INSTRUCTED,
            (),
            f"{n} prompt{'s' if n > 1 else ''}; {wanted} describe the job better",
            "add more inputs of the same job, as varied as they come",
        )
    ]


def _repeated(prompts: Sequence[Prompt]) -> list[Finding]:
    twice = repeated(prompts)
    if not twice:
        return []
    return [Finding("duplicate", False, tuple(twice), "the same prompt again", "replace it with another input")]


def _alike(prompts: Sequence[Prompt], conditions: Float[Tensor, "prompts width"]) -> list[Finding]:
    unit = torch.nn.functional.normalize(conditions, dim=-1)
    pairs, seen = (unit @ unit.T > _NEAR).tril(-1).nonzero().tolist(), [pictures_of(prompt) for prompt in prompts]
    near = {i for i, j in pairs if seen[i] == seen[j]} - {*repeated(prompts)}
    if len(near) <= len(prompts) // 2:
        return []
    remedy = "choose inputs that differ: short and long, common and unusual"
    return [Finding("alike", False, tuple(sorted(near)), "most prompts hardly differ", remedy)]


def _outliers(conditions: Float[Tensor, "prompts width"]) -> list[Finding]:
    if len(conditions) < 6:
        return []
    distance = (conditions - conditions.median(0).values).norm(dim=-1)
    middle = distance.median()
    spread = 1.4826 * (distance - middle).abs().median() + 1e-6
    far = ((distance - middle) / spread > _FAR) & (distance > 1.3 * middle)
    indices = tuple(far.nonzero().flatten().tolist())
    if not indices:
        return []
    remedy = "check that they belong to this job, or leave them out"
    if len(indices) == 1:
        remedy = "check that it belongs to this job, or leave it out"
    return [Finding("outlier", False, indices, "unlike the others", remedy)]


def _mixed(prompts: Sequence[str], conditions: Float[Tensor, "prompts width"]) -> list[Finding]:
    """Two groups of instructions that lie apart, neither of them a single prompt."""
    openings = [split(prompt)[0] for prompt in prompts]
    if len(set(openings)) == 1 or len(prompts) < 6:
        return []
    labels = _two_groups(conditions)
    sizes = torch.bincount(labels, minlength=2)
    if int(sizes.min()) < 2 or _silhouette(conditions, labels) < _APART:
        return []
    smaller = int(sizes.argmin())
    return [
        Finding(
            "mixed",
            True,
            tuple((labels == smaller).nonzero().flatten().tolist()),
            "these seem to belong to a different job from the rest",
            "make one adapter for every job, each from its own prompts",
        )
    ]


def _two_groups(points: Float[Tensor, "points width"]) -> Int[Tensor, " points"]:
    """Two means, begun at the two points that are farthest apart (Lloyd 1982)."""
    distance = torch.cdist(points, points)
    first, second = divmod(int(distance.argmax()), len(points))
    centers = points[[first, second]]
    for _ in range(20):
        labels = torch.cdist(points, centers).argmin(1)
        centers = torch.stack([points[labels == k].mean(0) for k in range(2)])
    return labels


def _silhouette(points: Float[Tensor, "points width"], labels: Int[Tensor, " points"]) -> float:
    distance = torch.cdist(points, points)
    scores = []
    for i in range(len(points)):
        mine = labels == labels[i]
        own = distance[i][mine].sum() / max(1, int(mine.sum()) - 1)
        other = distance[i][~mine].mean()
        scores.append(float((other - own) / torch.maximum(own, other).clamp_min(1e-9)))
    return sum(scores) / len(scores)


def _long(prompts: Sequence[str], count: Callable[[str], int]) -> list[Finding]:
    long = tuple(i for i, prompt in enumerate(prompts) if max(map(count, split(prompt))) > MAX_WORD_PIECES)
    if not long:
        return []
    text = f"longer than the {MAX_WORD_PIECES} word pieces that are read; the rest is not seen"
    return [Finding("long", False, long, text, "put what describes the job at the beginning, or shorten the prompt")]


def _foreign(prompts: Sequence[str], base_count: Callable[[str], int] | None) -> list[Finding]:
    """Prompts of another script than the encoder's: those that the base reads all the same, and the others."""
    foreign = tuple(i for i, prompt in enumerate(prompts) if _foreign_share(prompt) > _FOREIGN)
    known = tuple(i for i in foreign if base_count and _has_words(prompts[i], base_count))
    unknown = tuple(i for i in foreign if i not in known)
    found = []
    if unknown:
        text = "in a script of which the base knows hardly any words"
        remedy = (
            "try it all the same: numbers and codes that are only copied often come out right; for more than that, "
            "take a base that reads the language (`prompt2lora doctor` lists bases and generators)"
        )
        found.append(Finding("language", len(unknown) > len(prompts) // 2, unknown, text, remedy))
    if known:
        text = "in a script that the base reads, but the text encoder hardly does"
        remedy = "try it; examples with right answers to learn from help most, as they need no encoder"
        found.append(Finding("encoder language", False, known, text, remedy))
    return found


def _has_words(text: str, base_count: Callable[[str], int]) -> bool:
    """Whether the base's tokenizer has words, or long pieces of them, for the letters of a text that are not Latin."""
    words = "".join(letter if _is_foreign(letter) else " " for letter in text).split()
    return base_count(" ".join(words)) <= _SPELLED * len("".join(words).encode())


def _foreign_share(text: str) -> float:
    letters = [letter for letter in text if letter.isalpha()]
    return sum(map(_is_foreign, letters)) / max(1, len(letters))


def _is_foreign(letter: str) -> bool:
    return letter.isalpha() and not unicodedata.name(letter, "").startswith("LATIN")


def _personal(prompts: Sequence[str]) -> list[Finding]:
    places: dict[str, list[int]] = defaultdict(list)
    for i, prompt in enumerate(prompts):
        for what, pattern in _PERSONAL.items():
            matches = [match.group() for match in re.finditer(pattern, prompt)]
            if what == "a card number":
                matches = [match for match in matches if _luhn(match)]
            if matches:
                places[what].append(i)
    remedy = "replace it with an invented one: prompts are kept with the adapter"
    return [Finding("personal", True, tuple(where), f"holds {what}", remedy) for what, where in places.items()]


def _luhn(text: str) -> bool:
    """The check digit of card numbers (Luhn 1960)."""
    digits = [int(digit) for digit in text if digit.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return len(digits) >= 13 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
