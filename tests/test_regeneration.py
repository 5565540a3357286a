"""A new generator never replaces an adapter silently: it makes candidates, and shows what they would change."""

import json

import pytest
from test_pilot import INSPECTION, PROMPTS, SCORES
from tiny import GOOD, adapter_folder, promoted

from prompt2lora.custody import pilot
from prompt2lora.custody.evaluations import Evaluation, Inspected, Metrics
from prompt2lora.custody.evaluator import MadeAdapter
from prompt2lora.custody.gate import Policy
from prompt2lora.custody.pilot import PilotRequest
from prompt2lora.custody.regeneration import regenerate
from prompt2lora.custody.versions import Origin
from prompt2lora.errors import DamagedFile


class VersionedEvaluator:
    """An evaluator whose generator is known by a mark; its adapters answer every example with that mark."""

    def __init__(self, mark, numbers=GOOD):
        self.mark, self.numbers = mark, numbers

    def advise(self, prompts):
        return []

    def make(self, prompts, folder, examples=(), form=None):
        if prompts[0] == "broken":
            raise DamagedFile("this job's prompts cannot be read")
        adapter_folder(folder, self.mark + prompts[0])
        return MadeAdapter(folder, Origin(prompts, self.mark * 64, f"g{self.mark}", "b", "8" * 64), {})

    def measure(self, folder, origin, inspection):
        inspected = [Inspected(text, right, "base says", f"says {self.mark}") for text, right in inspection]
        return Evaluation(Metrics.read(self.numbers), SCORES if inspection else {}, inspected)

    def distance(self, one, other):
        return 0.25


@pytest.fixture
def piloted(registry, tmp_path):
    """Jobs that a first generator made a version for; the first one is released."""

    def run(job, inspection=INSPECTION, prompts=PROMPTS, approve=False):
        place = tmp_path / job
        evaluator = VersionedEvaluator("1")
        return pilot.run(
            PilotRequest(job, prompts, inspection, approve=approve),
            evaluator=evaluator,
            registry=registry,
            policy=Policy(),
            place=place,
        )

    run("mail", approve=True)
    run("notes", inspection=[])
    return run


def renewed(registry, tmp_path, mark="2", numbers=GOOD, jobs=()):
    place = tmp_path / f"candidates{len(list(tmp_path.iterdir()))}"
    return {
        change.job: change for change in regenerate(registry, VersionedEvaluator(mark, numbers), Policy(), place, jobs)
    }


def test_a_new_generator_makes_a_candidate_for_every_job_and_releases_none(registry, piloted, tmp_path):
    before = {job: registry.current(job) for job in registry.jobs()}
    registry.add_job("empty")
    found = renewed(registry, tmp_path)
    assert {job: change.status for job, change in found.items()} == {
        "mail": "new",
        "notes": "new",
        "empty": "no version",
    }
    assert {job: registry.current(job) for job in before} == before
    old, new = registry.versions("mail")
    assert (found["mail"].source, found["mail"].candidate) == (old.name, new.name)
    assert (new.kind, new.parent) == ("regenerated", old.id)
    assert registry.origin(new).prompts == registry.origin(old).prompts
    assert found["mail"].generators == ("1" * 64, "2" * 64)
    assert registry.verify() == 4
    registry.verify_audit()


def test_every_job_begins_by_telling_which_are_left(registry, piloted, tmp_path):
    """So that an interrupted call is told the rest of it; a job without a version needs nothing."""
    registry.add_job("empty")
    told, evaluator = [], VersionedEvaluator("2", GOOD)
    regenerate(registry, evaluator, Policy(), tmp_path / "candidates", report=told.append)
    assert [record["jobs_left"] for record in told if "jobs_left" in record] == [
        ["mail", "notes"],
        ["mail", "notes"],
        ["notes"],
    ]


def test_it_is_shown_what_a_candidate_would_change(registry, piloted, tmp_path):
    worse = {**GOOD, "health": {"score": 9.0}}
    found = renewed(registry, tmp_path, numbers=worse)
    change = found["mail"]
    health = next(check for check in change.checks if check["metric"] == "weight health")
    assert health == {"metric": "weight health", "before": 1.0, "after": 9.0, "result": "fail"}
    assert (change.verdict, change.distance) == ("fail", 0.25)
    assert change.answers == (40, 40), "every answer is another one"
    assert change.score == {"before": SCORES["generated"], "after": SCORES["generated"]}
    assert found["notes"].score is None, "no inspection examples were ever given"
    json.dumps([change._asdict() for change in found.values()])


def test_a_candidate_that_passed_is_promoted_by_a_person_and_taken_back_like_any_other(registry, piloted, tmp_path):
    change = renewed(registry, tmp_path)["mail"]
    assert change.verdict == "pass"
    promoted(registry, registry.version("mail", change.candidate))
    assert registry.rollback("mail", "worse").version.name == change.source


def test_asking_twice_makes_no_second_candidate_and_the_same_generator_makes_none(registry, piloted, tmp_path):
    first = renewed(registry, tmp_path)
    again = renewed(registry, tmp_path)
    assert [change.candidate for change in first.values()] == [change.candidate for change in again.values()]
    assert len(registry.versions("mail")) == 2
    same = renewed(registry, tmp_path, mark="1", jobs=["mail"])
    assert (same["mail"].status, same["mail"].distance) == ("same", 0.0)
    assert len(registry.versions("mail")) == 2


def test_a_job_that_fails_does_not_keep_the_others_from_their_candidates(registry, piloted, tmp_path):
    registry.add_job("bad")
    origin = Origin(["broken"], "1" * 64, "g1", "b", "8" * 64)
    registry.add_version("bad", adapter_folder(tmp_path / "bad", "bad"), origin)
    found = renewed(registry, tmp_path)
    assert (found["bad"].status, found["bad"].trouble) == ("failed", "this job's prompts cannot be read")
    assert found["mail"].status == found["notes"].status == "new"
