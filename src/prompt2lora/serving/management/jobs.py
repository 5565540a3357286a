"""Jobs, their versions and reports, and what is decided on them: release, refusal, its withdrawal, rollback."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse
from pydantic import Field

from prompt2lora.custody import decisions
from prompt2lora.custody.access import GOVERN, LOOK, MAKE, RELEASE, RETURN, Key
from prompt2lora.custody.records import job_record, release_record, version_record
from prompt2lora.plant import candidates
from prompt2lora.serving.guard import Authenticator, Refused
from prompt2lora.serving.management.names import (
    Body,
    DisplayName,
    Job,
    Language,
    Reason,
    SeenRelease,
    VersionName,
    known_job,
    known_version,
)
from prompt2lora.serving.service import Service


class NewJob(Body):
    job: Annotated[str, Field(min_length=1, max_length=80)]
    display_name: DisplayName = ""


class NamedJob(Body):
    display_name: DisplayName


class PromoteRequest(Body):
    version: Annotated[str, Field(max_length=300)]
    reason: Reason
    override: Reason | None = None
    release: SeenRelease = None


class RollbackRequest(Body):
    reason: Reason
    release: SeenRelease = None


class DecisionRequest(Body):
    reason: Reason


def add_routes(made: APIRouter, service: Service, gate: Authenticator) -> None:
    registry = service.plant.registry
    looking, maker = Depends(gate.managing(LOOK)), Depends(gate.managing(MAKE))
    releaser, returner = Depends(gate.managing(RELEASE)), Depends(gate.managing(RETURN))

    @made.get("/jobs", dependencies=[looking])
    def jobs() -> dict[str, Any]:
        """All jobs and what answers them."""
        return {"jobs": [job_record(registry, job) for job in registry.jobs()]}

    @made.post("/jobs", status_code=201)
    def add_job(new: NewJob, key: Key = maker) -> Mapping[str, Any]:
        """Add a job."""
        service.plant.as_actor(key.name).registry.add_job(new.job, new.display_name)
        return job_record(registry, new.job)

    @made.get("/jobs/{job}", dependencies=[looking])
    def job(job: Job) -> dict[str, Any]:
        """A job and its versions, with their verdicts and measurements."""
        known_job(registry, job)
        return {
            **job_record(registry, job),
            "versions": [version_record(registry, one) for one in registry.versions(job)],
        }

    @made.patch("/jobs/{job}")
    def name_job(job: Job, body: NamedJob, key: Key = maker) -> Mapping[str, Any]:
        """Change what people call a job; an empty display name leaves its name alone."""
        known_job(registry, job)
        service.plant.as_actor(key.name).registry.call_job(job, body.display_name)
        return job_record(registry, job)

    @made.get("/jobs/{job}/history", dependencies=[looking])
    def history(job: Job) -> dict[str, Any]:
        """All releases of a job, oldest first."""
        known_job(registry, job)
        return {"job": job, "releases": [release_record(one) for one in registry.history(job)]}

    @made.post("/jobs/{job}/promote")
    def promote(job: Job, body: PromoteRequest, key: Key = releaser) -> Mapping[str, Any]:
        """Release a version that passed the policy in force (or `base`); not one that the same person made.

        An admin may override a refusal, a missing verdict and another policy, with a reason.
        """
        known_job(registry, job)
        release = service.plant.as_actor(key.name).promote(
            job,
            body.version,
            body.reason,
            seen=body.release,
            second=True,
            override=body.override,
            admin=key.may(GOVERN),
        )
        return release_record(release)

    @made.post("/jobs/{job}/versions/{version}/refuse")
    def refuse(job: Job, version: VersionName, body: DecisionRequest, key: Key = releaser) -> dict[str, Any]:
        """Refuse a version: nobody can release it until the refusal is withdrawn."""
        chosen = known_version(registry, job, version)
        decisions.refuse(service.plant.as_actor(key.name).registry, chosen, body.reason, second=True)
        return version_record(registry, chosen)

    @made.post("/jobs/{job}/versions/{version}/withdraw")
    def withdraw(job: Job, version: VersionName, body: DecisionRequest, key: Key = releaser) -> dict[str, Any]:
        """Withdraw a refusal: whoever refused, or an admin."""
        chosen, kept = known_version(registry, job, version), service.plant.as_actor(key.name).registry
        decisions.withdraw(kept, chosen, body.reason, admin=key.may(GOVERN), second=True)
        return version_record(registry, chosen)

    @made.post("/jobs/{job}/rollback")
    def rollback(job: Job, body: RollbackRequest, key: Key = returner) -> Mapping[str, Any]:
        """Release what was released before; in the end that is the base."""
        known_job(registry, job)
        kept = service.plant.as_actor(key.name).registry
        return release_record(kept.rollback(job, body.reason, expected=body.release))

    @made.get("/jobs/{job}/versions/{version}/report", dependencies=[looking], response_class=HTMLResponse)
    def report(job: Job, version: VersionName, language: Language = "en") -> HTMLResponse:
        """The report of a version for a manager, by its latest measurement and verdict."""
        page = candidates.report_page(service.plant, known_version(registry, job, version), language)
        if page is None:
            raise Refused(404, f"{version} is not judged yet, so it has no report; evaluate it", "not_found")
        return HTMLResponse(page)
