"""Monitoring of releases: begin it, look at the evidence, tell an outcome."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends
from pydantic import Field

from prompt2lora.custody.access import LOOK, RETURN, Key
from prompt2lora.custody.records import alarm_record
from prompt2lora.serving.guard import Authenticator, Refused
from prompt2lora.serving.management.names import Body, Job, known_job
from prompt2lora.serving.service import Service


class WatchRequest(Body):
    promised: dict[Literal["canary", "format", "correction"], Annotated[float, Field(ge=0, le=1)]]
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.01


class Outcome(Body):
    release: Annotated[int, Field(ge=0, lt=2**31)]
    source: Literal["canary", "format", "correction"]
    bad: Annotated[float, Field(ge=0, le=1)]


def add_routes(made: APIRouter, service: Service, gate: Authenticator) -> None:
    registry = service.plant.registry
    looking, returner = Depends(gate.managing(LOOK)), Depends(gate.managing(RETURN))

    @made.post("/jobs/{job}/watch", status_code=201)
    def watch(job: Job, body: WatchRequest, key: Key = returner) -> dict[str, Any]:
        """Monitor the current release of a job from now on."""
        known_job(registry, job)
        promised = {str(source): rate for source, rate in body.promised.items()}
        begun = service.plant.as_actor(key.name).watch(job, promised, body.alpha)
        return {"job": job, "release": begun.release, "promised": begun.promised}

    @made.get("/jobs/{job}/watch", dependencies=[looking])
    def watched(job: Job) -> Mapping[str, Any]:
        """The evidence against what was promised of the current release."""
        known_job(registry, job)
        found = service.watched(job)
        if found is None:
            raise Refused(404, f"the job {job} is not monitored; start with POST .../watch", "not_found")
        return found

    @made.post("/jobs/{job}/outcomes")
    def outcome(job: Job, told: Outcome, key: Key = returner) -> dict[str, Any]:
        """One outcome of a release: 0 good, 1 bad."""
        known_job(registry, job)
        alarm = service.plant.as_actor(key.name).monitor().outcome(job, told.release, told.source, told.bad)
        return {"alarm": alarm_record(alarm) if alarm else None}
