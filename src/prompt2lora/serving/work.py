"""The kinds of long work as values: what was asked for, which JSON can hold until it is done, and how it is done.

In: what a request asks for, checked. Out: its JSON, and the same value again; with a service in somebody's name, what
comes of it. It knows neither the job queue nor where that JSON lies.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar, Protocol

from pydantic import Base64Bytes, PlainSerializer, PlainValidator, TypeAdapter, ValidationError

from prompt2lora.custody.bases import check_current
from prompt2lora.custody.evaluator import canaries, stored_inspection
from prompt2lora.custody.pilot import PilotRequest
from prompt2lora.errors import UsageError
from prompt2lora.ground.answer_sheet import read_answer_sheet
from prompt2lora.ground.pictures import Pictured, Prompt, of_data_url
from prompt2lora.ground.progress import Report, part
from prompt2lora.ground.prompts import check_prompts
from prompt2lora.ground.tables import File
from prompt2lora.plant import candidates, refinement, watches
from prompt2lora.serving.answer_file import RowsRequest
from prompt2lora.serving.answered_files import AnsweredFile
from prompt2lora.serving.served import Served


def _told(prompt: Prompt) -> Any:
    """A prompt with its pictures themselves: nothing of a request that is never done stays in the store."""
    if isinstance(prompt, Pictured):
        return {"text": prompt.text, "pictures": [picture.data_url for picture in prompt.pictures]}
    return prompt


def _read(told: Any) -> Prompt:
    if isinstance(told, dict):
        return Pictured(told["text"], tuple(of_data_url(url, "a kept picture") for url in told["pictures"]))
    return str(told)


_Kept = Annotated[Prompt, PlainSerializer(_told), PlainValidator(_read)]
Prompts = tuple[_Kept, ...]
Examples = tuple[tuple[_Kept, str], ...]


class Work(Protocol):
    """`job` is the one of the registry that it is for; `run` is given a service in the name of whoever asked."""

    kind: ClassVar[str]

    @property
    def job(self) -> str: ...

    def run(self, service: Served, report: Report) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Generate(PilotRequest):
    """A pilot: an adapter from prompts, and from examples if there are some, inspected and judged."""

    kind: ClassVar[str] = "generate"
    prompts: Prompts
    inspection: Examples = ()
    examples: Examples = ()

    def run(self, service: Served, report: Report) -> dict[str, Any]:
        return candidates.pilot(service.plant, self, report=report)


@dataclass(frozen=True)
class Inspect:
    """A version measured and judged, on new examples or by what was measured of it."""

    kind: ClassVar[str] = "inspect"
    job: str
    version: str
    inspection: Examples = ()

    def run(self, service: Served, report: Report) -> dict[str, Any]:
        return candidates.gate(service.plant, self.job, self.version, inspection=self.inspection, report=report)


@dataclass(frozen=True)
class Refine:
    """The second stage; the new version, if there is one, is judged on examples that it did not learn from."""

    kind: ClassVar[str] = "refine"
    job: str
    version: str
    examples: Examples
    steps: int

    def run(self, service: Served, report: Report) -> dict[str, Any]:
        plant = service.plant
        with part(report, 0.0, 0.6) as told:
            found = refinement.refine(
                plant, self.job, self.examples, version=self.version, steps=self.steps, report=told
            )
        if found["improved"]:
            with part(report, 0.6, 1.0, step="measure") as told:
                found["verdict"] = candidates.gate(plant, self.job, found["version"], report=told)["verdict"]
        return found


@dataclass(frozen=True)
class Explain:
    """Why a version is what it is; the page is part of the result."""

    kind: ClassVar[str] = "explain"
    job: str
    version: str
    language: str = "en"

    def run(self, service: Served, report: Report) -> dict[str, Any]:
        registry = service.plant.registry
        version = registry.version(self.job, self.version)
        prompts = check_prompts(list(registry.origin(version).prompts))
        texts = [text for text, _ in stored_inspection(registry, self.job)][:20]
        with tempfile.TemporaryDirectory(prefix="prompt2lora-") as place:
            page = Path(place) / "page.html"
            found = service.plant.explain(
                prompts, texts=texts, version=version, out=page, language=self.language, report=report
            )
            return {**found.to_dict(), "version": self.version, "page": page.read_text(encoding="utf-8")}


@dataclass(frozen=True)
class Answer:
    """Every row of a file answered by what is released for a job when the work begins.

    The file that comes of it is in answered_files.py, for a week; the same file sent again goes on where it was cut.
    """

    kind: ClassVar[str] = "answer"
    job: str
    name: str
    data: Base64Bytes
    column: str
    bound: float
    language: str

    def run(self, service: Served, report: Report) -> dict[str, Any]:
        registry, release = service.plant.registry, service.release(self.job)
        request = RowsRequest.of(registry, release)
        request = replace(request, bound=self.bound, language=self.language)
        sheet = read_answer_sheet(File(self.name, self.data), self.column)
        wanted = AnsweredFile(sheet, request, service.engine, registry.actor, registry.clock)
        assert service.loop, "nothing is queued before the service runs"
        return wanted.make(service.loop, partial(check_current, registry, release), report).model_dump()


@dataclass(frozen=True)
class Regenerate:
    """Candidates by the present generator for all jobs (or those named), beside what answers; releases stay."""

    kind: ClassVar[str] = "regenerate"
    jobs: tuple[str, ...]

    @property
    def job(self) -> str:
        return ", ".join(self.jobs)

    def run(self, service: Served, report: Report) -> dict[str, Any]:
        return {"jobs": [change._asdict() for change in candidates.regenerate(service.plant, self.jobs, report=report)]}


@dataclass(frozen=True)
class Replay:
    """The current release asked its inspection examples again, as canaries. With `hours`, only if that is still due by
    then: another service of the same home may have done it while this waited."""

    kind: ClassVar[str] = "replay"
    job: str
    hours: float = 0.0

    def run(self, service: Served, report: Report) -> dict[str, Any]:
        if self.hours and not service.plant.monitor().due(self.job, self.hours):
            return {"alarm": None, "examples": 0}
        inspection = canaries(service.plant.registry, self.job)
        alarm = watches.replay(service.plant, self.job, inspection, report)
        return {"alarm": alarm.reason if alarm else None, "examples": len(inspection)}


KINDS: dict[str, type[Work]] = {
    kind.kind: kind for kind in (Generate, Inspect, Refine, Explain, Answer, Regenerate, Replay)
}


def to_json(work: Work) -> bytes:
    return TypeAdapter(type(work)).dump_json(work)


def read(kind: str, data: bytes) -> Work:
    """The work of which this is the JSON. Raises UsageError for what another version of this program kept."""
    try:
        return TypeAdapter(KINDS[kind]).validate_json(data)
    except (ValidationError, KeyError) as error:
        raise UsageError("another version of the service kept this, and it cannot be read; ask for it again") from error
