"""Every row of a file answered by one version, many at once, so that work that was killed goes on where it was.

In: an engine, a version, the rows of a file. Out: the answer of every row with its confidence, or why there is none.
Answers are kept one by one in a file beside the result, under the digest of all that they depend on; the result itself
is written as a whole by whoever asked. It knows no formats of files and no HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from prompt2lora.base.decoding import confidence
from prompt2lora.custody.bases import released_form, version_behind
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.releases import Release
from prompt2lora.custody.versions import Version
from prompt2lora.errors import Busy, UsageError
from prompt2lora.evaluation.score_cache import ScoreCache, digest
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.ground.answer_sheet import CUT, UNSURE, RowAnswer, note_in, refusal_in
from prompt2lora.ground.profile import MAX_NEW_TOKENS
from prompt2lora.ground.progress import Report, silent
from prompt2lora.ground.prompts import asked_in_full
from prompt2lora.plant.calibration import PLAIN, Calibration, calibration_of
from prompt2lora.serving.deadline import within
from prompt2lora.serving.protocol import LENGTH, Engine, GenerationRequest, Message, SamplingParams, joined

_SECONDS = 3600.0  # that a row may wait behind the others
_PAUSE = 1.0  # seconds before a busy engine is asked again


@dataclass(frozen=True)
class RowsRequest:
    """How rows are answered.

    version      None: the base
    instruction  stands before every text that does not begin with it
    bound        answers less likely to be right than this are "unsure"
    at_once      most rows that are with the engine at the same time
    """

    job: str
    version: Version | None
    form: AnswerForm | None = None
    instruction: str = ""
    calibration: Calibration = PLAIN
    bound: float = 0.0
    max_new_tokens: int = MAX_NEW_TOKENS
    at_once: int = 64
    language: str = "en"

    def prompt(self, text: str) -> str:
        """A text under the instruction, unless it begins with it."""
        return asked_in_full(text, self.instruction)

    def generation(self, text: str) -> GenerationRequest:
        sampling = SamplingParams(max_new_tokens=self.max_new_tokens)
        message = (Message("user", self.prompt(text)),)
        return GenerationRequest(self.job, message, sampling=sampling, seconds=_SECONDS, form=self.form, logprobs=0)

    @classmethod
    def of(cls, registry: Registry, release: Release) -> RowsRequest:
        """By what is released for a job: its form, its instruction, what was learned of its confidences."""
        version, telling = release.version, version_behind(registry, release)
        return cls(
            release.job,
            version,
            released_form(registry, release),
            registry.instruction(telling) if telling else "",
            calibration_of(registry.measured(version), version.comparison) if version else PLAIN,
        )

    def is_unsure(self, row: RowAnswer) -> bool:
        return row.answer == UNSURE[self.language]

    def key(self, base: str, text: str) -> str:
        """The digest of all that an answer depends on."""
        by = self.version.adapter if self.version else base
        form = self.form.to_dict() if self.form else None
        return digest([by, form, self.instruction, self.max_new_tokens, text])


async def answer_rows(
    engine: Engine, request: RowsRequest, texts: Mapping[int, str], kept: ScoreCache, report: Report = silent
) -> dict[int, RowAnswer]:
    """The answers by row; each text is asked once. Raises what the engine raises, but for what is
    wrong with a row; a busy engine is asked again."""
    asked = open_rows(request, engine.base, texts, kept)
    places = asyncio.Semaphore(request.at_once)
    total, done = len({*texts.values()}), len({*texts.values()}) - len(asked)

    async def one(key: str, text: str) -> None:
        nonlocal done
        async with places:
            while (found := await _answered(engine, request, text)) is None:
                report({"done": done, "of": total})  # whoever cancels need not wait for others' requests
                await asyncio.sleep(_PAUSE)
            kept.add(key, found)
        done += 1
        report({"done": done, "of": total})

    report({"done": done, "of": total})
    tasks = [asyncio.ensure_future(one(key, text)) for key, text in asked.items()]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return rows(request, engine.base, texts, kept)


def open_rows(request: RowsRequest, base: str, texts: Mapping[int, str], kept: ScoreCache) -> dict[str, str]:
    """What is still to be asked, by its key: every text once, the short ones first, for those of one length are read
    together."""
    found = {request.key(base, text): text for text in sorted(texts.values(), key=len)}
    return {key: text for key, text in found.items() if kept.get(key) is None}


def rows(request: RowsRequest, base: str, texts: Mapping[int, str], kept: ScoreCache) -> dict[int, RowAnswer]:
    """What stands beside every row, once all are answered."""
    return {line: _row(request, kept.get(request.key(base, text)) or {}) for line, text in texts.items()}


async def _answered(engine: Engine, request: RowsRequest, text: str) -> dict[str, object] | None:
    """One answer as it is kept; None if the engine is too busy with others to take it now."""
    try:
        whole = await joined(within(_SECONDS, engine.answer(request.version, request.generation(text))))
    except Busy:
        return None
    except UsageError as error:  # what is wrong with this row, and not with the others
        return {"wrong": str(error)}
    return {
        "answer": whole.text.strip(),
        "confidence": confidence([token.log_probability for token in whole.tokens]) if whole.tokens else None,
        "cut": whole.finish_reason == LENGTH,
    }


def _row(request: RowsRequest, told: Mapping[str, object]) -> RowAnswer:
    """What stands beside a row, by what was kept of it."""
    if "wrong" in told:
        return RowAnswer(note=refusal_in(request.language, str(told["wrong"])))
    answer, found = str(told["answer"]), told["confidence"]
    share = round(request.calibration.share(float(found)), 4) if isinstance(found, float | int) else None
    plain = RowAnswer(answer, share, note_in(request.language, CUT) if told["cut"] else "")
    broken = request.form is not None and bool(told["cut"])  # the beginning of an answer is not of its form
    if broken or (share is not None and share < request.bound):
        guess = f"{answer}?" if answer else ""
        return RowAnswer(UNSURE[request.language], share, "; ".join(filter(None, (guess, plain.note))))
    return plain
