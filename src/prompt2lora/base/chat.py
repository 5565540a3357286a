"""Prompts and answers -> token ids, as the base model was taught to read them.

In: texts, perhaps with pictures, and labelled examples as earlier turns. Out: lists of token ids, and which tokens end
an answer. A text is a text: what looks like one of the base's control tokens in it is letters (`marks`). Pictures are
what the base's own processor makes of them (`pictures`). It knows no tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

from prompt2lora.base import models
from prompt2lora.base.constraints import Constraints
from prompt2lora.base.marks import Marks
from prompt2lora.base.pictures import PictureReader, reader_of
from prompt2lora.errors import DamagedFile, ModelNotFound, UsageError
from prompt2lora.ground.pictures import Picture, Pictured, Prompt, pictures_of, rewritten, text_of

# Templates that write today's date always write this one: an adapter, and its digest, would be another one every day.
# (A function among the values for a template becomes a text in transformers 5.23.0.)
_TODAY = "strftime_now"
_DAY = {"%-d": "26", "%d": "26", "%b": "Jul", "%B": "July", "%m": "07", "%Y": "2024", "%y": "24", "%a": "Fri"}
_DAY |= {"%A": "Friday", "%H": "00", "%I": "12", "%M": "00", "%S": "00", "%p": "AM"}
_ONE_DAY = (
    f"{{% macro {_TODAY}(format) -%}}{{{{ format"
    + "".join(f" | replace('{directive}', '{text}')" for directive, text in _DAY.items())
    + " }}{%- endmacro %}"
)
_SENTINEL = "\u241fprompt\u241f"
_A_PICTURE = Picture("", bytes)  # any: what counts is that there is one
_EXCHANGE = (("user", "a"), ("assistant", "b"), ("user", "c"))


@dataclass
class ChatFormat:
    """How a prompt is put to the base: its own chat template, or plain text if it has none.

    `generation_ends` are the tokens that end an answer by the base's generation settings, `pictures` what reads them if
    the base does.
    """

    tokenizer: Any
    generation_ends: tuple[int, ...] = ()
    pictures: PictureReader | None = None

    @classmethod
    def of(cls, model: Any, tokenizer: Any) -> ChatFormat:
        """How a loaded base is asked. Raises ModelNotFound if it has no token that ends an answer or always thinks."""
        return cls._made(tokenizer, model.generation_config, model.config.name_or_path, reader_of(model))

    @classmethod
    def load(cls, base: str) -> ChatFormat:
        """How a base is asked, in texts; reads no weights. Raises ModelNotFound."""
        return cls._made(models.load_tokenizer(base), models.load_generation_config(base), base, None)

    @classmethod
    def _made(cls, tokenizer: Any, generation_config: Any, base: str, pictures: PictureReader | None) -> ChatFormat:
        named = getattr(generation_config, "eos_token_id", None)
        ends = () if named is None else (named,) if isinstance(named, int) else tuple(named)
        chat = cls(tokenizer, ends, pictures)
        if not chat.ends:
            raise ModelNotFound(
                f"a base needs a token that ends an answer and {base} names none; add eos_token "
                "to its tokenizer_config.json, or eos_token_id to its generation_config.json"
            )
        if chat._template and chat._rendered([("user", "a")]).rstrip().endswith("<think>"):
            raise ModelNotFound(
                f"a base must be able to answer without thinking and the chat template of {base} always begins with "
                "<think>; name another base"
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
        if self._template:
            turn = self._rendered([("user", "a"), ("assistant", _SENTINEL)], answering=False)
            behind = self._marks.encode([turn.rpartition(_SENTINEL)[2]])[0]
            return next((one for one in behind if one in self.ends), self.ends[0])
        return self.ends[0]

    @property
    def padding(self) -> int:
        return self.tokenizer.pad_token_id or 0

    def prompt_ids(self, prompts: Sequence[Prompt], examples: Sequence[tuple[Prompt, str]] = ()) -> list[list[int]]:
        """Token ids of every prompt, after the (prompt, answer) examples if there are any.

        Raises UsageError for pictures if the base reads text alone.
        """
        turned = [picture for prompt, _ in examples for picture in pictures_of(prompt)]
        frames = {count: self._frame(examples, count) for count in {len(pictures_of(prompt)) for prompt in prompts}}
        texts = []
        for prompt in prompts:
            before, after = frames[len(pictures_of(prompt))]
            text = self._marks.hide(text_of(prompt))
            texts.append(f"{before}{text.strip() if self._trims else text}{after}")
        return self._encode(texts, [[*turned, *pictures_of(prompt)] for prompt in prompts])

    def conversation_ids(self, messages: Sequence[tuple[str, Prompt]]) -> list[int]:
        """Token ids of a conversation, (role, prompt) a message. Raises UsageError if the base's template refuses it,
        or for pictures if the base reads text alone."""
        if [role for role, _ in messages] == ["user"]:
            return self.prompt_ids([messages[0][1]])[0]
        hidden = [(role, rewritten(said, self._marks.hide)) for role, said in messages]
        seen = [picture for _, said in messages for picture in pictures_of(said)]
        if self._template:
            return self._encode([self._rendered(hidden)], [seen])[0]
        return self._encode(["\n\n".join(self._plain(said) for _, said in hidden) + "\n"], [seen])[0]

    def mark_in(self, text: str) -> str:
        """The first of the base's control tokens that stands in a text; empty if none does."""
        return self._marks.first_in(text)

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
        return Marks(self.tokenizer, self._rendered(_EXCHANGE) if self._template else "")

    @property
    def _template(self) -> str | None:
        template: str | None = self.pictures.template if self.pictures else self.tokenizer.chat_template
        return template

    def _frame(self, examples: Sequence[tuple[Prompt, str]], count: int) -> tuple[str, str]:
        """What stands before and after the text of a prompt with so many pictures; examples are earlier turns of the
        same conversation."""
        hidden = [(rewritten(prompt, self._marks.hide), self._marks.hide(answer)) for prompt, answer in examples]
        asked = _SENTINEL if not count else Pictured(_SENTINEL, (_A_PICTURE,) * count)
        if not self._template:
            turns = "".join(f"{self._plain(prompt)}\n{answer}\n\n" for prompt, answer in hidden)
            return f"{turns}{self._plain(asked)}".removesuffix(_SENTINEL), "\n"
        said: list[tuple[str, Prompt]] = []
        for prompt, answer in hidden:
            said += [("user", prompt), ("assistant", answer)]
        before, _, after = self._rendered([*said, ("user", asked)]).rpartition(_SENTINEL)
        return before, after

    @cached_property
    def _trims(self) -> bool:
        """Whether the template takes blanks off both ends of what is said."""
        return bool(self._template) and f" {_SENTINEL} " not in self._rendered([("user", f" {_SENTINEL} ")])

    def _plain(self, prompt: Prompt) -> str:
        """A prompt where there is no template: its pictures' places, and its text."""
        place = self.pictures.processor.image_token if self.pictures else ""
        return place * len(pictures_of(prompt)) + text_of(prompt)

    def _content(self, said: Prompt) -> Any:
        """What a template takes as the content of a message; those of bases that read pictures take parts alone."""
        if self.pictures is None:
            return text_of(said)
        return [*[{"type": "image"}] * len(pictures_of(said)), {"type": "text", "text": text_of(said)}]

    def _rendered(self, messages: Sequence[tuple[str, Prompt]], *, answering: bool = True) -> str:
        """The template's text of a conversation, up to where the answer begins if the base is `answering` it.

        A base that can think before it answers (Qwen3) is told not to.
        """
        from jinja2 import TemplateError, TemplateSyntaxError

        said = [{"role": role, "content": self._content(one)} for role, one in messages]
        template = self.pictures.template if self.pictures else None
        template = template or self.tokenizer.get_chat_template()
        if _TODAY in template:
            template = _ONE_DAY + template
        try:
            text: str = self.tokenizer.apply_chat_template(
                said,
                chat_template=template,
                tokenize=False,
                add_generation_prompt=answering,
                enable_thinking=False,
            )
        except TemplateSyntaxError as error:
            raise DamagedFile(
                f"the base's chat template is none ({error}); correct it, or fetch the base again"
            ) from error
        except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            roles = ", ".join(role for role, _ in messages)
            raise UsageError(
                f"the base's chat template does not take these messages ({roles}): {error}; send others"
            ) from error
        return text

    def _encode(self, texts: Sequence[str], pictures: Sequence[Sequence[Picture]]) -> list[list[int]]:
        """Token ids of whole prompts, each with its pictures; a template writes every special token itself."""
        if any(pictures) and self.pictures is None:
            raise UsageError("the base reads only text, and a prompt holds a picture; name a base that reads pictures")
        ids = self._marks.encode(texts, add_special_tokens=not self._template)
        return [self._seen(words, seen) if seen else words for words, seen in zip(ids, pictures, strict=True)]

    def _seen(self, words: list[int], pictures: Sequence[Picture]) -> list[int]:
        """Token ids with the pictures' own where the template has left a place for each."""
        assert self.pictures
        if words.count(self.pictures.token) != len(pictures):
            raise UsageError(
                f"the base's chat template has {words.count(self.pictures.token)} places for {len(pictures)} pictures; "
                "send fewer, or text alone"
            )
        left = iter(pictures)
        ids: list[int] = []
        for word in words:
            ids += self.pictures.ids(next(left)) if word == self.pictures.token else [word]
        return ids
