"""Who may do what: access keys of persons and programs, kept as hashes beside the registry.

In: a token from a request. Out: whose it is and what that one may do. A key either asks (inference) or manages (a
role); one that does both has to be made so on purpose. Only the hash of a token is kept: tokens are 256 random bits,
for which one SHA-256 is enough. It knows no HTTP.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import insert, select, update

from prompt2lora.custody import schema
from prompt2lora.custody.registry import Registry
from prompt2lora.errors import Conflict, UsageError
from prompt2lora.ground.comparison import composed

LOOK, MAKE, RELEASE, RETURN, GOVERN = "look", "make", "release", "return", "govern"
ROLES = {
    "viewer": {LOOK},
    "operator": {LOOK, MAKE, RETURN},
    "approver": {LOOK, RELEASE, RETURN},
    "admin": {LOOK, MAKE, RELEASE, RETURN, GOVERN},
}
SERVICE = "serving"  # who does in the audit log what a service does by itself
_NAME = re.compile(r"[\w][\w .@\u3000-]{0,79}")
_TOKEN = re.compile(r"p2l_([0-9a-f]{16})_([\w-]{43})")


def key_name_of(text: str) -> str:
    """A key's name, with every letter in its one composed form. Raises UsageError for what can be none."""
    name = composed(text)
    if not _NAME.fullmatch(name):
        raise UsageError(f"a key's name is made of letters, digits, space, . @ - and _, not {name[:90]!r}; choose one")
    if name == SERVICE:
        raise UsageError(f"{SERVICE} is the service itself in the audit log; choose another name for the key")
    return name


class Key(NamedTuple):
    """Whose a token is; `name` stands in the audit log for what is done with it."""

    id: str
    name: str
    role: str | None
    infer: bool
    actor: str
    at: str
    revoked: str | None

    def may(self, verb: str) -> bool:
        return self.role is not None and verb in ROLES[self.role]


@dataclass(frozen=True)
class Access:
    """The keys of a registry."""

    registry: Registry

    def add(self, name: str, *, role: str | None = None, infer: bool = False) -> tuple[Key, str]:
        """A new key and its token, which is told now and never again.

        Raises UsageError for a key that could do nothing or a role that is none, Conflict for a name that is taken.
        """
        name = key_name_of(name)
        if role is not None and role not in ROLES:
            raise UsageError(f"a role is one of {', '.join(ROLES)}, not {role[:40]!r}; name one of these")
        if role is None and not infer:
            raise UsageError(f"the key {name} could do nothing; give it a role, or let it send requests (inference)")
        number, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        key = Key(number, name, role, infer, self.registry.actor, self.registry.at(), None)
        token = f"p2l_{number}_{secret}"
        with self.registry.writing() as connection:
            table = schema.access_keys
            if connection.scalar(select(table.c.id).where(table.c.name == name)) is not None:
                raise Conflict(
                    f"there is or was a key named {name!r}; choose another name, so that the audit log stays clear"
                )
            connection.execute(insert(table).values(**key._asdict(), hash=_hash(token)))
            self.registry.tell(connection, "add key", name, {"key": number, "role": role, "infer": infer})
        return key, token

    def find(self, token: str) -> Key | None:
        """Whose token this is; None if nobody's (any more). Takes the same time for a right and a wrong secret."""
        parts = _TOKEN.fullmatch(token)
        if parts is None:
            return None
        table = schema.access_keys
        with self.registry.reading() as connection:
            row = connection.execute(select(table).where(table.c.id == parts[1])).first()
        right = hmac.compare_digest(row.hash if row else "0" * 64, _hash(token))
        return _key(row) if row and right and row.revoked is None else None

    def all(self) -> list[Key]:
        with self.registry.reading() as connection:
            return [
                _key(row) for row in connection.execute(select(schema.access_keys).order_by(schema.access_keys.c.at))
            ]

    def revoke(self, name: str) -> None:
        """Let a key do nothing any more. Raises UsageError if there is none that could, or it is the last admin's."""
        table, names = schema.access_keys, {name, composed(name)}  # keys of before were not composed
        with self.registry.writing() as connection:
            found = select(table).where(table.c.name.in_(names), table.c.revoked.is_(None))
            row = connection.execute(found.order_by(table.c.name != name)).first()
            if row is None:
                raise UsageError(f"there is no key named {name[:90]!r} in use; see `prompt2lora keys list`")
            admins = select(table.c.id).where(table.c.role == "admin", table.c.revoked.is_(None))
            if row.role == "admin" and len(connection.execute(admins).all()) == 1:
                raise UsageError(f"{row.name} is the last admin; make another one first")
            connection.execute(update(table).where(table.c.id == row.id).values(revoked=self.registry.at()))
            self.registry.tell(connection, "revoke key", row.name, {"key": row.id})

    def has_admin(self) -> bool:
        return any(key.role == "admin" and key.revoked is None for key in self.all())


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _key(row: object) -> Key:
    return Key(*(getattr(row, name) for name in Key._fields))
