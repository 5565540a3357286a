"""The gate: nothing passes unmeasured, and every reason names metric, value and bound."""

import math
import re
from dataclasses import fields
from pathlib import Path

import pytest
from tiny import GOOD

from prompt2lora.custody.costs import Prices, read_prices
from prompt2lora.custody.evaluations import Evaluation, Metrics
from prompt2lora.custody.gate import _CHECKS, FAIL, PASS, UNKNOWN, Policy, judge, read_policy
from prompt2lora.errors import UsageError

PLACES = [(group, key) for group, values in GOOD.items() for key in values]


def changed(group, key, value):
    return {**GOOD, group: {**GOOD[group], key: value}}


def test_an_adapter_that_keeps_every_bound_passes():
    verdict = judge(Metrics.read(GOOD), Policy())
    assert verdict.result == PASS
    assert len(verdict.checks) == len(PLACES)


@pytest.mark.parametrize(("group", "key"), PLACES)
@pytest.mark.parametrize("value", [None, math.nan, math.inf, "0.9"])
def test_a_measurement_that_is_missing_never_passes(group, key, value):
    verdict = judge(Metrics.read(changed(group, key, value)), Policy())
    assert verdict.result == UNKNOWN
    missing = [check for check in verdict.checks if check.result != PASS]
    assert [check.value for check in missing] == [None]
    without = {name: values for name, values in GOOD.items() if name != group}
    assert judge(Metrics.read(without), Policy()).result == UNKNOWN


@pytest.mark.parametrize(
    ("group", "key", "value"),
    [
        ("gain", "low", 0.0),
        ("gain", "p_value", 0.06),
        ("canary", "kl", 1.71),
        ("canary", "perplexity_ratio", 3.1),
        ("format", "low", 0.79),
        ("conditioning", "low", 0.0),
        ("bias", "high", 0.21),
        ("health", "score", 1.6),
        ("prompts", "distance", 3.1),
        ("probe", "change", 0.0),
        ("signature", "sound", False),
    ],
)
def test_one_broken_bound_fails_and_is_named(group, key, value):
    verdict = judge(Metrics.read(changed(group, key, value)), Policy())
    assert verdict.result == FAIL
    (failed,) = (check for check in verdict.checks if check.result == FAIL)
    assert failed.value == float(value)
    assert failed._asdict() in verdict.reasons


def test_a_failure_outweighs_what_is_missing():
    assert judge(Metrics.read({"probe": {"change": 0.0}}), Policy()).result == FAIL


def test_a_check_without_a_bound_is_left_out_and_a_policy_of_none_says_nothing():
    policy = Policy(most_bias=math.nan)
    without = {name: values for name, values in GOOD.items() if name != "bias"}
    assert judge(Metrics.read(without), policy).result == PASS
    assert judge(Metrics.read(without), policy).result != judge(Metrics.read(without), Policy()).result
    assert policy.digest != Policy().digest


def test_a_policy_is_read_from_toml_and_refused_by_key(tmp_path):
    file = tmp_path / "policy.toml"
    file.write_text("least_gain = 0.05\nsigned = false\n")
    assert read_policy(file) == Policy(least_gain=0.05, signed=False)
    for text, told in (
        ("least_gian = 0.05", "unknown key 'least_gian'"),
        ("least_gain = 'much'", "must be a number"),
        ("signed = 1", "must be true or false"),
        ("least_gain = true", "must be a number"),
        ("least_gain =", "readable TOML .*; correct the file"),
    ):
        file.write_text(text)
        with pytest.raises(UsageError, match=told):
            read_policy(file)
    with pytest.raises(UsageError, match="check the path"):
        read_policy(tmp_path / "none.toml")


PLANT = (Path(__file__).parents[1] / "docs" / "plant.md").read_text(encoding="utf-8")


def test_the_table_of_checks_names_every_key_of_a_policy_with_its_default(tmp_path):
    rows = re.findall(r"^\| (.+?) \|.* `(\w+)` \| `(.+)` \|$", PLANT, re.MULTILINE)
    assert {check: key for check, key, _ in rows} == {check: bound for check, (_, bound, _) in _CHECKS.items()}
    (tmp_path / "policy.toml").write_text("".join(f"{key} = {default}\n" for _, key, default in rows))
    assert {key for _, key, _ in rows} == {item.name for item in fields(Policy)}
    assert read_policy(tmp_path / "policy.toml").digest == Policy().digest


def test_the_files_of_the_plant_page_are_a_policy_and_prices(tmp_path):
    prices, policy = re.findall(r"```toml\n(.*?)```", PLANT, re.DOTALL)
    (tmp_path / "prices.toml").write_text(prices)
    (tmp_path / "policy.toml").write_text(policy)
    assert read_prices(tmp_path / "prices.toml").person_hour == 4500
    assert read_policy(tmp_path / "policy.toml").least_format_share == 0.9
    assert set(re.findall(r"^(\w+) =", prices, re.MULTILINE)) == {item.name for item in fields(Prices)}


OLD = {
    "numbers": {
        "probe": {"change": 4.25},
        "canary": {"kl": 0.4, "perplexity_ratio": 1.5},
        "health": {"score": 0.9, "share": 0.05, "intruders": 2},
        "prompts": {"distance": 1.1},
        "bias": {"score": 0.02, "low": -0.05, "high": 0.09},
        "gain": {"score": 0.4, "low": 0.25, "high": 0.55, "p_value": 0.0001, "rows": 40.0},
        "conditioning": {"score": 0.3, "low": 0.1, "high": 0.5},
        "format": {"score": 1.0, "low": 0.91, "high": 1.0},
        "signature": {"sound": True},
    },
    "scores": {"base": {"score": 0.1, "low": 0.0, "high": 0.2}, "gain": {"score": 0.4, "low": 0.25, "high": 0.55}},
    "rows": [{"text": "a", "right": "b", "base": "c", "generated": "b"}],
    "seconds": {"apply": 0.1, "check": 30.5},
}


def test_an_evaluation_stored_before_its_keys_were_renamed_is_read_and_judged_the_same(registry, add):
    found = Evaluation.read(OLD, registry.store.picture)
    verdict = judge(found.metrics, Policy(most_intruders=2))
    assert [(check.value, check.result) for check in verdict.checks] == [
        (value, PASS) for value in (0.25, 0.0001, 0.4, 1.5, 0.91, 0.1, 0.09, 0.9, 2, 1.1, 4.25, True)
    ]
    assert judge(found.metrics, Policy(most_intruders=1)).result == FAIL
    assert (found.metrics.gain.examples, found.metrics.health.share) == (40, 0.05)
    assert (found.scores, found.pairs, found.seconds) == (OLD["scores"], [("a", "b")], OLD["seconds"])
    assert Evaluation.read(found.to_dict(), registry.store.picture) == found
    version = add("old")
    registry.add_evaluation(version, found)
    assert registry.measured(version) == found


def test_what_was_never_measured_is_not_enough_evidence():
    for missing in (
        Metrics(),
        Metrics.read({}),
        Metrics.read({"gain": None, "health": 3, "probe": {}}),
        Evaluation.read({}, {}.__getitem__).metrics,
    ):
        verdict = judge(missing, Policy())
        assert {check.result for check in verdict.checks} == {verdict.result} == {UNKNOWN}
