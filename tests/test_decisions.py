"""Decisions: what was refused, never judged, or judged by another policy is released through no door by the way."""

import ast
import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from serving import GivesItselfAway, bearer
from test_pilot import INSPECTION, PROMPTS, KnownEvaluator
from tiny import AT, GOOD, adapter_folder, new_registry, promoted

import prompt2lora
from prompt2lora.console.page_request import KEY_COOKIE
from prompt2lora.custody import decisions, pilot
from prompt2lora.custody.access import Access
from prompt2lora.custody.evaluations import Evaluation, Metrics
from prompt2lora.custody.gate import Policy, judge
from prompt2lora.custody.pilot import PilotRequest
from prompt2lora.custody.versions import Origin
from prompt2lora.errors import Conflict, NotAllowed, UsageError
from prompt2lora.plant import candidates
from prompt2lora.plant.plant import Plant, owns_home
from prompt2lora.serving.job_queue import JobQueue
from prompt2lora.serving.service import Service
from prompt2lora.web import create_app

USUAL, LAX = Policy(), Policy(least_gain=-1.0)
ORIGIN = Origin(("one", "two"), "9" * 64, "g", "b", "8" * 64)
STATES = ("passed", "failed", "never judged", "judged by another policy", "refused", "refused under another number")
OVERRIDABLE = STATES[2:]


def judged(registry, version, numbers=GOOD, policy=USUAL):
    number = registry.add_evaluation(version, Evaluation(Metrics.read(numbers)))
    registry.add_verdict(version, number, judge(Metrics.read(numbers), policy), policy)


def by(registry, name):
    return Plant(registry).as_actor(name).registry


def version_in(registry, state, place, job="mail"):
    """A version of a job by the maker, in a state."""
    maker = by(registry, "maker")
    version = maker.add_version(job, adapter_folder(place / "adapter", "a"), ORIGIN)
    if state != "never judged":
        numbers = {**GOOD, "probe": {"change": 0.0}} if state == "failed" else GOOD
        judged(maker, version, numbers, LAX if state == "judged by another policy" else Policy())
    if state.startswith("refused"):
        decisions.refuse(by(registry, "refuser"), version, "two answers got worse")
    if state == "refused under another number":
        version = maker.add_version(job, adapter_folder(place / "again", "a"), ORIGIN)
        judged(maker, version)
    return version


def approve(registry, version, name="somebody", **options):
    current = registry.current("mail")
    options = {"policy": Policy(), "expected": current.id if current else None, **options}
    return decisions.approve(by(registry, name), version, "looks good", **options)


def lines(registry, action):
    return [line for line in registry.audit_lines() if line.action == action]


# The rule


@pytest.mark.parametrize("state", STATES)
def test_only_what_passed_by_the_policy_in_force_and_was_not_refused_is_released(registry, tmp_path, state):
    version = version_in(registry, state, tmp_path)
    if state == "passed":
        assert approve(registry, version).version == version
        assert lines(registry, "promote")[0].detail["policy"] == Policy().digest
        return
    with pytest.raises(UsageError, match=version.name) as told:
        approve(registry, version)
    assert ";" in str(told.value), "and the next step"
    assert registry.current("mail") is None


@pytest.mark.parametrize("state", OVERRIDABLE)
def test_an_admin_overrides_with_a_reason_that_stands_in_the_audit(registry, tmp_path, state):
    version = version_in(registry, state, tmp_path)
    with pytest.raises(NotAllowed, match="only an admin"):
        approve(registry, version, override="I say so")
    with pytest.raises(UsageError, match="with its reason"):
        approve(registry, version, override=" ", admin=True)
    assert registry.current("mail") is None
    approve(registry, version, "boss", override="the line stands still", admin=True)
    (line,) = lines(registry, "promote")
    assert (line.actor, line.detail["override"]) == ("boss", "the line stands still")
    assert line.detail["despite"], "what it was released despite"
    assert registry.refusal(version) is None, "an override of a refusal withdraws it"
    assert bool(lines(registry, "withdraw")) == state.startswith("refused")
    registry.verify_audit()


@pytest.mark.parametrize("state", ["passed", "failed"])
def test_nobody_overrides_what_failed_and_nothing_is_overridden_where_nothing_stands_against_it(
    registry, tmp_path, state
):
    version = version_in(registry, state, tmp_path)
    with pytest.raises(UsageError, match={"passed": "there is no objection to", "failed": "did not pass"}[state]):
        approve(registry, version, override="I say so", admin=True)
    assert registry.current("mail") is None


