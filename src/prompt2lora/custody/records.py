"""Jobs, versions, releases, watches, alarms, and whether the audit log is sound, as JSON: alike on the command line,
over HTTP and in the console."""

from __future__ import annotations

from typing import Any, TypedDict

from prompt2lora.custody.bases import telling_version
from prompt2lora.custody.catalogue import Catalogue
from prompt2lora.custody.monitor import Alarm, Watch
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.releases import Release
from prompt2lora.custody.versions import Version
from prompt2lora.errors import DamagedFile


class ReleaseRecord(TypedDict):
    """`version` is the name of what answers; None: the base itself."""

    id: int
    job: str
    version: str | None
    previous: int | None
    action: str
    reason: str
    actor: str
    at: str


class JobRecord(TypedDict):
    """`answers` is a version's name or `base`; None, as `release`, before the first release."""

    job: str
    display_name: str
    base: str | None
    answers: str | None
    version_count: int
    release: ReleaseRecord | None


class SourceRecord(TypedDict):
    """The evidence of one source of outcomes; at `limit` the release is taken back."""

    promised: float
    outcomes: int
    bad: float
    evidence: float
    limit: float


class WatchRecord(TypedDict):
    """The evidence against a release, by source."""

    job: str
    release: int
    sources: dict[str, SourceRecord]


class AlarmRecord(TypedDict):
    """Why a release was taken back, and what answers now."""

    job: str
    source: str
    reason: str
    release: ReleaseRecord


class SealedRecord(TypedDict):
    """How many lines the audit log has; if it is not as it was written, what is wrong with it instead."""

    lines: int | None
    sound: bool
    fault: str | None


def release_record(release: Release) -> ReleaseRecord:
    return {
        "id": release.id,
        "job": release.job,
        "version": release.version.name if release.version else None,
        "previous": release.previous,
        "action": release.action,
        "reason": release.reason,
        "actor": release.actor,
        "at": release.at,
    }


def job_record(registry: Registry, job: str) -> JobRecord:
    current, telling = registry.current(job), telling_version(registry, job)
    release = release_record(current) if current else None
    return {
        "job": job,
        "display_name": registry.display_name(job),
        "base": telling.base if telling else None,
        "answers": release and (release["version"] or "base"),
        "version_count": len(registry.versions(job)),
        "release": release,
    }


def version_record(registry: Catalogue, version: Version) -> dict[str, Any]:
    """The fields of a version, what it hangs on by digest, and what was measured and decided; `parent` is the id of the
    version that it began from, `parent_name` its name."""
    measured, refusal, made = registry.measured(version), registry.refusal(version), registry.provenance(version)
    return {
        **made,
        **version._asdict(),
        "parent_name": made["parent"],
        "name": version.name,
        "verdict": registry.verdict(version),
        "refused": refusal._asdict() if refusal else None,
        "scores": measured.scores,
        "metrics": measured.metrics.to_dict(),
    }


def watch_record(watch: Watch) -> WatchRecord:
    limit = len(watch.processes) / watch.alpha
    sources: dict[str, SourceRecord] = {
        source: {
            "promised": process.promised,
            "outcomes": process.count,
            "bad": process.bad,
            "evidence": process.evidence,
            "limit": limit,
        }
        for source, process in watch.processes.items()
    }
    return {"job": watch.job, "release": watch.release, "sources": sources}


def sealed_record(registry: Registry) -> SealedRecord:
    """The audit log checked, line by line."""
    try:
        return {"lines": registry.verify_audit(), "sound": True, "fault": None}
    except DamagedFile as error:
        return {"lines": None, "sound": False, "fault": str(error)}


def alarm_record(alarm: Alarm) -> AlarmRecord:
    release = release_record(alarm.release)
    return {"job": alarm.job, "source": alarm.source, "reason": alarm.reason, "release": release}
