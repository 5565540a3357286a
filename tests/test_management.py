"""Management over HTTP: every role does what it may, in its own name; long work is asked for by its id."""

import asyncio
import errno
import json
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from serving import bearer, client_of, keys_of, passes, service_of
from test_gateway import FROM, kept  # noqa: F401
from tiny import GOOD, adapter_folder, command

from prompt2lora.console.routing import PAGES
from prompt2lora.custody.access import GOVERN, LOOK, MAKE, RELEASE, RETURN, ROLES
from prompt2lora.custody.evaluations import Evaluation
from prompt2lora.custody.registry import Registry
from prompt2lora.errors import Unavailable
from prompt2lora.ground.progress import tell
from prompt2lora.plant import watches
from prompt2lora.plant.plant import Plant
from prompt2lora.serving.job_queue import CANCELLED, DONE, FAILED, WAITING, JobQueue, QueuedJob
from prompt2lora.serving.work import Replay
from prompt2lora.web import create_app

ROUTES = {
    ("GET", "/admin/jobs"): LOOK,
    ("POST", "/admin/jobs"): MAKE,
    ("GET", "/admin/jobs/mail"): LOOK,
    ("PATCH", "/admin/jobs/mail"): MAKE,
    ("GET", "/admin/jobs/mail/history"): LOOK,
    ("POST", "/admin/jobs/mail/promote"): RELEASE,
    ("POST", "/admin/jobs/mail/rollback"): RETURN,
    ("POST", "/admin/jobs/mail/generate"): MAKE,
    ("POST", "/admin/jobs/mail/versions/v/evaluate"): MAKE,
    ("POST", "/admin/jobs/mail/versions/v/refine"): MAKE,
    ("POST", "/admin/jobs/mail/versions/v/refuse"): RELEASE,
    ("POST", "/admin/jobs/mail/versions/v/withdraw"): RELEASE,
    ("POST", "/admin/jobs/mail/versions/v/explain"): MAKE,
    ("GET", "/admin/jobs/mail/versions/v/report"): LOOK,
    ("POST", "/admin/jobs/mail/replay"): RETURN,
    ("POST", "/admin/regenerate"): MAKE,
    ("GET", "/admin/queue"): LOOK,
    ("GET", "/admin/queue/1"): LOOK,
    ("POST", "/admin/queue/1/cancel"): MAKE,
    ("POST", "/admin/prompts/check"): LOOK,
    ("POST", "/admin/jobs/mail/watch"): RETURN,
    ("GET", "/admin/jobs/mail/watch"): LOOK,
    ("POST", "/admin/jobs/mail/outcomes"): RETURN,
    ("GET", "/admin/audit"): LOOK,
    ("POST", "/admin/audit/verify"): LOOK,
    ("POST", "/admin/verify"): LOOK,
    ("GET", "/admin/stats"): LOOK,
    ("GET", "/admin/keys"): GOVERN,
    ("POST", "/admin/keys"): GOVERN,
    ("DELETE", "/admin/keys/x y"): GOVERN,
    ("GET", "/metrics"): LOOK,
}


@pytest.fixture
def tokens(kept):  # noqa: F811
    return keys_of(kept)


def calls(service, *asked):
    """(method, path, token, body) one after the other."""

    async def run():
        async with client_of(service) as client:
            found = []
            for method, path, token, body in asked:
                headers = bearer(token) if token else {}
                found.append(await client.request(method, path, headers=headers, json=body))
            return found

    return asyncio.run(run())


def call(service, *asked):
    return calls(service, asked)[0]


def test_the_table_of_routes_is_whole(kept):  # noqa: F811
    paths = create_app(service_of(kept)).openapi()["paths"]
    known = {(method.upper(), path) for path, one in paths.items() for method in one if "/admin" in path}
    filled = {(m, p.replace("{job}", "mail").replace("{version}", "v").replace("{id}", "1")) for m, p in known}
    assert {(m, p.replace("{name}", "x y")) for m, p in filled} | {("GET", "/metrics")} == set(ROUTES)


def test_every_role_reaches_what_it_may_and_nothing_else(kept, tokens):  # noqa: F811
    people = {**tokens, "nobody": "", "wrong": "p2l_x"}
    asked = [(route, who) for route in ROUTES for who in people]
    answers = calls(
        service_of(kept),
        *((*route, people[who], None if route[0] == "GET" else {"nonsense": 1}) for route, who in asked),
    )
    for (route, who), status in zip(asked, [answer.status_code for answer in answers], strict=True):
        if who in ("nobody", "wrong", "revoked"):
            assert status == 401, (route, who)
        elif who == "asks" or ROUTES[route] not in ROLES[who]:
            assert status == 403, (route, who)
        else:
            assert status not in (401, 403, 500), (route, who)


