"""The first schema. History tables refuse changes in the database itself, not only in our code."""

from alembic import op
from sqlalchemy import JSON, Column, ForeignKey, Integer, String, UniqueConstraint

revision, down_revision = "0001", None

_HISTORY = ("generators", "prompt_sets", "versions", "evaluations", "verdicts", "releases", "audit")


def upgrade() -> None:
    def at() -> Column[str]:
        return Column("at", String(32), nullable=False)

    op.create_table(
        "jobs",
        Column("id", Integer, primary_key=True),
        Column("name", String(80), nullable=False, unique=True),
        Column("release", Integer),
        at(),
    )
    op.create_table(
        "generators",
        Column("digest", String(64), primary_key=True),
        Column("name", String(200), nullable=False),
        at(),
    )
    op.create_table(
        "prompt_sets",
        Column("digest", String(64), primary_key=True),
        Column("prompts", JSON, nullable=False),
        at(),
    )
    op.create_table(
        "versions",
        Column("id", Integer, primary_key=True),
        Column("job", Integer, ForeignKey("jobs.id"), nullable=False),
        Column("number", Integer, nullable=False),
        Column("adapter", String(64), nullable=False),
        Column("prompts", String(64), ForeignKey("prompt_sets.digest"), nullable=False),
        Column("generator", String(64), ForeignKey("generators.digest"), nullable=False),
        Column("base", String(200), nullable=False),
        Column("base_digest", String(64), nullable=False),
        Column("seed", Integer, nullable=False),
        Column("parent", Integer, ForeignKey("versions.id")),
        Column("kind", String(20), nullable=False),
        at(),
        UniqueConstraint("job", "number"),
    )
    op.create_table(
        "evaluations",
        Column("id", Integer, primary_key=True),
        Column("version", Integer, ForeignKey("versions.id"), nullable=False),
        Column("scores", JSON, nullable=False),
        at(),
    )
    op.create_table(
        "verdicts",
        Column("id", Integer, primary_key=True),
        Column("version", Integer, ForeignKey("versions.id"), nullable=False),
        Column("evaluation", Integer, ForeignKey("evaluations.id"), nullable=False),
        Column("verdict", String(30), nullable=False),
        Column("reasons", JSON, nullable=False),
        Column("policy", JSON, nullable=False),
        Column("policy_digest", String(64), nullable=False),
        at(),
    )
    op.create_table(
        "releases",
        Column("id", Integer, primary_key=True),
        Column("job", Integer, ForeignKey("jobs.id"), nullable=False),
        Column("version", Integer, ForeignKey("versions.id")),
        Column("previous", Integer, ForeignKey("releases.id")),
        Column("action", String(20), nullable=False),
        Column("reason", String(500), nullable=False),
        Column("actor", String(80), nullable=False),
        at(),
    )
    op.create_table(
        "audit",
        Column("number", Integer, primary_key=True, autoincrement=False),
        at(),
        Column("actor", String(80), nullable=False),
        Column("action", String(40), nullable=False),
        Column("subject", String(200), nullable=False),
        Column("detail", JSON, nullable=False),
        Column("before", String(64), nullable=False),
        Column("hash", String(64), nullable=False),
    )
    sqlite = op.get_bind().dialect.name == "sqlite"
    if not sqlite:
        op.execute(
            "CREATE FUNCTION history_is_append_only() RETURNS trigger AS "
            "$$ BEGIN RAISE EXCEPTION 'history is append-only'; END $$ LANGUAGE plpgsql"
        )
    for table in _HISTORY:
        for change in ("UPDATE", "DELETE"):
            then = (
                "BEGIN SELECT RAISE(ABORT, 'history is append-only'); END"
                if sqlite
                else "FOR EACH ROW EXECUTE FUNCTION history_is_append_only()"
            )
            op.execute(f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} {then}")
