"""The registry: which version of which job answers now, and how it came to that.

In: jobs, adapter folders with where they come from, evaluations, verdicts. Out: releases. `promote` and `rollback`
are one transaction each, refused if somebody else changed the job meanwhile; a release may be the base itself. Nothing
of the past is ever changed, and every change has its audit line in the same transaction. It knows no models.
What can be read stands in catalogue.py; what is written within a transaction in jobs.py, versions.py, judgements.py
and releases.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from prompt2lora.custody import audit, database, jobs, judgements, on_record, releases, versions
from prompt2lora.custody.catalogue import Catalogue
from prompt2lora.custody.evaluations import Evaluation
from prompt2lora.custody.gate import Policy, Verdict
from prompt2lora.custody.kept_prompts import every_picture
from prompt2lora.custody.releases import PROMOTE, ROLLBACK, Release
from prompt2lora.custody.schema import MOST_SUBJECT
from prompt2lora.custody.signing import Signer
from prompt2lora.custody.store import Store
from prompt2lora.custody.versions import Origin, Version
from prompt2lora.errors import DamagedFile, OutputError, Unavailable, UsageError

_log = logging.getLogger(__name__)
_POLICY = "policy"  # a line of the record: from here on another policy is in force


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Registry(Catalogue):
    """The catalogue with the seal of the audit log; what is written has an `actor`, and `clock` tells the time."""

    seal: audit.Seal
    clock: Callable[[], datetime] = now
    actor: str = "unknown"

    @classmethod
    def open(
        cls, home: Path, *, url: str = "", actor: str = "unknown", clock: Callable[[], datetime] = now
    ) -> Registry:
        """The registry below `home`, made at first use; its database may be elsewhere (`url`).

        Raises DamagedFile if the key is lost that signed what is there, or if the database is another one than before.
        """
        signer = Signer(home / "keys" / "ed25519")
        store, seal = Store(home / "store", signer), audit.Seal(home / "audit.seal", signer)
        if not signer.file.exists() and (seal.file.exists() or store.digests()):
            raise DamagedFile(f"the key {signer.file} that signed this registry is lost; put its backup back")
        engine = database.open_database(url or f"sqlite:///{home / 'registry.db'}")
        signer.make()
        try:
            with database.reading(engine) as connection:
                audit.check_sealed(connection, seal)
        except DamagedFile:
            engine.dispose()
            raise
        return cls(engine, store, seal, clock, actor)

    def add_job(self, name: str, display_name: str = "") -> None:
        """Know a job by name. One that is known already only gets the display name, if there is one."""
        jobs.check_name(name)
        display_name = jobs.display_name_of(display_name)
        with self.writing() as connection:
            if jobs.add(connection, name, self.at()):
                self.tell(connection, "add job", name, {})
            if display_name:
                self._call_job(connection, name, display_name)

    def call_job(self, name: str, display_name: str) -> None:
        """Let people call a job otherwise from now on; by its name alone, if the display name is empty."""
        display_name = jobs.display_name_of(display_name)
        with self.writing() as connection:
            self._call_job(connection, name, display_name)

    def _call_job(self, connection: Connection, name: str, display_name: str) -> None:
        before = jobs.call(connection, name, display_name)
        if before is not None:
            self.tell(connection, "name job", name, {"display name": display_name, "before": before})

    def add_version(self, job: str, folder: Path, origin: Origin) -> Version:
        """Keep an adapter folder as the job's next version; it answers nobody until it is promoted."""
        digest = self.store.put(folder)
        self.store.put_pictures(every_picture(origin.prompts, origin.examples))
        with self.writing() as connection:
            version = versions.add(connection, job, digest, origin, self.actor, self.at())
            self.tell(connection, "add version", version.name, {"adapter": digest, "generator": origin.generator})
        return version

    def add_evaluation(self, version: Version, measured: Evaluation) -> int:
        """Keep what was measured of a version; returns its id. A number that is not finite is kept as None."""
        self.store.put_pictures(every_picture([], measured.pairs))
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
        If it answers already, its release goes on and nothing is asked: whoever says it twice releases once.

        `rule` is asked inside the transaction: it raises, or says what else stands in the record. `expected` is the id
        of the release that the caller saw as current (None: none). Raises Conflict if it is not current any more,
        UsageError for a version that is not the job's, DamagedFile if the stored adapter was altered.
        """
        if version is not None:
            self.store.verify(version.adapter)
        with self.writing() as connection:
            current = releases.current(connection, job)
            if current and current.version == version:
                return current
            if (current.id if current else None) != expected:
                raise releases.changed(job)
            told = rule(connection) if rule else {}
            return self._release(connection, job, version, PROMOTE, reason, expected, told)

    def rollback(self, job: str, reason: str, *, expected: int | None = None, same_base: bool = False) -> Release:
        """Let what answered before the current release answer again; before the first one that is the base itself.

        An adapter that was rolled back from comes back by a promotion alone, whatever its number; versions that were
        refused, or whose files are not sound any more, are passed over. `expected` is the id of the release that is to
        be taken back (None: whatever answers); with `same_base`, versions for another base are passed over, too.
        Raises UsageError if the base answers already, Conflict if not the expected release does.
        """
        with self.writing() as connection:
            current = releases.current(connection, job)
            if expected is not None and (current is None or current.id != expected):
                raise releases.changed(job)
            if current is None:
                raise UsageError(f"the job {job} has no release yet; there is nothing to roll back")
            if current.version is None:
                raise UsageError(f"the job {job} is already answered by the base; there is nothing to roll back")
            beside = current.version if same_base else None
            before = reversed(releases.before(connection, job))
            back = next(one for one in before if one is None or self._may_return(connection, one, beside))
            return self._release(connection, job, back, ROLLBACK, reason, current.id, {})

    def _may_return(self, connection: Connection, version: Version, beside: Version | None) -> bool:
        """Whether a version may answer again; one for the base of `beside`, if that is named."""
        if judgements.refusal(connection, version):
            return False
        if beside and not version.made_for(beside.base, beside.base_digest):
            return False
        with suppress(Unavailable):  # what cannot be read now cannot answer now
            return self.store.is_sound(version.adapter)
        return False

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

    def verify_audit(self) -> int:
        """Returns the number of lines. Raises DamagedFile for the first that is not as it was written, or for the first
        release, verdict or key that none of them tells of or that is gone."""
        with self.reading() as connection:
            rows = on_record.read(connection)
            lines = audit.verify(connection, self.seal)
        on_record.check(rows, lines)
        return len(lines)

    def record(self, action: str, subject: str, detail: dict[str, Any]) -> None:
        """Put on record what is done beside versions and releases, which record themselves."""
        with self.writing() as connection:
            self.tell(connection, action, subject, detail)

    def tell(self, connection: Connection, action: str, subject: str, detail: dict[str, Any]) -> None:
        """A line of the record, in the running transaction; a `subject` that is too long stands whole in the detail."""
        if len(subject) > MOST_SUBJECT:
            subject, detail = f"{subject[: MOST_SUBJECT - 1]}…", {**detail, "subject": subject}
        connection.info["last audit line"] = audit.append(connection, self.at(), self.actor, action, subject, detail)

    def tell_policy(self, connection: Connection, policy: Policy) -> None:
        """A line of the record if the policy in force is not the one that is last on record; the first adds none."""
        last = judgements.policy_on_record(connection)
        if last not in (None, policy.digest):
            self.tell(connection, _POLICY, "policy in force", {"policy": policy.digest, "before": last})

    def at(self) -> str:
        return self.clock().astimezone(UTC).isoformat(timespec="seconds")

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction; when it is committed, the audit log's end is sealed."""
        with database.writing(self.engine) as connection:
            connection.info.pop("last audit line", None)
            yield connection
            line = connection.info.pop("last audit line", None)
        if line:
            try:
                self.seal.set(line)
            except (OutputError, DamagedFile) as error:  # what was written is written; `verify_audit` tells
                _log.error("the audit log is not sealed: %s", error)
