"""The service as one value: what is served (served.py), who may do what, and the job queue.

The HTTP interface and the console are two faces of it; everything that they do goes through here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from prompt2lora.base.constraints import check as check_form
from prompt2lora.base.models import reads_pictures
from prompt2lora.custody.access import SERVICE, Access
from prompt2lora.custody.evaluator import canaries
from prompt2lora.custody.jobs import check_name, display_name_of
from prompt2lora.errors import ModelNotFound, Prompt2LoraError, UsageError
from prompt2lora.ground.answer_form import AnswerForm, checked
from prompt2lora.ground.comparison import Comparison
from prompt2lora.ground.pictures import MOST_OF_A_JOB, Prompt, check_together, pictures_of
from prompt2lora.ground.progress import Report
from prompt2lora.ground.prompts import check_prompts
from prompt2lora.ground.tables import File
from prompt2lora.plant.refinement import check_start
from prompt2lora.serving.job_queue import JobQueue, QueuedJob
from prompt2lora.serving.served import Served
from prompt2lora.serving.work import (
    Answer,
    Explain,
    Generate,
    Inspect,
    Refine,
    Regenerate,
    Replay,
    Work,
    read,
    to_json,
)

MOST_PROMPTS, MOST_EXAMPLES = 256, 5000
_log = logging.getLogger(__name__)


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
            try:
                if monitor.due(version.job, self.replay_hours) and canaries(registry, version.job):
                    self._begin(SERVICE, Replay(version.job, self.replay_hours))
            except Prompt2LoraError as error:  # the others are replayed all the same
                _log.error("%s", error)

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
            raise UsageError(f"{self.engine.base} reads only text, and a prompt holds a picture; leave pictures out")
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
        check_name(job)
        display_name = display_name_of(display_name)
        work = Generate(job, tuple(prompts), tuple(inspection), tuple(examples), form, comparison)
        queued = self._begin(actor, work)
        self.plant.as_actor(actor).registry.add_job(job, display_name)  # only now: a full queue changes nothing
        return queued

    def inspect(self, actor: str, job: str, version: str, inspection: Sequence[tuple[Prompt, str]]) -> QueuedJob:
        """Measure and judge a version, on new examples or (without any) by what was measured of it."""
        self.check_pictures([prompt for prompt, _ in inspection])
        _at_most(inspection, MOST_EXAMPLES, "examples")
        self.plant.registry.version(job, version)
        return self._begin(actor, Inspect(job, version, tuple(inspection)))

    def answer_file(
        self, actor: str, job: str, file: File, column: str = "", bound: float = 0.0, language: str = "en"
    ) -> QueuedJob:
        """Answer every row of a file, by the texts of a column, by what is released for a job."""
        self.release(job)
        return self._begin(actor, Answer(job, file.name, file.data, column, bound, language))

    def refine(
        self, actor: str, job: str, version: str, examples: Sequence[tuple[Prompt, str]], steps: int = 48
    ) -> QueuedJob:
        """The second stage; the new version (if there is one) is judged on examples that it did not learn from."""
        self.check_pictures([prompt for prompt, _ in examples])
        _at_most(examples, MOST_EXAMPLES, "examples")
        origin = self.plant.registry.origin(self.plant.registry.version(job, version))
        check_start(version, origin)
        if origin.form:
            checked(origin.form, [right for _, right in examples])
        return self._begin(actor, Refine(job, version, tuple(examples), steps))

    def explain(self, actor: str, job: str, version: str, language: str = "en") -> QueuedJob:
        """Why a version is what it is; the page is part of the result."""
        check_prompts(list(self.plant.registry.origin(self.plant.registry.version(job, version)).prompts))
        return self._begin(actor, Explain(job, version, language))

    def regenerate(self, actor: str, jobs: Sequence[str]) -> QueuedJob:
        """Candidates by the present generator for all jobs (or those named), beside what answers; releases stay."""
        for job in jobs:
            self.plant.registry.versions(job)
        return self._begin(actor, Regenerate(tuple(jobs)))

    def replay(self, actor: str, job: str) -> QueuedJob:
        """Ask the current release its inspection examples again, as canaries."""
        if not canaries(self.plant.registry, job):
            raise UsageError(f"the job {job} has no inspection examples; measure a version on some first")
        return self._begin(actor, Replay(job))

    def cancel(self, actor: str, id: str) -> QueuedJob:
        """Let a queued job stop; what it has kept whole (a version that is not measured yet) stays."""
        queued = self.queue.unfinished(id)
        self.plant.as_actor(actor).registry.record(f"cancel {queued.kind}", queued.job, {"queued": queued.id})
        return self.queue.cancel(id, actor)

    def go_on(self) -> None:
        """Begin what processes that have ended left unfinished; forget what ended long ago."""
        self.queue.forget()
        for queued in self.queue.left_behind():
            self.queue.again(queued, self._recorded(queued.actor, partial(self._kept, queued)))

    def _kept(self, queued: QueuedJob) -> Work:
        return read(queued.kind, self.queue.asked(queued))

    def _begin(self, actor: str, work: Work) -> QueuedJob:
        """A queued job in somebody's name."""
        return self.queue.start(work.kind, work.job, actor, self._recorded(actor, lambda: work), to_json(work))

    def _recorded(self, actor: str, work: Callable[[], Work]) -> Callable[[Report], dict[str, Any]]:
        """Work in somebody's name; its start is in the audit log, whatever comes of it."""
        service = self.as_actor(actor)

        def run(report: Report) -> dict[str, Any]:
            asked = work()
            service.plant.registry.record(f"begin {asked.kind}", asked.job, {})
            return asked.run(service, report)

        return run


def queued_record(queued: QueuedJob) -> dict[str, Any]:
    """A queued job as JSON."""
    return asdict(queued)


def _at_most(given: Sequence[Any], most: int, what: str) -> None:
    if len(given) > most:
        raise UsageError(f"at most {most} {what} are accepted at once, not {len(given)}; send fewer")
