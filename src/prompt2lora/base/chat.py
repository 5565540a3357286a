"""Prompts and answers -> token ids, as the base model was taught to read them.

In: texts, and labelled examples as earlier turns. Out: lists of token ids. It knows no tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

_SENTINEL = "\u241fprompt\u241f"


@dataclass
class ChatFormat:
    """How a prompt is put to the base: its own chat template, or plain text if it has none."""

    tokenizer: Any

    def _frame(self, examples: Sequence[tuple[str, str]]) -> tuple[str, str]:
        """What stands before and after a prompt; examples are earlier turns of the same conversation."""
        if not self.tokenizer.chat_template:
            return "".join(f"{prompt}\n{answer}\n\n" for prompt, answer in examples), "\n"
        messages = [
            {"role": role, "content": text}
            for turn in examples
            for role, text in zip(("user", "assistant"), turn, strict=True)
        ]
        messages.append({"role": "user", "content": _SENTINEL})
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        before, _, after = text.partition(_SENTINEL)
        return before, after

    @property
    def padding(self) -> int:
        return self.tokenizer.pad_token_id or 0

    @property
    def end(self) -> int:
        """The token that ends an answer."""
        return int(self.tokenizer.eos_token_id)

    def prompt_ids(self, prompts: Sequence[str], examples: Sequence[tuple[str, str]] = ()) -> list[list[int]]:
        """Token ids of every prompt, after the (prompt, answer) examples if there are any."""
        before, after = self._frame(examples)
        texts = [f"{before}{prompt}{after}" for prompt in prompts]
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=not self.tokenizer.chat_template)["input_ids"]
        return ids

    def turns_within(self, turns: Sequence[tuple[str, str]], room: int) -> list[tuple[str, str]]:
        """The (prompt, answer) turns that end within `room` tokens, the frame of the question itself not counted."""
        frame = len(self.prompt_ids([""])[0])
        lengths = [len(self.prompt_ids([""], [turn])[0]) - frame for turn in turns]
        return [turn for turn, end in zip(turns, accumulate(lengths), strict=True) if end <= room]

    def answer_ids(self, answers: Sequence[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(list(answers), add_special_tokens=False)["input_ids"]
        return [[*answer, self.end] for answer in ids]

    def answers_within(self, examples: Sequence[tuple[str, str]]) -> list[tuple[int, list[int]]]:
        """Where the answers of earlier turns stand, and their tokens: (place of the first one, token ids).

        An answer whose tokens are others there than when it is written is left out.
        """
        whole, answers = self.prompt_ids([""], examples)[0], self.answer_ids([answer for _, answer in examples])
        found = []
        for at, ((prompt, _), answer) in enumerate(zip(examples, answers, strict=True)):
            before = self.prompt_ids([prompt], examples[:at])[0]
            if whole[: len(before) + len(answer)] == [*before, *answer]:
                found.append((len(before), answer))
        return found
