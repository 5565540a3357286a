"""Answering a file without a service: what answers (a job's release, or an adapter folder), batch after batch.

In: a job or a folder, rows. Out: answers. All rows are for one version and known from the start, so the instruction
that they share is read once a batch, which an engine for requests of all jobs cannot do. It knows no formats of files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from prompt2lora.adapter.folder import form_of, read
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.peft import Adapter, adapter_digest
from prompt2lora.base import models
from prompt2lora.base.decoding import scored_answers
from prompt2lora.base.frozen import Frozen
from prompt2lora.custody.bases import check_current, current_release, version_behind
from prompt2lora.custody.versions import Version
from prompt2lora.errors import UsageError
from prompt2lora.evaluation.score_cache import ScoreCache
from prompt2lora.ground.answer_sheet import RowAnswer
from prompt2lora.ground.progress import Report, silent
from prompt2lora.plant.plant import Plant
from prompt2lora.serving.answer_file import RowsRequest, open_rows, rows


@dataclass(frozen=True)
class Answering:
    """How rows are answered, and by what: an adapter folder (None: the base alone) on the base of a layout; `check`
    raises Conflict once a job is answered by something else."""

    request: RowsRequest
    folder: Path | None
    layout: LoraLayout
    check: Callable[[], None] = lambda: None


def by_job(job: str, base: str | None = None) -> Answering:
    """What is released for a job. Raises UsageError for a job that was never released."""
    plant = Plant.open(base=base)
    registry = plant.registry
    release = current_release(registry, job)
    version, telling = release.version, version_behind(registry, release)
    if version:
        registry.store.verify(version.adapter)
    folder = registry.store.path(telling.adapter) if telling else None
    layout = _layout(plant.base_of(telling), folder) if telling and folder else plant.evaluator().layout
    check = partial(check_current, registry, release)
    return Answering(RowsRequest.of(registry, release), folder if version else None, layout, check)


def by_folder(folder: Path, base: str | None = None, *, instruction: str = "") -> Answering:
    """An adapter folder. Raises DamagedFile."""
    told = read(folder)
    name = base or str(told.settings["base_model_name_or_path"])
    layout = _layout(name, folder)
    version = Version(0, "adapter", 1, adapter_digest(folder), name, "folder", "", None)
    return Answering(RowsRequest("adapter", version, form_of(told.provenance), instruction.strip()), folder, layout)


@torch.inference_mode()
def answer(
    asked: Answering, texts: Mapping[int, str], kept: ScoreCache, report: Report = silent
) -> dict[int, RowAnswer]:
    """The answers by row, `request.at_once` of them a time; what they have in common is read once a time. Raises
    Conflict if another release answers the job by then."""
    request, layout = asked.request, asked.layout
    adapter = Adapter.load(asked.folder, models.load_config(layout.base_model)) if asked.folder else None
    base = Frozen.load(layout)
    waiting, total = [*open_rows(request, layout.base_model, texts, kept).items()], len({*texts.values()})
    report({"done": total - len(waiting), "of": total})
    while waiting:
        some, waiting = waiting[: request.at_once], waiting[request.at_once :]
        fitting = {}
        for key, text in some:
            try:
                models.check_room(base.model.config, base.chat.prompt_ids([request.prompt(text)]))
                fitting[key] = request.prompt(text)
            except UsageError as error:  # what is wrong with this row, and not with the others
                kept.add(key, {"wrong": str(error)})
        given = fitting and scored_answers(
            base.model,
            base.chat,
            [*fitting.values()],
            layout=layout,
            grid=adapter.grid if adapter else None,
            form=request.form,
            max_new_tokens=request.max_new_tokens,
            scored=True,
        )
        for key, one in zip(fitting, given or [], strict=True):
            kept.add(key, {"answer": one.text, "confidence": one.confidence, "cut": one.cut})
        asked.check()
        report({"done": total - len(waiting), "of": total})
    return rows(request, layout.base_model, texts, kept)


def _layout(base: str, folder: Path) -> LoraLayout:
    """Of an adapter folder, on a base by the name under which it is found now."""
    return replace(Adapter.load(folder, models.load_config(base)).layout, base_model=base)
