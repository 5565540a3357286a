"""What was measured of a version, the verdicts on it, and who refused it. What is read and added within a transaction.

In: a connection to the registry's database. Out: values. It judges nothing itself (gate.py) and decides nothing
(decisions.py).
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, NamedTuple

from sqlalchemy import Connection, func, insert, select

from prompt2lora.custody import schema
from prompt2lora.custody.evaluations import Evaluation
from prompt2lora.custody.gate import PASS, Check, Policy, Verdict
from prompt2lora.custody.kept_prompts import Find
from prompt2lora.custody.versions import Version

REFUSE, WITHDRAW = "refuse", "withdraw"  # lines of the record: the newest on an adapter holds


class Judgement(NamedTuple):
    """A verdict on a version, and the digest of the policy that it was judged by."""

    verdict: Verdict
    policy: str


class Refusal(NamedTuple):
    """Who said no to a version, when and why."""

    actor: str
    at: str
    reason: str


def evaluation(connection: Connection, version: Version, picture: Find) -> tuple[int, Evaluation] | None:
    """(id, what was measured) of the latest evaluation of a version; None if it was never measured."""
    table = schema.evaluations
    found = select(table.c.id, table.c.scores).where(table.c.version == version.id).order_by(table.c.id.desc())
    row = connection.execute(found.limit(1)).first()
    return (row.id, Evaluation.read(row.scores, picture)) if row else None


def judgement(connection: Connection, version: Version) -> Judgement | None:
    """The latest judgement of a version, but a *pass* only if nothing was measured after it; None if none holds."""
    table, measured = schema.verdicts, schema.evaluations
    newest = select(func.max(measured.c.id)).where(measured.c.version == version.id).scalar_subquery()
    found = select(table, newest.label("newest")).where(table.c.version == version.id).order_by(table.c.id.desc())
    row = connection.execute(found.limit(1)).first()
    if row is None or (row.verdict == PASS and row.evaluation != row.newest):
        return None
    return Judgement(Verdict(row.verdict, tuple(Check(**check) for check in row.reasons)), row.policy_digest)


def refusal(connection: Connection, version: Version) -> Refusal | None:
    """The refusal that holds for a version, or for the same adapter under another number; None if none does."""
    same = select(schema.versions.c.number).join(schema.jobs)
    same = same.where(schema.jobs.c.name == version.job, schema.versions.c.adapter == version.adapter)
    names = [version._replace(number=number).name for number in connection.scalars(same)]
    table = schema.audit
    found = select(table).where(table.c.action.in_((REFUSE, WITHDRAW)), table.c.subject.in_(names))
    row = connection.execute(found.order_by(table.c.number.desc()).limit(1)).first()
    return Refusal(row.actor, row.at, row.detail["reason"]) if row and row.action == REFUSE else None


def policy_on_record(connection: Connection) -> str | None:
    """The digest of the policy that was last said to be in force; None if none was."""
    detail = schema.audit.c.detail
    found = select(detail["policy"].as_string()).where(detail["policy"].as_string().is_not(None))
    in_force = found.where(detail["in force"].as_string().is_(None)).order_by(schema.audit.c.number.desc())
    return connection.scalar(in_force.limit(1))


def add_evaluation(connection: Connection, version: Version, measured: Evaluation, at: str) -> int:
    """Keep what was measured; returns its id. A number that is not finite is kept as None."""
    table = schema.evaluations
    values = {"version": version.id, "scores": _finite(measured.to_dict()), "at": at}
    return int(connection.execute(insert(table).values(**values).returning(table.c.id)).scalar_one())


def add_verdict(
    connection: Connection, version: Version, evaluation: int, verdict: Verdict, policy: Policy, at: str
) -> None:
    """Keep a verdict with its policy."""
    values = {
        "version": version.id,
        "evaluation": evaluation,
        "verdict": verdict.result,
        "reasons": verdict.reasons,
        "policy": _finite(asdict(policy)),
        "policy_digest": policy.digest,
        "at": at,
    }
    connection.execute(insert(schema.verdicts).values(**values))


def _finite(value: Any) -> Any:
    """The same without numbers that JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
