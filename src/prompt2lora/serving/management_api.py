"""What the command line does, over HTTP: jobs, versions, releases, monitoring, queued jobs, audit log, keys.

In: requests with a management key. Out: JSON; long work is queued and looked up by its id. Everything is done in the
name of the key, so that the audit log says who it was. Names of jobs and versions are looked up in the
registry; no part of a request becomes a path.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field

from prompt2lora.custody import decisions
from prompt2lora.custody.access import GOVERN, LOOK, MAKE, RELEASE, RETURN, Key
from prompt2lora.custody.registry import Registry, Release, Version
from prompt2lora.errors import DamagedFile, UsageError
from prompt2lora.ground.prompts import MAX_CHARACTERS, check_prompts, full_prompt
from prompt2lora.serving.bodies import Taken, described, taking
from prompt2lora.serving.guard import Authenticator, Refused
from prompt2lora.serving.refusals import ERRORS
from prompt2lora.serving.service import MOST_EXAMPLES, MOST_PROMPTS, Service, queued_record

Job = Annotated[str, Path(max_length=200)]
VersionName = Annotated[str, Path(max_length=300)]
Language = Literal["en", "ja"]
Prompt = Annotated[str, Field(max_length=MAX_CHARACTERS)]
Instruction = Annotated[str, Field(max_length=MAX_CHARACTERS)]
Reason = Annotated[str, Field(min_length=1, max_length=500)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Example(_Model):
    input: Annotated[str, Field(max_length=MAX_CHARACTERS)]
    output: Annotated[str, Field(max_length=MAX_CHARACTERS)]


Prompts = Annotated[list[Prompt], Field(min_length=1, max_length=MOST_PROMPTS)]
Examples = Annotated[list[Example], Field(max_length=MOST_EXAMPLES)]


class NewJob(_Model):
    job: Annotated[str, Field(min_length=1, max_length=80)]


class GenerateRequest(_Model):
    prompts: Prompts
    instruction: Instruction = ""
    examples: Examples = []


class EvaluateRequest(_Model):
    examples: Examples = []


class RefineRequest(_Model):
    examples: Annotated[list[Example], Field(min_length=8, max_length=MOST_EXAMPLES)]
    steps: Annotated[int, Field(ge=1, le=1000)] = 48


class ExplainRequest(_Model):
    language: Language = "en"


class RegenerateRequest(_Model):
    jobs: Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=1000)] = []


class PromoteRequest(_Model):
    version: Annotated[str, Field(max_length=300)]
    reason: Reason
    override: Reason | None = None


class RollbackRequest(_Model):
    reason: Reason


class DecisionRequest(_Model):
    reason: Reason


class WatchRequest(_Model):
    promised: dict[Literal["canary", "format", "correction"], Annotated[float, Field(ge=0, le=1)]]
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.01


class Outcome(_Model):
    release: Annotated[int, Field(ge=0, lt=2**31)]
    source: Literal["canary", "format", "correction"]
    bad: Annotated[float, Field(ge=0, le=1)]


class CheckRequest(_Model):
    prompts: Prompts
    instruction: Instruction = ""


class NewKey(_Model):
    name: Annotated[str, Field(min_length=1, max_length=80)]
    role: Literal["viewer", "operator", "approver", "admin"] | None = None
    inference: bool = False


def router(service: Service, gate: Authenticator) -> APIRouter:
    made = APIRouter(prefix="/admin", tags=["management"], responses=ERRORS)
    registry, queue = service.plant.registry, service.queue
    looking = Depends(gate.managing(LOOK))
    maker = Depends(gate.managing(MAKE))
    releaser = Depends(gate.managing(RELEASE))
    returner = Depends(gate.managing(RETURN))
    governor = Depends(gate.managing(GOVERN))

    # Bodies as JSON or as forms with files, read after the key was looked at.
    making, inspecting, refining, checking = (
        Depends(taking(kind, service.limits.body))
        for kind in (GenerateRequest, EvaluateRequest, RefineRequest, CheckRequest)
    )

    def known(job: str) -> None:
        _found(registry, job)

    # Jobs

    @made.get("/jobs", dependencies=[looking])
    def jobs() -> dict[str, Any]:
        """All jobs and what answers them."""
        return {"jobs": [_job(registry, job) for job in registry.jobs()]}

    @made.post("/jobs", status_code=201)
    def add_job(new: NewJob, key: Key = maker) -> dict[str, Any]:
        """Add a job."""
        service.plant.as_actor(key.name).registry.add_job(new.job)
        return _job(registry, new.job)

    @made.get("/jobs/{job}", dependencies=[looking])
    def job(job: Job) -> dict[str, Any]:
        """A job and its versions, with their verdicts and measurements."""
        known(job)
        return {**_job(registry, job), "versions": [_version(registry, one) for one in registry.versions(job)]}

    @made.get("/jobs/{job}/history", dependencies=[looking])
    def history(job: Job) -> dict[str, Any]:
        """All releases of a job, oldest first."""
        known(job)
        return {"job": job, "releases": [_release(one) for one in registry.history(job)]}

    @made.post("/jobs/{job}/promote")
    def promote(job: Job, body: PromoteRequest, key: Key = releaser) -> dict[str, Any]:
        """Release a version that passed the policy in force (or `base`); not one that the same person made.

        An admin may override a refusal, a missing verdict and another policy, with a reason.
        """
        known(job)
        plant = service.plant.as_actor(key.name)
        admin = key.may(GOVERN)
        release = plant.promote(job, body.version, body.reason, second=True, override=body.override, admin=admin)
        return _release(release)

    @made.post("/jobs/{job}/versions/{version}/refuse")
    def refuse(job: Job, version: VersionName, body: DecisionRequest, key: Key = releaser) -> dict[str, Any]:
        """Refuse a version: nobody can release it until the refusal is withdrawn."""
        chosen = _chosen(registry, job, version)
        decisions.refuse(service.plant.as_actor(key.name).registry, chosen, body.reason, second=True)
        return _version(registry, chosen)

    @made.post("/jobs/{job}/versions/{version}/withdraw")
    def withdraw(job: Job, version: VersionName, body: DecisionRequest, key: Key = releaser) -> dict[str, Any]:
        """Withdraw a refusal: whoever refused, or an admin."""
        chosen, kept = _chosen(registry, job, version), service.plant.as_actor(key.name).registry
        decisions.withdraw(kept, chosen, body.reason, admin=key.may(GOVERN), second=True)
        return _version(registry, chosen)

    @made.post("/jobs/{job}/rollback")
    def rollback(job: Job, body: RollbackRequest, key: Key = returner) -> dict[str, Any]:
        """Release what was released before; in the end that is the base."""
        known(job)
        return _release(service.plant.as_actor(key.name).registry.rollback(job, body.reason))

    # Long queued

    @made.post("/jobs/{job}/generate", status_code=202, openapi_extra=described(GenerateRequest))
    def generate(job: Job, key: Key = maker, taken: Taken = making) -> dict[str, Any]:
        """A pilot: an adapter from prompts, measured and judged; an unknown job is added."""
        queued = service.generate(key.name, job, _full_prompts(taken.body), _pairs(taken.body.examples))
        return {**queued_record(queued), **taken.as_json()}

    @made.post("/jobs/{job}/versions/{version}/evaluate", status_code=202, openapi_extra=described(EvaluateRequest))
    def evaluate(job: Job, version: VersionName, key: Key = maker, taken: Taken = inspecting) -> dict[str, Any]:
        """Evaluate and judge a version."""
        _chosen(registry, job, version)
        return {
            **queued_record(service.inspect(key.name, job, version, _pairs(taken.body.examples))),
            **taken.as_json(),
        }

    @made.post("/jobs/{job}/versions/{version}/refine", status_code=202, openapi_extra=described(RefineRequest))
    def refine(job: Job, version: VersionName, key: Key = maker, taken: Taken = refining) -> dict[str, Any]:
        """The second stage, from a version, with labelled examples."""
        _chosen(registry, job, version)
        queued = service.refine(key.name, job, version, _pairs(taken.body.examples), taken.body.steps)
        return {**queued_record(queued), **taken.as_json()}

    @made.post("/jobs/{job}/versions/{version}/explain", status_code=202)
    def explain(job: Job, version: VersionName, body: ExplainRequest, key: Key = maker) -> dict[str, Any]:
        """Why a version is what it is."""
        _chosen(registry, job, version)
        return queued_record(service.explain(key.name, job, version, body.language))

    @made.post("/jobs/{job}/replay", status_code=202)
    def replay(job: Job, key: Key = maker) -> dict[str, Any]:
        """Ask the current release the job's inspection examples again."""
        known(job)
        return queued_record(service.replay(key.name, job))

    @made.post("/regenerate", status_code=202)
    def regenerate(body: RegenerateRequest, key: Key = maker) -> dict[str, Any]:
        """Candidates by the present generator for all jobs, or those named; releases stay."""
        return queued_record(service.regenerate(key.name, body.jobs))

    @made.get("/queue", dependencies=[looking])
    def queued_jobs() -> dict[str, Any]:
        """Queued jobs, newest first, without their results."""
        return {"queue": [{**queued_record(one), "result": None} for one in queue.recent()]}

    @made.get("/queue/{id}", dependencies=[looking])
    def queued_job(id: Annotated[str, Path(max_length=40)]) -> dict[str, Any]:
        """The progress of a queued job, and its result."""
        try:
            return queued_record(queue.get(id))
        except UsageError as error:
            raise Refused(404, str(error), "not_found") from error

    # Reports and advice

    @made.get("/jobs/{job}/versions/{version}/report", dependencies=[looking], response_class=HTMLResponse)
    def report(job: Job, version: VersionName, language: Language = "en") -> HTMLResponse:
        """The report of a version for a manager, by its latest measurement and verdict."""
        page = service.plant.report_page(_chosen(registry, job, version), language)
        if page is None:
            raise Refused(404, f"{version} was never evaluated and judged, so it has no report yet", "not_found")
        return HTMLResponse(page)

    @made.post("/prompts/check", dependencies=[looking], openapi_extra=described(CheckRequest))
    def check(taken: Taken = checking) -> dict[str, Any]:
        """Advice on prompts before an adapter is made of them."""
        given = check_prompts(_full_prompts(taken.body))
        return {"prompts": len(given), "findings": service.plant.check_prompts(given), **taken.as_json()}

    # Monitoring

    @made.post("/jobs/{job}/watch", status_code=201)
    def watch(job: Job, body: WatchRequest, key: Key = maker) -> dict[str, Any]:
        """Monitor the current release of a job from now on."""
        known(job)
        promised = {str(source): rate for source, rate in body.promised.items()}
        begun = service.plant.as_actor(key.name).watch(job, promised, body.alpha)
        return {"job": job, "release": begun.release, "promised": begun.promised}

    @made.get("/jobs/{job}/watch", dependencies=[looking])
    def watched(job: Job) -> dict[str, Any]:
        """The evidence against what was promised of the current release."""
        known(job)
        found = service.watched(job)
        if found is None:
            raise Refused(404, f"the job {job} is not monitored; start with POST .../watch", "not_found")
        return {"job": job, **found}

    @made.post("/jobs/{job}/outcomes")
    def outcome(job: Job, told: Outcome, key: Key = maker) -> dict[str, Any]:
        """One outcome of a release: 0 good, 1 bad."""
        known(job)
        alarm = service.plant.as_actor(key.name).monitor().outcome(job, told.release, told.source, told.bad)
        return {"alarm": {**alarm._asdict(), "release": _release(alarm.release)} if alarm else None}

    # The audit log

    @made.get("/audit", dependencies=[looking])
    def audit(
        after: Annotated[int, Query(ge=0, lt=2**31)] = 0, most: Annotated[int, Query(ge=1, le=1000)] = 200
    ) -> dict[str, Any]:
        """Lines of the audit log after a number."""
        lines = [line for line in registry.audit_lines() if line.number > after][:most]
        return {"lines": [asdict(line) for line in lines], "public_key": registry.store.signer.public}

    @made.post("/audit/verify", dependencies=[looking])
    def verify_audit() -> dict[str, Any]:
        """Check that no line was altered, removed or moved."""
        try:
            return {"lines": registry.verify_audit(), "sound": True, "fault": None}
        except DamagedFile as error:
            return {"lines": None, "sound": False, "fault": str(error)}

    @made.post("/verify", dependencies=[looking])
    def verify() -> dict[str, Any]:
        """Check the files of all versions against what was signed."""
        versions = [one for name in registry.jobs() for one in registry.versions(name)]
        damaged = [one.name for one in versions if not registry.store.is_sound(one.adapter)]
        return {"versions": len(versions), "damaged": damaged}

    @made.get("/stats", dependencies=[looking])
    def stats() -> dict[str, Any]:
        """Statistics of the engine."""
        return {"base": service.engine.base, "engine": service.engine.stats()}

    # Keys

    @made.get("/keys")
    def keys(key: Key = governor) -> dict[str, Any]:
        """All keys, without their tokens."""
        return {"keys": [one._asdict() for one in service.access.all()]}

    @made.post("/keys", status_code=201)
    def add_key(new: NewKey, key: Key = governor) -> dict[str, Any]:
        """A new key; its token is shown now and never again."""
        made_key, token = service.as_actor(key.name).access.add(new.name, role=new.role, infer=new.inference)
        return {**made_key._asdict(), "token": token}

    @made.delete("/keys/{name}")
    def revoke(name: Annotated[str, Path(max_length=80)], key: Key = governor) -> dict[str, Any]:
        """Revoke a key."""
        service.as_actor(key.name).access.revoke(name)
        return {"revoked": name}

    return made


