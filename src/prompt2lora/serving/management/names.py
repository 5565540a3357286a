"""What all routes of management share: names in their paths and fields of their bodies.

In: a registry and a name. Out: what the name stands for, or a refusal with status 404.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from prompt2lora.custody.registry import Registry
from prompt2lora.custody.versions import Version
from prompt2lora.errors import UsageError
from prompt2lora.serving.guard import Refused

Job = Annotated[str, Path(max_length=200)]
VersionName = Annotated[str, Path(max_length=300)]
Language = Literal["en", "ja"]
DisplayName = Annotated[str, Field(max_length=80)]
Reason = Annotated[str, Field(min_length=1, max_length=500)]
SeenRelease = Annotated[
    int | None,
    Field(ge=0, description="The id of the release that you saw (0: none). If another answers now: 409 `conflict`."),
]


class Body(BaseModel):
    """The body of a request; a field that is not known is refused."""

    model_config = ConfigDict(extra="forbid")


def known_job(registry: Registry, job: str) -> None:
    if not registry.has_job(job):
        raise Refused(404, f"there is no job {job[:90]!r}; see GET /admin/jobs", "not_found")


def known_version(registry: Registry, job: str, version: str) -> Version:
    known_job(registry, job)
    try:
        return registry.version(job, version)
    except UsageError as error:
        raise Refused(404, str(error), "not_found") from error
