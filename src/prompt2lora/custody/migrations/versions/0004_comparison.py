"""How a version's answers are compared with the right ones; what was made before was compared exactly."""

from alembic import op
from sqlalchemy import Column, String

revision, down_revision = "0004", "0003"


def upgrade() -> None:
    op.add_column("versions", Column("comparison", String(20), nullable=False, server_default="exact"))
