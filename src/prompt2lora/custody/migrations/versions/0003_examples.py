"""The examples that an adapter was made of, beside its prompts."""

from alembic import op
from sqlalchemy import JSON, Column

revision, down_revision = "0003", "0002"


def upgrade() -> None:
    op.add_column("prompt_sets", Column("examples", JSON))
