"""What was measured of an adapter: metrics for the gate, scores and inspected examples for people, seconds for costs.

In: what an evaluator measured, or the JSON that was stored of it. Out: frozen records, and that JSON. A group or a
value that is missing, or is no finite number, is None, which never passes the gate. It judges nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, NamedTuple, Self

from prompt2lora.custody.kept_prompts import Find
from prompt2lora.ground.pictures import Picture, Pictured, Prompt

Value = float | None


class _Group:
    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """What is stored of a group; a key that is not known is passed over."""
        return cls(**{one.name: _value(stored.get(one.name)) for one in fields(cls)})  # type: ignore[arg-type]


@dataclass(frozen=True)
class MeasuredInterval(_Group):
    """A mean with its 95 % interval."""

    score: Value = None
    low: Value = None
    high: Value = None


@dataclass(frozen=True)
class Gain(MeasuredInterval):
    """Gain of right answers over the base, with McNemar's exact p value, on so many inspected examples."""

    p_value: Value = None
    examples: Value = None

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        return super().read({"examples": stored.get("rows"), **stored})  # stored as `rows` before 0.1.0


@dataclass(frozen=True)
class Canary(_Group):
    """General texts: divergence from the base in nats per token, perplexity as a multiple of the base's."""

    kl: Value = None
    perplexity_ratio: Value = None


@dataclass(frozen=True)
class Health(_Group):
    """The weights: distance from what is usual, the largest share of a base weight, intruder dimensions."""

    score: Value = None
    share: Value = None
    intruders: Value = None


@dataclass(frozen=True)
class Prompts(_Group):
    """Distance of the prompts from the training tasks'."""

    distance: Value = None


@dataclass(frozen=True)
class Probe(_Group):
    """How far the adapter moves the logits of a fixed text."""

    change: Value = None


@dataclass(frozen=True)
class Signature(_Group):
    """Whether the stored files are what was signed (1 or True) or not."""

    sound: Value = None


@dataclass(frozen=True)
class Metrics:
    """What the gate judges, by group; `conditioning` is the gain over adapters of other jobs' prompts."""

    gain: Gain | None = None
    canary: Canary | None = None
    format: MeasuredInterval | None = None
    conditioning: MeasuredInterval | None = None
    bias: MeasuredInterval | None = None
    health: Health | None = None
    prompts: Prompts | None = None
    probe: Probe | None = None
    signature: Signature | None = None

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Metrics:
        """Metrics by what is stored of them, group by group."""
        groups = {name: stored.get(name) for name in _GROUPS}
        read: dict[str, Any] = {
            name: _GROUPS[name].read(group) for name, group in groups.items() if isinstance(group, Mapping)
        }
        return cls(**read)

    def to_dict(self) -> dict[str, dict[str, float]]:
        """The same, JSON-ready, without what was not measured."""
        measured = ((name, group) for name, group in asdict(self).items() if group is not None)
        return {name: {key: value for key, value in group.items() if value is not None} for name, group in measured}


_GROUPS: dict[str, type[_Group]] = {
    "gain": Gain,
    "canary": Canary,
    "format": MeasuredInterval,
    "conditioning": MeasuredInterval,
    "bias": MeasuredInterval,
    "health": Health,
    "prompts": Prompts,
    "probe": Probe,
    "signature": Signature,
}


class Inspected(NamedTuple):
    """An example of the user's (a text with its pictures and its right answer), and what the base and the adapter
    answered.

    `confidence` is how likely the adapter's answer was; None: not known of measurements from before this was kept.
    """

    text: str
    right: str
    base: str
    generated: str
    confidence: float | None = None
    pictures: tuple[Picture, ...] = ()

    @property
    def prompt(self) -> Prompt:
        """What was asked."""
        return Pictured(self.text, self.pictures) if self.pictures else self.text

    @classmethod
    def read(cls, stored: Mapping[str, Any], picture: Find) -> Inspected:
        """An inspected example by what is stored of it."""
        return cls(**{**stored, "pictures": tuple(map(picture, stored.get("pictures", ())))})

    def to_dict(self) -> dict[str, Any]:
        """The same, JSON-ready; of pictures the digests."""
        return {**self._asdict(), "pictures": [one.digest for one in self.pictures]}


@dataclass(frozen=True)
class Evaluation:
    """Everything that was measured of a version at one time; nothing, if it never was.

    scores      per arm, and of the gain: score, low, high
    inspection  the inspected examples, for people to look at
    set_aside   how many more were given, whose inputs are in the adapter's weights, and were not asked
    seconds     apply, check, replay: see `costs.costs`
    """

    metrics: Metrics = Metrics()
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    inspection: Sequence[Inspected] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    set_aside: int = 0

    @property
    def pairs(self) -> list[tuple[Prompt, str]]:
        """(prompt, right answer) of the inspected examples."""
        return [(one.prompt, one.right) for one in self.inspection]

    @classmethod
    def read(cls, stored: Mapping[str, Any], picture: Find) -> Evaluation:
        """An evaluation by what is stored of it. Before 0.1.0 metrics were `numbers`, and inspected examples `rows`."""
        return cls(
            metrics=Metrics.read(stored.get("metrics") or stored.get("numbers") or {}),
            scores=stored.get("scores") or {},
            inspection=tuple(
                Inspected.read(one, picture) for one in stored.get("inspection") or stored.get("rows") or ()
            ),
            seconds=stored.get("seconds") or {},
            set_aside=stored.get("set_aside", 0),
        )

    def to_dict(self) -> dict[str, Any]:
        """The same, JSON-ready."""
        return {
            "metrics": self.metrics.to_dict(),
            "scores": {name: dict(score) for name, score in self.scores.items()},
            "inspection": [one.to_dict() for one in self.inspection],
            "seconds": dict(self.seconds),
            "set_aside": self.set_aside,
        }


def _value(stored: Any) -> Value:
    return stored if isinstance(stored, int | float) and math.isfinite(stored) else None