@pytest.mark.parametrize(
    ("form", "route"),
    [
        ("/jobs/{job}/why", "/admin/jobs/mail/versions/v/explain"),
        ("/jobs/{job}/refine", "/admin/jobs/mail/versions/v/refine"),
        ("/jobs/{job}/inspection", "/admin/jobs/mail/versions/v/evaluate"),
        ("/jobs/{job}/decision", "/admin/jobs/mail/promote"),
        ("/jobs/{job}/return", "/admin/jobs/mail/rollback"),
        ("/jobs/{job}/watch", "/admin/jobs/mail/watch"),
        ("/jobs/{job}/watch/canaries", "/admin/jobs/mail/replay"),
        ("/jobs/{job}/watch/corrections", "/admin/jobs/mail/outcomes"),
        ("/keys", "/admin/keys"),
    ],
)
def test_a_form_of_the_console_takes_the_verb_that_its_route_takes(form, route):
    assert [page.verbs for page in PAGES if (page.method, page.path) == ("POST", form)] == [(ROUTES["POST", route],)]


def test_keys_are_made_told_once_and_revoked(kept, tokens):  # noqa: F811
    service, admin = service_of(kept), tokens["admin"]
    made = call(service, "POST", "/admin/keys", admin, {"name": "line 4", "inference": True})
    assert made.status_code == 201
    token = made.json()["token"]
    listed, models, again, revoked, after = calls(
        service,
        ("GET", "/admin/keys", admin, None),
        ("GET", "/v1/models", token, None),
        ("POST", "/admin/keys", admin, {"name": "line 4", "inference": True}),
        ("DELETE", "/admin/keys/line 4", admin, None),
        ("GET", "/v1/models", token, None),
    )
    assert token not in listed.text and "hash" not in listed.text
    assert [models.status_code, again.status_code, revoked.status_code, after.status_code] == [200, 409, 200, 401]
    assert [line.actor for line in kept.audit_lines()[-2:]] == ["the admin", "the admin"]


def test_models_say_which_jobs_can_be_asked_without_their_instruction(kept, tokens, tmp_path):  # noqa: F811
    for job, prompts in (("mail", ["Where to?\n\none", "Where to?\n\ntwo"]), ("notes", ["one", "two"])):
        made = kept.add_version(job, adapter_folder(tmp_path / job, job), replace(FROM, prompts=prompts))
        kept.promote(job, made, "r", expected=None)
    (answer,) = calls(service_of(kept), ("GET", "/v1/models", tokens["asks"], None))
    listed = answer.json()["data"]
    assert {one["id"]: one["instruction_in_weights"] for one in listed} == {"mail": True, "notes": False}


@pytest.mark.parametrize("gone", [True, False])
def test_an_adapter_that_cannot_be_read_hides_no_job(kept, tokens, tmp_path, monkeypatch, gone):  # noqa: F811
    for job in ("mail", "notes"):
        made = kept.add_version(job, adapter_folder(tmp_path / job, job), FROM)
        kept.promote(job, made, "r", expected=None)
    folder, is_dir = kept.store.path(made.adapter), Path.is_dir

    def failing(place):
        if place == folder:
            raise OSError(errno.EIO, "the disk fails")
        return is_dir(place)

    if gone:
        folder.rename(tmp_path / "elsewhere")
    else:
        monkeypatch.setattr(Path, "is_dir", failing)
    every, one = calls(service_of(kept), *(("GET", f"/v1/models{job}", tokens["asks"], None) for job in ("", "/notes")))
    listed = every.json()["data"]
    assert {each["id"]: each["instruction_in_weights"] for each in listed} == {"mail": False, "notes": None}
    assert one.json() in listed


def test_a_version_is_promoted_rolled_back_and_its_history_told(kept, tokens, tmp_path):  # noqa: F811
    service = service_of(kept)
    made = kept.add_version("mail", adapter_folder(tmp_path / "a", "a"), FROM)
    early = call(service, "POST", "/admin/jobs/mail/promote", tokens["approver"], {"version": made.name, "reason": "r"})
    assert early.status_code == 400 and "did not pass" in early.text
    passes(kept, made, GOOD)
    promoted, job, history, back, again = calls(
        service,
        ("POST", "/admin/jobs/mail/promote", tokens["approver"], {"version": made.name, "reason": "good"}),
        ("GET", "/admin/jobs/mail", tokens["viewer"], None),
        ("GET", "/admin/jobs/mail/history", tokens["viewer"], None),
        ("POST", "/admin/jobs/mail/rollback", tokens["operator"], {"reason": "worse"}),
        ("POST", "/admin/jobs/mail/rollback", tokens["operator"], {"reason": "worse"}),
    )
    assert promoted.json()["version"] == made.name
    assert job.json()["versions"][0]["verdict"] == "pass"
    assert history.json()["releases"][0]["actor"] == "the approver"
    assert back.json()["version"] is None and again.status_code == 400


