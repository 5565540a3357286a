"""The registry: which version of which job answers now, and how it came to that.

In: jobs, adapter folders with where they come from, evaluations, verdicts. Out: releases. `promote` and `rollback`
are one transaction each, refused if somebody else changed the job meanwhile; a release may be the base itself. Nothing
of the past is ever changed, and every change has its audit line in the same transaction. It knows no models.
What is read and written within a transaction stands in versions.py, judgements.py and releases.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, update

from prompt2lora.adapter.folder import read_form
from prompt2lora.custody import audit, judgements, releases, schema, versions
from prompt2lora.custody.database import open_database, reading, writing
from prompt2lora.custody.evaluations import Evaluation
from prompt2lora.custody.gate import Policy, Verdict
from prompt2lora.custody.judgements import Judgement, Refusal
from prompt2lora.custody.releases import PROMOTE, ROLLBACK, Release
from prompt2lora.custody.signing import Signer
from prompt2lora.custody.store import Store
from prompt2lora.custody.versions import Origin, Version
from prompt2lora.errors import DamagedFile, UsageError
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.ground.comparison import composed

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,79}")
_LONGEST_DISPLAY_NAME = 80
_POLICY = "policy"  # a line of the record: from here on another policy is in force


@lru_cache(maxsize=4096)
def _form(folder: Path) -> AnswerForm | None:
    """Kept, for what lies in the store under a digest is never changed."""
    return read_form(folder)


def check_job_name(name: str) -> None:
    """Raises UsageError for what no job can be called."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"a job's name is made of a-z, 0-9, - . and _, at most 80 of them; {name[:90]!r} is not")


