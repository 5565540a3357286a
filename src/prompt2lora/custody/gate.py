"""The gate: measurements of an adapter and a policy -> a verdict with its reasons.

In: metrics (None for what was not measured) and a policy. Out: *pass*, *fail* or *not enough evidence*, and a line for
every check that names metric, value and bound. It measures nothing itself, and a measurement that is missing never
passes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import asdict
from operator import ge, gt, le
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from prompt2lora.custody.evaluations import Metrics
from prompt2lora.errors import UsageError
from prompt2lora.ground.files import read_toml, refuse_unknown

_MOST = 1e300  # of a bound
PASS, FAIL, UNKNOWN = "pass", "fail", "not enough evidence"


def _bounded(value: float) -> float:
    if abs(value) > _MOST:
        raise ValueError("too large")
    return value


Bound = Annotated[float, AfterValidator(_bounded)]


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
class Policy:
    """Bounds of the checks; a check whose bound is not given (nan) is left out.

    least_gain            of exact match over the base on inspected examples, at the interval's lower bound
    most_p_value          of McNemar's exact test of that gain
    most_canary_kl        divergence from the base on general texts, nats per token
    most_canary_perplexity  perplexity on general texts, as a multiple of the base's
    least_format_share    of answers in the asked format, at the interval's lower bound
    least_own_over_wrong  gain over the adapter made from another job's prompts, at the interval's lower bound
    most_bias             of the bias score on the inspection file, at the interval's upper bound
    most_health_score     distance of the weights from what the generator usually makes (see adapter/health.py)
    most_intruders        directions of the new weights that resemble none of the base's (see adapter/intruders.py)
    most_prompt_distance  distance of the prompts from the training tasks' (relative Mahalanobis)
    least_logit_change    of the probe: below it the adapter was not applied
    signed                the stored files must be what was signed
    """

    least_gain: Bound = 0.0
    most_p_value: Bound = 0.05
    most_canary_kl: Bound = 1.7  # 56 of 60 of the released generator's adapters, as for the perplexity
    most_canary_perplexity: Bound = 3.0  # benchmarks/results/canaries.json
    least_format_share: Bound = 0.8  # 44 of 48 examples; 0.9 asks for all 48
    least_own_over_wrong: Bound = 0.0
    most_bias: Bound = 0.2
    most_health_score: Bound = 1.5
    most_intruders: Bound = math.nan
    most_prompt_distance: Bound = 3.0
    least_logit_change: Bound = 1e-3
    signed: bool = True

    @property
    def digest(self) -> str:
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


class Check(NamedTuple):
    """One line of a verdict: `value` is what was held against `bound` (None: it was not measured)."""

    metric: str
    value: float | None
    bound: float
    result: str


class Verdict(NamedTuple):
    """`result` is FAIL if any check fails, UNKNOWN if none fails but one could not be made, else PASS."""

    result: str
    checks: tuple[Check, ...]

    @property
    def reasons(self) -> list[dict[str, Any]]:
        """The checks, JSON-ready."""
        return [check._asdict() for check in self.checks]


ABOVE, AT_LEAST, AT_MOST = "above", "at least", "at most"
_KEEPS: dict[str, Callable[[float, float], bool]] = {ABOVE: gt, AT_LEAST: ge, AT_MOST: le}
# metric -> (where its value lies among the measurements, which bound of the policy, where it has to lie)
_CHECKS: dict[str, tuple[str, str, str]] = {
    "gain over the base": ("gain.low", "least_gain", ABOVE),
    "p value of the gain": ("gain.p_value", "most_p_value", AT_MOST),
    "canary divergence": ("canary.kl", "most_canary_kl", AT_MOST),
    "canary perplexity": ("canary.perplexity_ratio", "most_canary_perplexity", AT_MOST),
    "answers in format": ("format.low", "least_format_share", AT_LEAST),
    "own over wrong prompts": ("conditioning.low", "least_own_over_wrong", ABOVE),
    "bias": ("bias.high", "most_bias", AT_MOST),
    "weight health": ("health.score", "most_health_score", AT_MOST),
    "intruder dimensions": ("health.intruders", "most_intruders", AT_MOST),
    "distance of the prompts": ("prompts.distance", "most_prompt_distance", AT_MOST),
    "change of the logits": ("probe.change", "least_logit_change", AT_LEAST),
    "signature": ("signature.sound", "signed", AT_LEAST),
}


# What holds an adapter against its generator, so that it means nothing for one that was made elsewhere.
_OF_A_GENERATOR = {"weight health", "distance of the prompts"}


def direction(metric: str) -> str:
    """Where the value of a check has to lie from its bound."""
    return _CHECKS[metric][2]


def judge(metrics: Metrics, policy: Policy, *, generated: bool = True) -> Verdict:
    """Hold every measurement against its bound; see `Policy` for their names.

    Of an adapter that no generator made (`generated` is false) nothing is held against a generator.
    """
    checks = []
    for metric, (place, bound_name, where) in _CHECKS.items():
        bound = float(getattr(policy, bound_name))
        if math.isnan(bound) or (metric in _OF_A_GENERATOR and not generated):
            continue
        value = _value(metrics, place)
        if value is None:
            checks.append(Check(metric, None, bound, UNKNOWN))
            continue
        checks.append(Check(metric, value, bound, PASS if _KEEPS[where](value, bound) else FAIL))
    results = {check.result for check in checks}
    overall = FAIL if FAIL in results else UNKNOWN if UNKNOWN in results or not checks else PASS
    return Verdict(overall, tuple(checks))


def _value(metrics: Metrics, place: str) -> float | None:
    """The number at a dotted place; None if it is missing or no finite number."""
    group, name = place.split(".")
    found: float | None = getattr(getattr(metrics, group), name, None)
    return float(found) if found is not None and math.isfinite(found) else None


def read_policy(file: Path) -> Policy:
    """Read a policy. Raises UsageError that names the file and the unknown or wrong key."""
    data = read_toml(file, "a policy")
    refuse_unknown(file, data, Policy)
    try:
        return Policy(**data)
    except ValidationError as error:
        wrong = error.errors()[0]
        key, value = wrong["loc"][0], wrong["input"]
        if key == "signed":
            raise UsageError(f"{file}: signed must be true or false, not {value!r}; correct it") from error
        raise UsageError(
            f"{file}: {key} must be a number, not {value!r}; correct it (nan leaves the check out)"
        ) from error
