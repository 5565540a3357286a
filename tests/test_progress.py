"""How long work tells how far it is: shares only grow into a whole, and nobody guesses before there is something to
go by. Cancelling stops where the work next reports."""

import threading
import time

import pytest
from tiny import AT

from prompt2lora.errors import Conflict, UsageError
from prompt2lora.ground.progress import Cancelled, listening, part, share_of, silent, steps, tell, timed
from prompt2lora.serving.job_queue import CANCELLED, DONE, RUNNING, WAITING, JobQueue


def test_steps_are_parts_of_one_whole_by_their_weights():
    told = []
    step = steps(told.append, load=1, measure=3)
    with step("load"):
        tell({"done": 1, "of": 2})
    with step("measure") as report:
        report({"share": 0.5, "step": "an inner name"})
        tell({"unpacking once": "base"})
    assert told == [
        {"step": "load", "share": 0.0},
        {"step": "load", "share": 0.125},
        {"step": "measure", "share": 0.25},
        {"step": "measure", "share": 0.625},
        {"step": "measure", "unpacking once": "base"},
    ]


@pytest.mark.parametrize("depth", range(5))
def test_parts_within_parts_stay_within_the_whole_and_in_order(depth):
    told, shares = [], (0.0, 0.1, 1 / 3, 0.5, 1.0)

    def within(level):
        if level:
            with part(tell, 0.25, 0.75):
                within(level - 1)
        else:
            for share in shares:
                tell({"share": share})

    with listening(told.append):
        within(depth)
    found = [share_of(record) for record in told]
    assert found == sorted(found) and found[0] >= 0 and found[-1] <= 1


def test_what_is_told_where_nobody_listens_is_told_to_nobody():
    heard = []
    tell({"share": 0.5})
    with listening(heard.append), listening(silent), part(tell, 0, 1):
        tell({"share": 0.5})
    tell({"share": 0.5})
    assert heard == []


def times(*moments):
    """What is told at each (seconds, share)."""
    clock, told = iter([seconds for seconds, _ in moments]), []
    report = timed(told.append, lambda: next(clock))
    for _, share in moments:
        report({"share": share})
    return [record["seconds_left"] for record in told]


def test_the_time_left_follows_from_what_was_done_and_is_not_told_before():
    assert times((0, 0), (1, 0.005), (4, 0.01), (10, 0.1), (50, 0.5), (100, 1)) == [None, None, None, 90, 50, 0]


def test_an_uneven_pace_is_not_told_as_a_rise_but_a_much_slower_one_is():
    assert times((0, 0), (20, 0.2), (30, 0.25), (40, 0.4), (90, 0.45), (99, 0.9)) == [None, 80, 80, 60, 110, 11]


def test_models_that_are_in_memory_already_promise_no_pace():
    clock, told = iter([0, 0, 1, 14, 50]), []
    report = timed(told.append, lambda: next(clock))
    for step, share in (("load", 0.0), ("load", 0.05), ("measure", 0.1), ("measure", 0.2), ("measure", 0.5)):
        report({"step": step, "share": share})
    assert [record["seconds_left"] for record in told] == [None, None, None, 104, 61]


def test_work_that_goes_on_where_it_was_counts_only_what_it_did_itself():
    assert times((0, 0.5), (10, 0.75)) == [None, 10]


def test_the_next_work_begins_anew():
    assert times((0, 0), (10, 1.0), (11, 0.0), (12, 0.01), (21, 0.5)) == [None, 0, None, None, 10]


def test_a_record_without_a_share_passes_as_it_is():
    told = []
    timed(told.append)({"task": "t", "of": 0, "done": 0})
    assert told == [{"task": "t", "of": 0, "done": 0}]


@pytest.fixture
def queue():
    made = JobQueue(lambda: AT)
    yield made
    made.close()


def held(queue):
    """A running job that reports when it is let, with what it did."""
    begun, let, did = threading.Event(), threading.Event(), []

    def work(report):
        report({"step": "measure", "share": 0.25})
        begun.set()
        assert let.wait(30)
        try:
            tell({"share": 0.5})
        except Exception:  # an error's handler does not keep it
            did.append("caught")
        did.append("went on")
        return {}

    queued = queue.start("generate", "mail", "me", work)
    assert begun.wait(30)
    return queued, let, did


def ended(*queued):
    ends = time.monotonic() + 30
    while not all(one.over for one in queued) and time.monotonic() < ends:
        time.sleep(0.01)


def test_a_running_job_stops_where_it_next_reports_and_nothing_after_that_is_done(queue):
    queued, let, did = held(queue)
    assert (queued.state, queued.progress) == (RUNNING, {"step": "measure", "share": 0.25, "seconds_left": None})
    assert queue.cancel(queued.id, "somebody") is queued
    again = queue.start("generate", "mail", "me", lambda report: {"anew": True})
    assert again is not queued, "whoever cancelled may begin anew at once"
    let.set()
    ended(queued, again)
    assert (queued.state, queued.cancelled_by, did) == (CANCELLED, "somebody", [])
    assert (queued.result, queued.error) == (None, None)
    assert queued.finished and (again.state, again.result) == (DONE, {"anew": True})


def test_a_waiting_job_that_is_cancelled_never_begins(queue):
    running, let, _ = held(queue)
    ran = []
    waiting = queue.start("refine", "mail", "me", lambda report: ran.append(1) or {})
    assert waiting.state == WAITING
    assert queue.cancel(waiting.id, "me").state == CANCELLED
    let.set()
    ended(running, waiting)
    assert (ran, running.state) == ([], DONE)


def test_what_has_ended_or_is_not_there_cannot_be_cancelled(queue):
    done = queue.start("replay", "mail", "me", lambda report: {})
    ended(done)
    with pytest.raises(Conflict, match="is already done"):
        queue.cancel(done.id, "me")
    with pytest.raises(UsageError, match="no queued job"):
        queue.cancel("nothing", "me")


def test_an_error_s_handler_does_not_swallow_a_cancelled_work():
    assert not issubclass(Cancelled, Exception)
