"""From prompts to an adapter: they are read, the decoder turns what was read into weights, alignment finishes them.

In: prompts of one job, perhaps some with the right answer. Out: a weight grid with the instruction that is in it, or a
PEFT folder. Text encoder and base are loaded at first use and kept, so that a second adapter costs seconds. It knows no
tasks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.card import card
from prompt2lora.adapter.folder import ANSWERS, FROM_BASE, LEARNED
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.base.chat import ChatFormat
from prompt2lora.base.frozen import Frozen
from prompt2lora.errors import LayoutError, UsageError
from prompt2lora.generator.alignment import AlignmentOptions, PromptsRead, aligned, instruction_to_align, read_prompts
from prompt2lora.generator.examples import taught
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.hidden_states import is_read_whole, states
from prompt2lora.generator.prompt_checks import LONG_INSTRUCTION, Finding, advise
from prompt2lora.generator.text_encoder import Encoder, cached_encoder
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.ground.files import check_new
from prompt2lora.ground.pictures import Prompt, pictures_of, text_of
from prompt2lora.ground.prompts import check_prompts, instruction_of, learned_digests

# Where an adapter begins with the base and keeps nothing else, whole prompts weigh more and more answers are read.
WHOLE_WEIGHT, WHOLE_OPTIONS = 16.0, AlignmentOptions(max_new_tokens=32)
_USUAL, _UNANSWERED = AlignmentOptions(), AlignmentOptions(max_new_tokens=0)


class MadeGrid(NamedTuple):
    """A weight grid, the instruction that alignment put into it (empty: none), and the seconds of every step.

    `from_base`: it begins with the base, for the job's answers are long, and holds the instruction alone. `decoded`
    are the prompts that the decoder was given; none: it had no part.
    """

    grid: Float[Tensor, "layers rows cols"]
    instruction: str
    seconds: dict[str, float]
    from_base: bool = False
    decoded: Sequence[Prompt] = ()


@dataclass(frozen=True)
class Generated:
    """What was written: the folder, its digest, the instruction in the weights, the seconds of every step.

    `prompts` and `examples` are how many it was made of; `instruction` is empty if the prompts share none, or the
    generator cannot put it there. `from_base`: the instruction is all that is in the weights, for the job's answers are
    long, and the base writes such answers better than the generator's adapters do. `advice` is what looked wrong about
    the prompts, if anybody asked.
    """

    adapter: str
    digest: str
    prompts: int
    examples: int
    parameters: int
    instruction: str
    seconds: dict[str, float]
    from_base: bool = False
    advice: tuple[Finding, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "advice": [finding.to_dict() for finding in self.advice]}


class Pipeline:
    """A generator with all that it needs to make adapters of prompts, loaded once and used for any number of jobs."""

    def __init__(self, generator: Generator, encoder: Encoder, base: Frozen | LoraLayout) -> None:
        """`base` is a loaded one, or the layout of adapters for the base to be loaded."""
        self.generator, self.encoder, self._base = generator, encoder, base
        self.load_seconds = 0.0

    @classmethod
    def load(cls, generator: str | Path | None = None, base: str | None = None) -> Pipeline:
        """A generator by name (see `Generator.from_pretrained`), for `base` (default: its own), ready to be used.

        Raises ModelNotFound, DamagedFile, LayoutError.
        """
        began = time.monotonic()
        loaded = Generator.from_pretrained(generator, base=base)
        pipeline = cls(loaded, cached_encoder(loaded.config.encoder), fitting_layout(loaded, base))
        pipeline.load_models()
        pipeline.load_seconds = time.monotonic() - began
        return pipeline

    def load_models(self) -> None:
        """Load now what would be loaded at first use: the encoder, and the base if the generator asks it."""
        self.encoder.load()
        if self.generator.config.states:
            _ = self.base

    @cached_property
    def base(self) -> Frozen:
        return self._base if isinstance(self._base, Frozen) else Frozen.load(self._base)

    @property
    def layout(self) -> LoraLayout:
        return self._base.layout if isinstance(self._base, Frozen) else self._base

    @cached_property
    def _chat(self) -> ChatFormat:
        """Without loading the base for it."""
        return self._base.chat if isinstance(self._base, Frozen) else ChatFormat.load(self.layout.base_model)

    def advise(self, prompts: Sequence[Prompt]) -> list[Finding]:
        """What looks wrong about prompts; see `prompt_checks`."""
        _, reader = self.encoder.parts
        found = advise(
            prompts,
            self.encoded(prompts),
            lambda text: len(reader(text, add_special_tokens=True)["input_ids"]),
            lambda text: len(self._chat.tokenizer(text, add_special_tokens=False)["input_ids"]),
        )
        return [*([] if self._aligns_whole(self.instruction(prompts)) else [LONG_INSTRUCTION]), *found]

    def check_pictures(self, prompts: Sequence[Prompt], examples: Sequence[tuple[Prompt, str]] = ()) -> None:
        """Raises UsageError for pictures that could not be told apart: the base reads text alone or does not take them,
        or the generator does not ask the base."""
        seen = [prompt for prompt in (*prompts, *(prompt for prompt, _ in examples)) if pictures_of(prompt)]
        if seen and not self.generator.config.states and not examples:
            raise UsageError(
                "this generator reads only texts, and a prompt holds a picture; name one that asks the base, or give "
                "examples with right answers"
            )
        if seen:
            self.base.chat.prompt_ids(seen)

    def encoded(self, prompts: Sequence[Prompt]) -> Float[Tensor, "prompts width"]:
        """What the encoder makes of every prompt's text."""
        return self.encoder.conditions([text_of(prompt) for prompt in prompts])

    def conditions(self, prompts: Sequence[Prompt]) -> Float[Tensor, "prompts width"]:
        """What the encoder, and the base where the generator asks it, make of every prompt."""
        text = self.encoded(prompts)
        if not self.generator.config.states:
            return text
        return torch.cat([text, states(self.base, self.generator.start.detach(), prompts).cpu()], 1)

    def instruction(self, prompts: Sequence[Prompt]) -> str:
        """The instruction that goes into the weights; empty if the prompts share none or the generator has no base."""
        return instruction_to_align(self.layout, prompts) if self.generator.config.states else ""

    def _aligns_whole(self, instruction: str) -> bool:
        """Whether alignment reads all of an instruction."""
        return not instruction or is_read_whole(self._chat, instruction)

    def answered_at_length(self, prompts: Sequence[Prompt]) -> bool:
        """Whether the answers of a job are long and left to the base, by the generator's atlas; the base reads the
        prompts for it. Only where they share an instruction."""
        asked = self.generator.lengths is not None and bool(self.instruction(prompts))
        return asked and self._left_to_the_base(self._read(prompts, _UNANSWERED))

    def _left_to_the_base(self, read: PromptsRead) -> bool:
        lengths = self.generator.lengths
        return lengths is not None and lengths.answered_at_length(read.observed.states.cpu())

    def make(
        self,
        prompts: Sequence[Prompt],
        conditions: Float[Tensor, "prompts width"] | None = None,
        *,
        examples: Sequence[tuple[Prompt, str]] = (),
        form: AnswerForm | None = None,
    ) -> MadeGrid:
        """The adapter of one job's prompts; `conditions` if they are known already.

        With examples, (prompt, right answer), it begins with the generator's adapter for these and needs no decoder.
        Where answers are long, and have no declared form, it begins with the base, and alignment alone makes it.
        """
        if examples:
            return self._teach(prompts, examples)
        marks = {"begin": time.monotonic()}
        instruction = self.instruction(prompts)
        read = self._read(prompts) if instruction else None
        if read and form is None and self._left_to_the_base(read):
            marks["encode"] = time.monotonic()
            grid = self.align_base(prompts)
            marks["align"] = time.monotonic()
            return MadeGrid(grid, instruction, _seconds(marks), from_base=True)
        if conditions is None:
            conditions = self._conditions(read) if read else self.conditions(prompts)
        marks["encode"] = time.monotonic()
        grid = self.generator.generate(conditions)
        marks["decode"] = time.monotonic()
        if read:
            grid = aligned(self.base, grid, read)
        marks["align"] = time.monotonic()
        return MadeGrid(grid, instruction, _seconds(marks), decoded=read.prompts if read else prompts)

    def _read(self, prompts: Sequence[Prompt], options: AlignmentOptions = _USUAL) -> PromptsRead:
        """The base with the adapter that all jobs share reads the prompts, for conditions and alignment alike."""
        return read_prompts(self.base, self.generator.start.detach(), prompts, options)

    def _conditions(self, read: PromptsRead) -> Float[Tensor, "prompts width"]:
        return torch.cat([self.encoded(read.prompts), read.observed.states.cpu()], 1)

    def align_base(self, prompts: Sequence[Prompt]) -> Float[Tensor, "layers rows cols"]:
        """An adapter that holds nothing but the instruction of the prompts, which have to share one.

        It keeps the A of the shared adapter, so that it can be trained further, and changes nothing before alignment.
        """
        unmoved = self.generator.start.detach().clone()
        for block in self.layout.blocks:
            if block.side == "B":
                unmoved[:, block.start : block.stop] = 0
        read = read_prompts(self.base, unmoved, prompts, WHOLE_OPTIONS)
        return aligned(self.base, unmoved, read, WHOLE_OPTIONS, whole_weight=WHOLE_WEIGHT)

    def _teach(self, prompts: Sequence[Prompt], examples: Sequence[tuple[Prompt, str]]) -> MadeGrid:
        began = time.monotonic()
        grid = taught(self.base, self.generator.examples_start, prompts, examples)
        return MadeGrid(grid, instruction_of(prompts, examples), {"examples": time.monotonic() - began})

    def _card(self, origin: dict[str, Any], instruction: str, form: AnswerForm | None) -> str:
        layout, counts = self.layout, (origin["prompts"], origin.get("examples", 0))
        targets = [target.name for target in layout.targets]
        settings = layout.base_model, layout.rank, layout.alpha, targets
        told = origin["generator_sha256"], *counts, instruction, str(form or "")
        return card(
            *settings,
            *told,
            pictures=bool(layout.tower),
            from_base=origin.get(FROM_BASE, False),
            whole=bool(origin.get("examples")) or self._aligns_whole(instruction),
        )

    def write(
        self,
        prompts: Sequence[Prompt],
        out: str | Path,
        *,
        examples: Sequence[tuple[Prompt, str]] = (),
        form: AnswerForm | None = None,
    ) -> Generated:
        """The adapter of one job's prompts and examples as a PEFT folder `out`. Raises UsageError, OutputError.

        There may be no prompts if there are examples. The form of the job's answers is told in the folder.
        """
        prompts, folder = list(prompts), Path(out)
        check_prompts([*prompts, *(prompt for prompt, _ in examples)])
        check_new(folder, "output folder")
        self.check_pictures(prompts, examples)
        made = self.make(prompts, examples=examples, form=form)
        began = time.monotonic()
        origin = {"generator_sha256": self.generator.provenance.get("sha256", ""), "prompts": len(prompts)}
        if examples:
            origin["examples"] = len(examples)
            origin[LEARNED] = sorted(learned_digests(examples, made.instruction))
        if made.from_base:
            origin[FROM_BASE] = True
        if form:
            origin[ANSWERS] = form.to_dict()
        digest = Adapter(self.layout, made.grid, origin).save(folder, self._card(origin, made.instruction, form))
        seconds = {"load": self.load_seconds, **made.seconds, "write": time.monotonic() - began}
        seconds["total"] = sum(seconds.values())
        rounded = {name: round(value, 4) for name, value in seconds.items()}
        counts = len(prompts), len(examples), self.layout.parameters
        return Generated(str(out), digest, *counts, made.instruction, rounded, made.from_base)


def _seconds(marks: dict[str, float]) -> dict[str, float]:
    """The seconds that end at every mark but the first."""
    return {name: end - begin for (_, begin), (name, end) in pairwise(marks.items())}


def fitting_layout(generator: Generator, base: str | None) -> LoraLayout:
    """The generator's layout under the name of `base`. Raises LayoutError if that base has other shapes."""
    layout = generator.config.layout
    if base is None or base == layout.base_model:
        return layout
    targets = [target.name for target in layout.targets]
    config = models.load_config(base)
    try:
        other = LoraLayout.from_config(config, base_model=base, rank=layout.rank, alpha=layout.alpha, targets=targets)
    except LayoutError as error:
        raise LayoutError(f"the base {base} does not fit this generator ({error}); name {layout.base_model}") from error
    if replace(other, stem=layout.stem).digest != layout.digest:  # within a base that reads pictures it lies deeper
        raise LayoutError(
            f"this generator makes adapters for {layout.base_model} {layout.shape}, and {base} needs {other.shape}; "
            f"name a generator trained for that base"
        )
    return other
