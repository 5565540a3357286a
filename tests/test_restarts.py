"""Work that waited or ran when the service ended, by whatever, is there again, whatever kind it is of."""

import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import timedelta

import pytest
from picture_bases import picture
from serving import running
from tiny import AT

from prompt2lora.console.i18n import LANGUAGES, Translator
from prompt2lora.console.queue_pages import STEPS
from prompt2lora.errors import OutputError, UsageError
from prompt2lora.ground.answer_form import choices
from prompt2lora.ground.comparison import Comparison
from prompt2lora.ground.files import write_bytes, write_text
from prompt2lora.ground.pictures import Pictured
from prompt2lora.ground.tables import File
from prompt2lora.plant.plant import Plant
from prompt2lora.serving.embedded import EmbeddedEngine
from prompt2lora.serving.job_queue import CANCELLED, DONE, FAILED, RUNNING, WAITING, JobQueue
from prompt2lora.serving.service import Service
from prompt2lora.serving.setup import Setup
from prompt2lora.serving.work import (
    KINDS,
    Answer,
    Explain,
    Generate,
    Inspect,
    Refine,
    Regenerate,
    Replay,
    read,
    to_json,
)
from prompt2lora.web import create_app

SEEN = Pictured("見る", (picture(1), picture(2)))
PAIRS = (("x", "y"), (SEEN, "はい"))
ASKED = [
    Generate("mail", ("a", SEEN), PAIRS, PAIRS, choices(["はい", "いいえ"]), Comparison.NUMBER),
    Generate("mail", ("a",)),
    Inspect("mail", "mail@v1-0123abcd", PAIRS),
    Refine("mail", "mail@v1-0123abcd", PAIRS, 48),
    Explain("mail", "mail@v1-0123abcd", "ja"),
    Answer("mail", "表.csv", bytes(range(256)) * 300, "報告", 0.8, "ja"),
    Regenerate(("mail", "notes")),
    Replay("mail"),
]
# A process that runs one job of a queue and has another wait, until it is killed.
HOLDING = """
import sys, threading, time
from datetime import datetime, timezone
from pathlib import Path
from prompt2lora.serving.job_queue import JobQueue

queue, begun = JobQueue(lambda: datetime.now(timezone.utc), Path(sys.argv[1])), threading.Event()
wait = lambda report: begun.set() or threading.Event().wait()
first = queue.start(sys.argv[2], "mail", "me", wait, Path(sys.argv[3]).read_bytes())
begun.wait()
time.sleep(0.01)  # times are told to a millisecond, and this one comes later
second = queue.start(sys.argv[2], "mail", "me", wait, b"another")
print(first.id, second.id, flush=True)
threading.Event().wait()
"""


def work(report):
    return {}


@pytest.fixture
def place(tmp_path):
    return tmp_path / "queue"


@pytest.fixture
def begins(place):
    """A new queue in the same place, as a process has it."""
    made = []

    def begin(at=AT, base="one"):
        made.append(JobQueue(lambda: at, place, base))
        return made[-1]

    yield begin
    for queue in made:
        queue.close()


def held(queue, **asked):
    """A job that runs until it is let."""
    begun, let = threading.Event(), threading.Event()
    queued = queue.start("replay", "mail", "me", lambda report: begun.set() or {"let": let.wait(30)}, **asked)
    assert begun.wait(30)
    return queued, let


def ended(queued):
    ends = time.monotonic() + 30
    while not queued.over and time.monotonic() < ends:
        time.sleep(0.01)
    return queued.state


@pytest.mark.parametrize("asked", ASKED, ids=lambda one: one.kind)
def test_work_of_every_kind_that_was_killed_is_listed_and_goes_on_by_itself(asked, place, begins, tmp_path):
    (tmp_path / "asked").write_bytes(to_json(asked))
    words = [sys.executable, "-c", HOLDING, place, asked.kind, tmp_path / "asked"]
    with subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, text=True) as process:
        ran, waited = process.stdout.readline().split()
        other = begins()
        assert other.left_behind() == [], "it lives"
        process.kill()
    left = other.left_behind()
    assert [(one.id, one.state, one.restarts) for one in left] == [(ran, WAITING, 1), (waited, WAITING, 0)]
    assert [one.id for one in other.recent()] == [waited, ran]
    assert read(left[0].kind, other.asked(left[0])) == asked and other.asked(left[1]) == b"another"
    assert other.start(asked.kind, "mail", "me", work, to_json(asked)) is left[0], "asked again it is the same"
    for one in left:
        other.again(one, work)
        assert ended(one) == DONE
    other.close()
    assert not list(place.glob("*.asked")), "what was asked is kept as long as it is needed"


def test_every_kind_of_work_is_tried_here_and_has_a_page():
    assert {one.kind for one in ASKED} == KINDS.keys() == STEPS.keys()


def test_pictures_are_the_same_after_a_restart_to_the_byte():
    kept = read("generate", to_json(ASKED[0]))
    assert [one.data for one in kept.prompts[1].pictures] == [picture(1).data, picture(2).data]


