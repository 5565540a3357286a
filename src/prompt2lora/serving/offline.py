"""Answering a file without a service: what answers (a job's release, or an adapter folder), in an engine of its own.

In: a job or a folder, rows. Out: answers. The engine has the main thread meanwhile (decision 6). It knows no formats of
files.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prompt2lora.adapter.folder import form_of, read
from prompt2lora.adapter.peft import adapter_digest
from prompt2lora.base import models
from prompt2lora.base.weights import weights_digest
from prompt2lora.custody.bases import released_form, telling_version
from prompt2lora.custody.versions import Version
from prompt2lora.errors import UsageError
from prompt2lora.evaluation.score_cache import ScoreCache
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.ground.answer_sheet import RowAnswer
from prompt2lora.ground.progress import Report, silent
from prompt2lora.plant.calibration import PLAIN, Calibration, calibration_of
from prompt2lora.plant.plant import Plant
from prompt2lora.serving.answer_file import RowsRequest, answer_rows
from prompt2lora.serving.embedded import EmbeddedEngine
from prompt2lora.serving.setup import Setup


@dataclass(frozen=True)
class Answering:
    """What answers: a version (None: the base) whose adapter lies in `folder`, on a base."""

    job: str
    version: Version | None
    folder: Path | None
    setup: Setup
    form: AnswerForm | None
    instruction: str
    calibration: Calibration = PLAIN

    def request(self, bound: float, max_new_tokens: int, at_once: int, language: str) -> RowsRequest:
        return RowsRequest(
            self.job,
            self.version,
            self.form,
            self.instruction,
            self.calibration,
            bound,
            max_new_tokens,
            at_once,
            language,
        )


def by_job(job: str, base: str | None = None) -> Answering:
    """What is released for a job. Raises UsageError for a job that was never released."""
    plant = Plant.open(base=base)
    registry = plant.registry
    release = registry.current(job)
    if release is None:
        raise UsageError(f"the job {job} has no release yet; promote a version of it, or the base, first")
    version, form = release.version, released_form(registry, release)
    if version is None:
        telling = telling_version(registry, job)
        name = plant.base_of(telling) if telling else plant.evaluator().layout.base_model
        instruction = registry.origin(telling).instruction if telling else ""
        return Answering(job, None, None, Setup(name, weights_digest(name)), form, instruction)
    registry.store.verify(version.adapter)
    name, folder = plant.base_of(version), registry.store.path(version.adapter)
    setup = _setup(name, read(folder).settings)
    instruction = registry.origin(version).instruction
    calibration = calibration_of(registry.measured(version), version.comparison)
    return Answering(job, version, folder, setup, form, instruction, calibration)


def by_folder(folder: Path, base: str | None = None, *, instruction: str = "") -> Answering:
    """An adapter folder. Raises DamagedFile."""
    told = read(folder)
    name = base or str(told.settings["base_model_name_or_path"])
    setup = _setup(name, told.settings)
    known = adapter_digest(folder)
    version = Version(0, "adapter", 1, known, name, "folder", "", None, base_digest=setup.base_digest)
    return Answering("adapter", version, folder, setup, form_of(told.provenance), instruction.strip())


def answer(
    asked: Answering,
    request: RowsRequest,
    texts: Mapping[int, str],
    kept: ScoreCache,
    max_batch_size: int,
    report: Report = silent,
) -> dict[int, RowAnswer]:
    """The answers by row. Call it in the main thread: the engine works there until all rows are answered."""
    engine = EmbeddedEngine.load(
        asked.setup, lambda version: asked.folder or Path(version.adapter), max_batch_size=max_batch_size
    )
    found: dict[int, RowAnswer] = {}
    failed: list[BaseException] = []

    def work() -> None:
        try:
            found.update(asyncio.run(answer_rows(engine, request, texts, kept, report)))
        except BaseException as error:
            failed.append(error)
        finally:
            engine.stop()

    thread = threading.Thread(target=work, name="rows")
    thread.start()
    try:
        engine.run()
    finally:
        engine.stop()
        thread.join()
    if failed:
        raise failed[0]
    return found


def _setup(base: str, settings: Mapping[str, object]) -> Setup:
    rank, targets = settings["r"], settings["target_modules"]
    assert isinstance(rank, int) and isinstance(targets, list)
    models.load_config(base)  # a base that is not here is told before its weights are looked for
    return Setup(base, weights_digest(base), rank, tuple(targets))
