"""The registry: which version of which job answers now, and how it came to that.

In: jobs, adapter folders with where they come from, evaluations, verdicts. Out: releases. `promote` and `rollback`
are one transaction each, refused if somebody else changed the job meanwhile; a release may be the base itself. Nothing
of the past is ever changed, and every change has its audit line in the same transaction. It knows no models.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, Table, func, insert, select, update
from sqlalchemy.exc import DataError, OperationalError

from prompt2lora.custody import audit, schema
from prompt2lora.custody.database import open_database, writing
from prompt2lora.custody.evaluations import Evaluation
from prompt2lora.custody.gate import Check, Policy, Verdict
from prompt2lora.custody.signing import Signer
from prompt2lora.custody.store import Store
from prompt2lora.errors import Conflict, DamagedFile, OutputError, UsageError

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,79}")
MAX_REASON = 500
PROMOTE, ROLLBACK = "promote", "rollback"
REFUSE, WITHDRAW = "refuse", "withdraw"  # lines of the record: the newest on an adapter holds
POLICY = "policy"  # a line of the record: from here on another policy is in force


class Version(NamedTuple):
    """One adapter of a job; `name` is what engines know it by and is never used again."""

    id: int
    job: str
    number: int
    adapter: str
    base: str
    kind: str
    at: str
    parent: int | None
    actor: str | None = None  # who made it; not known of versions from before this was kept

    @property
    def name(self) -> str:
        return f"{self.job}@v{self.number}-{self.adapter[:8]}"


class Release(NamedTuple):
    """What answers a job: a version, or (None) the base itself."""

    id: int
    job: str
    version: Version | None
    previous: int | None
    action: str
    reason: str
    actor: str
    at: str


class Judgement(NamedTuple):
    """A verdict on a version, and the digest of the policy that it was judged by."""

    verdict: Verdict
    policy: str


class Refusal(NamedTuple):
    """Who said no to a version, when and why."""

    actor: str
    at: str
    reason: str


@dataclass(frozen=True)
class Origin:
    """Where a version comes from; `examples` are (prompt, right answer)."""

    prompts: Sequence[str]
    generator: str
    generator_name: str
    base: str
    base_digest: str
    seed: int = 0
    parent: int | None = None
    kind: str = "generated"
    examples: Sequence[tuple[str, str]] = ()


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

    def versions(self, job: str) -> list[Version]:
        with self.reading() as connection:
            found = select(schema.versions).where(schema.versions.c.job == self._job(connection, job).id)
            return [_version(job, row) for row in connection.execute(found.order_by(schema.versions.c.number))]

    def version(self, job: str, name: str) -> Version:
        """A job's version by its name. Raises UsageError if it has none of that name."""
        for version in self.versions(job):
            if version.name == name:
                return version
        raise UsageError(f"the job {job} has no version {name[:120]!r}; see `prompt2lora registry show --job {job}`")

    def parent(self, version: Version) -> Version | None:
        """The version that one began from."""
        return next((one for one in self.versions(version.job) if one.id == version.parent), None)

    def evaluation(self, version: Version) -> tuple[int, Evaluation] | None:
        """(id, what was measured) of the latest evaluation of a version; None if it was never measured."""
        table = schema.evaluations
        found = select(table.c.id, table.c.scores).where(table.c.version == version.id).order_by(table.c.id.desc())
        with self.reading() as connection:
            row = connection.execute(found.limit(1)).first()
        return (row.id, Evaluation.read(row.scores)) if row else None

    def measured(self, version: Version) -> Evaluation:
        """What was last measured of a version; empty if nothing was."""
        latest = self.evaluation(version)
        return latest[1] if latest else Evaluation()

    def origin(self, version: Version) -> Origin:
        """Where a version comes from."""
        tables = schema.versions.join(schema.prompt_sets).join(schema.generators)
        kept = schema.prompt_sets.c
        found = select(schema.versions, kept.prompts.label("texts"), kept.examples, schema.generators.c.name)
        with self.reading() as connection:
            row = connection.execute(found.select_from(tables).where(schema.versions.c.id == version.id)).one()
        examples = tuple((prompt, answer) for prompt, answer in row.examples or ())
        made = (row.generator, row.name, row.base, row.base_digest, row.seed, row.parent, row.kind)
        return Origin(row.texts, *made, examples)

    def provenance(self, version: Version) -> dict[str, Any]:
        """All that a version depends on, by digest, for auditors. `policy` is that of the latest verdict."""
        made, verdicts = schema.versions, schema.verdicts
        found = select(made, schema.generators.c.name.label("generator_name")).select_from(made.join(schema.generators))
        policy = select(verdicts.c.policy_digest).where(verdicts.c.version == version.id).order_by(verdicts.c.id.desc())
        with self.reading() as connection:
            row = connection.execute(found.where(made.c.id == version.id)).one()
            parent = connection.execute(select(made).where(made.c.id == row.parent)).first()
            judged = connection.scalar(policy.limit(1))
        keys = ("adapter", "prompts", "generator", "generator_name", "base", "base_digest", "seed")
        told = {key: getattr(row, key) for key in keys}
        return {**told, "parent": _version(version.job, parent).name if parent else None, "policy": judged}

    def generators(self) -> list[dict[str, Any]]:
        """Every generator that made a version, the oldest first, and how many versions it made."""
        made, table = schema.versions, schema.generators
        count = select(func.count()).where(made.c.generator == table.c.digest).scalar_subquery()
        found = select(table.c.digest, table.c.name, table.c.at, count.label("versions")).order_by(table.c.at)
        with self.reading() as connection:
            return [dict(row) for row in connection.execute(found).mappings()]

    def history(self, job: str) -> list[Release]:
        """All releases of a job, oldest first."""
        with self.reading() as connection:
            return self._releases(connection, job)

    def current(self, job: str) -> Release | None:
        """The release that answers now; None before the first, when the base answers."""
        with self.reading() as connection:
            return self._current(connection, job)

    def verdict(self, version: Version) -> str | None:
        """The latest verdict on a version, if there is one."""
        latest = self.judgement(version)
        return latest.verdict.result if latest else None

    def judgement(self, version: Version) -> Judgement | None:
        """The latest judgement of a version; None if it was never judged."""
        table = schema.verdicts
        found = select(table).where(table.c.version == version.id).order_by(table.c.id.desc())
        with self.reading() as connection:
            row = connection.execute(found.limit(1)).first()
        if row is None:
            return None
        return Judgement(Verdict(row.verdict, tuple(Check(**check) for check in row.reasons)), row.policy_digest)

    def refusal(self, version: Version) -> Refusal | None:
        """The refusal that holds for a version, or for the same adapter under another number; None if none does."""
        same = select(schema.versions.c.number).join(schema.jobs)
        same = same.where(schema.jobs.c.name == version.job, schema.versions.c.adapter == version.adapter)
        table = schema.audit
        found = select(table).where(table.c.action.in_((REFUSE, WITHDRAW))).order_by(table.c.number.desc()).limit(1)
        with self.reading() as connection:
            names = [version._replace(number=number).name for number in connection.scalars(same)]
            row = connection.execute(found.where(table.c.subject.in_(names))).first()
        return Refusal(row.actor, row.at, row.detail["reason"]) if row and row.action == REFUSE else None

    # Writing

    def add_job(self, name: str) -> None:
        """Know a job by name. Does nothing if it is known already."""
        if not _NAME.fullmatch(name):
            raise UsageError(f"a job's name is made of a-z, 0-9, - . and _, at most 80 of them; {name[:90]!r} is not")
        with self.writing() as connection:
            if connection.scalar(select(schema.jobs.c.id).where(schema.jobs.c.name == name)) is None:
                connection.execute(insert(schema.jobs).values(name=name, at=self.at()))
                self.tell(connection, "add job", name, {})

    def add_version(self, job: str, folder: Path, origin: Origin) -> Version:
        """Keep an adapter folder as the job's next version; it answers nobody until it is promoted."""
        digest = self.store.put(folder)
        prompts, examples = list(origin.prompts), [list(example) for example in origin.examples]
        known = json.dumps([prompts, examples] if examples else prompts, ensure_ascii=False)
        prompts_digest = hashlib.sha256(known.encode()).hexdigest()
        with self.writing() as connection:
            owner = self._job(connection, job)
            self._once(connection, schema.generators, digest=origin.generator, name=origin.generator_name)
            texts = {"prompts": prompts, "examples": examples or None}
            self._once(connection, schema.prompt_sets, digest=prompts_digest, **texts)
            table = schema.versions
            number = 1 + (connection.scalar(select(func.max(table.c.number)).where(table.c.job == owner.id)) or 0)
            values = {
                "job": owner.id,
                "number": number,
                "adapter": digest,
                "prompts": prompts_digest,
                "generator": origin.generator,
                "base": origin.base,
                "base_digest": origin.base_digest,
                "seed": origin.seed,
                "parent": origin.parent,
                "kind": origin.kind,
                "actor": self.actor,
                "at": self.at(),
            }
            row = connection.execute(insert(table).values(**values).returning(table)).one()
            version = _version(job, row)
            self.tell(connection, "add version", version.name, {"adapter": digest, "generator": origin.generator})
        return version

    def add_evaluation(self, version: Version, measured: Evaluation) -> int:
        """Keep what was measured of a version; returns its id. A number that is not finite is kept as None."""
        with self.writing() as connection:
            table = schema.evaluations
            values = {"version": version.id, "scores": _finite(measured.to_dict()), "at": self.at()}
            number = connection.execute(insert(table).values(**values).returning(table.c.id)).scalar_one()
            self.tell(connection, "evaluate", version.name, {"evaluation": number})
        return int(number)

    def add_verdict(
        self, version: Version, evaluation: int, verdict: Verdict, policy: Policy, *, in_force: bool = True
    ) -> None:
        """Keep a verdict with its policy; the record says so if that was not the one `in_force`."""
        told = {"verdict": verdict.result, "policy": policy.digest, **({} if in_force else {"in force": False})}
        with self.writing() as connection:
            if in_force:
                self.tell_policy(connection, policy)
            connection.execute(
                insert(schema.verdicts).values(
                    version=version.id,
                    evaluation=evaluation,
                    verdict=verdict.result,
                    reasons=verdict.reasons,
                    policy=_finite(asdict(policy)),
                    policy_digest=policy.digest,
                    at=self.at(),
                )
            )
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
            return self._promote(connection, job, version, reason, expected, PROMOTE, told)

    def rollback(self, job: str, reason: str, *, expected: int | None = None) -> Release:
        """Let what answered before the current release answer again; before the first one that is the base itself.

        What was rolled back from does not come back by a second rollback, and versions that were refused, or whose
        files are not sound any more, are passed over. `expected` is the id of the release that is to be taken back
        (None: whatever answers).
        Raises UsageError if the base answers already, Conflict if not the expected release does.
        """
        with self.writing() as connection:
            current = self._current(connection, job)
            if expected is not None and (current is None or current.id != expected):
                raise _changed(job)
            if current is None or current.version is None:
                raise UsageError(f"the job {job} is answered by the base already; there is nothing to roll back")
            stack = self._stack(connection, job)[:-1]
            earlier = [version for version in stack if version is None or self._may_return(version)]
            return self._promote(connection, job, earlier[-1], reason, current.id, ROLLBACK)

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

    # Inside a transaction

    def _may_return(self, version: Version) -> bool:
        return self.refusal(version) is None and self.store.is_sound(version.adapter)

    def _promote(
        self,
        connection: Connection,
        job: str,
        version: Version | None,
        reason: str,
        expected: int | None,
        action: str,
        told: Mapping[str, Any] = MappingProxyType({}),
    ) -> Release:
        owner = self._job(connection, job)
        check_reason(reason)
        if version is not None and version.job != job:
            raise UsageError(f"{version.name} is a version of the job {version.job}, not of {job}; name one of its own")
        values = {
            "job": owner.id,
            "version": version.id if version else None,
            "previous": expected,
            "action": action,
            "reason": reason,
            "actor": self.actor,
            "at": self.at(),
        }
        row = connection.execute(insert(schema.releases).values(**values).returning(schema.releases)).one()
        swap = update(schema.jobs).where(
            schema.jobs.c.id == owner.id, schema.jobs.c.release.is_not_distinct_from(expected)
        )
        if connection.execute(swap.values(release=row.id)).rowcount != 1:
            raise _changed(job)
        subject = version.name if version else f"{job}@base"
        self.tell(connection, action, subject, {"release": row.id, "previous": expected, "reason": reason, **told})
        return self._release(connection, job, row)

    def _stack(self, connection: Connection, job: str) -> list[Version | None]:
        """What a rollback would go back through, the current version last, the base first."""
        stack: list[Version | None] = [None]
        for release in self._releases(connection, job):
            if release.action == PROMOTE:
                stack.append(release.version)
            else:
                while stack[-1] != release.version:
                    stack.pop()
        return stack

    def _releases(self, connection: Connection, job: str) -> list[Release]:
        found = select(schema.releases).where(schema.releases.c.job == self._job(connection, job).id)
        return [self._release(connection, job, row) for row in connection.execute(found.order_by(schema.releases.c.id))]

    def _job(self, connection: Connection, name: str) -> Any:
        row = connection.execute(select(schema.jobs).where(schema.jobs.c.name == name)).first()
        if row is None:
            raise UsageError(f"there is no job {name[:90]!r}; see `prompt2lora registry list`")
        return row

    def _current(self, connection: Connection, job: str) -> Release | None:
        number = self._job(connection, job).release
        if number is None:
            return None
        row = connection.execute(select(schema.releases).where(schema.releases.c.id == number)).one()
        return self._release(connection, job, row)

    def _release(self, connection: Connection, job: str, row: Any) -> Release:
        version = None
        if row.version is not None:
            found = select(schema.versions).where(schema.versions.c.id == row.version)
            version = _version(job, connection.execute(found).one())
        return Release(row.id, job, version, row.previous, row.action, row.reason, row.actor, row.at)

    def _once(self, connection: Connection, table: Table, **values: Any) -> None:
        if connection.scalar(select(table.c.digest).where(table.c.digest == values["digest"])) is None:
            connection.execute(insert(table).values(**values, at=self.at()))

    def tell(self, connection: Connection, action: str, subject: str, detail: dict[str, Any]) -> None:
        connection.info["last audit line"] = audit.append(connection, self.at(), self.actor, action, subject, detail)

    def tell_policy(self, connection: Connection, policy: Policy) -> None:
        """A line of the record if the policy in force is not the one that is last on record; the first adds none."""
        detail = schema.audit.c.detail
        found = select(detail["policy"].as_string()).where(detail["policy"].as_string().is_not(None))
        in_force = found.where(detail["in force"].as_string().is_(None)).order_by(schema.audit.c.number.desc())
        last = connection.scalar(in_force.limit(1))
        if last not in (None, policy.digest):
            self.tell(connection, POLICY, "policy in force", {"policy": policy.digest, "before": last})

    def at(self) -> str:
        return self.clock().astimezone(UTC).isoformat(timespec="seconds")

    @contextmanager
    def reading(self) -> Any:
        with _patience(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Any:
        """A transaction; when it is committed, the audit log's end is sealed."""
        with _patience(), writing(self.engine) as connection:
            connection.info.pop("last audit line", None)
            yield connection
            line = connection.info.pop("last audit line", None)
        if line:
            self.seal.set(line)


def check_reason(reason: str) -> None:
    """Raises UsageError for what is no short line."""
    if len(reason) > MAX_REASON or not reason.isprintable():
        raise UsageError(f"a reason is one line of at most {MAX_REASON} characters; shorten {reason[:40]!r}...")


def _changed(job: str) -> Conflict:
    return Conflict(f"the job {job} got another release meanwhile; look at `registry history` and decide again")


@contextmanager
def _patience() -> Any:
    try:
        yield
    except OperationalError as error:
        raise OutputError(
            f"the registry could not be used ({error.orig}); end what holds it, free space, try again"
        ) from error
    except DataError as error:
        raise UsageError(f"the registry does not take this ({error.orig}); shorten or mend it") from error


def _finite(value: Any) -> Any:
    """The same without numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _version(job: str, row: Any) -> Version:
    return Version(row.id, job, row.number, row.adapter, row.base, row.kind, row.at, row.parent, row.actor)
