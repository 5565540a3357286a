"""Watching a job's live behaviour; on alarm its release goes back at once, and a person has to promote again.

In: outcomes of a release (canary replays, format checks, corrections by users). Out: what is wrong, and the change of
release. Time is told by the registry's clock; the monitor keeps its own state, so that it can be stopped and
resumed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple

from prompt2lora.custody.eprocess import EProcess
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.releases import Release
from prompt2lora.custody.versions import Version
from prompt2lora.errors import Conflict, DamagedFile, Unavailable, UsageError, cause
from prompt2lora.ground.files import exclusive_lock, write_json

SOURCES = ("canary", "format", "correction")
_STREAK = 20  # bad outcomes of one source in a row that need no statistics


class Alarm(NamedTuple):
    """Why a release was taken back, and what answers now."""

    job: str
    source: str
    reason: str
    release: Release


@dataclass
class Watch:
    """The state of one release under watch.

    promised   per source, the rate of bad outcomes that was measured (or allowed) when it was promoted
    alpha      chance that a release which keeps all its promises is ever taken back
    replayed   when its canaries were last asked again; empty: never
    crossed    source and reason of the alarm, if it went up: from then on nothing that is told takes it down
    """

    job: str
    release: int
    promised: dict[str, float]
    alpha: float = 0.01
    processes: dict[str, EProcess] = field(default_factory=dict)
    streaks: dict[str, int] = field(default_factory=dict)
    replayed: str = ""
    crossed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise UsageError(f"alpha is a chance between 0 and 1, not {self.alpha}; 0.01 is usual")
        for source, rate in self.promised.items():
            if not 0 <= rate <= 1:
                raise UsageError(f"the rate of bad outcomes of {source} lies between 0 and 1, not {rate}; correct it")
        unknown = set(self.promised) - set(SOURCES)
        if unknown or not self.promised:
            raise UsageError(f"monitoring needs promises for some of {', '.join(SOURCES)}; got {sorted(self.promised)}")
        for source, rate in self.promised.items():
            share = self.alpha / len(self.promised)
            self.processes.setdefault(source, EProcess(min(max(rate, 0.001), 0.999), share))

    def update(self, source: str, bad: float) -> str | None:
        """Take one outcome in; returns the reason if the release must be taken back."""
        if source not in self.processes:
            raise UsageError(
                f"nothing was promised about {source!r}; there are promises about {', '.join(self.processes)}"
            )
        process = self.processes[source]
        self.streaks[source] = self.streaks.get(source, 0) + 1 if bad >= 1 else 0
        if process.update(bad):
            return (
                f"{source}: evidence {process.evidence:.0f} against a rate of at most {process.promised:.3f} "
                f"after {process.count} outcomes"
            )
        if self.streaks[source] >= _STREAK and process.promised < 0.5:
            return f"{source}: {self.streaks[source]} bad outcomes in a row"
        return None


@dataclass
class Monitor:
    """Watches of jobs, kept in `folder`; `notify` is told of every alarm (a log, a webhook)."""

    registry: Registry
    folder: Path
    notify: Callable[[Alarm], None]

    def watch(self, job: str, promised: dict[str, float], alpha: float = 0.01) -> Watch:
        """Begin to watch what answers the job now; that stands in the record. Raises UsageError if it is the base,
        which nothing replaces."""
        current = self.registry.current(job)
        if current is None:
            raise UsageError(f"the job {job} has no release yet; promote a version first")
        if current.version is None:
            raise UsageError(
                f"the job {job} is answered by the base, which needs no monitoring; promote a version first"
            )
        begun = Watch(job, current.id, dict(promised), alpha)
        self.registry.record("watch", job, {"release": begun.release, "promised": promised, "alpha": alpha})
        with exclusive_lock(self.folder / f".{job}.lock"):
            self._keep(begun)
        return begun

    def outcome(self, job: str, release: int, source: str, bad: float) -> Alarm | None:
        """One outcome of a release."""
        return self.outcomes(job, release, [{source: bad}])

    def outcomes(
        self, job: str, release: int, told: Sequence[Mapping[str, float]], corrected: Mapping[str, Any] | None = None
    ) -> Alarm | None:
        """Outcomes told together, each by its sources; those of a release that answers no more are passed over. What
        people `corrected` stands in the record before it counts.

        They are taken in an order that knows nothing of them: all bad ones in a row, as in a file that is sorted by its
        answers, would look like a change for the worse.
        """
        with exclusive_lock(self.folder / f".{job}.lock"):
            watch = self.read(job)
            current = self.registry.current(job)
            if current is None or current.id != watch.release or release != watch.release:
                return None
            if corrected:
                self.registry.record("correct", job, {"release": release, **corrected})
            if not watch.crossed:
                seen = sum(process.count for process in watch.processes.values())
                mixed = Random(f"{release} {seen}").sample(told, len(told))
                watch.crossed = next(
                    (
                        [source, reason]
                        for outcome in mixed
                        for source, bad in outcome.items()
                        if (reason := watch.update(source, bad))
                    ),
                    [],
                )
                self._keep(watch)
        return self._take_back(current, *watch.crossed) if watch.crossed else None

    def watching(self, job: str) -> tuple[Watch, Version]:
        """The watch of what answers the job now, and that version. Raises UsageError if it is not watched: a promotion
        or a rollback ends a watch."""
        watch, current = self.read(job), self.registry.current(job)
        if current is None or current.version is None or current.id != watch.release:
            raise UsageError(f"what answers {job} now is not monitored; begin with `prompt2lora monitor start`")
        return watch, current.version

    def is_watching(self, release: Release) -> bool:
        """Whether a release is watched, as far as that can be read."""
        try:
            return self.read(release.job).release == release.id
        except (UsageError, DamagedFile, Unavailable):
            return False

    def due(self, job: str, hours: float) -> bool:
        """Whether the canaries of what answers the job are watched and were not asked again within so many hours.

        A clock that went back makes them due: nobody knows how long ago it was.
        """
        try:
            watch = self.read(job)
        except UsageError:
            return False
        current = self.registry.current(job)
        if current is None or current.id != watch.release or "canary" not in watch.promised:
            return False
        if not watch.replayed:
            return True
        since = self.registry.clock() - datetime.fromisoformat(watch.replayed)
        return not timedelta() <= since < timedelta(hours=hours)

    def replaying(self, job: str) -> None:
        """The canaries of what is watched are asked again now."""
        with exclusive_lock(self.folder / f".{job}.lock"):
            watch = self.read(job)
            watch.replayed = self.registry.at()
            self._keep(watch)

    def hard(self, release: Release, what: Literal["not applied", "altered files"]) -> Alarm | None:
        """Something of a release that no rate excuses."""
        return self._take_back(release, "hard trigger", what) if release.version else None

    def check_files(self, job: str) -> Alarm | None:
        """Take the release back if its stored files are not what was signed."""
        current = self.registry.current(job)
        if current and current.version and not self.registry.store.is_sound(current.version.adapter):
            return self.hard(current, "altered files")
        return None

    def check_alarm(self, job: str) -> Alarm | None:
        """Take the release back if its alarm went up and it could not be taken back then."""
        try:
            watch = self.read(job)
        except UsageError:
            return None
        return self.outcomes(job, watch.release, []) if watch.crossed else None

    def read(self, job: str) -> Watch:
        """Raises UsageError if the job is not watched, DamagedFile or Unavailable if that cannot be read."""
        try:
            found: dict[str, Any] = json.loads(self._file(job).read_text(encoding="utf-8"))
            processes = {source: EProcess(**state) for source, state in found.pop("processes").items()}
            return Watch(**found, processes=processes)
        except FileNotFoundError as error:
            raise UsageError(f"the job {job} is not monitored; begin with `prompt2lora monitor start`") from error
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedFile(f"the monitoring of {job} cannot be read ({error}); remove {self._file(job)}") from error
        except OSError as error:
            raise Unavailable(
                f"{self._file(job)} cannot be read now ({cause(error)}); check its permissions"
            ) from error

    def _take_back(self, bad: Release, source: str, reason: str) -> Alarm | None:
        """Back to a version that whoever asks `bad` can be answered by, one for its base. Nothing if `bad` answers no
        more: what answers now has done nothing wrong."""
        try:
            release = self.registry.rollback(bad.job, reason[:500], expected=bad.id, same_base=True)
        except Conflict:
            return None
        alarm = Alarm(bad.job, source, reason, release)
        self.notify(alarm)
        return alarm

    def _keep(self, watch: Watch) -> None:
        write_json(self._file(watch.job), asdict(watch))

    def _file(self, job: str) -> Path:
        return self.folder / f"{job}.json"