def test_jobs_versions_releases_and_watches_are_told_alike_over_http_and_on_the_command_line(
    kept,  # noqa: F811
    tokens,
    tmp_path,
    run,
    monkeypatch,
):
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    service = service_of(kept)
    made = kept.add_version("mail", adapter_folder(tmp_path / "a", "a"), FROM)
    passes(kept, made, GOOD)
    kept.promote("mail", made, "good", expected=None)
    service.plant.watch("mail", {"canary": 0.1, "correction": 0.05})
    paths = ("/admin/jobs", "/admin/jobs/mail", "/admin/jobs/mail/history", "/admin/jobs/mail/watch")
    over_http = [found.json() for found in calls(service, *(("GET", path, tokens["viewer"], None) for path in paths))]
    words = (
        ("registry", "list"),
        ("registry", "show", "mail"),
        ("registry", "history", "mail"),
        ("monitor", "status", "mail"),
    )
    listed, *told = (json.loads(run(*command, "--json")[1]) for command in words)
    assert [{"jobs": listed["jobs"]}, *told] == over_http
    assert (told[0]["answers"], told[0]["release"]["reason"]) == (made.name, "good")


def test_what_is_watched_is_not_said_to_lack_a_watch_when_it_is_promoted_again(kept, tmp_path, run, monkeypatch):  # noqa: F811
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    made = kept.add_version("mail", adapter_folder(tmp_path / "a", "a"), FROM)
    passes(kept, made, GOOD)
    promote = ("registry", "promote", "mail", "--version", made.name, "--reason", "good")
    assert "not monitored yet" in run(*promote)[1]
    assert run("monitor", "start", "mail", "--promised", "canary=0.1")[0] == 0
    code, out, error = run(*promote)
    assert (code, out) == (0, f"mail is answered by {made.name} from now on\n"), error


def test_of_two_people_who_saw_one_release_and_change_it_the_second_is_told_to_look_again(kept, tokens, tmp_path):  # noqa: F811
    service = service_of(kept)
    made = [kept.add_version("mail", adapter_folder(tmp_path / mark, mark), FROM) for mark in "abc"]
    for version in made:
        passes(kept, version, GOOD)
    path, seen = "/admin/jobs/mail", 0
    for version in made[:2]:
        body = {"version": version.name, "reason": "r", "release": seen}
        answer = call(service, "POST", f"{path}/promote", tokens["approver"], body)
        seen = answer.json()["id"]
    first, *others = calls(
        service,
        ("POST", f"{path}/rollback", tokens["operator"], {"reason": "complaints", "release": seen}),
        ("POST", f"{path}/rollback", tokens["approver"], {"reason": "complaints", "release": seen}),
        ("POST", f"{path}/promote", tokens["admin"], {"version": made[2].name, "reason": "r", "release": seen}),
        ("POST", f"{path}/promote", tokens["admin"], {"version": "base", "reason": "r", "release": 0}),
    )
    assert first.json()["version"] == made[0].name
    assert [(one.status_code, one.json()["error"]["code"]) for one in others] == [(409, "conflict")] * 3
    assert kept.current("mail").version == made[0]


def test_a_release_is_watched_and_taken_back_by_bad_outcomes(kept, tokens, tmp_path):  # noqa: F811
    service, operator = service_of(kept), tokens["operator"]
    made = kept.add_version("mail", adapter_folder(tmp_path / "a", "a"), FROM)
    release = kept.promote("mail", made, "r", expected=None).id
    outcome = {"release": release, "source": "correction", "bad": 1}
    none, began, state, *outcomes = calls(
        service,
        ("GET", "/admin/jobs/mail/watch", operator, None),
        ("POST", "/admin/jobs/mail/watch", operator, {"promised": {"correction": 0.1}}),
        ("GET", "/admin/jobs/mail/watch", operator, None),
        *[("POST", "/admin/jobs/mail/outcomes", operator, outcome)] * 10,
    )
    assert none.status_code == 404 and began.status_code == 201
    assert state.json()["sources"]["correction"]["outcomes"] == 0
    alarms = [one.json()["alarm"] for one in outcomes]
    assert alarms[0] is None and any(alarms)
    assert kept.current("mail").version is None


