"""What /metrics reports: requests, seconds and tokens by job and version, and the engine's own statistics.

In: one `RequestRecord` a request. Out: Prometheus text. Labels are bounded: what comes after the first so many jobs and
versions is counted as "other", and a name that is not a job's never becomes a label.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

MOST_LABELS = 500
OTHER = "other"
_BUCKETS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120)


@dataclass
class RequestRecord:
    """What is known about a request when it ends; never its text. `status` is that of the reply, or of the error that
    broke a stream off."""

    request: str
    key: str = ""
    job: str = ""
    version: str = ""
    release: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    status: int = 0


class ServiceMetrics:
    """`stats` is asked of the engine on every scrape."""

    def __init__(self, stats: Callable[[], dict[str, int | float]]) -> None:
        self._all = CollectorRegistry()
        own: dict[str, Any] = {"registry": self._all}
        self._requests = Counter("prompt2lora_requests", "Answered requests", ["job", "version", "status"], **own)
        self._seconds = Histogram(
            "prompt2lora_request_seconds", "Seconds to the end of an answer", ["job"], buckets=_BUCKETS, **own
        )
        self._tokens = Counter("prompt2lora_tokens", "Tokens", ["job", "kind"], **own)
        self.running = Gauge("prompt2lora_requests_running", "Requests being answered", **own)
        self._labels: set[str] = set()
        self._all.register(_EngineStats(stats))

    def count(self, record: RequestRecord, seconds: float) -> None:
        job, version = self._label(record.job), self._label(record.version)
        self._requests.labels(job, version, str(record.status)).inc()
        if record.job:
            self._seconds.labels(job).observe(seconds)
            self._tokens.labels(job, "prompt").inc(record.prompt_tokens)
            self._tokens.labels(job, "completion").inc(record.completion_tokens)

    def text(self) -> bytes:
        return generate_latest(self._all)

    def _label(self, name: str) -> str:
        if name and name not in self._labels:
            if len(self._labels) >= MOST_LABELS:
                return OTHER
            self._labels.add(name)
        return name


class _EngineStats(Collector):
    def __init__(self, stats: Callable[[], dict[str, int | float]]) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        for name, value in self._stats().items():
            family = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
            yield family(f"prompt2lora_engine_{name}", name.replace("_", " "), value=value)