def test_what_failed_by_another_policy_is_not_released_by_an_override(registry, tmp_path):
    version = version_in(registry, "never judged", tmp_path)
    judged(registry, version, {**GOOD, "probe": {"change": 0.0}}, LAX)
    with pytest.raises(UsageError, match="did not pass"):
        approve(registry, version, override="I say so", admin=True)


def test_the_latest_verdict_counts(registry, tmp_path):
    version = version_in(registry, "judged by another policy", tmp_path)
    judged(registry, version)
    assert approve(registry, version).version == version
    judged(registry, version, policy=LAX)
    promoted(registry, None)
    with pytest.raises(UsageError, match="judged by another policy"):
        approve(registry, version)


def test_a_pass_does_not_hold_for_what_was_measured_after_it(registry, tmp_path):
    """Between a measurement and its verdict a process may be killed."""
    version = version_in(registry, "passed", tmp_path)
    worse = Evaluation(Metrics.read({**GOOD, "probe": {"change": 0.0}}))
    number = registry.add_evaluation(version, worse)
    assert [one.kind for one in decisions.objections(registry, version, USUAL)] == [decisions.NOT_JUDGED]
    assert registry.verdict(version) is pilot.recorded(registry, version, {}) is None, (
        "no report shows the one as the other"
    )
    with pytest.raises(UsageError, match="not judged since it was measured"):
        approve(registry, version)
    registry.add_verdict(version, number, judge(worse.metrics, USUAL), USUAL)
    registry.add_evaluation(version, Evaluation(Metrics.read(GOOD)))
    with pytest.raises(UsageError, match="did not pass"):
        approve(registry, version, override="I say so", admin=True)


@pytest.mark.parametrize("may_release", [0, 1, 2])
def test_a_second_person_is_asked_for_where_more_than_one_key_may_release(registry, tmp_path, may_release):
    access = Access(registry)
    for number in range(may_release):
        access.add(f"person {number}", role="approver")
    access.add("line 3", infer=True)
    access.add("gone", role="approver")
    access.revoke("gone")
    version = version_in(registry, "passed", tmp_path)
    if may_release > 1:
        for admin in (False, True):
            with pytest.raises(UsageError, match="takes a second person"):
                approve(registry, version, "maker", admin=admin)
        with pytest.raises(UsageError, match="takes a second person"):
            decisions.refuse(by(registry, "maker"), version, "no")
        assert registry.current("mail") is None
        assert approve(registry, version, "somebody").version == version
    else:
        assert approve(registry, version, "maker").version == version


def test_an_override_takes_a_second_person_too(registry, tmp_path):
    version = version_in(registry, "never judged", tmp_path)
    with pytest.raises(UsageError, match="takes a second person"):
        approve(registry, version, "maker", second=True, override="I say so", admin=True)


def test_a_refusal_is_withdrawn_by_whoever_refused_or_by_an_admin(registry, tmp_path):
    version = version_in(registry, "refused", tmp_path)
    with pytest.raises(NotAllowed, match="refuser refused"):
        decisions.withdraw(by(registry, "somebody"), version, "I liked it")
    for name in ("somebody", "refuser"):
        with pytest.raises(Conflict, match="was refused by refuser"):
            decisions.refuse(by(registry, name), version, "so that I may withdraw it")
    with pytest.raises(UsageError, match="takes a second person"):
        decisions.withdraw(by(registry, "maker"), version, "mine", admin=True, second=True)
    assert registry.refusal(version).reason == "two answers got worse"
    decisions.withdraw(by(registry, "refuser"), version, "I was wrong")
    decisions.refuse(by(registry, "refuser"), version, "I was right")
    assert registry.refusal(version).reason == "I was right", "the newest decision holds"
    decisions.withdraw(by(registry, "boss"), version, "they were wrong", admin=True)
    assert approve(registry, version).version == version
    with pytest.raises(UsageError, match="is not refused"):
        decisions.withdraw(by(registry, "boss"), version, "again", admin=True)


def test_what_answers_is_taken_back_before_it_is_refused(registry, tmp_path):
    version = version_in(registry, "passed", tmp_path)
    approve(registry, version)
    with pytest.raises(UsageError, match="take it back first"):
        decisions.refuse(by(registry, "somebody"), version, "no")
    registry.rollback("mail", "worse")
    decisions.refuse(by(registry, "somebody"), version, "no")
    assert registry.refusal(version).actor == "somebody"


def test_a_rollback_passes_over_what_was_refused_and_ends_at_the_base(registry, add):
    for mark in "abc":
        promoted(registry, add(mark))
    first, second, _ = registry.versions("mail")
    decisions.refuse(by(registry, "somebody"), second, "no")
    assert registry.rollback("mail", "worse").version == first
    promoted(registry, registry.versions("mail")[2])
    decisions.refuse(by(registry, "somebody"), first, "no")
    assert registry.rollback("mail", "worse").version is None