def test_what_was_over_is_found_after_a_restart_with_its_result_and_for_a_week(place, begins):
    first = begins()
    done = first.start("replay", "mail", "me", lambda report: {"alarm": "警報"})
    assert ended(done) == DONE
    first.close()
    second = begins()
    assert second.left_behind() == [] and second.get(done.id) == done
    second.forget()
    assert second.recent() == [done]
    later = begins(AT + timedelta(days=8))
    second.close()
    assert later.left_behind() == [] and later.recent() == [done]
    later.forget()
    assert later.recent() == [] and not list(place.glob("*.json"))
    with pytest.raises(UsageError, match="no queued job"):
        later.get(done.id)


def test_of_two_processes_on_one_home_none_takes_the_other_s_work(begins):
    first, second = begins(), begins()
    queued, let = held(first)
    waiting = first.start("refine", "mail", "me", work)
    assert second.left_behind() == first.left_behind() == [] and second.recent() == []
    let.set()
    assert [ended(queued), ended(waiting)] == [DONE, DONE]


def test_of_what_is_over_the_service_s_own_goes_first_where_there_is_much(begins, monkeypatch):
    monkeypatch.setattr("prompt2lora.serving.job_queue._KEPT", 3)
    queue = begins()
    people_s = [queue.start("explain", "mail", name, work) for name in ("me", "you")]
    for number in range(5):
        assert ended(queue.start("replay", f"job{number}", "serving", work)) == DONE
    assert {one.id for one in people_s} <= {one.id for one in queue.recent()}


def test_work_waits_a_week_for_a_service_of_its_own_base(place, begins):
    first = begins()
    done = first.start("replay", "mail", "me", work)
    assert ended(done) == DONE
    ran, let = held(first)
    waiting = first.start("refine", "mail", "me", work, b"names and numbers")
    first._pool.shutdown(wait=False, cancel_futures=True)
    let.set()
    first.close()
    other = begins(base="another")
    assert other.left_behind() == [] and other.recent() == []
    again = begins()
    assert [one.id for one in again.left_behind()] == [waiting.id]
    assert {one.id for one in again.recent()} == {done.id, ran.id, waiting.id}
    again.close()
    late = begins(AT + timedelta(days=8), "another")
    assert late.left_behind() == [] and not list(place.glob("*.asked")) and not list(place.glob("*-*.json"))


def test_what_waits_when_the_service_is_stopped_goes_on_in_the_next_one(begins):
    first = begins()
    queued, let = held(first)
    waiting = first.start("refine", "mail", "me", work)
    first._pool.shutdown(wait=False, cancel_futures=True)  # as close does, while the first one runs
    let.set()
    first.close()
    second = begins()
    assert queued.state == DONE and [one.id for one in second.left_behind()] == [waiting.id]
    assert {one.id for one in second.recent()} == {queued.id, waiting.id}


@pytest.mark.parametrize("heard", [True, False], ids=["reports", "never reports"])
def test_what_runs_when_the_service_is_stopped_goes_on_in_the_next_one_and_never_fails_for_that(begins, heard):
    queue, begun, let = begins(), threading.Event(), threading.Event()

    def long(report):
        begun.set()
        while heard or not let.wait(0.01):
            report({"done": 1, "of": 2}) if heard else None
        return {}

    queued = queue.start("refine", "mail", "me", long)
    for _ in range(4):
        assert begun.wait(30)
        begun.clear()
        queue.leave()
        if heard:
            queue.close()
            assert (queued.state, queued.finished) == (WAITING, None)
        else:
            queue._alive.release()  # as the system does for a process that is killed since it did not end
        left, queue = queue, begins()
        (queued,) = queue.left_behind()
        left._place = left._place / "gone"
        assert (queued.state, queued.restarts) == (WAITING, 0)
        queue.again(queued, long)
    queue.cancel(queued.id, "me")
    let.set()


def test_a_spreadsheet_that_a_stop_interrupts_goes_on_at_its_row_in_the_next_process(base, registry, begins):
    registry.promote("mail", None, "base", expected=None)

    @contextmanager
    def served():
        engine = EmbeddedEngine.load(Setup(base), lambda version: registry.store.path(version.adapter), exact=True)
        service = Service(Plant(registry), engine.start(), begins())
        with running(create_app(service)):
            yield service

    rows = "\n".join(f"row {number}" for number in range(300))
    with served() as service:
        queued = service.answer_file("me", "mail", File("rows.csv", f"text\n{rows}".encode()))
        waiting = service.queue.start("refine", "mail", "me", work, b"another")
        while not queued.progress.get("done"):
            time.sleep(0.01)
    assert (queued.state, queued.error, queued.finished, waiting.state) == (WAITING, None, None, WAITING)
    with served() as service:
        again = service.queue.get(queued.id)
        assert again.restarts == 0
        while not again.progress.get("done"):
            time.sleep(0.01)
        assert queued.progress["done"] <= again.progress["done"]
        service.cancel("me", again.id)


