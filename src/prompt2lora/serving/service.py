"""The service as one value: what is served (served.py), who may do what, and the job queue.

The HTTP interface and the console are two faces of it; everything that they do goes through here.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from prompt2lora.base.constraints import check as check_form
from prompt2lora.base.models import reads_pictures
from prompt2lora.custody.access import Access
from prompt2lora.custody.evaluator import stored_inspection
from prompt2lora.errors import ModelNotFound, UsageError
from prompt2lora.ground.answer_form import AnswerForm, checked
from prompt2lora.ground.answer_sheet import AnswerSheet
from prompt2lora.ground.comparison import Comparison
from prompt2lora.ground.pictures import MOST_OF_A_JOB, Prompt, check_together, pictures_of
from prompt2lora.ground.progress import Report, part
from prompt2lora.ground.prompts import check_prompts
from prompt2lora.plant.plant import Plant
from prompt2lora.serving.answer_file import RowsRequest
from prompt2lora.serving.answered_files import AnsweredFile
from prompt2lora.serving.job_queue import JobQueue, QueuedJob
from prompt2lora.serving.served import Served

MOST_PROMPTS, MOST_EXAMPLES = 256, 5000


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
class Service(Served):
    """`first_code` opens the page of the first key; `replay_hours` pass between two replays of a watched job's canaries
    (0: none but those that are asked for)."""

    queue: JobQueue
    limits: Limits = field(default_factory=Limits)
    first_code: str | None = None
    replay_hours: float = 24.0

    @property
    def access(self) -> Access:
        return Access(self.plant.registry)

    def as_actor(self, name: str) -> Service:
        """The same service, used in somebody's name."""
        return replace(self, plant=self.plant.as_actor(name))

    def replay_due(self) -> None:
        """Start the replays that are due, of jobs that have inspection examples."""
        registry, monitor = self.plant.registry, self.plant.monitor()
        for version in self.released() if self.replay_hours else ():
            if monitor.due(version.job, self.replay_hours) and stored_inspection(registry, version.job):
                self.replay("serving", version.job)

    @property
    def reads_pictures(self) -> bool:
        """Whether this service's base does."""
        try:
            return reads_pictures(self.setup.base if self.setup else self.engine.base)
        except ModelNotFound:
            return False

    def check_pictures(self, prompts: Sequence[Prompt]) -> None:
        """Raises UsageError for a picture in a prompt if the base reads text alone, or for too many pixels in all."""
        pictures = {one for prompt in prompts for one in pictures_of(prompt)}
        if pictures and not self.reads_pictures:
            raise UsageError(f"{self.engine.base} reads text alone and a prompt holds a picture; leave pictures out")
        check_together(pictures, MOST_OF_A_JOB)

    # Long work, in somebody's name

    def generate(
        self,
        actor: str,
        job: str,
        prompts: Sequence[Prompt],
        inspection: Sequence[tuple[Prompt, str]] = (),
        examples: Sequence[tuple[Prompt, str]] = (),
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
        self.check_pictures([*prompts, *(prompt for prompt, _ in (*examples, *inspection))])
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

    def inspect(self, actor: str, job: str, version: str, inspection: Sequence[tuple[Prompt, str]]) -> QueuedJob:
        """Measure and judge a version, on new examples or (without any) by what was measured of it."""
        self.check_pictures([prompt for prompt, _ in inspection])
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

        The file that comes of it is in answered_files.py, for a week.
        """
        request = replace(RowsRequest.of(self.plant.registry, self.release(job)), bound=bound, language=language)
        wanted = AnsweredFile(sheet, request, self.engine, actor, self.plant.registry.clock)

        def run(_: Plant, report: Report) -> dict[str, Any]:
            return wanted.make(loop, report).model_dump()

        return self._begin("answer", job, actor, run)

    def refine(
        self, actor: str, job: str, version: str, examples: Sequence[tuple[Prompt, str]], steps: int = 48
    ) -> QueuedJob:
        """The second stage; the new version (if there is one) is judged on examples that it did not learn from."""
        self.check_pictures([prompt for prompt, _ in examples])
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


def queued_record(queued: QueuedJob) -> dict[str, Any]:
    """A queued job as JSON."""
    return asdict(queued)


def _at_most(given: Sequence[Any], most: int, what: str) -> None:
    if len(given) > most:
        raise UsageError(f"at most {most} {what} are accepted at once, not {len(given)}; send fewer")