@pytest.mark.parametrize("state", STATES)
def test_a_rollback_asks_neither_for_a_verdict_nor_for_a_second_person(registry, add, tmp_path, state):
    """What answered before is unjudged by today's rules; it comes back all the same, and so does the base."""
    before, access = add("before"), Access(registry)
    promoted(registry, before)
    version = version_in(registry, state, tmp_path)
    for number in range(2):
        access.add(f"person {number}", role="admin")
    promoted(registry, version)
    assert by(registry, "maker").rollback("mail", "worse").version == before
    assert by(registry, "maker").rollback("mail", "worse").version is None


@pytest.mark.parametrize("reason", ["", "  ", "x" * 501, "two\nlines"])
def test_every_decision_has_its_reason_in_one_line(registry, tmp_path, reason):
    version = version_in(registry, "passed", tmp_path)
    for decide in (decisions.refuse, decisions.withdraw):
        with pytest.raises(UsageError, match="reason"):
            decide(by(registry, "somebody"), version, reason)
    with pytest.raises(UsageError, match="reason"):
        decisions.approve(by(registry, "somebody"), version, reason, policy=Policy(), expected=None)
    assert not lines(registry, "refuse") and registry.current("mail") is None


def test_a_release_that_was_overtaken_withdraws_nothing(registry, tmp_path):
    version = version_in(registry, "refused", tmp_path)
    promoted(registry, None)
    with pytest.raises(Conflict):
        approve(registry, version, override="I say so", admin=True, expected=None)
    assert registry.refusal(version), "the transaction left nothing behind"
    registry.verify_audit()


def test_the_first_verdict_or_release_by_a_changed_policy_is_on_record_once(registry, tmp_path):
    version = version_in(registry, "passed", tmp_path)
    approve(registry, version)
    assert not lines(registry, "policy"), "the first policy that is ever seen is no change"
    number = registry.add_evaluation(version, Evaluation(Metrics.read(GOOD)))
    registry.add_verdict(version, number, judge(Metrics.read(GOOD), LAX), LAX, in_force=False)
    judged(by(registry, "maker"), version)
    assert not lines(registry, "policy"), "a policy for one call is not in force"
    for _ in range(2):
        judged(by(registry, "judge"), version, policy=LAX)
    for options in ({"policy": LAX}, {"override": "as it was", "admin": True}):
        promoted(registry, None)
        approve(registry, version, **options)
    told = [(line.actor, line.detail["before"], line.detail["policy"]) for line in lines(registry, "policy")]
    assert told == [("judge", USUAL.digest, LAX.digest), ("somebody", LAX.digest, USUAL.digest)]
    registry.verify_audit()


def test_nothing_but_a_decision_releases_a_version():
    """In the source `decisions.approve` alone promotes a version in a registry; doors promote the base, or nothing."""
    source, found = Path(prompt2lora.__file__).parent, []
    for file in source.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "promote":
                owner = ast.unparse(node.func.value)
                base = len(node.args) > 1 and ast.unparse(node.args[1]) == "None"
                if owner.endswith("registry") and not base:
                    found.append(file.relative_to(source).as_posix())
    assert found == ["custody/decisions.py"]


# The doors


