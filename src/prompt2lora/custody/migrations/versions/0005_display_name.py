"""What people call a job, beside the name that programs use."""

from alembic import op
from sqlalchemy import Column, String

revision, down_revision = "0005", "0004"


def upgrade() -> None:
    op.add_column("jobs", Column("display_name", String(80), nullable=False, server_default=""))
