"""The registry's tables. History is append-only: releases, verdicts, evaluations and audit lines are never changed.

`migrations/` holds the numbered steps that make a database of this schema out of any earlier one.
"""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, ForeignKey, Integer, MetaData, String, Table, UniqueConstraint

REVISION = "0005"  # the newest step of `migrations/`
MOST_SUBJECT = 200  # characters of what a line of the record is about
metadata = MetaData()

jobs = Table(
    "jobs",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", String(80), nullable=False, unique=True),
    Column("release", Integer),  # the id in `releases` that answers now; null before the first: requests are refused
    Column("at", String(32), nullable=False),
    Column("display_name", String(80), nullable=False, server_default=""),  # for people, in any script; may be empty
)
generators = Table(
    "generators",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("at", String(32), nullable=False),
)
prompt_sets = Table(
    "prompt_sets",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("prompts", JSON, nullable=False),  # see kept_prompts.py
    Column("at", String(32), nullable=False),
    Column("examples", JSON(none_as_null=True)),  # [prompt, right answer] each; null: none
)
versions = Table(
    "versions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job", ForeignKey("jobs.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("adapter", String(64), nullable=False),  # digest in the store
    Column("prompts", ForeignKey("prompt_sets.digest"), nullable=False),
    Column("generator", ForeignKey("generators.digest"), nullable=False),
    Column("base", String(200), nullable=False),
    Column("base_digest", String(64), nullable=False),
    Column("seed", Integer, nullable=False),
    Column("parent", ForeignKey("versions.id")),
    Column("kind", String(20), nullable=False),  # generated, refined, regenerated or imported
    Column("at", String(32), nullable=False),
    Column("actor", String(80)),  # null: made before this was kept
    Column("comparison", String(20), nullable=False, server_default="exact"),  # see ground/comparison.py
    UniqueConstraint("job", "number"),
)
evaluations = Table(
    "evaluations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("version", ForeignKey("versions.id"), nullable=False),
    Column("scores", JSON, nullable=False),
    Column("at", String(32), nullable=False),
)
verdicts = Table(
    "verdicts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("version", ForeignKey("versions.id"), nullable=False),
    Column("evaluation", ForeignKey("evaluations.id"), nullable=False),
    Column("verdict", String(30), nullable=False),
    Column("reasons", JSON, nullable=False),
    Column("policy", JSON, nullable=False),
    Column("policy_digest", String(64), nullable=False),
    Column("at", String(32), nullable=False),
)
releases = Table(
    "releases",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("job", ForeignKey("jobs.id"), nullable=False),
    Column("version", ForeignKey("versions.id")),  # null: the base itself
    Column("previous", ForeignKey("releases.id")),
    Column("action", String(20), nullable=False),  # promote or rollback
    Column("reason", String(500), nullable=False),
    Column("actor", String(80), nullable=False),
    Column("at", String(32), nullable=False),
)
audit = Table(
    "audit",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", String(32), nullable=False),
    Column("actor", String(80), nullable=False),
    Column("action", String(40), nullable=False),
    Column("subject", String(MOST_SUBJECT), nullable=False),
    Column("detail", JSON, nullable=False),
    Column("before", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
)
access_keys = Table(
    "access_keys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(80), nullable=False, unique=True),
    Column("hash", String(64), nullable=False),
    Column("role", String(20)),  # null: no management
    Column("infer", Boolean, nullable=False),
    Column("actor", String(80), nullable=False),
    Column("at", String(32), nullable=False),
    Column("revoked", String(32)),
)
