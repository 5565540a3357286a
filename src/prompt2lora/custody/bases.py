"""Which base a job belongs to, and which form its answers have.

Adapters of one base mean nothing to another, so a job has one base at a time. In: the registry, a job. Out: the version
that tells, or a refusal. A job comes to another base in one way: candidates of another generator (regeneration.py), of
which a person promotes one. It knows no models.
"""

from __future__ import annotations

import logging

from prompt2lora.custody.registry import Registry
from prompt2lora.custody.releases import Release
from prompt2lora.custody.versions import REGENERATED, Version
from prompt2lora.errors import Conflict, DamagedFile, UsageError
from prompt2lora.ground.answer_form import AnswerForm

_log = logging.getLogger(__name__)


def telling_version(registry: Registry, job: str) -> Version | None:
    """The version whose base is the job's: what answers or last answered, else the newest that is no candidate."""
    released = [release.version for release in registry.history(job) if release.version]
    return released[-1] if released else newest_of_its_own(registry, job)


def current_release(registry: Registry, job: str) -> Release:
    """What answers a job now. Raises UsageError for a job that is unknown or was never released."""
    release = registry.current(job)
    if release is None:
        raise UsageError(f"the job {job} has no release yet; promote a version of it, or the base, first")
    return release


def check_current(registry: Registry, release: Release) -> None:
    """Raises Conflict once another release answers the job."""
    current = registry.current(release.job)
    if current is None or current.id != release.id:
        raise Conflict(
            f"another release has answered {release.job} since; send the file again, and that one will answer it"
        )


def version_behind(registry: Registry, release: Release) -> Version | None:
    """The version that answers; where the base itself does, the one that tells what the job is."""
    return release.version or telling_version(registry, release.job)


def released_form(registry: Registry, release: Release) -> AnswerForm | None:
    """What the answers of a job have to be now; where the base itself answers, what the telling version says,
    or anything if that one's adapter is lost. Raises DamagedFile if the adapter that answers is damaged."""
    version = version_behind(registry, release)
    try:
        return registry.form(version) if version else None
    except DamagedFile as error:
        if release.version:
            raise
        _log.error("the base answers %s in any form: %s", release.job, error)
        return None


def newest_of_its_own(registry: Registry, job: str) -> Version | None:
    """The newest version that is no candidate of another generator."""
    return next((version for version in reversed(registry.versions(job)) if version.kind != REGENERATED), None)


def check_base(registry: Registry, job: str, base: str, base_digest: str) -> None:
    """Raises UsageError if a job has versions and belongs to another base than this one."""
    telling = telling_version(registry, job) if registry.has_job(job) else None
    if telling and not telling.made_for(base, base_digest):
        raise UsageError(
            f"the job {job} belongs to the base {telling.base}, and this would be a version for {base}; name another "
            f"job, leave --generator and --base out, or move it by `prompt2lora registry regenerate --job {job}`"
        )