def display_name_of(text: str) -> str:
    """What people may call a job: one short line, in any script, trimmed; empty for no name of its own.

    Raises UsageError for anything else.
    """
    name, most = composed(text).strip(), _LONGEST_DISPLAY_NAME
    if len(name) > most or not name.isprintable():
        raise UsageError(f"a display name is one line of at most {most} characters; shorten or mend {name[:40]!r}")
    return name


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Registry:
    """A database, a store of adapters and the seal of the audit log; `clock` tells the time."""

    engine: Engine
    store: Store
    seal: audit.Seal
    clock: Callable[[], datetime] = now
    actor: str = "unknown"

    @classmethod
    def open(
        cls, home: Path, *, url: str = "", actor: str = "unknown", clock: Callable[[], datetime] = now
    ) -> Registry:
        """The registry below `home`, made at first use; its database may be elsewhere (`url`).

        Raises DamagedFile if the key is lost that signed what is there.
        """
        signer = Signer(home / "keys" / "ed25519")
        store, seal = Store(home / "store", signer), audit.Seal(home / "audit.seal", signer)
        if not signer.file.exists() and (seal.file.exists() or store.digests()):
            raise DamagedFile(f"the key {signer.file} that signed this registry is lost; put its backup back")
        engine = open_database(url or f"sqlite:///{home / 'registry.db'}")
        signer.make()
        return cls(engine, store, seal, clock, actor)

    # Reading

    def jobs(self) -> list[str]:
        with self.reading() as connection:
            return list(connection.scalars(select(schema.jobs.c.name).order_by(schema.jobs.c.name)))

    def display_name(self, job: str) -> str:
        """What people call a job; its name if nothing else."""
        with self.reading() as connection:
            return versions.find_job(connection, job).display_name or job

    def display_names(self) -> dict[str, str]:
        """What people call every job; its name for one without a display name."""
        found = select(schema.jobs.c.name, schema.jobs.c.display_name)
        with self.reading() as connection:
            return {row.name: row.display_name or row.name for row in connection.execute(found)}

    def versions(self, job: str) -> list[Version]:
        """All versions of a job, the oldest first."""
        with self.reading() as connection:
            return versions.of_job(connection, job)

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
            found = versions.origin(connection, version)
        return replace(found, form=self.form(version))

    def form(self, version: Version) -> AnswerForm | None:
        """What the answers of a version have to be; None: anything. Raises DamagedFile if its adapter is damaged."""
        return _form(self.store.path(version.adapter))

    def provenance(self, version: Version) -> dict[str, Any]:
        """All that a version depends on, by digest, for auditors. `policy` is that of the latest verdict."""
        with self.reading() as connection:
            return versions.provenance(connection, version)

    def generators(self) -> list[dict[str, Any]]:
        """Every generator that made a version, the oldest first, and how many versions it made."""
        with self.reading() as connection:
            return versions.generators(connection)

    def evaluation(self, version: Version) -> tuple[int, Evaluation] | None:
        """(id, what was measured) of the latest evaluation of a version; None if it was never measured."""
        with self.reading() as connection:
            return judgements.evaluation(connection, version)

    def measured(self, version: Version) -> Evaluation:
        """What was last measured of a version; empty if nothing was."""
        latest = self.evaluation(version)
        return latest[1] if latest else Evaluation()

    def judgement(self, version: Version) -> Judgement | None:
        """The latest judgement of a version; None if it was never judged."""
        with self.reading() as connection:
            return judgements.judgement(connection, version)

    def verdict(self, version: Version) -> str | None:
        """The latest verdict on a version, if there is one."""
        latest = self.judgement(version)
        return latest.verdict.result if latest else None

    def refusal(self, version: Version) -> Refusal | None:
        """The refusal that holds for a version, or for the same adapter under another number; None if none does."""
        with self.reading() as connection:
            return judgements.refusal(connection, version)

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

    def every_version(self) -> list[Version]:
        """All versions of all jobs."""
        return [version for job in self.jobs() for version in self.versions(job)]

    # Writing

    def add_job(self, name: str, display_name: str = "") -> None:
        """Know a job by name. One that is known already only gets the display name, if there is one."""
        check_job_name(name)
        display_name = display_name_of(display_name)
        with self.writing() as connection:
            if connection.scalar(select(schema.jobs.c.id).where(schema.jobs.c.name == name)) is None:
                connection.execute(insert(schema.jobs).values(name=name, at=self.at()))
                self.tell(connection, "add job", name, {})
            if display_name:
                self._call_job(connection, name, display_name)

    def call_job(self, name: str, display_name: str) -> None:
        """Let people call a job otherwise from now on; by its name alone, if the display name is empty."""
        display_name = display_name_of(display_name)
        with self.writing() as connection:
            self._call_job(connection, name, display_name)

    def _call_job(self, connection: Connection, name: str, display_name: str) -> None:
        job = versions.find_job(connection, name)
        if job.display_name != display_name:
            connection.execute(update(schema.jobs).where(schema.jobs.c.id == job.id).values(display_name=display_name))
            self.tell(connection, "name job", name, {"display name": display_name, "before": job.display_name})

    def add_version(self, job: str, folder: Path, origin: Origin) -> Version:
        """Keep an adapter folder as the job's next version; it answers nobody until it is promoted."""
        digest = self.store.put(folder)
        with self.writing() as connection:
            version = versions.add(connection, job, digest, origin, self.actor, self.at())
            self.tell(connection, "add version", version.name, {"adapter": digest, "generator": origin.generator})
        return version

    def add_evaluation(self, version: Version, measured: Evaluation) -> int:
        """Keep what was measured of a version; returns its id. A number that is not finite is kept as None."""
        with self.writing() as connection:
            number = judgements.add_evaluation(connection, version, measured, self.at())
            self.tell(connection, "evaluate", version.name, {"evaluation": number})
        return number

    def add_verdict(
        self, version: Version, evaluation: int, verdict: Verdict, policy: Policy, *, in_force: bool = True
    ) -> None:
        """Keep a verdict with its policy; the record says so if that was not the one `in_force`."""
        told = {"verdict": verdict.result, "policy": policy.digest, **({} if in_force else {"in force": False})}
        with self.writing() as connection:
            if in_force:
                self.tell_policy(connection, policy)
            judgements.add_verdict(connection, version, evaluation, verdict, policy, self.at())
            self.tell(connection, "judge", version.name, told)

    def promote(
        self,
        job: str,
        version: Version | None,
        reason: str,
        *,
        expected: int | None,
        rule: Callable[[Connection], dict[str, Any]] | None = None,
    ) -> Release:
        """Let a version (None: the base) answer the job from now on; the step itself. `decisions.approve` decides.

        `rule` is asked inside the transaction: it raises, or says what else stands in the record. `expected` is the id
        of the release that the caller saw as current (None: none). Raises Conflict if it is not current any more,
        UsageError for a version that is not the job's, DamagedFile if the stored adapter was altered.
        """
        if version is not None:
            self.store.verify(version.adapter)
        with self.writing() as connection:
            told = rule(connection) if rule else {}
            return self._release(connection, job, version, PROMOTE, reason, expected, told)

    def rollback(self, job: str, reason: str, *, expected: int | None = None) -> Release:
        """Let what answered before the current release answer again; before the first one that is the base itself.

        What was rolled back from does not come back by a second rollback, and versions that were refused, or whose
        files are not sound any more, are passed over. `expected` is the id of the release that is to be taken back
        (None: whatever answers).
        Raises UsageError if the base answers already, Conflict if not the expected release does.
        """
        with self.writing() as connection:
            current = releases.current(connection, job)
            if expected is not None and (current is None or current.id != expected):
                raise releases.changed(job)
            if current is None:
                raise UsageError(f"the job {job} has no release yet; there is nothing to roll back")
            if current.version is None:
                raise UsageError(f"the job {job} is answered by the base already; there is nothing to roll back")
            before = releases.stack(connection, job)[:-1]
            back = next(one for one in reversed(before) if one is None or self._may_return(connection, one))
            return self._release(connection, job, back, ROLLBACK, reason, current.id, {})

    def _may_return(self, connection: Connection, version: Version) -> bool:
        return judgements.refusal(connection, version) is None and self.store.is_sound(version.adapter)

    def _release(
        self,
        connection: Connection,
        job: str,
        version: Version | None,
        action: str,
        reason: str,
        previous: int | None,
        told: dict[str, Any],
    ) -> Release:
        who = {"actor": self.actor, "at": self.at()}
        made = releases.add(connection, job, version, previous=previous, action=action, reason=reason, **who)
        detail = {"release": made.id, "previous": previous, "reason": reason, **told}
        self.tell(connection, action, made.name, detail)
        return made

    # The record

    def verify(self, job: str | None = None) -> int:
        """Check the files of every version (of one job, or of all); returns how many there are."""
        checked = [version for name in ([job] if job else self.jobs()) for version in self.versions(name)]
        for version in checked:
            self.store.verify(version.adapter)
        return len(checked)

    def audit_lines(self) -> list[audit.Line]:
        with self.reading() as connection:
            return list(audit.lines(connection))

    def verify_audit(self) -> int:
        with self.reading() as connection:
            return audit.verify(connection, self.seal)

    def tell(self, connection: Connection, action: str, subject: str, detail: dict[str, Any]) -> None:
        connection.info["last audit line"] = audit.append(connection, self.at(), self.actor, action, subject, detail)

    def tell_policy(self, connection: Connection, policy: Policy) -> None:
        """A line of the record if the policy in force is not the one that is last on record; the first adds none."""
        last = judgements.policy_on_record(connection)
        if last not in (None, policy.digest):
            self.tell(connection, _POLICY, "policy in force", {"policy": policy.digest, "before": last})

    def at(self) -> str:
        return self.clock().astimezone(UTC).isoformat(timespec="seconds")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with reading(self.engine) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction; when it is committed, the audit log's end is sealed."""
        with writing(self.engine) as connection:
            connection.info.pop("last audit line", None)
            yield connection
            line = connection.info.pop("last audit line", None)
        if line:
            self.seal.set(line)
