"""The catalogue: everything that is known of jobs, their versions, how these were judged, and what answers.

In: a database and a store of adapters. Out: values; reading changes nothing. What changes is for registry.py; what is
read within one transaction stands in jobs.py, versions.py, judgements.py, releases.py and audit.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine

from prompt2lora.adapter.folder import form_of, holds_instruction_alone, read_origin
from prompt2lora.custody import audit, database, jobs, judgements, releases, versions
from prompt2lora.custody.evaluations import Evaluation
from prompt2lora.custody.judgements import Judgement, Refusal
from prompt2lora.custody.kept_prompts import every_picture
from prompt2lora.custody.releases import Release
from prompt2lora.custody.store import Store
from prompt2lora.custody.versions import Origin, Version
from prompt2lora.errors import DamagedFile, Unavailable, UsageError, readable_now
from prompt2lora.ground.answer_form import AnswerForm


@lru_cache(maxsize=4096)
def _told(folder: Path) -> tuple[AnswerForm | None, bool]:
    """What an adapter says of its answers' form, and whether it holds the instruction alone. Kept, for what lies in the
    store under a digest is never changed."""
    origin = read_origin(folder)
    return form_of(origin), holds_instruction_alone(origin)


@dataclass
class Catalogue:
    """A database and a store of adapters."""

    engine: Engine
    store: Store

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with database.reading(self.engine) as connection:
            yield connection

    # Jobs

    def jobs(self) -> list[str]:
        with self.reading() as connection:
            return list(jobs.display_names(connection))

    def has_job(self, job: str) -> bool:
        with self.reading() as connection:
            return jobs.is_known(connection, job)

    def display_name(self, job: str) -> str:
        """What people call a job; its name if nothing else."""
        with self.reading() as connection:
            return jobs.find(connection, job).display_name or job

    def display_names(self) -> dict[str, str]:
        """What people call every job; its name for one without a display name."""
        with self.reading() as connection:
            return jobs.display_names(connection)

    # Versions

    def versions(self, job: str) -> list[Version]:
        """All versions of a job, the oldest first."""
        with self.reading() as connection:
            return versions.of_job(connection, job)

    def every_version(self) -> list[Version]:
        """All versions of all jobs."""
        return [version for job in self.jobs() for version in self.versions(job)]

    def version(self, job: str, name: str) -> Version:
        """A job's version by its name. Raises UsageError if it has none of that name."""
        for version in self.versions(job):
            if version.name == name:
                return version
        raise UsageError(f"the job {job} has no version {name[:120]!r}; see `prompt2lora registry show --job {job}`")

    def parent(self, version: Version) -> Version | None:
        """The version that one began from."""
        return next((one for one in self.versions(version.job) if one.id == version.parent), None)

    def origin(self, version: Version) -> Origin:
        """Where a version comes from."""
        with self.reading() as connection:
            found = versions.origin(connection, version, self.store.picture)
        form, from_base = _told(self.store.path(version.adapter))
        return replace(found, form=form, from_base=from_base)

    def instruction(self, version: Version) -> str:
        """What the prompts of a version open with; its adapter is not looked at."""
        with self.reading() as connection:
            return versions.origin(connection, version, self.store.picture).instruction

    def form(self, version: Version) -> AnswerForm | None:
        """What the answers of a version have to be; None: anything. Raises DamagedFile if its adapter is damaged."""
        return _told(self.store.path(version.adapter))[0]

    def is_from_base(self, version: Version) -> bool:
        """Whether the instruction is all that is in a version's weights. Raises DamagedFile, Unavailable."""
        return _told(self.store.path(version.adapter))[1]

    def provenance(self, version: Version) -> dict[str, Any]:
        """All that a version depends on, by digest, for auditors. `policy` is that of the latest verdict."""
        with self.reading() as connection:
            return versions.provenance(connection, version)

    def generators(self) -> list[dict[str, Any]]:
        """Every generator that made a version, the oldest first, and how many versions it made."""
        with self.reading() as connection:
            return versions.generators(connection)

    def verify(self) -> int:
        """Check every version as `damaged` does; returns how many there are. Raises DamagedFile for the first that is
        not sound."""
        checked = self.every_version()
        for _, error in self.damaged(checked):
            raise error
        return len(checked)

    def damaged(self, checked: Sequence[Version]) -> Iterator[tuple[Version, DamagedFile]]:
        """Of these versions, those whose files, or the pictures that they were made of and measured on, are not any
        more what they were, each with what is wrong. Raises Unavailable, after all others, if that cannot be told of
        one now."""
        unknown: Unavailable | None = None
        seen = set[str]()  # versions of a job share most of their pictures
        for version in checked:
            try:
                with readable_now(version.name):
                    self.store.verify(version.adapter)
                    made, measured = self.origin(version), self.measured(version)
                    for picture in every_picture(made.prompts, [*made.examples, *measured.pairs]):
                        if picture.digest not in seen:
                            picture.read()
                            seen.add(picture.digest)
            except Unavailable as error:
                unknown = error
            except DamagedFile as error:
                yield version, error
        if unknown:
            raise unknown

    # Judgements

    def evaluation(self, version: Version) -> tuple[int, Evaluation] | None:
        """(id, what was measured) of the latest evaluation of a version; None if it was never measured."""
        with self.reading() as connection:
            return judgements.evaluation(connection, version, self.store.picture)

    def measured(self, version: Version) -> Evaluation:
        """What was last measured of a version; empty if nothing was."""
        latest = self.evaluation(version)
        return latest[1] if latest else Evaluation()

    def judgement(self, version: Version) -> Judgement | None:
        """The latest judgement of a version, but a *pass* only if nothing was measured after it; None if none holds."""
        with self.reading() as connection:
            return judgements.judgement(connection, version)

    def verdict(self, version: Version) -> str | None:
        """The verdict that holds for a version, if one does."""
        latest = self.judgement(version)
        return latest.verdict.result if latest else None

    def refusal(self, version: Version) -> Refusal | None:
        """The refusal that holds for a version, or for the same adapter under another number; None if none does."""
        with self.reading() as connection:
            return judgements.refusal(connection, version)

    # Releases

    def history(self, job: str) -> list[Release]:
        """All releases of a job, the oldest first."""
        with self.reading() as connection:
            return releases.history(connection, job)

    def current(self, job: str) -> Release | None:
        """The release that answers now; None before the first, when requests are refused."""
        with self.reading() as connection:
            return releases.current(connection, job)

    def released(self) -> list[Version]:
        """Every version that answers a job now."""
        found = [self.current(job) for job in self.jobs()]
        return [release.version for release in found if release and release.version]

    # The record

    def audit_lines(self) -> list[audit.Line]:
        with self.reading() as connection:
            return list(audit.lines(connection))

    def audit_count(self) -> int:
        """How many lines the audit log has."""
        with self.reading() as connection:
            return audit.count(connection)

    def audit_page(self, after: int, most: int, *, newest_first: bool = False) -> list[audit.Line]:
        """At most so many lines of the audit log after the first `after` ones, or after as many of the newest."""
        with self.reading() as connection:
            return audit.page(connection, after, most, newest_first=newest_first)