@pytest.fixture
def kept(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    registry = new_registry(tmp_path / "home", actor="tests", clock=lambda: AT)
    registry.add_job("mail")
    yield registry
    registry.engine.dispose()


class Doors:
    """Every way to decide on a version: each tells whether it was done, and what it said."""

    def __init__(self, registry, run, portal):
        self.registry, self.run, self.tokens = registry, run, {}
        self.service = Service(Plant(registry), GivesItselfAway(), JobQueue(registry.clock))
        self.client = TestClient(create_app(self.service), base_url="http://localhost", follow_redirects=False)
        self.client.portal = portal

    def key(self, role):
        if role not in self.tokens:
            self.tokens[role] = Access(self.registry).add(f"the {role}", role=role)[1]
        return self.tokens[role]

    def command(self, version, role, decision, reason="my reason"):
        verb = "promote" if decision == "override" else decision
        words = ["registry", verb, "--job", version.job, "--version", version.name, "--reason", reason]
        code, out, error = self.run(*words, *(("--override", "an exception") if decision == "override" else ()))
        assert error.count("\n") == (code != 0), "one line"
        return code == 0, out + error

    def http(self, version, role, decision, reason="my reason"):
        path = f"/admin/jobs/{version.job}/versions/{version.name}/{decision}"
        body = {"reason": reason}
        if decision in ("promote", "override"):
            path, body = f"/admin/jobs/{version.job}/promote", {**body, "version": version.name}
        if decision == "override":
            body["override"] = "an exception"
        answer = self.client.post(path, json=body, headers=bearer(self.key(role)))
        assert answer.status_code in (200, 400, 403)
        return answer.status_code == 200, answer.text

    def console(self, version, role, decision, reason="my reason"):
        self.client.cookies.set(KEY_COOKIE, self.key(role))
        current = self.registry.current(version.job)
        seen = str(current.id) if current else ""
        named = {"promote": "approve"}.get(decision, decision)
        form = {"version": version.name, "reason": reason, "seen": seen, "decision": named}
        answer = self.client.post(f"/console/jobs/{version.job}/decision", data=form)
        assert answer.status_code in (303, 400, 403)
        return answer.status_code == 303, answer.text


@pytest.fixture
def doors(kept, run, portal):
    found = Doors(kept, run, portal)
    yield found
    found.client.close()
    found.service.queue.close()


@pytest.mark.parametrize(
    ("door", "role", "decision"),
    [
        ("command", "owner", "promote"),
        ("command", "owner", "override"),
        *((door, role, decision) for door in ("http", "console") for role in ("approver", "admin")
          for decision in ("promote", "override")),
    ],
)  # fmt: skip
def test_every_door_holds_the_rule(doors, kept, tmp_path, door, role, decision):
    for number, state in enumerate(STATES):
        job = f"job{number}"
        kept.add_job(job)
        version = version_in(kept, state, tmp_path / job, job)
        done, said = getattr(doors, door)(version, role, decision)
        overridden = state in OVERRIDABLE and role in ("owner", "admin")
        expected = state == "passed" if decision == "promote" else overridden
        assert done == expected, (state, said)
        current = kept.current(job)
        assert (current.version if current else None) == (version if expected else None), state
        told = [line.detail for line in lines(kept, "promote") if line.subject == version.name]
        exception = decision == "override"
        assert [("override" in one, bool(one.get("despite"))) for one in told] == [(exception, exception)] * expected
    kept.verify_audit()


@pytest.mark.parametrize("door", ["command", "http", "console"])
def test_every_door_refuses_and_withdraws(doors, kept, tmp_path, door):
    version, decide = version_in(kept, "passed", tmp_path), getattr(doors, door)
    assert decide(version, "approver", "refuse", "not good enough")[0]
    assert kept.refusal(version).reason == "not good enough"
    assert not decide(version, "approver", "promote")[0]
    assert decide(version, "approver", "withdraw", "good enough")[0]
    assert decide(version, "approver", "promote")[0]
    assert [line.action for line in kept.audit_lines()][-3:] == ["refuse", "withdraw", "promote"]


@pytest.mark.parametrize("door", ["http", "console"])
@pytest.mark.parametrize(("role", "done"), [("approver", False), ("admin", True)])
def test_another_s_refusal_is_withdrawn_by_an_admin_alone(doors, kept, tmp_path, door, role, done):
    version = version_in(kept, "refused", tmp_path)
    assert getattr(doors, door)(version, role, "withdraw")[0] == done
    assert (kept.refusal(version) is None) == done


@pytest.mark.parametrize("door", ["command", "http", "console"])
def test_who_made_a_version_decides_on_it_through_no_door(doors, kept, tmp_path, door):
    """Over HTTP and in the console never; on the command line as soon as two keys may release."""
    doors.key("approver"), doors.key("admin")
    maker = Plant.open().registry.actor if door == "command" else "the admin"
    version = by(kept, maker).add_version("mail", adapter_folder(tmp_path / "own", "own"), ORIGIN)
    judged(kept, version)
    for decision in ("promote", "refuse"):
        done, said = getattr(doors, door)(version, "admin", decision)
        assert not done and "second person" in said.lower()
    assert kept.current("mail") is None


def test_on_the_command_line_the_owner_of_the_home_is_the_admin(doors, kept, tmp_path, monkeypatch):
    version = version_in(kept, "refused", tmp_path)
    assert owns_home()
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    assert not owns_home()
    for decision, told in (("override", "only an admin"), ("withdraw", "ask them or an admin")):
        done, said = doors.command(version, "", decision)
        assert not done and told in said


def test_on_the_command_line_a_decision_may_name_the_release_that_was_seen(doors, kept, tmp_path):
    for mark in "ab":
        promoted(kept, kept.add_version("mail", adapter_folder(tmp_path / mark, mark), ORIGIN))
    seen = doors.run("registry", "history", "mail")[1].splitlines()[-1].split()[0]
    named = ("--reason", "complaints", "--release", seen)
    assert doors.run("registry", "rollback", "mail", *named)[0] == 0
    for words in (("rollback",), ("promote", "--version", "base")):
        code, _, error = doors.run("registry", words[0], "mail", *words[1:], *named)
        assert code == 1 and "got another release meanwhile" in error
    assert kept.current("mail").version.number == 1


def test_a_variable_of_the_environment_makes_no_second_person(home, monkeypatch):
    before = Plant.open().registry.actor
    monkeypatch.setenv("LOGNAME", "somebody-else")
    assert Plant.open().registry.actor == before


def test_the_policy_in_force_stands_below_the_home(doors, kept, tmp_path):
    version = version_in(kept, "passed", tmp_path)
    (tmp_path / "home" / "policy.toml").write_text("least_gain = -1.0\n")
    assert Plant(kept).policy == LAX
    done, said = doors.command(version, "", "promote")
    assert not done and "judged by another policy" in said
    code, out, _ = doors.run("gate", "--job", "mail", "--version", version.name, "--json")
    assert (code, json.loads(out)["policy"]) == (0, LAX.digest), "by what was measured before"
    assert doors.command(version, "", "promote")[0]
    (tmp_path / "home" / "policy.toml").write_text("least_gian = 1\n")
    code, _, error = doors.run("registry", "promote", "--job", "mail", "--version", version.name, "--reason", "r")
    assert (code, "unknown key" in error) == (2, True)


def test_a_policy_for_one_call_is_on_record_as_such(doors, kept, tmp_path):
    version, file = version_in(kept, "passed", tmp_path), tmp_path / "lax.toml"
    file.write_text("least_gain = -1.0\n")
    words = ("gate", "--job", "mail", "--version", version.name)
    assert doors.run(*words, "--policy", file)[0] == doors.run(*words)[0] == 0
    assert ["in force" in line.detail for line in lines(kept, "judge")] == [False, True, False]


def test_the_console_shows_what_stands_against_a_version_and_offers_what_one_may_do(doors, kept, tmp_path):
    version = version_in(kept, "judged by another policy", tmp_path)

    def page(role):
        doors.client.cookies.set(KEY_COOKIE, doors.key(role))
        return doors.client.get("/console/jobs/mail/decision").text

    def offered(role):
        names, shown = ("approve", "override", "withdraw", "refuse"), page(role)
        return [name for name in names if f'name="decision" value="{name}"' in shown]

    assert (offered("approver"), offered("admin")) == (["refuse"], ["override", "refuse"])
    assert 'name="anew"' in page("admin") and 'name="anew"' not in page("approver")
    judged(kept, version)
    assert offered("admin") == ["approve", "refuse"]
    doors.http(version, "approver", "refuse")
    assert (offered("approver"), offered("admin")) == (["withdraw"], ["override", "withdraw"])
    assert offered("viewer") == offered("operator") == []


# The pilot

APPROVED = PilotRequest("mail", PROMPTS, INSPECTION, approve=True)


@pytest.fixture
def run_pilot(registry, tmp_path):
    def run():
        place = tmp_path / f"place{len(registry.versions('mail'))}"
        return pilot.run(APPROVED, evaluator=KnownEvaluator(), registry=registry, policy=USUAL, place=place)

    return run


def test_a_pilot_is_not_approved_beforehand_where_a_second_person_is_asked_for(registry):
    for number in range(2):
        Access(registry).add(f"person {number}", role="approver")
    with pytest.raises(UsageError, match="second person"):
        candidates.pilot(Plant(registry), APPROVED)
    assert registry.versions("mail") == [], "told before the work"


def test_a_pilot_by_another_policy_releases_nothing_and_says_so_before_the_work(registry, tmp_path):
    policy = tmp_path / "lax.toml"
    policy.write_text("least_gain = -1.0\n")
    with pytest.raises(UsageError, match="policy in force"):
        candidates.pilot(Plant(registry), APPROVED, policy=policy)
    assert registry.versions("mail") == []


def test_a_pilot_that_makes_again_what_was_refused_releases_nothing_and_says_why(run_pilot, registry):
    first = run_pilot()
    assert (first.release, first.held) == (first.version, "")
    registry.rollback("mail", "worse")
    decisions.refuse(by(registry, "somebody"), registry.versions("mail")[0], "no")
    again = run_pilot()
    assert again.verdict.result == "pass"
    assert again.release is None and "was refused by somebody" in again.held
    assert again.recommendation != "released"
    assert registry.current("mail").version is None
