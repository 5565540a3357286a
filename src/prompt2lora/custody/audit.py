"""The audit log: lines that each hold the hash of the line before, so that none can be changed, taken out or moved.

A line is added inside the transaction of what it tells. The last line's number and hash are also kept in a signed
file beside the database: lines cut off at the end are noticed too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, insert, select

from prompt2lora.custody.schema import audit
from prompt2lora.custody.signing import Signer
from prompt2lora.errors import DamagedFile, cause
from prompt2lora.ground.files import exclusive_lock, write_text

_START = "0" * 64


@dataclass(frozen=True)
class Line:
    """Who did what to what, when; `before` is the hash of the line before, `hash` that of this one."""

    number: int
    at: str
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    before: str
    hash: str

    @classmethod
    def after(cls, last: Line | None, at: str, actor: str, action: str, subject: str, detail: dict[str, Any]) -> Line:
        number, before = (last.number + 1, last.hash) if last else (1, _START)
        return cls(
            number,
            at,
            actor,
            action,
            subject,
            detail,
            before,
            _hash(number, at, actor, action, subject, detail, before),
        )

    @property
    def sound(self) -> bool:
        values = (self.number, self.at, self.actor, self.action, self.subject, self.detail, self.before)
        return self.hash == _hash(*values)


def _hash(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def append(connection: Connection, at: str, actor: str, action: str, subject: str, detail: dict[str, Any]) -> Line:
    """Add a line in the running transaction."""
    row = connection.execute(select(audit).order_by(audit.c.number.desc()).limit(1)).mappings().first()
    line = Line.after(Line(**row) if row else None, at, actor, action, subject, detail)
    connection.execute(insert(audit).values(**asdict(line)))
    return line


def lines(connection: Connection) -> Iterator[Line]:
    for row in connection.execute(select(audit).order_by(audit.c.number)).mappings():
        yield Line(**row)


def count(connection: Connection) -> int:
    """How many lines there are: the number of the last one."""
    return connection.scalar(select(func.max(audit.c.number))) or 0


def page(connection: Connection, after: int, most: int, *, newest_first: bool = False) -> list[Line]:
    """At most so many lines after the first `after` ones, or after as many of the newest."""
    number = audit.c.number
    if newest_first:
        found = select(audit).where(number <= count(connection) - after).order_by(number.desc())
    else:
        found = select(audit).where(number > after).order_by(number)
    return [Line(**row) for row in connection.execute(found.limit(most)).mappings()]


@dataclass(frozen=True)
class Seal:
    """The signed end of the log, in `file`: a log that is shorter, or another there, was tampered with."""

    file: Path
    signer: Signer

    def set(self, line: Line) -> None:
        """Move the seal forward to `line`; another process may have moved it further already."""
        with exclusive_lock(self.file.with_name(f".{self.file.name}.lock")):
            if self.read()[0] >= line.number:
                return
            end = {"number": line.number, "hash": line.hash}
            data = json.dumps(end, sort_keys=True)
            write_text(self.file, json.dumps({**end, "signature": self.signer.sign(data.encode()).hex()}) + "\n")

    def read(self) -> tuple[int, str]:
        """(number, hash) of the line that was last when the seal was set; (0, start) before the first."""
        if not self.file.exists():
            return 0, _START
        try:
            found = json.loads(self.file.read_text(encoding="utf-8"))
            signature = bytes.fromhex(found.pop("signature"))
            data = json.dumps(found, sort_keys=True).encode()
            number, hashed = int(found["number"]), str(found["hash"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedFile(
                f"the audit seal {self.file} cannot be read ({cause(error)}); put the backup back"
            ) from error
        if not self.signer.holds(signature, data):
            raise DamagedFile(f"the audit seal {self.file} was not signed by this installation; ask who changed it")
        return number, hashed


def check_sealed(connection: Connection, seal: Seal) -> None:
    """Raises DamagedFile if the log does not hold the sealed line: this is not the database that was sealed.

    The seal is read first: what another process adds meanwhile is in the log before it is sealed.
    """
    try:
        number, hashed = seal.read()
    except DamagedFile:  # that is told by `verify`, and must not keep a bad release from being taken back
        return
    if number and connection.scalar(select(audit.c.hash).where(audit.c.number == number)) != hashed:
        raise DamagedFile(
            f"the database is not the one that {seal.file} sealed: audit line {number} is not in it; "
            "put its backup back, or set PROMPT2LORA_DATABASE"
        )


def verify(connection: Connection, seal: Seal) -> list[Line]:
    """Returns the lines. Raises DamagedFile that names the first line that is not as it was written."""
    sealed_number, sealed_hash = seal.read()
    last: Line | None = None
    seen, found = sealed_number == 0, list(lines(connection))
    for line in found:
        expected = Line.after(last, line.at, line.actor, line.action, line.subject, line.detail)
        if line != expected:
            raise DamagedFile(
                f"audit line {expected.number} was altered, removed or moved; compare with the last backup"
            )
        if line.number == sealed_number:
            if line.hash != sealed_hash:
                raise DamagedFile(f"audit line {line.number} is not the sealed one; compare with the last backup")
            seen = True
        last = line
    if not seen:
        raise DamagedFile(f"the audit log ends before line {sealed_number}; lines were cut off, put the backup back")
    return found
