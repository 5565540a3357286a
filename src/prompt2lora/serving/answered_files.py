"""Answered files: each a file of people's with the answers filled in, kept for a week by names of our own.

In: a sheet, how its rows are answered, an engine. Out: the same file with its answers, under a name that tells all that
they depend on, so that work that was killed goes on where it was; and a note beside it, by which it is found again. It
knows neither the job queue nor what people may see.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from concurrent.futures import wait
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import BaseModel, ValidationError

from prompt2lora.evaluation.score_cache import ScoreCache, digest
from prompt2lora.ground.answer_sheet import AnswerSheet
from prompt2lora.ground.files import write_bytes, write_json
from prompt2lora.ground.home import home
from prompt2lora.ground.progress import Report
from prompt2lora.serving.answer_file import RowsRequest, answer_rows
from prompt2lora.serving.protocol import Engine

_KEPT = timedelta(days=7)
_NOTE = ".note.json"
_LOOK_EVERY = 1.0  # seconds
_ROWS_AT_ONCE = 16  # of a file, so that requests from elsewhere do not wait long


class Answered(BaseModel):
    """What is known of an answered file; `sheet` is what its sender calls it, `file` the name that it has here."""

    job: str
    file: str
    sheet: str
    actor: str
    at: str
    rows: int
    unsure: int
    wrong: int


@dataclass(frozen=True)
class AnsweredFile:
    """A sheet that is still to be answered; `actor` sent it, `clock` tells the time."""

    sheet: AnswerSheet
    request: RowsRequest
    engine: Engine
    actor: str
    clock: Callable[[], datetime]

    @property
    def name(self) -> str:
        sheet, request = self.sheet, self.request
        key = request.key(self.engine.base, sheet.file.name)
        told = [request.job, key, request.bound, request.language, sheet.reading.columns]
        return f"{digest([told, hashlib.sha256(sheet.file.data).hexdigest()])[:32]}.{sheet.ending}"

    def make(self, loop: asyncio.AbstractEventLoop, check: Callable[[], None], report: Report) -> Answered:
        """Answer every row and write the file; `loop` is the one that the engine is asked from, not the caller's. What
        `check` raises, in the caller's thread, ends it."""
        request, out = replace(self.request, at_once=_ROWS_AT_ONCE), _place(self.name)
        kept = out.with_suffix(".kept")
        work = answer_rows(self.engine, request, self.sheet.texts, ScoreCache(kept), report)
        answering = asyncio.run_coroutine_threadsafe(work, loop)
        try:
            while wait([answering], _LOOK_EVERY).not_done:
                check()
            rows = answering.result()
        finally:
            answering.cancel()
        write_bytes(out, self.sheet.filled(rows, request.language))
        kept.unlink(missing_ok=True)
        answered = Answered(
            job=request.job,
            file=out.name,
            sheet=self.sheet.file.name,
            actor=self.actor,
            at=self.clock().isoformat(),
            rows=len(rows),
            unsure=sum(request.is_unsure(row) for row in rows.values()),
            wrong=len(self.sheet.wrong) + sum(row.failed for row in rows.values()),
        )
        write_json(_note(out), answered.model_dump())
        return answered


def of_job(job: str) -> list[Answered]:
    """The answered files of a job that are still here, the newest first."""
    found = []
    for note in _place("").glob(f"*{_NOTE}"):
        with suppress(FileNotFoundError, ValidationError):
            answered = Answered.model_validate_json(note.read_bytes())
            if answered.job == job and _place(answered.file).is_file():
                found.append(answered)
    return sorted(found, key=lambda answered: answered.at, reverse=True)


def read(name: str) -> bytes | None:
    """An answered file by its name; None if it is gone."""
    place = _place(name)
    return place.read_bytes() if place.is_file() else None


def forget(now: datetime) -> None:
    """Delete the answered files, and what is kept of unfinished ones, that nobody has touched for a week."""
    for file in _place("").glob("*"):
        with suppress(FileNotFoundError):
            if file.stat().st_mtime < (now - _KEPT).timestamp():
                file.unlink()


def _note(out: Path) -> Path:
    return out.with_name(out.name + _NOTE)


def _place(name: str) -> Path:
    return home() / "answers" / name
