"""The alarm: its evidence is a fair game, it goes up when a promise is broken, and what it takes back stays back."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from random import Random

import pytest
from tiny import AT, damage, promoted

from prompt2lora.custody.database import writing
from prompt2lora.custody.eprocess import EProcess
from prompt2lora.custody.monitor import Monitor
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.store import Store
from prompt2lora.errors import DamagedFile, Unavailable, UsageError


@pytest.mark.parametrize("promised", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("before", [[], [0] * 7, [1, 0, 1, 1, 0, 0.5]])
def test_the_evidence_is_a_fair_game_at_the_promised_rate_and_an_unfair_one_below(promised, before):
    def after(*outcomes):
        process = EProcess(promised)
        for outcome in outcomes:
            process.update(outcome)
        return process.evidence

    now = after(*before)
    good, bad = after(*before, 0), after(*before, 1)
    assert promised * bad + (1 - promised) * good == pytest.approx(now)
    lower = promised / 2
    assert lower * bad + (1 - lower) * good < now


def test_clean_streams_hardly_ever_raise_the_alarm():
    alarms = 0
    for seed in range(200):
        random, process = Random(seed), EProcess(0.1, alpha=0.05)
        alarms += any(process.update(random.random() < 0.1) for _ in range(400))
    assert alarms <= 0.05 * 200 + 7, "alpha and three standard deviations"


@pytest.mark.parametrize("quiet", [0, 500])
@pytest.mark.parametrize(("drop", "most"), [(0.1, 400), (0.3, 80)])
def test_a_broken_promise_is_noticed_even_after_a_long_good_time(quiet, drop, most):
    delays = []
    for seed in range(20):
        random, process = Random(seed), EProcess(0.1, alpha=0.01)
        for _ in range(quiet):
            process.update(random.random() < 0.08)
        for delay in range(1, 2000):
            if process.update(random.random() < 0.1 + drop):
                delays.append(delay)
                break
    assert len(delays) == 20
    assert sorted(delays)[10] <= most


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_an_outcome_outside_its_range_is_refused(wrong):
    with pytest.raises(ValueError, match="outcome"):
        EProcess(0.1).update(wrong)


@pytest.fixture
def told():
    return []


@pytest.fixture
def monitor(registry, told, tmp_path):
    return Monitor(registry, tmp_path / "watch", told.append)


def broken(monitor, job="mail"):
    return monitor.outcomes(job, monitor.registry.current(job).id, [{"canary": 1}] * 500)


def test_an_alarm_takes_the_release_back_at_once_and_tells(monitor, registry, add, told):
    one, two = add("a"), add("b")
    promoted(registry, one)
    promoted(registry, two)
    monitor.watch("mail", {"canary": 0.1, "format": 0.02})
    alarm = broken(monitor)
    assert registry.current("mail").version == one
    assert told == [alarm]
    assert "canary" in alarm.reason
    assert registry.history("mail")[-1].reason == alarm.reason
    assert registry.verify_audit() == 7


@pytest.mark.parametrize("later", ["a good outcome", "a look"])
def test_an_alarm_that_went_up_stays_up_until_the_release_is_back(
    registry, add, told, tmp_path, monkeypatch, database, later
):
    release = promoted(registry, add("a"))
    monkeypatch.setattr("prompt2lora.custody.database._PATIENCE", 1)
    monitor = Monitor(Registry.open(tmp_path / "home", url=database), tmp_path / "watch", told.append)
    monitor.watch("mail", {"canary": 0.3})
    with writing(registry.engine), pytest.raises(Unavailable, match="could not be used"):
        broken(monitor)
    assert (registry.current("mail"), told) == (release, [])
    alarm = monitor.check_alarm("mail") if later == "a look" else monitor.outcome("mail", release.id, "canary", 0)
    assert registry.current("mail").version is None
    assert told == [alarm] and alarm.source == "canary" and "evidence" in alarm.reason
    assert monitor.check_alarm("mail") is None, "what answers now has done nothing wrong"
    monitor.registry.engine.dispose()


def test_outcomes_of_a_release_that_answers_no_more_change_nothing(monitor, registry, add, told):
    promoted(registry, add("a"))
    old = registry.current("mail").id
    promoted(registry, add("b"))
    monitor.watch("mail", {"canary": 0.1})
    assert monitor.outcomes("mail", old, [{"canary": 1}] * 100) is None
    assert told == []
    broken(monitor)
    after = registry.current("mail")
    assert broken(monitor) is None, "what answers now has a watch of its own or none"
    assert registry.current("mail") == after, "no flapping"


def test_a_good_release_stays(monitor, registry, add, told):
    promoted(registry, add("a"))
    monitor.watch("mail", {"canary": 0.2})
    random, release = Random(1), registry.current("mail").id
    assert monitor.outcomes("mail", release, [{"canary": float(random.random() < 0.1)} for _ in range(300)]) is None
    assert told == []


@pytest.mark.parametrize(("promised", "bad"), [(0.05, 5), (0.1, 10), (0.2, 20)])
def test_what_is_told_at_once_is_no_change_for_the_worse_by_the_order_it_stands_in(
    monitor, registry, add, promised, bad
):
    release = promoted(registry, add("a"))
    monitor.watch("mail", {"correction": promised})
    for told in ([1.0] * bad + [0.0] * (100 - bad), [0.0] * (100 - bad) + [1.0] * bad):
        assert monitor.outcomes("mail", release.id, [{"correction": one} for one in told]) is None
    assert monitor.read("mail").processes["correction"].bad == 2 * bad
    worse = [{"correction": 1.0}] * 60 + [{"correction": 0.0}] * 40
    assert monitor.outcomes("mail", release.id, worse) is not None, "a promise that is broken is noticed"


def test_what_is_told_at_once_counts_as_a_whole_or_not_at_all(monitor, registry, add):
    release = promoted(registry, add("a"))
    begun = monitor.watch("mail", {"canary": 0.1})
    with pytest.raises(UsageError, match="nothing was promised"):
        monitor.outcomes("mail", release.id, [{"canary": 1}] * 5 + [{"format": 1}])
    assert monitor.read("mail") == begun


def test_a_watch_goes_on_where_it_was(monitor, registry, add, told, tmp_path):
    promoted(registry, add("a"))
    monitor.watch("mail", {"canary": 0.3})
    release = registry.current("mail").id
    for _ in range(3):
        monitor.outcome("mail", release, "canary", 1)
    again = Monitor(registry, tmp_path / "watch", told.append)
    assert again.read("mail").processes["canary"].count == 3
    assert again.read("mail") == monitor.read("mail")


def test_a_hard_trigger_needs_no_statistics(monitor, registry, add, told):
    release = promoted(registry, add("a"))
    assert monitor.hard(release, "not applied").release.version is None
    assert monitor.hard(registry.current("mail"), "not applied") is None, "the base is not taken back"
    assert len(told) == 1


def test_what_answers_no_more_is_not_taken_back_and_neither_is_what_came_after_it(monitor, registry, add, told):
    promoted(registry, add("a"))
    bad = promoted(registry, add("b"))
    assert monitor.hard(bad, "not applied") is not None
    good = registry.current("mail")
    assert monitor.hard(bad, "not applied") is None, "a second reason for the same release comes too late"
    assert registry.current("mail") == good
    assert len(told) == 1


def test_of_outcomes_that_are_told_at_once_none_is_lost_and_one_alarm_goes_back_one_step(monitor, registry, add, told):
    one = add("a")
    promoted(registry, one)
    release = promoted(registry, add("b")).id
    monitor.watch("mail", {"canary": 0.2})
    with ThreadPoolExecutor(8) as many:
        list(many.map(lambda _: monitor.outcome("mail", release, "canary", 0), range(40)))
        assert monitor.read("mail").processes["canary"].count == 40
        list(many.map(lambda _: monitor.outcome("mail", release, "canary", 1), range(80)))
    assert registry.current("mail").version == one
    assert len(told) == 1


def test_altered_files_take_the_release_back(monitor, registry, add):
    version = add("a")
    promoted(registry, version)
    assert monitor.check_files("mail") is None
    damage(registry.store.path(version.adapter) / "adapter_model.safetensors")
    assert monitor.check_files("mail").release.version is None


@pytest.mark.parametrize(("hours", "due"), [(0, False), (23, False), (24, True), (-1, True)])
def test_canaries_are_due_at_once_and_then_when_the_hours_are_over_or_the_clock_went_back(
    monitor, registry, add, hours, due
):
    promoted(registry, add("a"))
    assert not monitor.due("mail", 24), "nothing is watched"
    monitor.watch("mail", {"canary": 0.1})
    assert monitor.due("mail", 24)
    monitor.replaying("mail")
    registry.clock = lambda: AT + timedelta(hours=hours)
    assert monitor.due("mail", 24) == due
    promoted(registry, add("b"))
    assert not monitor.due("mail", 24), "what answers now is not watched"


def test_files_that_cannot_be_read_just_now_take_nothing_back(monitor, registry, add, told, monkeypatch):
    promoted(registry, add("a"))

    def verify(*_):
        raise Unavailable("whether it is sound cannot be told now")

    monkeypatch.setattr(Store, "verify", verify)
    with pytest.raises(Unavailable):
        monitor.check_files("mail")
    assert registry.current("mail").version and not told


@pytest.mark.parametrize("lost", ["store", "keys"])
def test_a_home_that_is_away_for_a_moment_takes_nothing_back(monitor, registry, add, told, lost):
    promoted(registry, add("a"))
    place = registry.store.root.parent / lost
    place.rename(place.with_name("away"))
    with pytest.raises(Unavailable):
        monitor.check_files("mail")
    place.with_name("away").rename(place)
    assert monitor.check_files("mail") is None
    assert registry.current("mail").version and not told


def test_an_alarm_passes_over_versions_for_another_base_and_a_person_does_not(monitor, registry, add):
    ours, other, moved = add("a", base_digest="1" * 64), add("b", base_digest="2" * 64), add("c", base_digest="1" * 64)
    for version in (ours, other, moved):
        promoted(registry, version)
    assert registry.rollback("mail", "worse").version == other
    promoted(registry, moved)
    assert monitor.hard(registry.current("mail"), "not applied").release.version == ours


def test_nothing_is_watched_and_no_correction_counts_that_is_not_on_record(monitor, registry, add, monkeypatch):
    release = promoted(registry, add("a")).id

    def full(*_):
        raise Unavailable("the registry could not be used")

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "tell", full)
        with pytest.raises(Unavailable):
            monitor.watch("mail", {"correction": 0.2})
    with pytest.raises(UsageError, match="not monitored"):
        monitor.read("mail")
    monitor.watch("mail", {"correction": 0.2})
    numbers = {"checked": 1, "corrected": 1}
    with monkeypatch.context() as patch:
        patch.setattr(Registry, "tell", full)
        with pytest.raises(Unavailable):
            monitor.outcomes("mail", release, [{"correction": 1}], numbers)
    assert monitor.read("mail").processes["correction"].count == 0
    monitor.outcomes("mail", release, [{"correction": 1}], numbers)
    lines = [(line.action, line.detail) for line in registry.audit_lines()[-2:]]
    assert lines[0][0] == "watch" and lines[1] == ("correct", {"release": release, **numbers})


def test_a_promotion_ends_a_watch_and_whoever_asks_is_told_so(monitor, registry, add):
    promoted(registry, add("a"))
    begun = monitor.watch("mail", {"canary": 0.1})
    assert monitor.watching("mail") == (begun, registry.current("mail").version)
    promoted(registry, add("b"))
    with pytest.raises(UsageError, match="what answers mail now is not monitored; begin with"):
        monitor.watching("mail")


@pytest.mark.parametrize(
    "wrong", [{"alpha": 0.0}, {"alpha": 1.5}, {"rate": -0.1}, {"rate": 5.0}, {"rate": float("nan")}]
)
def test_a_promise_or_a_chance_that_is_none_is_refused_in_one_line(monitor, registry, add, wrong):
    promoted(registry, add("a"))
    with pytest.raises(UsageError, match="between 0 and 1"):
        monitor.watch("mail", {"canary": wrong.get("rate", 0.1)}, wrong.get("alpha", 0.01))


def test_what_cannot_be_watched_is_refused(monitor, registry, add):
    with pytest.raises(UsageError, match="promote a version first"):
        monitor.watch("mail", {"canary": 0.1})
    with pytest.raises(UsageError, match="not monitored"):
        monitor.outcome("mail", 1, "canary", 1)
    promoted(registry, add("a"))
    with pytest.raises(UsageError, match="promises"):
        monitor.watch("mail", {"mood": 0.1})
    monitor.watch("mail", {"canary": 0.1})
    with pytest.raises(UsageError, match="nothing was promised"):
        monitor.outcome("mail", registry.current("mail").id, "format", 1)
    (monitor.folder / "mail.json").write_text(json.dumps({"job": 1}))
    with pytest.raises(DamagedFile, match="monitoring of mail"):
        monitor.read("mail")
