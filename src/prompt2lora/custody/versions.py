"""Versions of a job: one adapter each, with where it comes from. What is read and added within a transaction.

In: a connection to the registry's database. Out: values. It knows neither verdicts nor releases.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, func, insert, select

from prompt2lora.custody import jobs, schema
from prompt2lora.custody.kept_prompts import Find, kept, kept_examples, read_kept
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.ground.comparison import Comparison
from prompt2lora.ground.pictures import Prompt
from prompt2lora.ground.prompts import instruction_of

REGENERATED = "regenerated"  # the kind of a candidate of another generator
IMPORTED = "imported"  # the kind of a version that was made elsewhere, and what stands for its generator


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
    base_digest: str = ""  # of the base's weights; empty: not known
    comparison: Comparison = Comparison.EXACT  # how its answers are compared with the right ones

    @property
    def name(self) -> str:
        return f"{self.job}@v{self.number}-{self.adapter[:8]}"

    @classmethod
    def read(cls, job: str, row: Any) -> Version:
        made = (row.kind, row.at, row.parent, row.actor, row.base_digest, Comparison(row.comparison))
        return cls(row.id, job, row.number, row.adapter, row.base, *made)

    def made_for(self, base: str, base_digest: str) -> bool:
        """Whether it was made for a base: the weights tell; names count only where the digest of one is not known."""
        if self.base_digest and base_digest:
            return self.base_digest == base_digest
        return self.base == base


@dataclass(frozen=True)
class Origin:
    """Where a version comes from; `examples` are (prompt, right answer), `form` is what answers have to be,
    `from_base` whether the instruction is all that is in the weights, since the answers are long."""

    prompts: Sequence[Prompt]
    generator: str
    generator_name: str
    base: str
    base_digest: str
    seed: int = 0
    parent: int | None = None
    kind: str = "generated"
    examples: Sequence[tuple[Prompt, str]] = ()
    form: AnswerForm | None = None
    comparison: Comparison = Comparison.EXACT
    from_base: bool = False

    @property
    def instruction(self) -> str:
        """What the prompts, or else the examples, open with; empty if they share nothing."""
        return instruction_of(self.prompts, self.examples)

    def to_dict(self) -> dict[str, Any]:
        """The same, JSON-ready; of pictures the digests."""
        texts = replace(self, prompts=(), examples=())
        prompts = [kept(prompt) for prompt in self.prompts]
        return {**asdict(texts), "prompts": prompts, "examples": kept_examples(self.examples)}

    @property
    def generated(self) -> bool:
        """Whether it goes back to a generator; what was made elsewhere does not, refined or not."""
        return self.generator != IMPORTED


def of_job(connection: Connection, job: str) -> list[Version]:
    """All versions of a job, the oldest first."""
    found = select(schema.versions).where(schema.versions.c.job == jobs.find(connection, job).id)
    return [Version.read(job, row) for row in connection.execute(found.order_by(schema.versions.c.number))]


def origin(connection: Connection, version: Version, picture: Find) -> Origin:
    """Where a version comes from; the form of its answers and `from_base` stand in its adapter, and not here."""
    tables = schema.versions.join(schema.prompt_sets).join(schema.generators)
    sets = schema.prompt_sets.c
    found = select(schema.versions, sets.prompts.label("asked"), sets.examples, schema.generators.c.name)
    row = connection.execute(found.select_from(tables).where(schema.versions.c.id == version.id)).one()
    prompts = [read_kept(prompt, picture) for prompt in row.asked]
    examples = tuple((read_kept(prompt, picture), answer) for prompt, answer in row.examples or ())
    made = (row.generator, row.name, row.base, row.base_digest, row.seed, row.parent, row.kind)
    return Origin(prompts, *made, examples, comparison=Comparison(row.comparison))


def provenance(connection: Connection, version: Version) -> dict[str, Any]:
    """All that a version depends on, by digest, for auditors. `policy` is that of the latest verdict."""
    made, verdicts = schema.versions, schema.verdicts
    found = select(made, schema.generators.c.name.label("generator_name")).select_from(made.join(schema.generators))
    policy = select(verdicts.c.policy_digest).where(verdicts.c.version == version.id).order_by(verdicts.c.id.desc())
    row = connection.execute(found.where(made.c.id == version.id)).one()
    parent = connection.execute(select(made).where(made.c.id == row.parent)).first()
    keys = ("adapter", "prompts", "generator", "generator_name", "base", "base_digest", "seed")
    return {
        **{key: getattr(row, key) for key in keys},
        "parent": Version.read(version.job, parent).name if parent else None,
        "policy": connection.scalar(policy.limit(1)),
    }


def generators(connection: Connection) -> list[dict[str, Any]]:
    """Every generator that made a version, the oldest first, and how many versions it made."""
    made, table = schema.versions, schema.generators
    count = select(func.count()).where(made.c.generator == table.c.digest).scalar_subquery()
    found = select(table.c.digest, table.c.name, table.c.at, count.label("versions")).order_by(table.c.at)
    return [dict(row) for row in connection.execute(found).mappings()]


def add(connection: Connection, job: str, adapter: str, origin: Origin, actor: str, at: str) -> Version:
    """The job's next version, of an adapter in the store, where the pictures of its prompts lie too."""
    prompts, examples = [kept(prompt) for prompt in origin.prompts], kept_examples(origin.examples)
    known = json.dumps([prompts, examples] if examples else prompts, ensure_ascii=False)
    prompts_digest = hashlib.sha256(known.encode()).hexdigest()
    owner = jobs.find(connection, job)
    _once(connection, schema.generators, digest=origin.generator, name=origin.generator_name, at=at)
    texts = {"prompts": prompts, "examples": examples or None}
    _once(connection, schema.prompt_sets, digest=prompts_digest, **texts, at=at)
    table = schema.versions
    number = 1 + (connection.scalar(select(func.max(table.c.number)).where(table.c.job == owner.id)) or 0)
    values = {
        "job": owner.id,
        "number": number,
        "adapter": adapter,
        "prompts": prompts_digest,
        "generator": origin.generator,
        "base": origin.base,
        "base_digest": origin.base_digest,
        "seed": origin.seed,
        "parent": origin.parent,
        "kind": origin.kind,
        "comparison": origin.comparison,
        "actor": actor,
        "at": at,
    }
    return Version.read(job, connection.execute(insert(table).values(**values).returning(table)).one())


def _once(connection: Connection, table: Table, **values: Any) -> None:
    if connection.scalar(select(table.c.digest).where(table.c.digest == values["digest"])) is None:
        connection.execute(insert(table).values(**values))
