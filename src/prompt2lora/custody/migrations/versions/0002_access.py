"""Access keys, and who made a version."""

from alembic import op
from sqlalchemy import Boolean, Column, String

revision, down_revision = "0002", "0001"


def upgrade() -> None:
    op.add_column("versions", Column("actor", String(80)))
    op.create_table(
        "access_keys",
        Column("id", String(16), primary_key=True),
        Column("name", String(80), nullable=False, unique=True),
        Column("hash", String(64), nullable=False),
        Column("role", String(20)),
        Column("infer", Boolean, nullable=False),
        Column("actor", String(80), nullable=False),
        Column("at", String(32), nullable=False),
        Column("revoked", String(32)),
    )