def _found(registry: Registry, job: str) -> None:
    if job not in registry.jobs():
        raise Refused(404, f"there is no job {job[:90]!r}; see GET /admin/jobs", "not_found")


def _chosen(registry: Registry, job: str, version: str) -> Version:
    _found(registry, job)
    try:
        return registry.version(job, version)
    except UsageError as error:
        raise Refused(404, str(error), "not_found") from error


def _job(registry: Registry, job: str) -> dict[str, Any]:
    current = registry.current(job)
    return {"job": job, "version_count": len(registry.versions(job)), "release": _release(current) if current else None}


def _version(registry: Registry, version: Version) -> dict[str, Any]:
    measured, refusal = registry.measured(version), registry.refusal(version)
    return {
        **version._asdict(),
        "name": version.name,
        "verdict": registry.verdict(version),
        "refused": refusal._asdict() if refusal else None,
        "scores": measured.scores,
        "metrics": measured.metrics.to_dict(),
    }


def _release(release: Release) -> dict[str, Any]:
    return {**release._asdict(), "version": release.version.name if release.version else None}


def _full_prompts(body: GenerateRequest | CheckRequest) -> list[str]:
    """The prompts under their instruction."""
    return [full_prompt(body.instruction.strip(), prompt) for prompt in body.prompts]


def _pairs(examples: list[Example]) -> list[tuple[str, str]]:
    return [(example.input, example.output) for example in examples]
