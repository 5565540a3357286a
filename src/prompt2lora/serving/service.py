"""The service as one value: the engine, the registry, who may do what, and the job queue.

The HTTP interface and the console are two faces of it; everything that they do goes through here.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from prompt2lora.base.constraints import check as check_form
from prompt2lora.custody.access import Access
from prompt2lora.custody.bases import current_release, released_form, telling_version
from prompt2lora.custody.pilot import stored_inspection
from prompt2lora.custody.releases import Release
from prompt2lora.custody.versions import Version
from prompt2lora.errors import Misconfigured, UsageError
from prompt2lora.evaluation.arms import digest
from prompt2lora.evaluation.score_cache import ScoreCache
from prompt2lora.ground.answer_form import AnswerForm, checked
from prompt2lora.ground.answer_sheet import AnswerSheet
from prompt2lora.ground.comparison import Comparison
from prompt2lora.ground.files import write_bytes
from prompt2lora.ground.home import home
from prompt2lora.ground.progress import Report, part
from prompt2lora.ground.prompts import check_prompts
from prompt2lora.plant.plant import Plant
from prompt2lora.serving.answer_file import RowsRequest, answer_rows
from prompt2lora.serving.job_queue import JobQueue, QueuedJob
from prompt2lora.serving.protocol import Engine, GenerationRequest
from prompt2lora.serving.setup import Setup

MOST_PROMPTS, MOST_EXAMPLES = 256, 5000
_ANSWERED_FILES_KEPT = timedelta(days=7)
_ROWS_AT_ONCE = 16  # of a file, so that requests from elsewhere do not wait long


@dataclass(frozen=True)
class Limits:
    """What one request, one job and one client may take.

    body          most bytes of a request
    per_job       most requests for one job at once
    per_minute    most requests of one key (or, without one, of one address) in a minute
    seconds       most time for an answer
    """

    body: int = 2 * 2**20
    per_job: int = 32
    per_minute: int = 600
    seconds: float = 120.0


@dataclass
class Service:
    """`first_code` opens the page of the first key; `replay_hours` pass between two replays of a watched job's canaries
    (0: none but those that are asked for). `setup` is what the engine was started for (None: any version)."""

    plant: Plant
    engine: Engine
    queue: JobQueue
    limits: Limits = field(default_factory=Limits)
    first_code: str | None = None
    replay_hours: float = 24.0
    setup: Setup | None = None

    @property
    def access(self) -> Access:
        return Access(self.plant.registry)

    def as_actor(self, name: str) -> Service:
        """The same service, used in somebody's name."""
        return replace(self, plant=self.plant.as_actor(name))

    def released(self) -> list[Version]:
        """Every version that answers a job of this service's base now."""
        found = self.plant.registry.released()
        return [version for version in found if self.setup is None or self.setup.serves(version)]

    def check_files(self) -> None:
        """Take back every release whose stored files are not what was signed."""
        monitor = self.plant.as_actor("serving").monitor()
        for version in self.released():
            monitor.check_files(version.job)

    def replay_due(self) -> None:
        """Start the replays that are due, of jobs that have inspection examples."""
        registry, monitor = self.plant.registry, self.plant.monitor()
        for version in self.released() if self.replay_hours else ():
            if monitor.due(version.job, self.replay_hours) and stored_inspection(registry, version.job):
                self.replay("serving", version.job)

    def forget_answered(self) -> None:
        """Delete the answered files, and what is kept of unfinished ones, that nobody has touched for a week."""
        last = (self.plant.registry.clock() - _ANSWERED_FILES_KEPT).timestamp()
        for file in _answered("").glob("*"):
            with suppress(FileNotFoundError):
                if file.stat().st_mtime < last:
                    file.unlink()

    def release(self, job: str) -> Release:
        """What answers a job now. Raises UsageError for a job that is unknown or was never released, Misconfigured for
        one of another base than this service's."""
        current = current_release(self.plant.registry, job)
        self._check_base(current)
        return current

    def releases(self) -> list[Release]:
        """What answers every job of this service's base that has a release."""
        registry, found = self.plant.registry, []
        for job in registry.jobs():
            with suppress(UsageError, Misconfigured):
                found.append(self.release(job))
        return found

    def instruction_in_weights(self, release: Release) -> bool:
        """Whether requests can leave the instruction out, since the adapter that answers was made with it."""
        if not release.version:
            return False
        origin = self.plant.registry.origin(release.version)
        return bool(origin.generated and origin.instruction)

    def _check_base(self, release: Release) -> None:
        """The base of another job's base is not ours to answer with either."""
        version = release.version or telling_version(self.plant.registry, release.job)
        if version and self.setup:
            self.setup.check(version)

    def take_back(self, release: Release) -> None:
        """A released version cannot be served: what answered before answers again, on record."""
        self.plant.as_actor("serving").monitor().hard(release, "not applied")

    def form(self, release: Release) -> AnswerForm | None:
        """What the answers of a job have to be now; None: anything."""
        return released_form(self.plant.registry, release)

    async def try_out(self, version: Version | None, request: GenerationRequest) -> str:
        """The whole answer of one version (None: the base), whether it is released or not. Raises Misconfigured."""
        if version and self.setup:
            self.setup.check(version)
        text = ""
        async for chunk in self.engine.answer(version, request):
            text += chunk.text
        return text

    # Long work, in somebody's name

    def generate(
        self,
        actor: str,
        job: str,
        prompts: Sequence[str],
        inspection: Sequence[tuple[str, str]] = (),
        examples: Sequence[tuple[str, str]] = (),
        form: AnswerForm | None = None,
        *,
        comparison: Comparison | None = None,
        display_name: str = "",
    ) -> QueuedJob:
        """A pilot: an adapter from prompts, and from examples if there are some, inspected and judged; not released.

        `form` is what the answers of the job have to be, `comparison` how they are compared with the right ones; None:
        as those of the job's newest version, else exactly.
        """
        if form:
            check_form(form)
        check_prompts([*prompts, *(prompt for prompt, _ in examples)])
        _at_most(prompts, MOST_PROMPTS, "prompts")
        _at_most(examples, MOST_EXAMPLES, "examples")
        _at_most(inspection, MOST_EXAMPLES, "inspection examples")
        self.plant.as_actor(actor).registry.add_job(job, display_name)

        def run(plant: Plant, report: Report) -> dict[str, Any]:
            return plant.pilot(
                job,
                prompts,
                examples=examples,
                form=form,
                inspection=inspection,
                comparison=comparison,
                report=report,
            )

        return self._begin("generate", job, actor, run)

    def inspect(self, actor: str, job: str, version: str, inspection: Sequence[tuple[str, str]]) -> QueuedJob:
        """Measure and judge a version, on new examples or (without any) by what was measured of it."""
        _at_most(inspection, MOST_EXAMPLES, "examples")
        self.plant.registry.version(job, version)

        def run(plant: Plant, report: Report) -> dict[str, Any]:
            return plant.gate(job, version, inspection=inspection, report=report)

        return self._begin("inspect", job, actor, run)

    def answer_file(
        self,
        actor: str,
        job: str,
        sheet: AnswerSheet,
        bound: float,
        language: str,
        loop: asyncio.AbstractEventLoop,
    ) -> QueuedJob:
        """Answer every row of a file by what is released for a job; `loop` is the one that the engine is asked from.

        The file that comes of it is found by `answered_file`, for a week.
        """
        released = RowsRequest.of(self.plant.registry, self.release(job))
        request = replace(released, bound=bound, at_once=_ROWS_AT_ONCE, language=language)
        told = [request.key(self.engine.base, sheet.file.name), bound, language, sheet.reading.columns]
        name = digest([told, hashlib.sha256(sheet.file.data).hexdigest()])[:32]
        out = _answered(f"{name}.{sheet.ending}")
        kept = out.with_suffix(".kept")

        def run(_: Plant, report: Report) -> dict[str, Any]:
            work = answer_rows(self.engine, request, sheet.texts, ScoreCache(kept), report)
            rows = asyncio.run_coroutine_threadsafe(work, loop).result()
            write_bytes(out, sheet.filled(rows, language))
            kept.unlink(missing_ok=True)
            unsure = sum(request.is_unsure(row) for row in rows.values())
            wrong = len(sheet.wrong) + sum(row.failed for row in rows.values())
            return {"file": out.name, "rows": len(rows), "unsure": unsure, "wrong": wrong}

        return self._begin("answer", job, actor, run)

    def answered_file(self, name: str) -> bytes | None:
        """A file that `answer_file` wrote; None if it is gone."""
        place = _answered(name)
        return place.read_bytes() if place.is_file() else None

    def refine(
        self, actor: str, job: str, version: str, examples: Sequence[tuple[str, str]], steps: int = 48
    ) -> QueuedJob:
        """The second stage; the new version (if there is one) is judged on examples that it did not learn from."""
        _at_most(examples, MOST_EXAMPLES, "examples")
        registry = self.plant.registry
        form = registry.form(registry.version(job, version))
        if form:
            checked(form, [right for _, right in examples])

        def run(plant: Plant, report: Report) -> dict[str, Any]:
            with part(report, 0.0, 0.6) as told:
                found = plant.refine(job, examples, version=version, steps=steps, report=told)
            if found["improved"]:
                with part(report, 0.6, 1.0, step="measure") as told:
                    found["verdict"] = plant.gate(job, found["version"], report=told)["verdict"]
            return found

        return self._begin("refine", job, actor, run)

    def explain(self, actor: str, job: str, version: str, language: str = "en") -> QueuedJob:
        """Why a version is what it is; the page is part of the result."""
        registry = self.plant.registry
        prompts = check_prompts(list(registry.origin(registry.version(job, version)).prompts))
        texts = [text for text, _ in stored_inspection(registry, job)][:20]

        def run(plant: Plant, report: Report) -> dict[str, Any]:
            with tempfile.TemporaryDirectory(prefix="prompt2lora-") as place:
                page = Path(place) / "page.html"
                found = plant.explain(prompts, texts=texts, out=page, language=language, report=report)
                return {**found, "page": page.read_text(encoding="utf-8")}

        return self._begin("explain", job, actor, run)

    def regenerate(self, actor: str, jobs: Sequence[str]) -> QueuedJob:
        """Candidates by the present generator for all jobs (or those named), beside what answers; releases stay."""
        for job in jobs:
            self.plant.registry.versions(job)

        def run(plant: Plant, report: Report) -> dict[str, Any]:
            changes = plant.regenerate(jobs, report=report)
            return {"jobs": [change._asdict() for change in changes]}

        return self._begin("regenerate", ", ".join(jobs), actor, run)

    def replay(self, actor: str, job: str) -> QueuedJob:
        """Ask the current release the job's inspection examples again, as canaries."""
        inspection = stored_inspection(self.plant.registry, job)
        if not inspection:
            raise UsageError(f"the job {job} has no inspection examples; evaluate a version on some first")

        def run(plant: Plant, report: Report) -> dict[str, Any]:
            alarm = plant.replay(job, inspection, report)
            return {"alarm": alarm.reason if alarm else None, "examples": len(inspection)}

        return self._begin("replay", job, actor, run)

    def cancel(self, actor: str, id: str) -> QueuedJob:
        """Let a queued job stop; what it has kept whole (a version that is not measured yet) stays."""
        queued = self.queue.cancel(id, actor)
        self.plant.as_actor(actor).tell(f"cancel {queued.kind}", queued.job, {"queued": queued.id})
        return queued

    def _begin(self, kind: str, job: str, actor: str, run: Callable[[Plant, Report], dict[str, Any]]) -> QueuedJob:
        """A queued job in somebody's name; its start is in the audit log, whatever comes of it."""
        plant = self.plant.as_actor(actor)

        def recorded(report: Report) -> dict[str, Any]:
            plant.tell(f"begin {kind}", job, {})
            return run(plant, report)

        return self.queue.start(kind, job, actor, recorded)

    def watched(self, job: str) -> dict[str, Any] | None:
        """The evidence against what answers a job now; None if nothing is watched."""
        try:
            watch = self.plant.monitor().read(job)
        except UsageError:
            return None
        sources = {
            source: {
                "promised": process.promised,
                "outcomes": process.count,
                "bad": process.bad,
                "evidence": process.evidence,
                "limit": len(watch.processes) / watch.alpha,
            }
            for source, process in watch.processes.items()
        }
        return {"release": watch.release, "sources": sources}


def _answered(name: str) -> Path:
    """Where answered files lie, by names of our own."""
    return home() / "answers" / name


def queued_record(queued: QueuedJob) -> dict[str, Any]:
    """A queued job as JSON."""
    return asdict(queued)


def _at_most(given: Sequence[Any], most: int, what: str) -> None:
    if len(given) > most:
        raise UsageError(f"at most {most} {what} are accepted at once, not {len(given)}; send fewer")