def test_a_watch_that_a_rollback_ended_is_no_evidence_against_what_answers_now(kept, tokens, tmp_path):  # noqa: F811
    service, operator = service_of(kept), tokens["operator"]
    made = kept.add_version("mail", adapter_folder(tmp_path / "a", "a"), FROM)
    kept.promote("mail", made, "r", expected=None)
    began, back, state = calls(
        service,
        ("POST", "/admin/jobs/mail/watch", operator, {"promised": {"correction": 0.1}}),
        ("POST", "/admin/jobs/mail/rollback", operator, {"reason": "complaints"}),
        ("GET", "/admin/jobs/mail/watch", operator, None),
    )
    assert (began.status_code, back.status_code) == (201, 200)
    assert state.status_code == 404 and "not monitored" in state.json()["error"]["message"]


class Ear(BaseHTTPRequestHandler):
    """A webhook."""

    def do_POST(self):
        self.server.heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("webhook", ["hears", "http://127.0.0.1:9/deaf", "no url"])
def test_an_alarm_is_told_to_the_webhook_and_a_deaf_one_does_not_keep_the_release(
    kept,  # noqa: F811
    tmp_path,
    monkeypatch,
    caplog,
    webhook,
):
    made = kept.add_version("mail", adapter_folder(tmp_path / "a", "a"), FROM)
    release = kept.promote("mail", made, "r", expected=None)
    with HTTPServer(("127.0.0.1", 0), Ear) as server:
        server.heard, hears = [], webhook == "hears"
        monkeypatch.setenv("PROMPT2LORA_WEBHOOK", f"http://127.0.0.1:{server.server_port}/" if hears else webhook)
        thread = threading.Thread(target=server.handle_request)
        if hears:
            thread.start()
        alarm = Plant(kept).monitor().hard(release, "not applied")
        if hears:
            thread.join()
    assert kept.current("mail").version is None
    assert [heard["reason"] for heard in server.heard] == ([alarm.reason] if hears else [])
    assert ("could not be told" in caplog.text) is not hears


def test_an_alarm_that_cannot_be_written_down_is_told_to_the_webhook_all_the_same(kept, tmp_path, monkeypatch, caplog):  # noqa: F811
    made = kept.add_version("mail", adapter_folder(tmp_path / "a", "a"), FROM)
    release = kept.promote("mail", made, "r", expected=None)
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "alarms.jsonl").mkdir()
    with HTTPServer(("127.0.0.1", 0), Ear) as server:
        server.heard, server.timeout = [], 5
        monkeypatch.setenv("PROMPT2LORA_WEBHOOK", f"http://127.0.0.1:{server.server_port}/")
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        Plant(kept).monitor().hard(release, "not applied")
        thread.join()
    assert [heard["reason"] for heard in server.heard] == ["not applied"]
    assert "could not be told" in caplog.text


class Begun(list):
    """A queue whose jobs are never run."""

    def start(self, kind, job, actor, function, asked):
        self.append((kind, job, actor))
        return QueuedJob("1", kind, job, actor, "now")


def test_the_service_replays_what_is_watched_and_has_rows_when_its_time_has_come(kept, tmp_path):  # noqa: F811
    service = service_of(kept)
    service.queue, monitor = Begun(), service.plant.monitor()
    for job, inspected in (("mail", [{"text": "a", "right": "b", "base": "", "generated": ""}]), ("notes", [])):
        made = kept.add_version(job, adapter_folder(tmp_path / job, job), FROM)
        kept.add_evaluation(made, Evaluation.read({"inspection": inspected}, kept.store.picture))
        kept.promote(job, made, "r", expected=None)
    service.replay_due()
    assert service.queue == [], "nothing is watched"
    for job in ("mail", "notes"):
        monitor.watch(job, {"canary": 0.1})
    service.replay_hours = 0
    service.replay_due()
    assert service.queue == [], "nobody wants it"
    service.replay_hours = 24
    service.replay_due()
    assert service.queue == [("replay", "mail", "serving")]
    monitor.replaying("mail")
    service.replay_due()
    assert len(service.queue) == 1, "it was just done"


@pytest.fixture
def watched(kept, tmp_path, monkeypatch):  # noqa: F811
    """A service with a release that was inspected on one example and is watched, in a home of its own."""
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    made = kept.add_version("mail", adapter_folder(tmp_path / "a", "a"), FROM)
    inspected(kept, made, "a note")
    kept.promote("mail", made, "r", expected=None)
    service = service_of(kept)
    service.plant.monitor().watch("mail", {"canary": 0.1})
    yield service
    service.queue.close()


def inspected(registry, version, text):
    one = {"text": text, "right": "b", "base": "", "generated": ""}
    registry.add_evaluation(version, Evaluation.read({"inspection": [one]}, registry.store.picture))