def test_work_that_ends_the_process_every_time_is_not_begun_for_ever(begins):
    queue = begins()
    queued, let = held(queue)
    waiting = queue.start("refine", "mail", "me", work)
    for restarts in (1, 2, 3):
        queue._alive.release()  # as the system does for a process that is killed
        killed, queue = queue, begins()
        left = {one.id: one for one in queue.left_behind()}
        killed._place = killed._place / "gone"
        assert left[waiting.id].restarts == 0
        if restarts < 3:
            assert (left[queued.id].state, left[queued.id].restarts) == (WAITING, restarts)
            left[queued.id].state = RUNNING
            queue._write(left[queued.id])
    found = queue.get(queued.id)
    assert (found.state, queued.id in left) == (FAILED, False) and "ended 3 times" in found.error
    let.set()


def test_a_full_disk_keeps_only_what_it_hits_from_going_on_until_there_is_space(place, begins, monkeypatch):
    first = begins()
    _, let = held(first)
    waiting = [first.start("refine", f"job{number}", "me", work) for number in range(3)]
    let.set()
    first._pool.shutdown(wait=True, cancel_futures=True)
    first._alive.release()
    second = begins()

    def full(file, text):
        if waiting[1].id in file.name:
            raise OutputError("no space left on device; free some")
        write_text(file, text)

    with monkeypatch.context() as patch:
        patch.setattr("prompt2lora.serving.job_queue.write_text", full)
        left = second.left_behind()
    assert {one.id for one in left} == {waiting[0].id, waiting[2].id}
    assert [second.get(one.id) for one in left] == left
    assert [one.id for one in second.left_behind()] == [waiting[1].id]


@pytest.mark.parametrize("full", ["write_text", "write_bytes"])
def test_nothing_is_kept_of_what_could_not_be_queued(place, begins, monkeypatch, full):
    queue, write = begins(), {"write_text": write_text, "write_bytes": write_bytes}[full]

    def fails(file, data):
        if file.suffix in (".json", ".asked"):
            raise OutputError("no space left on device; free some")
        write(file, data)

    with monkeypatch.context() as patch:
        patch.setattr(f"prompt2lora.serving.job_queue.{full}", fails)
        with pytest.raises(OutputError):
            queue.start("generate", "mail", "me", work, b"names and numbers")
    assert queue.recent() == [] and not list(place.glob("*.json")) and not list(place.glob("*.asked"))
    assert ended(queue.start("generate", "mail", "me", work, b"names and numbers")) == DONE


@pytest.mark.parametrize("record", ["none", "a damaged one"])
def test_what_was_asked_for_by_a_job_without_a_record_is_not_kept(place, begins, record):
    queue = begins()
    running, let = held(queue, asked=b"what goes on")
    (place / "0123.asked").write_bytes(b"names and numbers")
    (place / ".0123.asked.77.88").write_bytes(b"names and")  # of a process that was killed while it wrote
    if record == "a damaged one":
        (place / "4567-0123.json").write_text("{")
    assert begins().left_behind() == []
    assert not list(place.glob("*0123*"))
    assert queue.asked(running) == b"what goes on"
    let.set()


def test_what_was_cancelled_before_the_restart_does_not_begin_again(begins):
    first = begins()
    queued, let = held(first)
    first.cancel(queued.id, "somebody")
    first._alive.release()
    second = begins()
    first._place = first._place / "gone"
    assert second.left_behind() == []
    assert (second.get(queued.id).state, second.get(queued.id).cancelled_by) == (CANCELLED, "somebody")
    let.set()


def test_a_pilot_that_was_kept_before_a_request_had_a_display_name_is_read_and_releases_nothing():
    kept = b'{"job":"mail","prompts":["a"],"inspection":[],"examples":[["x","y"]],"form":null,"comparison":"number"}'
    asked = Generate("mail", ("a",), (), (("x", "y"),), None, Comparison.NUMBER)
    assert read("generate", kept) == asked and not asked.approve


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_cannot_go_on_says_so_in_the_reader_s_words(language, place, begins):
    with pytest.raises(UsageError, match="ask for it again") as unreadable:
        read("generate", b"another version's")
    queue = begins()
    queued, let = held(queue)
    next(place.glob("*.asked")).unlink()
    with pytest.raises(UsageError, match="is gone") as gone:
        queue.asked(queued)
    let.set()
    for said in (unreadable, gone):
        assert Translator(language).explain(said.value) != str(said.value)


def test_another_request_for_the_same_job_is_queued_beside_the_first(begins):
    queue = begins()
    queued, let = held(queue, asked=b"these prompts")
    again = queue.start("replay", "mail", "me", work, b"these prompts")
    other = queue.start("replay", "mail", "me", work, b"others")
    let.set()
    assert again is queued and other is not queued
    assert [ended(queued), ended(other)] == [DONE, DONE]
