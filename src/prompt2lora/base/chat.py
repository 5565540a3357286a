"""Prompts and answers -> token ids, as the base model was taught to read them.

In: texts, and labelled examples as earlier turns. Out: lists of token ids, and which tokens end an answer. A text is a
text: what looks like one of the base's control tokens in it is letters (`marks`). It knows no tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

from prompt2lora.base.constraints import Constraints
from prompt2lora.base.marks import Marks
from prompt2lora.errors import ModelNotFound, UsageError

_SENTINEL = "\u241fprompt\u241f"
_EXCHANGE = (("user", "a"), ("assistant", "b"), ("user", "c"))


@dataclass
class ChatFormat:
    """How a prompt is put to the base: its own chat template, or plain text if it has none.

    `generation_ends` are the tokens that end an answer by the base's generation settings.
    """

    tokenizer: Any
    generation_ends: tuple[int, ...] = ()

    @classmethod
    def of(cls, model: Any, tokenizer: Any) -> ChatFormat:
        """How a loaded base is asked. Raises ModelNotFound if it has no token that ends an answer."""
        named = getattr(model.generation_config, "eos_token_id", None)
        chat = cls(tokenizer, () if named is None else (named,) if isinstance(named, int) else tuple(named))
        if not chat.ends:
            raise ModelNotFound(
                f"a base needs a token that ends an answer and {model.config.name_or_path} names none; add eos_token "
                "to its tokenizer_config.json, or eos_token_id to its generation_config.json"
            )
        return chat

    @cached_property
    def ends(self) -> tuple[int, ...]:
        """Every token that ends an answer: the tokenizer's, and those of the base's generation settings."""
        own = self.tokenizer.eos_token_id
        return tuple(dict.fromkeys([*([] if own is None else [int(own)]), *self.generation_ends]))

    @cached_property
    def end(self) -> int:
        """The token that ends an answer which is shown: the one that the template writes, if it is one that ends."""
        if self.tokenizer.chat_template:
            turn = self._rendered([("user", "a"), ("assistant", _SENTINEL)], answering=False)
            behind = self._marks.encode([turn.rpartition(_SENTINEL)[2]])[0]
            return next((one for one in behind if one in self.ends), self.ends[0])
        return self.ends[0]

    @property
    def padding(self) -> int:
        return self.tokenizer.pad_token_id or 0

    def prompt_ids(self, prompts: Sequence[str], examples: Sequence[tuple[str, str]] = ()) -> list[list[int]]:
        """Token ids of every prompt, after the (prompt, answer) examples if there are any."""
        before, after = self._frame(examples)
        return self._encode([f"{before}{self._marks.hide(prompt)}{after}" for prompt in prompts])

    def conversation_ids(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        """Token ids of a conversation, (role, text) a message. Raises UsageError if the base's template refuses it."""
        if [role for role, _ in messages] == ["user"]:
            return self.prompt_ids([messages[0][1]])[0]
        hidden = [(role, self._marks.hide(text)) for role, text in messages]
        if self.tokenizer.chat_template:
            return self._encode([self._rendered(hidden)])[0]
        return self._encode(["\n\n".join(text for _, text in hidden) + "\n"])[0]

    def text_ids(self, text: str) -> list[int]:
        """Token ids of a text that is to be gone on with, without a frame."""
        return self._marks.encode([self._marks.hide(text)], add_special_tokens=True)[0]

    def turns_within(self, turns: Sequence[tuple[str, str]], room: int) -> list[tuple[str, str]]:
        """The (prompt, answer) turns that end within `room` tokens, the frame of the question itself not counted."""
        frame = len(self.prompt_ids([""])[0])
        lengths = [len(self.prompt_ids([""], [turn])[0]) - frame for turn in turns]
        return [turn for turn, end in zip(turns, accumulate(lengths), strict=True) if end <= room]

    def answer_ids(self, answers: Sequence[str]) -> list[list[int]]:
        ids = self._marks.encode([self._marks.hide(answer) for answer in answers])
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

    @cached_property
    def constraints(self) -> Constraints:
        """By what answers are held to a form."""
        return Constraints(self.tokenizer, self.ends, self.answer_ids(["a"])[0][:1])

    @cached_property
    def _marks(self) -> Marks:
        return Marks(self.tokenizer, self._rendered(_EXCHANGE) if self.tokenizer.chat_template else "")

    def _frame(self, examples: Sequence[tuple[str, str]]) -> tuple[str, str]:
        """What stands before and after a prompt; examples are earlier turns of the same conversation."""
        hidden = [(self._marks.hide(prompt), self._marks.hide(answer)) for prompt, answer in examples]
        if not self.tokenizer.chat_template:
            return "".join(f"{prompt}\n{answer}\n\n" for prompt, answer in hidden), "\n"
        turns = [turn for pair in hidden for turn in zip(("user", "assistant"), pair, strict=True)]
        before, _, after = self._rendered([*turns, ("user", _SENTINEL)]).rpartition(_SENTINEL)
        return before, after

    def _rendered(self, messages: Sequence[tuple[str, str]], *, answering: bool = True) -> str:
        """The template's text of a conversation, up to where the answer begins if the base is `answering` it."""
        from jinja2 import TemplateError

        said = [{"role": role, "content": text} for role, text in messages]
        try:
            text: str = self.tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=answering)
        except TemplateError as error:
            roles = ", ".join(role for role, _ in messages)
            raise UsageError(
                f"the base's chat template does not take these messages ({roles}): {error}; send others"
            ) from error
        return text

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of whole prompts; a template writes every special token itself."""
        return self._marks.encode(texts, add_special_tokens=not self.tokenizer.chat_template)