def test_what_answers_is_asked_again_what_it_was_inspected_on_and_by_one_of_two_services(
    watched,
    kept,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    inspected(kept, kept.add_version("mail", adapter_folder(tmp_path / "b", "b"), FROM), "a note of another machine")
    asked = []

    def replay(plant, job, inspection, report):
        plant.monitor().replaying(job)
        asked.append(inspection)

    monkeypatch.setattr(watches, "replay", replay)
    waiting = [Replay("mail", 24.0), Replay("mail", 24.0)]
    assert [work.run(watched, tell)["examples"] for work in waiting] == [1, 0], "the second one is not due any more"
    assert asked == [[("a note", "b")]], "not what another version was inspected on"
    assert Replay("mail").run(watched, tell)["examples"] == 1, "a person may ask at any time"


def test_a_replay_that_cannot_begin_is_tried_again_when_the_hours_are_over(watched, kept, tmp_path):  # noqa: F811
    lines, store = kept.audit_count(), tmp_path / "home" / "store"
    store.rename(store.with_name("away"))
    for _ in range(3):
        watched.replay_due()
        while any(not one.over for one in watched.queue.recent()):
            time.sleep(0.001)
    (failed,) = watched.queue.recent()
    assert failed.state == FAILED and "is not there now" in failed.error
    assert kept.audit_count() == lines + 1


@pytest.mark.parametrize("damage", ["{", None], ids=["no JSON", "no file"])
def test_a_watch_that_cannot_be_read_hides_no_other_one(kept, tmp_path, monkeypatch, damage, caplog):  # noqa: F811
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    service = service_of(kept)
    service.queue, monitor = Begun(), service.plant.monitor()
    inspected = [{"text": "a", "right": "b", "base": "", "generated": ""}]
    for job in ("mail", "notes"):
        made = kept.add_version(job, adapter_folder(tmp_path / job, job), FROM)
        kept.add_evaluation(made, Evaluation.read({"inspection": inspected}, kept.store.picture))
        kept.promote(job, made, "r", expected=None)
        monitor.watch(job, {"canary": 0.1})
    file = monitor.folder / "mail.json"
    file.unlink()
    file.write_text(damage) if damage else file.mkdir()
    service.replay_due()
    assert service.queue == [("replay", "notes", "serving")]
    assert str(file) in caplog.text


def test_the_record_is_paged_and_verified(kept, tokens):  # noqa: F811
    first, rest, sound = calls(
        service_of(kept),
        ("GET", "/admin/audit?most=2", tokens["viewer"], None),
        ("GET", "/admin/audit?after=2", tokens["viewer"], None),
        ("POST", "/admin/audit/verify", tokens["viewer"], None),
    )
    assert [line["number"] for line in first.json()["lines"]] == [1, 2]
    assert rest.json()["lines"][0]["number"] == 3
    assert sound.json()["sound"] is True


def test_a_record_that_was_altered_is_told_alike_over_http_and_on_the_command_line(kept, tokens, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    with kept.engine.begin() as connection:
        connection.exec_driver_sql("drop trigger audit_no_update")
        connection.exec_driver_sql("update audit set actor = 'someone' where number = 2")
    (told,) = calls(service_of(kept), ("POST", "/admin/audit/verify", tokens["viewer"], None))
    code, out, _ = command("audit", "verify", "--json")
    assert (code, json.loads(out)) == (1, told.json())
    assert told.json()["sound"] is False and "audit line 2 was altered" in told.json()["fault"]


def test_a_pilot_over_http_ends_in_a_version_and_its_report(kept, tokens, plant_generator):  # noqa: F811
    service = service_of(kept)
    service.plant = Plant(kept, plant_generator)
    examples = [{"input": f"word {n}", "output": "x"} for n in range(4)]
    body = {"prompts": [f"Do it.\n\nword {n}" for n in range(6)], "inspection": examples}

    async def run():
        async with client_of(service, tokens["operator"]) as client:
            begun = await client.post("/admin/jobs/notes/generate", json=body)
            again = await client.post("/admin/jobs/notes/generate", json=body)
            assert begun.status_code == 202 and again.json()["id"] == begun.json()["id"]
            ends = time.monotonic() + 300  # other work may share the machine
            while True:
                work = (await client.get(f"/admin/queue/{begun.json()['id']}")).json()
                if work["state"] in (DONE, FAILED) or time.monotonic() > ends:
                    break
                await asyncio.sleep(0.1)
            assert work["state"] == DONE, work
            name = work["result"]["version"]
            pages = [
                await client.get(f"/admin/jobs/notes/versions/{name}/report?language={language}")
                for language in ("en", "ja")
            ]
            found = await client.get("/admin/jobs/notes")
            other = await client.get(f"/admin/jobs/mail/versions/{name}/report")
            return name, pages, found.json(), other.status_code

    name, pages, found, other = asyncio.run(run())
    service.queue.close()
    assert found["versions"][0]["name"] == name and found["versions"][0]["actor"] == "the operator"
    assert found["versions"][0]["verdict"] in ("fail", "not enough evidence", "pass")
    assert [page.status_code for page in pages] == [200, 200]
    assert 'lang="ja"' in pages[1].text
    assert other == 404


def test_a_work_that_fails_says_so_and_the_others_go_on(kept):  # noqa: F811
    queue = JobQueue(kept.clock)
    broken = queue.start("a", "job", "me", lambda report: 1 / 0)
    done = [queue.start("b", f"job{number}", "me", lambda report: {}) for number in range(10)]
    ends = time.monotonic() + 10
    while not done[-1].over and time.monotonic() < ends:
        time.sleep(0.01)
    queue.close()
    assert broken.state == FAILED and "log" in broken.error
    assert all(work.state == DONE for work in done)


def test_a_job_has_a_display_name_over_http_from_the_beginning_or_later(kept, tokens):  # noqa: F811
    operator = tokens["operator"]
    made, renamed, listed, long, none = calls(
        service_of(kept),
        ("POST", "/admin/jobs", operator, {"job": "pumps", "display_name": "ポンプ"}),
        ("PATCH", "/admin/jobs/pumps", operator, {"display_name": "Pumpen"}),
        ("GET", "/admin/jobs", tokens["viewer"], None),
        ("PATCH", "/admin/jobs/pumps", operator, {"display_name": "x" * 81}),
        ("PATCH", "/admin/jobs/nothing", operator, {"display_name": "x"}),
    )
    assert [made.json()["display_name"], renamed.json()["display_name"]] == ["ポンプ", "Pumpen"]
    assert {one["job"]: one["display_name"] for one in listed.json()["jobs"]}["pumps"] == "Pumpen"
    assert [long.status_code, none.status_code] == [400, 404]


def test_what_a_full_queue_refuses_has_changed_nothing(kept, tokens):  # noqa: F811
    service, let = service_of(kept), threading.Event()
    for number in range(20):
        service.queue.start("explain", "mail", str(number), lambda report: {"let": let.wait(30)})
    body = {"prompts": ["one", "two"], "display_name": "Mail of line 3"}
    answers = calls(
        service, *(("POST", f"/admin/jobs/{job}/generate", tokens["operator"], body) for job in ("mail", "a-typo"))
    )
    let.set()
    service.queue.close()
    assert [answer.status_code for answer in answers] == [429, 429]
    assert kept.display_names() == {"fresh": "fresh", "mail": "mail", "notes": "notes"}


def test_a_queued_job_is_cancelled_over_http_on_record_and_says_who_did_it(kept, tokens):  # noqa: F811
    service, held = service_of(kept), threading.Event()
    service.queue.start("replay", "mail", "x", lambda report: {"held": held.wait(30)})
    waiting = service.queue.start("refine", "mail", "x", lambda report: {})
    path = f"/admin/queue/{waiting.id}"
    cancelled, seen, again, none = calls(
        service,
        ("POST", f"{path}/cancel", tokens["operator"], None),
        ("GET", path, tokens["viewer"], None),
        ("POST", f"{path}/cancel", tokens["operator"], None),
        ("POST", "/admin/queue/nothing/cancel", tokens["operator"], None),
    )
    held.set()
    service.queue.close()
    assert [cancelled.status_code, again.status_code, none.status_code] == [200, 409, 404]
    assert cancelled.json() == seen.json()
    assert (seen.json()["state"], seen.json()["cancelled_by"]) == ("cancelled", "the operator")
    line = kept.audit_lines()[-1]
    assert (line.action, line.subject, line.actor) == ("cancel refine", "mail", "the operator")


def test_nothing_is_cancelled_that_is_not_on_record(kept, tokens, monkeypatch):  # noqa: F811
    service, held = service_of(kept), threading.Event()
    service.queue.start("replay", "mail", "x", lambda report: {"held": held.wait(30)})
    waiting = service.queue.start("refine", "mail", "x", lambda report: {})

    def locked(*_):
        raise Unavailable("the registry could not be used")

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "tell", locked)
        answer = call(service, "POST", f"/admin/queue/{waiting.id}/cancel", tokens["operator"], None)
    assert answer.status_code == 503 and waiting.state == WAITING
    service.cancel("me", waiting.id)
    assert waiting.state == CANCELLED
    held.set()
    service.queue.close()


FORMS = {
    "p.csv": "no;入力;x\r\n1;一つ;a\r\n2;two, more;b\r\n".encode("cp932"),
    "p.tsv": "no\t入力\n1\t一つ\n2\ttwo, more\n".encode("euc_jp"),
    "p.txt": "一つ\r\ntwo, more".encode("utf-16"),
    "p.jsonl": '{"input": "一つ"}\n"two, more"\n'.encode(),
}


def send(service, path, token, files, data=None):
    async def run():
        async with client_of(service) as client:
            return await client.post(path, headers=bearer(token), files=files, data=data or {})

    return asyncio.run(run())


class Seen(Plant):
    """A plant that says which prompts it was asked about."""

    def check_prompts(self, prompts):
        return [{"kind": "seen", "prompts": list(prompts)}]


@pytest.mark.parametrize("name", FORMS)
def test_a_file_of_prompts_is_what_json_is_and_it_is_said_how_it_was_read(kept, tokens, name):  # noqa: F811
    service = service_of(kept)
    service.plant = Seen(kept)
    answer = send(service, "/admin/prompts/check", tokens["viewer"], {"prompts": (name, FORMS[name])})
    assert answer.status_code == 200, answer.text
    assert answer.json()["findings"][0]["prompts"] == ["一つ", "two, more"]
    read = answer.json()["read"]["prompts"]
    assert (read["file"], read["prompts"]) == (name, 2)
    assert read["encoding"] == {"csv": "Shift-JIS", "tsv": "EUC-JP", "txt": "UTF-16", "jsonl": "UTF-8"}[name[2:]]
    file = {"prompts": ("p.csv", "班,報告\nA,一つ\nA,二つ\n".encode("cp932"))}
    for column, texts in (("報告", ["一つ", "二つ"]), ("1", ["班", "A", "A"])):
        answer = send(service, "/admin/prompts/check", tokens["viewer"], file, {"column": column})
        assert answer.json()["findings"][0]["prompts"] == texts
    told = call(service, "POST", "/admin/prompts/check", tokens["viewer"], {"prompts": ["a"], "instruction": "Do."})
    assert told.json()["findings"][0]["prompts"] == ["Do.\n\na"] and "read" not in told.json()
    whole = {"prompts": ["Do.\r\n\r\na", "b"], "instruction": "Do."}
    told = call(service, "POST", "/admin/prompts/check", tokens["viewer"], whole)
    assert told.json()["findings"][0]["prompts"] == ["Do.\n\na", "Do.\n\nb"], "an instruction stands there once"


def test_texts_of_json_are_stripped_as_those_of_files_are_and_blank_ones_are_refused_by_place(kept, tokens):  # noqa: F811
    service = service_of(kept)
    service.plant = Seen(kept)
    told = call(
        service, "POST", "/admin/prompts/check", tokens["viewer"], {"prompts": [" a\n"], "instruction": " Do. "}
    )
    assert told.json()["findings"][0]["prompts"] == ["Do.\n\na"]
    for changes, place in (
        ({"prompts": ["a", "  "]}, "prompts.1"),
        ({"examples": [{"input": " ", "output": "x"}]}, "examples.0"),
        ({"inspection": [{"input": "x", "output": ""}]}, "inspection.0.output"),
    ):
        asked = {"prompts": ["a"], "instruction": "Do.", **changes}
        answer = call(service, "POST", "/admin/jobs/mail/generate", tokens["operator"], asked)
        assert answer.status_code == 400 and answer.json()["error"]["message"].startswith(place), answer.text


def test_examples_come_as_a_file_beside_fields(kept, tokens):  # noqa: F811
    service, begun = service_of(kept), []
    service.queue.start = lambda kind, job, actor, run, asked: begun.append(job) or QueuedJob("1", kind, job, actor, "")
    files = {"prompts": ("p.txt", b"one\ntwo"), "inspection": ("r.csv", b"input,output\n" + b"a,b\n" * 8)}
    path = "/admin/jobs/mail/generate"
    answer = send(service, path, tokens["operator"], files, {"instruction": "Do."})
    assert answer.status_code == 202, answer.text
    assert answer.json()["read"]["inspection"]["examples"] == 8 and answer.json()["read"]["prompts"]["prompts"] == 2
    assert begun == ["mail"]


def test_of_a_task_file_the_training_examples_are_learned_from_and_the_test_examples_are_judged(kept, tokens, tmp_path):  # noqa: F811
    made = kept.add_version("mail", adapter_folder(tmp_path / "a", "a"), FROM).name
    lines = ['{"task": "t", "instruction": "Do."}']
    lines += [
        f'{{"input": "{part} {n}", "output": "x", "part": "{part}"}}'
        for part, count in (("train", 9), ("test", 4))
        for n in range(count)
    ]
    file = ("task.jsonl", "\n".join(lines).encode())
    for verb, name, count in (("refine", "examples", 9), ("evaluate", "inspection", 4)):
        service = service_of(kept)
        service.queue.start = lambda kind, job, actor, run, asked: QueuedJob("1", kind, job, actor, "")
        path = f"/admin/jobs/mail/versions/{made}/{verb}"
        answer = send(service, path, tokens["operator"], {name: file})
        assert answer.status_code == 202, answer.text
        assert answer.json()["read"][name]["examples"] == count
        other = "inspection" if name == "examples" else "examples"
        assert send(service, path, tokens["operator"], {other: file}).status_code == 400


def test_an_adapter_is_made_of_examples_alone_or_beside_prompts(kept, tokens):  # noqa: F811
    service, seen = service_of(kept), []
    service.queue.start = lambda kind, job, actor, run, asked: QueuedJob("1", kind, job, actor, "")
    given = service.generate
    service.generate = lambda *words, **more: seen.append(words[2:]) or given(*words, **more)
    file = ("e.csv", b"input,output\na,b\n")
    data = {"instruction": "Do."}
    assert send(service, "/admin/jobs/mail/generate", tokens["operator"], {"examples": file}, data).status_code == 202
    both = {"examples": file, "prompts": ("p.txt", b"c"), "inspection": ("i.csv", b"input,output\nd,e\n")}
    assert send(service, "/admin/jobs/mail/generate", tokens["operator"], both, data).status_code == 202
    assert seen == [([], [], [("Do.\n\na", "b")], None), (["Do.\n\nc"], [("d", "e")], [("Do.\n\na", "b")], None)]


def test_how_answers_are_compared_is_a_field_of_json_and_of_a_form(kept, tokens):  # noqa: F811
    service, seen = service_of(kept), []
    service.queue.start = lambda kind, job, actor, run, asked: QueuedJob("1", kind, job, actor, "")
    given = service.generate
    service.generate = lambda *words, **more: seen.append(more["comparison"]) or given(*words, **more)
    path, token = "/admin/jobs/mail/generate", tokens["operator"]
    said = [
        call(service, "POST", path, token, {"prompts": ["a"], "comparison": "number"}),
        call(service, "POST", path, token, {"prompts": ["a"]}),
        send(service, path, token, {"prompts": ("p.txt", b"a")}, {"comparison": "compatible"}),
        call(service, "POST", path, token, {"prompts": ["a"], "comparison": "fuzzy"}),
    ]
    assert [answer.status_code for answer in said] == [202, 202, 202, 400]
    assert seen == ["number", None, "compatible"] and "comparison" in said[-1].text


@pytest.mark.parametrize(
    ("files", "data", "told"),
    [
        ({"prompts": ("p.png", b"\x89PNG\xff")}, {}, "p.png"),
        ({"prompts": ("p.csv", b"input,x\na,b,c\n")}, {}, "p.csv:2: "),
        ({"prompts": ("p.txt", b"a\n" * 300)}, {}, "prompts: "),
        ({"examples": ("p.csv", b"input,output\na,b\n")}, {"column": "x"}, "column: "),
        ({"prompts": ("p.csv", b"a,b\nc,d\n")}, {"column": "x"}, "'x'"),
        ({"prompts": ("p.txt", b"a"), "language": ("x", b"y")}, {}, "language: "),
        ({"inspection": ("r.csv", b"a,b\n")}, {}, "prompts: at least one prompt"),
        ({"prompts": ("p.txt", b"a"), "canaries": ("r.csv", b"a,b\n")}, {}, "canaries: "),
        ({"examples": ("r.csv", b"input,output\na\n")}, {}, "r.csv:2: "),
        ({"prompts": ("p.txt", b"a")}, {"other": "1"}, "other: "),
        ([("prompts", ("p.txt", b"a")), ("prompts", ("q.txt", b"b"))], {}, "once"),
    ],
)
def test_a_form_that_cannot_be_read_is_refused_in_one_line(kept, tokens, files, data, told):  # noqa: F811
    answer = send(service_of(kept), "/admin/jobs/mail/generate", tokens["operator"], files, data)
    assert answer.status_code == 400
    assert told in answer.json()["error"]["message"] and "\n" not in answer.json()["error"]["message"]


def test_a_file_of_somebody_without_a_key_is_not_read(kept, tokens):  # noqa: F811
    bad = {"prompts": ("p.xlsx", b"PK\x03\x04")}
    for token, status in ((tokens["viewer"], 403), ("p2l_x", 401), (tokens["operator"], 400)):
        assert send(service_of(kept), "/admin/jobs/mail/generate", token, bad).status_code == status


def test_the_document_shows_both_ways(kept):  # noqa: F811
    body = create_app(service_of(kept)).openapi()["paths"]["/admin/jobs/{job}/generate"]["post"]["requestBody"]
    json_way, files = (body["content"][kind]["schema"] for kind in ("application/json", "multipart/form-data"))
    names = {"prompts", "examples", "inspection", "instruction", "answers", "comparison", "display_name"}
    assert json_way["properties"].keys() == names
    assert files["properties"].keys() == {*names, "pictures", "column"}, "what JSON holds itself"
    assert files["properties"]["inspection"]["format"] == "binary"
