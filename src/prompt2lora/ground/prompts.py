"""What a prompt consists of, and what may be one.

In: texts, perhaps with pictures. Out: the same, or parts of them. It refuses what is empty, too long, or no text; files
it does not know. Standard library only.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence

from prompt2lora.errors import InputError
from prompt2lora.ground.comparison import composed
from prompt2lora.ground.pictures import P, Prompt, identity, rewritten, text_of

MAX_CHARACTERS = 20_000
_BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*")


def check_prompts(prompts: list[P], source: str = "prompts") -> list[P]:
    """The same prompts. Raises InputError if there is none, or one is blank or longer than MAX_CHARACTERS."""
    if not prompts:
        raise InputError(
            "no_prompts", f"{source}: at least one prompt is needed, and there is none; write one prompt per line"
        )
    for number, prompt in enumerate(map(text_of, prompts), 1):
        if is_half(prompt):
            raise InputError(
                "half_character",
                f"{source}: prompt {number} holds half a character (a lone surrogate); remove it",
            )
        if not prompt.strip():
            raise InputError("no_prompts", f"{source}: prompt {number} is blank; remove it")
        if len(prompt) > MAX_CHARACTERS:
            raise InputError(
                "long_prompt",
                f"{source}: a prompt may have {MAX_CHARACTERS:,} characters, "
                f"prompt {number} has {len(prompt):,}; shorten it",
                number=number,
                most=MAX_CHARACTERS,
            )
    return prompts


def is_half(text: str) -> bool:
    """Whether a text holds half a character, which no file and no model takes."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def is_one_line(text: str) -> bool:
    """Whether every character can be seen, or is a space of any script, as the full-width one (U+3000) is."""
    return all(letter.isprintable() or unicodedata.category(letter) == "Zs" for letter in text)


def plain_lines(text: str) -> str:
    """The text with one kind of line ends, whatever system wrote it."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def full_prompt(instruction: str, text: str) -> str:
    """An input under its instruction; the text alone if there is no instruction.

    The first blank line tells where the instruction ends, so one of several paragraphs becomes one of several lines.
    """
    return "\n\n".join([_BLANK_LINES.sub("\n", instruction), text]) if instruction else text


def asked_in_full(prompt: P, instruction: str) -> P:
    """A prompt under the instruction of its job, where it may stand already."""
    return rewritten(prompt, lambda text: _in_full(text, instruction))


def _in_full(text: str, instruction: str) -> str:
    found = _opening(text.strip(), instruction)
    if found is None:
        return full_prompt(instruction.strip(), text)
    rest = text.strip()[found:].strip()
    return full_prompt(instruction.strip(), rest) if rest else text


def _opening(text: str, instruction: str) -> int | None:
    """Where an instruction ends that stands in lines of its own at the beginning of a text, whatever blank lines are
    between them; None: it does not. "List" is not that of "Listing 3"."""
    lines = [re.escape(line.strip()) for line in instruction.splitlines() if line.strip()]
    found = re.match(r"\s*\n\s*".join(lines) + r"(?=\s*(\n|$))", text) if lines else None
    return found.end() if found else None


def full_examples(instruction: str, examples: Sequence[tuple[P, str]]) -> list[tuple[P, str]]:
    """(input, right answer) -> (prompt, right answer), every input under the instruction."""
    return [(asked_in_full(one, instruction), answer) for one, answer in examples]


def split(prompt: str) -> tuple[str, str]:
    """(opening, rest) of a prompt: before and after its first blank line, or the whole prompt twice."""
    opening, *others = _BLANK_LINES.split(prompt.strip(), maxsplit=1)
    rest = "".join(others).strip()
    return (opening.strip(), rest) if rest else (opening, opening)


def instruction_of(prompts: Sequence[Prompt], examples: Sequence[tuple[Prompt, str]] = ()) -> str:
    """What the prompts open with, if most of them have one opening (and a blank line after it) and none another; else
    nothing.

    Where the prompts have none, those of the examples (prompt, right answer) tell.
    """
    openings = [split(prompt)[0] for prompt in map(text_of, prompts) if _BLANK_LINES.search(prompt.strip())]
    if len({*openings}) == 1 and 2 * len(openings) > len(prompts):
        return openings[0]
    return instruction_of([prompt for prompt, _ in examples]) if examples else ""


def input_of(prompt: str, instruction: str) -> str:
    """A prompt without the instruction, if it opens with it."""
    whole = prompt.strip()
    return whole[_opening(whole, instruction) or 0 :].strip() or whole


def repeated(prompts: Sequence[Prompt]) -> list[int]:
    """Which prompts have the text, but for case and spaces, and the pictures of one before."""
    found, known = [], set[str]()
    for i, prompt in enumerate(prompts):
        one = identity(rewritten(prompt, lambda text: " ".join(composed(text).lower().split())))
        if one in known:
            found.append(i)
        known.add(one)
    return found


def learned_digests(examples: Sequence[tuple[Prompt, str]], instruction: str) -> set[str]:
    """By what an adapter remembers the inputs of the examples (prompt, right answer) that it was made of."""
    return {input_digest(prompt, instruction) for prompt, _ in examples}


def input_digest(prompt: Prompt, instruction: str = "") -> str:
    """The same for inputs that are all but the same: width, case, spaces and closing punctuation of the text are not
    looked at; pictures have to be the same ones."""
    plain = rewritten(prompt, lambda text: _plain(input_of(text, instruction)))
    return hashlib.sha256(identity(plain).encode()).hexdigest()[:16]


def _plain(text: str) -> str:
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(" .!?。、,;:")
    return plain or text.strip()
