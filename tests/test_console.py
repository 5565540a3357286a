"""The console without a browser: every page, every role, every refusal, a real registry, an engine of a few lines."""

from __future__ import annotations

import ast
import asyncio
import datetime
import html
import io
import json
import re
import threading
import time
import tomllib
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from string import Formatter

import openpyxl
import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from safetensors.torch import load_file, save_file
from tiny import AT, GOOD, adapter_folder, as_csv, new_registry

from prompt2lora.base.packaged import MINILM, PACKAGED, QWEN_CODER, SMOLLM2, languages_of
from prompt2lora.console import pdf, routing
from prompt2lora.console.i18n import LANGUAGES, Translator, choose, known, texts
from prompt2lora.console.page_request import KEY_COOKIE
from prompt2lora.console.queue_pages import STEPS
from prompt2lora.console.routing import PAGES, router
from prompt2lora.console.typing_checks import TypingChecker, instant_findings
from prompt2lora.custody.access import ROLES
from prompt2lora.custody.evaluations import Evaluation, Metrics
from prompt2lora.custody.gate import Policy, judge
from prompt2lora.custody.reports import texts as report_texts
from prompt2lora.custody.versions import IMPORTED, REGENERATED, Origin
from prompt2lora.errors import Busy, Conflict, DamagedFile, InputError, Prompt2LoraError, TooLate, UsageError
from prompt2lora.generator import released
from prompt2lora.generator.prompt_checks import ENOUGH, ENOUGH_INSTRUCTED, advise
from prompt2lora.ground.answer_form import choices
from prompt2lora.ground.examples import read_examples, read_prompts
from prompt2lora.ground.tables import File
from prompt2lora.plant.plant import Plant
from prompt2lora.serving.job_queue import JobQueue
from prompt2lora.serving.protocol import Chunk
from prompt2lora.serving.service import Limits, Service

EVIL = "<script>alert('x')</script>"


class EchoEngine:
    """Answers with what it was asked and by whom; `broken` is what it raises instead, `slow` how long it takes."""

    base = "tiny"

    def __init__(self) -> None:
        self.broken: Exception | None = None
        self.slow = 0.0

    async def answer(self, version, ask):
        await asyncio.sleep(self.slow)
        if self.broken:
            raise self.broken
        yield Chunk(f"{version.name if version else 'base'}: {ask.messages[0].content}", 1, 1, "stop")

    async def reconcile(self, versions):
        pass

    async def ready(self):
        return True

    def stats(self):
        return {"requests_running": 0.0}

    async def close(self, seconds):
        pass


@pytest.fixture
def service(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    registry = new_registry(tmp_path / "home", actor="tests", clock=lambda: AT)
    made = Service(
        Plant(registry, tmp_path / "no-generator"), EchoEngine(), JobQueue(registry.clock), first_code="sesame"
    )
    yield made
    made.queue.close()
    registry.engine.dispose()


@pytest.fixture
def app(service):
    @asynccontextmanager
    async def living(_):
        service.loop = asyncio.get_running_loop()
        yield

    made = FastAPI(lifespan=living)
    made.include_router(router(service, lambda: b'running 1\nasked{job="parts"} 2\nasked{job="other"} 3'))
    return made


@pytest.fixture
def visit(app, service, portal):
    """A browser of somebody with a role; without one, of a stranger."""
    opened = []

    def visitor(role=None, name="", language="en"):
        client = TestClient(app, base_url="http://plant", follow_redirects=False, raise_server_exceptions=False)
        client.portal, client.headers["accept-language"] = portal, language
        if role:
            client.cookies.set(KEY_COOKIE, service.access.add(name or f"the {role}", role=role)[1])
        opened.append(client)
        return client

    yield visitor
    for client in opened:
        client.close()


INSPECTED = [("note 1", "A-1", "no", "A-1"), ("note 2", "A-2", "A-2", "B"), (EVIL, "A-3", "x", "A-3")]


@pytest.fixture
def job(service, tmp_path):
    """A job with a version by the maker that passed its gate; the base answers."""
    plant = service.plant.as_actor("maker")
    plant.registry.add_job("parts")
    origin = Origin(("Say the number.\n\nnote one", "Say the number.\n\nnote two"), "9" * 64, "g", "b", "8" * 64)
    version = plant.registry.add_version("parts", adapter_folder(tmp_path / "adapter", "one"), origin)
    score = {"score": 0.5, "low": 0.4, "high": 0.6}
    scores = {
        "base": score,
        "generated": {**score, "score": 0.7, "low": 0.6, "high": 0.9},
        "bare": score,
        "wrong": score,
    }
    inspected = [dict(zip(("text", "right", "base", "generated"), one, strict=True)) for one in INSPECTED]
    measured = {
        "metrics": GOOD,
        "scores": {**scores, "gain": {"score": 0.2, "low": 0.1, "high": 0.3}},
        "inspection": inspected,
    }
    verdict = judge(Metrics.read(GOOD), Policy())
    plant.registry.add_verdict(
        version,
        plant.registry.add_evaluation(version, Evaluation.read(measured, plant.registry.store.picture)),
        verdict,
        Policy(),
    )
    return version


def approve(service, version):
    service.plant.as_actor("somebody").promote("parts", version.name, "good", second=True)
    return service.release("parts")


JOB_PAGES = ("try", "inspection", "decision", "watch", "refine", "why", "report", "engineer", "return")


# Translator


def test_both_catalogues_have_the_same_texts_with_the_same_values():
    ja, en = texts("ja"), texts("en")
    assert ja.keys() == en.keys()
    for key in ja:
        values = [{name for _, name, _, _ in Formatter().parse(said[key]) if name} for said in (ja, en)]
        assert values[0] == values[1], key
    assert all(
        key == "role.none" or re.search(r"[ぁ-んァ-ヶ一-龠]|^.?(PDF|JSON|SHA)", said)
        for key, said in ja.items()
        if "product" not in key and key not in ("watch.health",)
    )


def test_every_error_that_pages_know_by_its_message_is_told_by_these_words():
    def written(node):
        if isinstance(node, ast.FormattedValue):
            return "'9'" if node.conversion == ord("r") else "9"
        return "".join(map(written, node.values)) if isinstance(node, ast.JoinedStr) else str(node.value)

    trees = [ast.parse(file.read_text()) for file in Path(routing.__file__).parents[1].rglob("*.py")]
    kinds = ast.JoinedStr | ast.Constant
    said = {written(node) for tree in trees for node in ast.walk(tree) if isinstance(node, kinds)}
    silent = {name for name, pattern in known().items() if not any(pattern.search(message) for message in said)}
    assert silent == {"many_prompts", "many_examples"}, "which say what there are too many of"


def test_every_text_that_a_page_asks_for_is_there():
    folder = Path(routing.__file__).parent
    asked = set()
    for file in [*folder.glob("*.py"), *(folder / "templates").glob("*.html")]:
        asked |= set(
            re.findall(r"""(?:say|TranslatableError|NotFound|Forbidden)\(\s*"([a-z_.0-9]+)"[,)]""", file.read_text())
        )
    assert len(asked) > 150
    assert not [key for key in asked if key not in texts("en") and f"error.{key}" not in texts("en")]
    assert all(f"error.{name}" in texts("ja") for name in known())
    for kind in STEPS:
        assert {f"queue.title_{kind}", f"queue.now_{kind}", f"did.begin {kind}", f"did.cancel {kind}"} <= texts(
            "ja"
        ).keys()
        assert {f"queue.{what}_{step}" for step in STEPS[kind] for what in ("step", "name")} <= texts("ja").keys()
    for check in judge(Metrics(), Policy(most_intruders=1)).checks:
        assert f"advise.{check.metric}" in texts("ja") and f"metric {check.metric}" in report_texts("ja")


@pytest.mark.parametrize(
    ("asked", "kept", "accepted", "language"),
    [
        ("ja", "en", "en", "ja"),
        ("xx", "ja", "en", "ja"),
        (None, None, "ja-JP,ja;q=0.9,en;q=0.8", "ja"),
        (None, None, "de,en-US;q=0.7,ja;q=0.3", "en"),
        (None, None, "ja;q=0,en;q=0.1", "en"),
        (None, None, ";;q=,*;q=x" * 50, "en"),
    ],
)
def test_the_language_is_the_one_asked_for_then_the_kept_one_then_the_browsers(asked, kept, accepted, language):
    assert choose(asked, kept, accepted) == language


def test_numbers_and_days_are_written_as_the_language_writes_them():
    ja, en = Translator("ja"), Translator("en")
    assert (en.number(12345.678, 1), ja.percent(0.25), en.percent(0.055, 1)) == ("12,345.7", "25%", "5.5%")
    assert ja.when("2026-01-02T03:04:05+00:00").startswith("2026年1月")
    assert "Jan 2026" in en.when("2026-01-02T03:04:05+00:00")
    assert ja.number(None) == "不明"
    zone = datetime.datetime.now().astimezone().tzname()
    assert all(one.when("2026-01-02T03:04:05+00:00").endswith(f" {zone}") for one in (ja, en))


def test_one_thing_has_one_term_in_pages_and_reports():
    terms = tomllib.loads((Path(routing.__file__).parent / "texts" / "glossary.toml").read_text(encoding="utf-8"))
    for language in LANGUAGES:
        said = "\n".join([*texts(language).values(), *report_texts(language).values()])
        assert [word for term in terms.values() for word in term["not"] if word in said] == []
        used = [name for name, term in terms.items() if term[language].rstrip("s").lower() not in said.lower()]
        assert used == ["reader"], "a term that nothing says is none"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_kind_of_error_is_told_in_words(language):
    words = Translator(language)
    kinds = [Prompt2LoraError, *Prompt2LoraError.__subclasses__(), *UsageError.__subclasses__(), Busy, TooLate]
    for kind in kinds:
        assert words.explain(kind("xyz")) if kind.__init__ is Prompt2LoraError.__init__ else True
    assert words.explain(UsageError("at most 256 prompts are accepted at once, not 300; send fewer")).count("256") == 1
    assert words.explain(DamagedFile("audit line 7 was altered, removed or moved; compare")).count("7") == 1


# Pages


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("released", [False, True])
def test_every_page_is_there_in_both_languages(visit, service, job, language, released):
    if released:
        release = approve(service, job)
        service.plant.monitor().watch("parts", {"canary": 0.2, "correction": 0.05})
        service.plant.monitor().outcome("parts", release.id, "correction", 1)
    browser = visit("admin", language=language)
    paths = ["", "/new", "/new?sample=1", "/record", "/record?page=-1", "/keys", "/sign-in"]
    for path in [*paths, *(f"/jobs/parts/{page}" for page in JOB_PAGES)]:
        answer = browser.get(f"/console{path}")
        assert answer.status_code == 200, path
        assert answer.text.count("<h1>") == 1, path
        assert f'<html lang="{language}">' in answer.text, path
        assert "alert('x')" not in answer.text, path
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert not re.search(r'(src|href)="https?:|style="', answer.text), "nothing from elsewhere, no styles in line"


def test_a_language_once_chosen_stays(visit):
    browser = visit("viewer")
    assert 'lang="ja"' in browser.get("/console?lang=ja").text
    assert 'lang="ja"' in browser.get("/console").text


def test_what_is_not_there_is_a_page_that_says_so(visit):
    browser = visit("admin")
    for path in (
        "/nothing",
        "/jobs/nobody",
        "/jobs/nobody/try",
        "/jobs/%2e%2e/report/page",
        "/queue/x",
        "/static/../desk.py",
    ):
        answer = browser.get(f"/console{path}")
        assert answer.status_code in (400, 404), path
    assert "<h1>" in browser.get("/console/nothing").text
    assert browser.get("/console/static/console.css").status_code == 200
    tag = browser.get("/console/static/console.js").headers["etag"]
    assert browser.get("/console/static/console.js", headers={"if-none-match": tag}).status_code == 304
    assert browser.get("/console/static/nothing.js").status_code == 404


def test_the_light_tells_a_jobs_whole_way(visit, service, job):
    browser = visit("viewer")

    def light():
        return re.search(r'class="light (\w+)"', browser.get("/console").text)[1]

    assert light() == "new"
    release = approve(service, job)
    assert light() == "watch", "nobody watches it"
    service.plant.monitor().watch("parts", {"correction": 0.3})
    assert light() == "good"
    seen = []
    while light() != "back":
        service.plant.monitor().outcome("parts", release.id, "correction", 1)
        seen.append(light())
    assert sorted(set(seen), key=seen.index) == ["good", "watch", "back"]
    release = approve(service, job)
    service.plant.registry.promote("parts", None, EVIL, expected=release.id)
    assert light() == "back"
    assert EVIL not in browser.get("/console").text


def test_a_watch_that_cannot_be_read_is_begun_anew_and_hides_no_other_job(visit, service, job):
    seen = approve(service, job).id
    service.plant.watch("parts", {"correction": 0.1})
    (service.plant.monitor().folder / "parts.json").write_text("{")
    browser = visit("admin")
    assert "it is not monitored" in browser.get("/console").text
    assert texts("en")["watch.start_title"] in browser.get("/console/jobs/parts/watch").text
    assert (
        browser.post("/console/jobs/parts/watch", data={"canary": "10", "correction": "5", "seen": seen}).status_code
        == 303
    )
    assert "it is not monitored" not in browser.get("/console").text


def test_a_job_whose_adapter_is_gone_is_returned_to_the_base_on_its_page(visit, service, job, tmp_path):
    release = approve(service, job)
    service.plant.registry.store.path(job.adapter).rename(tmp_path / "elsewhere")
    browser = visit("operator")
    page = browser.get("/console/jobs/parts/return")
    assert page.status_code == 200 and texts("en")["return.confirm"] in page.text
    assert browser.post("/console/jobs/parts/return", data={"seen": release.id}).status_code == 303
    assert service.release("parts").version is None


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_job_that_was_never_released_is_not_said_to_be_answered_by_the_base(visit, service, job, language):
    browser, said = visit("admin", language=language), texts(language)
    with pytest.raises(UsageError, match="no release yet"):
        service.release("parts")  # by which every request is answered, or refused
    pages = {tab: html.unescape(browser.get(f"/console/jobs/parts/{tab}").text) for tab in ("watch", "return")}
    assert said["watch.never"] in pages["watch"] and said["watch.base"] not in pages["watch"]
    assert said["return.never"] in pages["return"] and said["return.already"] not in pages["return"]
    assert all(said["why.new"] in page for page in pages.values())
    with pytest.raises(UsageError, match="no release yet"):
        service.plant.watch("parts", {"correction": 0.1})
    with pytest.raises(UsageError, match="no release yet"):
        service.plant.registry.rollback("parts", "why not")
    service.plant.registry.promote("parts", None, "the base will do", expected=None)
    assert service.release("parts").version is None
    assert said["watch.base"] in html.unescape(browser.get("/console/jobs/parts/watch").text)


def test_the_decision_says_whether_requests_need_the_instruction(visit, service, job, tmp_path):
    browser = visit("approver")
    page = html.unescape(browser.get("/console/jobs/parts/decision").text)
    assert "Instruction: Say the number." in page
    assert "70% of the answers were correct with the instruction and 50% without it" in page
    other = adapter_folder(tmp_path / "other", "two")
    origin = Origin(("note one", "note two"), "9" * 64, "g", "b", "8" * 64)
    bare = service.plant.as_actor("maker").registry.add_version("parts", other, origin)
    page = html.unescape(browser.get("/console/jobs/parts/decision", params={"version": bare.name}).text)
    assert texts("en")["decide.no_instruction"] in page


def test_a_version_of_examples_alone_is_tried_under_their_instruction(visit, service, job, tmp_path):
    origin = Origin((), "9" * 64, "g", "b", "8" * 64, examples=(("Say the number.\n\nnote 3", "3"),) * 2)
    folder = adapter_folder(tmp_path / "taught", "three")
    made = service.plant.as_actor("maker").registry.add_version("parts", folder, origin)
    form = {"text": "note 4", "version": made.name}
    assert (
        f"{made.name}: Say the number.\n\nnote 4" in visit("operator").post("/console/jobs/parts/try", data=form).text
    )


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ["generated", "refined", REGENERATED, IMPORTED])
def test_every_kind_of_version_has_its_word(visit, service, job, language, kind, tmp_path):
    origin = Origin(("note one",), "9" * 64, "g", "b", "8" * 64, kind=kind)
    service.plant.registry.add_version("parts", adapter_folder(tmp_path / "other", "two"), origin)
    answer = visit("admin", language=language).get("/console/jobs/parts/try")
    assert (answer.status_code, texts(language)[f"kind.{kind}"] in html.unescape(answer.text)) == (200, True)


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_imported_version_has_every_page_and_nobody_says_that_its_instruction_is_in_the_weights(
    visit, service, job, language, tmp_path
):
    plant, said = service.plant.as_actor("maker"), texts(language)
    browser = visit("admin", language=language)
    for mark, prompts, told in (("two", (), "imported"), ("three", ("Say it.\n\nnote 1",), "imported_instruction")):
        origin = Origin(prompts, IMPORTED, IMPORTED, "b", "8" * 64, kind=IMPORTED)
        made = plant.registry.add_version("parts", adapter_folder(tmp_path / mark, mark), origin)
        measured = Evaluation(Metrics.read({**GOOD, "health": {"share": 0.1}, "prompts": None}))
        verdict = judge(measured.metrics, Policy(), generated=False)
        plant.registry.add_verdict(made, plant.registry.add_evaluation(made, measured), verdict, Policy())
        for page in JOB_PAGES:
            answer = browser.get(f"/console/jobs/parts/{page}", params={"version": made.name})
            assert answer.status_code == 200, page
            if page == "decision":
                assert said[f"decide.{told}"] in html.unescape(answer.text)
    approve(service, made)
    assert not service.instruction_in_weights(service.release("parts"))
    assert "error" not in browser.post("/console/jobs/parts/why", data={"version": made.name}).headers


def test_a_version_that_nobody_judged_is_offered_neither_release_nor_refusal_nor_empty_pages(visit, service, tmp_path):
    plant = service.plant.as_actor("maker")
    plant.registry.add_job("fresh")
    origin = Origin(("note one", "note two"), "9" * 64, "g", "b", "8" * 64)
    plant.registry.add_version("fresh", adapter_folder(tmp_path / "fresh", "four"), origin)
    browser = visit("approver")
    page = browser.get("/console/jobs/fresh/decision").text
    assert 'value="refuse"' not in page and 'value="approve"' not in page
    assert texts("en")["decide.uninspected_text"] in page and texts("en")["decide.not_yet_text"] not in page
    tabs = re.findall(
        r'href="/console/jobs/fresh/(\w+)"(?: aria-current="page")?>', browser.get("/console/jobs/fresh/try").text
    )
    assert set(tabs) & {"decision", "watch", "report"} == set()


def written_generator(place, name, base):
    """What is read of a generator before its weights."""
    (place / name).mkdir(parents=True)
    config = {"layout": {"base_model": base}, "encoder": MINILM}
    told = {"config": config, "weights": {"sha256": "1" * 64}, "provenance": {}}
    (place / name / "generator_config.json").write_text(json.dumps(told))


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_new_job_is_told_what_its_models_read_and_how_a_service_with_others_is_started(
    visit, service, tmp_path, monkeypatch, language
):
    monkeypatch.setattr(released, "places", lambda: [tmp_path / "generators"])
    for name, base in (("one", SMOLLM2), ("two", QWEN_CODER), ("three", str(tmp_path / "own-base"))):
        written_generator(tmp_path / "generators", name, base)
    service.plant = replace(service.plant, generator="one", base=None)
    page, said = html.unescape(visit("operator", language=language).get("/console/new").text), texts(language)
    assert said["models.used"].format(languages=said["languages.English"]) in page
    assert said[f"languages.{languages_of(QWEN_CODER)}"] in page
    assert said["languages.unknown"] in page, "nobody knows what a base of one's own reads"
    assert "prompt2lora serve --generator two" in page and "prompt2lora serve --generator three" in page
    assert "prompt2lora serve --generator one" not in page
    assert said["models.no_other"] not in page


def test_where_no_generator_can_be_read_a_new_job_says_nothing_of_models(visit):
    answer = visit("operator").get("/console/new")
    assert answer.status_code == 200 and texts("en")["models.one_base"] not in answer.text


def test_the_languages_of_every_model_have_a_text():
    known = {languages_of(name) for name in PACKAGED}
    assert all(f"languages.{one}" in texts(language) for one in known for language in LANGUAGES)


def test_an_exception_of_an_administrator_stands_apart_from_the_decision(visit, service, job):
    """And is offered for what has been refused, not for what may simply be approved."""
    browser, decision = visit("admin"), "/console/jobs/parts/decision"
    assert 'value="override"' not in browser.get(decision).text
    browser.post(decision, data={"version": job.name, "reason": "drops a zero", "decision": "refuse"})
    page = browser.get(decision).text
    before, _, after = page.partition(texts("en")["decide.override_title"])
    assert 'value="withdraw"' in before and 'value="override"' not in before and 'value="override"' in after
    form = {"version": job.name, "reason": "the label was wrong", "seen": "", "decision": "override"}
    assert browser.post(decision, data=form).status_code == 303
    assert service.release("parts").version.name == job.name
    assert f">{texts('en')['record.exception']}</span>" in browser.get("/console/record").text


# Who may what


def test_a_stranger_sees_the_sign_in_page_and_nothing_else(visit, job):
    stranger = visit()
    for page in PAGES:
        path = "/console" + page.path.replace("{job}", "parts").replace("{queued}", "x")
        answer = stranger.request(page.method, path)
        if page.verbs:
            assert answer.status_code == 401, page.path
            assert 'name="key"' in answer.text
            assert "parts" not in answer.text.replace("/jobs/parts", "")
    stranger.cookies.set(KEY_COOKIE, "p2l_0000000000000000_" + "A" * 43)
    assert stranger.get("/console").status_code == 401


@pytest.mark.parametrize("role", ROLES)
def test_a_role_opens_what_its_verbs_open(visit, job, role):
    browser = visit(role)
    for page in PAGES:
        path = "/console" + page.path.replace("{job}", "parts").replace("{queued}", "x")
        allowed = not page.verbs or any(verb in ROLES[role] for verb in page.verbs)
        status = browser.request(page.method, path).status_code
        assert (status != 403) == allowed, (page.method, page.path)
        if page.path == "/sign-out":
            browser = visit(role, f"another {role}")


@pytest.mark.parametrize("role", [None, "viewer"])
def test_a_form_that_cannot_be_read_shows_no_page_to_whoever_may_not_send_it(visit, job, role):
    browser, allowed = visit(role), ROLES[role] if role else ()
    for page in PAGES:
        if page.method == "POST" and page.verbs and not any(verb in allowed for verb in page.verbs):
            path = "/console" + page.path.replace("{job}", "parts")
            answer = browser.post(path, content=b"x", headers={"content-type": "multipart/form-data"})
            assert answer.status_code == 400, page.path
            assert re.findall("<h1>(.*?)</h1>", answer.text) == [texts("en")["word.error"]], page.path


def test_every_form_names_the_verb_that_it_takes():
    open_forms = {page.path for page in PAGES if page.method == "POST" and not page.verbs}
    assert open_forms == {"/sign-in", "/sign-out", "/first", "/invitation"}


def test_a_form_that_another_site_sent_is_refused(visit, service, job):
    release, browser = approve(service, job), visit("admin")
    for headers in ({"origin": "http://evil"}, {"origin": "null"}, {"referer": "http://evil/plant"}):
        for page in PAGES:
            if page.method == "POST":
                path = "/console" + page.path.replace("{job}", "parts")
                assert browser.post(path, data={"seen": release.id}, headers=headers).status_code == 403, page.path
    own = {"origin": "http://plant"}
    assert browser.post("/console/jobs/parts/return", data={"seen": release.id}, headers=own).status_code == 303


def test_the_first_person_becomes_admin_once(visit, service):
    browser = visit()
    assert browser.get("/console/first?code=wrong").status_code == 404
    assert all(visit(language=one).get("/console/first?code=sesame").text.count("<h1>") == 1 for one in LANGUAGES)
    assert browser.post("/console/first", data={"code": "sesame", "name": "a/b"}).status_code == 400
    answer = browser.post("/console/first", data={"code": "sesame", "name": "boss"})
    token = re.search(r"p2l_[0-9a-f]{16}_[\w-]{43}", answer.text)[0]
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower() and "Path=/" in cookie
    assert "Secure" not in cookie, "this is plain http"
    assert service.access.find(token).role == "admin"
    assert browser.get("/console").status_code == 200
    assert visit().get("/console/first?code=sesame").status_code == 404
    assert token not in browser.get("/console").text


def test_the_code_of_the_first_person_is_worth_nothing_once_an_admin_was_made_elsewhere(visit, service):
    service.access.add("boss", role="admin")
    answer = visit().post("/console/first", data={"code": "sesame", "name": "other"})
    assert answer.status_code == 404
    assert [key.name for key in service.access.all()] == ["boss"]


def test_over_https_the_key_never_travels_in_the_open(app, service):
    token = service.access.add("a", role="viewer")[1]
    with TestClient(app, base_url="https://plant", follow_redirects=False) as browser:
        assert "Secure" in browser.post("/console/sign-in", data={"key": token}).headers["set-cookie"]


def test_one_signs_in_with_a_key_and_out_again(visit, service):
    browser, token = visit(), service.access.add("a", role="viewer")[1]
    assert browser.post("/console/sign-in", data={"key": "p2l_no"}).status_code == 400
    programs = service.access.add("line 3", infer=True)[1]
    assert browser.post("/console/sign-in", data={"key": programs}).status_code == 400
    answer = browser.post("/console/sign-in", data={"key": f" {token}\n", "after": "/console/record?page=1"})
    assert answer.headers["location"] == "/console/record?page=1"
    assert browser.get("/console/record").status_code == 200
    browser.post("/console/sign-out")
    assert browser.get("/console/record").status_code == 401


@pytest.mark.parametrize(
    "after",
    [
        "https://evil/",
        "//evil/console",
        "/admin",
        "/console\\@evil",
        "javascript:alert(1)",
        "/consolex",
        "/console/\nx",
    ],
)
def test_signing_in_leads_nowhere_but_into_the_console(visit, service, after):
    token = service.access.add("a", role="viewer")[1]
    assert visit().post("/console/sign-in", data={"key": token, "after": after}).headers["location"] == "/console"


def test_what_was_typed_outlives_a_lost_session(visit, service, job):
    browser, token = visit(), service.access.add("a", role="admin")[1]
    lost = browser.post("/console/jobs/parts/decision", data={"reason": f"long thought {EVIL}", "decision": "approve"})
    assert lost.status_code == 401
    kept = re.search(r'name="kept" value="([^"]*)"', lost.text)[1]
    back = browser.post(
        "/console/sign-in", data={"key": token, "after": "/console/jobs/parts/decision", "kept": html.unescape(kept)}
    )
    assert back.status_code == 200
    assert 'action="/console/jobs/parts/decision"' in back.text
    assert "long thought" in back.text and EVIL not in back.text


def test_a_part_of_a_page_says_that_the_session_is_lost_and_leaves_the_form_alone(visit):
    for part in ("new/advice", "new/examples", "new/inspection", "new/pictures", "jobs/parts/sheet/read"):
        answer = visit().post(f"/console/{part}", data={"prompts": "a\nb"}, headers={"hx-request": "true"})
        assert answer.status_code == 401, part
        assert answer.headers["hx-reswap"] == "afterbegin", "beside what is there, such as a column that was chosen"
        assert texts("en")["sign.lost"] in answer.text and 'href="/console/sign-in"' in answer.text
        assert not re.search("<(html|main|h1|form|input)", answer.text), part


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_outlived_a_lost_session_is_shown_in_the_words_of_its_page(visit, service, job, language):
    typed = {"reason": "long thought", "decision": "approve", "version": "v", "seen": "", "of another page": "x"}
    token, said = service.access.add("a", role="admin")[1], texts(language)
    back = visit(language=language).post(
        "/console/sign-in",
        data={"key": token, "after": "/console/jobs/parts/decision", "kept": json.dumps(typed)},
    )
    shown = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", html.unescape(back.text))
    assert shown == [(said["tab.decision"], said["decide.approve"]), (said["decide.reason"], "long thought")]
    sent = dict(re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', back.text))
    assert sent == typed


def test_an_invitation_makes_one_person_once(visit, service):
    boss, guest = visit("admin", "boss"), visit()
    made = boss.post("/console/keys", data={"name": "line 2", "role": "approver", "how": "link"})
    code = re.search(r"invitation\?code=([\w-]+)", made.text)[1]
    assert "line 2" in guest.get(f"/console/invitation?code={code}").text
    assert "p2l_" in guest.post("/console/invitation", data={"code": code}).text
    assert guest.get("/console").status_code == 200
    assert visit().post("/console/invitation", data={"code": code}).status_code == 404
    assert {key.name: (key.role, key.actor) for key in service.access.all()}["line 2"] == ("approver", "boss")


def test_an_invitation_ends_with_the_key_that_gave_it(visit, service):
    boss = visit("admin", "boss")
    visit("admin", "other boss")
    made = boss.post("/console/keys", data={"name": "line 2", "role": "approver", "how": "link"})
    code = re.search(r"invitation\?code=([\w-]+)", made.text)[1]
    service.access.revoke("boss")
    assert visit().get(f"/console/invitation?code={code}").status_code == 404


def test_keys_are_made_shown_once_and_revoked(visit, service):
    boss = visit("admin", "boss")
    made = boss.post("/console/keys", data={"name": "line 3", "role": "", "infer": "1", "how": "now"})
    assert "p2l_" in made.text
    again = boss.post("/console/keys", data={"name": "line 3", "role": "viewer", "how": "now"})
    assert again.status_code == 409 and 'value="line 3"' in again.text
    assert boss.post("/console/keys", data={"name": "x", "role": "", "how": "now"}).status_code == 400
    assert boss.post("/console/keys/revoke", data={"revoked": "line 3"}).status_code == 303
    assert boss.post("/console/keys/revoke", data={"revoked": "boss"}).status_code == 400, "the last admin"
    assert "p2l_" not in boss.get("/console/keys").text


def test_whoever_looks_for_a_second_person_is_offered_an_approver(visit, job):
    maker = visit("admin", "maker")
    link = re.search(
        r'href="(/console/keys[^"]*)"[^>]*>' + texts("en")["decide.invite"],
        maker.get("/console/jobs/parts/decision").text,
    )[1]
    assert '<option value="approver" selected>' in maker.get(link).text
    assert '<option value="operator" selected>' in maker.get("/console/keys").text


# Deciding


def test_a_second_person_approves_and_a_double_click_approves_once(visit, service, job):
    browser, form = visit("approver"), {"version": job.name, "reason": "looks good", "seen": "", "decision": "approve"}
    for _ in range(2):
        assert browser.post("/console/jobs/parts/decision", data=form).status_code == 303
    (release,) = service.plant.registry.history("parts")
    assert (release.version.name, release.actor, release.reason) == (job.name, "the approver", "looks good")


def test_who_made_a_version_does_not_release_it(visit, service, job):
    browser = visit("admin", "maker")
    page = browser.get("/console/jobs/parts/decision").text
    assert texts("en")["decide.own"] in page and 'value="approve"' not in page
    for decision in ("approve", "refuse"):
        form = {"version": job.name, "reason": "mine", "seen": "", "decision": decision}
        answer = browser.post("/console/jobs/parts/decision", data=form)
        assert answer.status_code == 400
        assert texts("en")["error.second"] in answer.text
    assert service.plant.registry.history("parts") == []


def test_a_refusal_is_on_record_and_shown(visit, service, job):
    browser = visit("approver")
    form = {"version": job.name, "reason": "two examples got worse", "decision": "refuse"}
    assert browser.post("/console/jobs/parts/decision", data=form).status_code == 303
    assert "two examples got worse" in browser.get("/console/jobs/parts/decision").text
    assert service.plant.registry.audit_lines()[-1].action == "refuse"
    assert service.plant.registry.history("parts") == []


def test_a_decision_that_was_overtaken_is_shown_anew_with_its_reason(visit, service, job):
    service.plant.as_actor("x").registry.promote("parts", None, "first", expected=None)
    form = {"version": job.name, "reason": "my thoughts", "seen": "", "decision": "approve"}
    answer = visit("approver").post("/console/jobs/parts/decision", data=form)
    assert answer.status_code == 409
    assert 'value="my thoughts"' in answer.text
    assert f'name="seen" value="{service.release("parts").id}"' in answer.text


@pytest.mark.parametrize("reason", ["", " \n ", "x" * 501])
def test_a_decision_without_a_reason_or_with_a_novel_is_asked_again(visit, job, reason):
    form = {"version": job.name, "reason": reason, "seen": "", "decision": "approve"}
    assert visit("approver").post("/console/jobs/parts/decision", data=form).status_code == 400


def test_what_did_not_pass_is_not_offered_for_approval(visit, service, job):
    verdict = judge(Metrics(), Policy())
    service.plant.registry.add_verdict(job, 1, verdict, Policy())
    browser = visit("approver")
    assert 'value="approve"' not in browser.get("/console/jobs/parts/decision").text
    form = {"version": job.name, "reason": "I want it", "seen": "", "decision": "approve"}
    answer = browser.post("/console/jobs/parts/decision", data=form)
    assert answer.status_code == 400 and texts("en")["error.not_passed"] in answer.text


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_job_that_did_not_pass_says_so_everywhere_and_leads_to_more_examples_only_where_these_are_too_few(
    visit, service, job, language
):
    browser, said = visit("admin", language=language), texts(language)
    for changed, step in ({"gain": {"low": -0.1, "p_value": 0.3}}, "more"), ({"canary": {"kl": 9.0}}, "mend"):
        found = GOOD | {name: GOOD[name] | numbers for name, numbers in changed.items()}
        service.plant.registry.add_verdict(job, 1, judge(Metrics.read(found), Policy()), Policy())
        for page in ("", "/jobs/parts/try", "/jobs/parts/decision"):
            shown = html.unescape(browser.get(f"/console{page}").text)
            assert said["why.failed"].format(number=1) in shown and said[f"step.{step}"] in shown, page
        assert said["decide.not_yet_text"] in shown
    browser.post("/console/jobs/parts/decision", data={"version": job.name, "reason": "no", "decision": "refuse"})
    assert said["why.refused"].format(number=1) in html.unescape(browser.get("/console").text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_version_that_was_in_use_is_not_recommended_as_if_it_were_new(visit, service, job, language):
    release, browser, said = approve(service, job), visit("admin", language=language), texts(language)
    asked = html.unescape(browser.get("/console/jobs/parts/return").text)
    assert said["return.instruction"] in asked, "the base does not know what the adapter has learned"
    form = {"seen": str(release.id), "reason": "夜勤で誤回答"}
    assert browser.post("/console/jobs/parts/return", data=form).status_code == 303
    pages = {
        tab: html.unescape(browser.get(f"/console/jobs/parts/{tab}").text)
        for tab in ("decision", "sheet", "report/page")
    }
    assert (
        "夜勤で誤回答" in pages["decision"].partition('class="notice"')[2] and said["step.again"] in pages["decision"]
    )
    assert said["sheet.base"] in pages["sheet"] and said["sheet.plain"] not in pages["sheet"]
    assert report_texts(language)["recommend returned"] in pages["report/page"]
    assert "夜勤で誤回答" in browser.get("/console/record").text.partition("<pre>")[2], "details are readable"
    form = {"version": job.name, "reason": "fixed", "seen": str(service.release("parts").id), "decision": "approve"}
    assert browser.post("/console/jobs/parts/decision", data=form).status_code == 303
    pages = {tab: html.unescape(browser.get(f"/console/jobs/parts/{tab}").text) for tab in ("decision", "report/page")}
    assert "夜勤で誤回答" not in pages["decision"]
    assert report_texts(language)["recommend released"] in pages["report/page"]


def test_one_click_and_one_confirmation_return_a_job_to_the_base(visit, service, job):
    release, browser = approve(service, job), visit("operator")
    link = re.search(r'href="(/console/jobs/parts/return)"', browser.get("/console/jobs/parts/watch").text)[1]
    seen = re.search(r'name="seen" value="(\d+)"', browser.get(link).text)[1]
    assert browser.post(link, data={"seen": "999"}).status_code == 409
    for _ in range(2):
        assert browser.post(link, data={"seen": seen}).status_code == 303
    assert [one.version for one in service.plant.registry.history("parts")] == [release.version, None]


def test_a_mistake_in_the_policy_is_told_on_every_page_of_a_job_and_keeps_none_from_the_base(
    visit, service, job, tmp_path
):
    release, browser = approve(service, job), visit("admin")
    service.plant.watch("parts", {"correction": 0.05})
    (tmp_path / "home" / "policy.toml").write_text("least_gian = 0.1\n")
    assert browser.get("/console").status_code == 200
    for page in JOB_PAGES:
        answer = browser.get(f"/console/jobs/parts/{page}")
        assert answer.status_code == 200 and "least_gian" in answer.text, page
    assert visit("approver").post("/console/jobs/parts/decision", data={"decision": "approve"}).status_code == 400
    assert browser.post("/console/jobs/parts/return", data={"seen": release.id}).status_code == 303
    assert service.release("parts").version is None
    page = browser.get("/console/jobs/parts/decision").text
    assert texts("en")["decide.approve"] not in page and texts("en")["decide.override"] not in page


# Watching


def test_corrections_count_once_and_many_take_the_release_back(visit, service, job):
    seen = approve(service, job).id
    browser = visit("operator")
    watch = "/console/jobs/parts/watch"
    correct = {"checked": "10", "corrected": "1", "ticket": "t1", "seen": seen}
    assert browser.post(f"{watch}/corrections", data=correct).status_code == 400, "not monitored yet"
    assert browser.post(watch, data={"canary": "20", "correction": "none", "seen": seen}).status_code == 400
    assert browser.post(watch, data={"canary": "20", "correction": "5", "seen": seen}).status_code == 303
    for _ in range(2):
        assert browser.post(f"{watch}/corrections", data=correct).status_code == 303
    assert service.watched("parts")["sources"]["correction"]["outcomes"] == 10
    assert texts("en")["watch.outcomes"].format(count=10, bad=1, share="10%") in browser.get(watch).text
    for wrong in ({"checked": "2", "corrected": "3"}, {"checked": "0"}, {"checked": "nan", "corrected": "inf"}):
        answer = browser.post(f"{watch}/corrections", data={**wrong, "seen": seen})
        assert answer.status_code == 400
    assert f'value="{wrong["checked"]}"' in answer.text, "what was typed is still there"
    answer = browser.post(
        f"{watch}/corrections", data={"checked": "20", "corrected": "20", "ticket": "t2", "seen": seen}
    )
    assert "done=alarm" in answer.headers["location"]
    assert service.release("parts").version is None


def test_corrections_that_could_not_be_counted_are_counted_when_they_are_sent_again(visit, service, job):
    seen = approve(service, job).id
    browser, watch = visit("operator"), "/console/jobs/parts/watch"
    browser.post(watch, data={"canary": "20", "correction": "5", "seen": seen})
    form = {"checked": "10", "corrected": "1", "ticket": "t", "seen": seen}
    lock = service.plant.monitor().folder / ".parts.lock"
    lock.unlink(missing_ok=True)
    lock.mkdir()  # nothing can be written there
    assert browser.post(f"{watch}/corrections", data=form).status_code == 503
    assert "correct" not in [line.action for line in service.plant.registry.audit_lines()]
    lock.rmdir()
    assert browser.post(f"{watch}/corrections", data=form).status_code == 303
    assert service.watched("parts")["sources"]["correction"]["outcomes"] == 10


def test_what_was_seen_of_one_release_neither_counts_against_another_nor_is_promised_of_it(
    visit, service, job, tmp_path
):
    """Somebody counts corrections all day; meanwhile the version is replaced, and the new one is watched."""
    first = approve(service, job)
    browser, watch = visit("operator"), "/console/jobs/parts/watch"
    promised = {"canary": "20", "correction": "5"}
    assert browser.post(watch, data={**promised, "seen": first.id}).status_code == 303
    assert re.findall(r'name="seen" value="(\d+)"', browser.get(watch).text) == [str(first.id)]
    registry = service.plant.registry
    origin = registry.origin(job)
    version = registry.add_version("parts", adapter_folder(tmp_path / "another", "two"), origin)
    second = registry.promote("parts", version, "better", expected=first.id)
    assert re.findall(r'name="seen" value="(\d+)"', browser.get(watch).text) == [str(second.id)]
    for place, typed in (("", promised), ("/corrections", {"checked": "20", "corrected": "20", "ticket": "t"})):
        overtaken = browser.post(f"{watch}{place}", data={**typed, "seen": first.id})
        assert overtaken.status_code == 409 and texts("en")["error.Conflict"] in overtaken.text
        service.plant.watch("parts", {"correction": 0.05})
    assert service.release("parts") == second and service.watched("parts")["sources"]["correction"]["outcomes"] == 0


def test_as_many_corrections_as_were_accepted_take_nothing_back(visit, service, job):
    seen = approve(service, job).id
    browser, watch = visit("operator"), "/console/jobs/parts/watch"
    browser.post(watch, data={"canary": "20", "correction": "5", "seen": seen})
    told = {"checked": "100", "corrected": "5", "seen": seen}
    for ticket in ("t1", "t2"):
        answer = browser.post(f"{watch}/corrections", data={**told, "ticket": ticket})
        assert "done=counted" in answer.headers["location"]
    assert service.watched("parts")["sources"]["correction"]["bad"] == 10


def test_an_altered_record_is_noticed_on_the_page(visit, service, job):
    browser = visit("viewer")
    assert "notice fine" in browser.post("/console/record").text
    with service.plant.registry.engine.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER IF EXISTS audit_update")
        names = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type='trigger'").scalars().all()
        for name in names:
            connection.exec_driver_sql(f'DROP TRIGGER "{name}"')
        connection.exec_driver_sql("UPDATE audit SET actor='nobody' WHERE number=2")
    answer = browser.post("/console/record")
    assert answer.status_code == 500
    assert "2" in re.search(r"notice bad.*?</p>", answer.text, re.S)[0]


@pytest.mark.parametrize(
    ("place", "typed"),
    [("name", {"display_name": "parts\u200b 2"}), ("watch/corrections", {"checked": "10", "corrected": "1"})],
)
def test_a_page_that_is_shown_after_a_refusal_leads_where_it_leads_at_its_own_address(
    visit, service, job, place, typed
):
    seen = approve(service, job).id
    browser = visit("operator")
    refused = browser.post(f"/console/jobs/parts/{place}", data={**typed, "seen": seen})
    assert refused.status_code == 400
    own = browser.get(f"/console/jobs/parts/{'try' if place == 'name' else 'watch'}")
    forms, those = (re.findall(r"<form [^>]*>", page.text) for page in (refused, own))
    assert forms == those and all('action="' in form for form in forms)
    for link in re.findall(r'href="([^"]*lang=ja)"', refused.text):
        assert browser.get(link).status_code in (200, 303)


# Trying, making


def test_both_answers_stand_side_by_side_under_the_jobs_instruction(visit, job):
    answer = visit("viewer").post("/console/jobs/parts/try", data={"text": f"note 9 {EVIL}"})
    assert answer.status_code == 200
    assert answer.text.count("Say the number.\n\nnote 9") == 2
    assert EVIL not in answer.text


@pytest.mark.parametrize(
    ("error", "status"), [(Busy("full"), 429), (TooLate("late"), 408), (RuntimeError("dead"), 500)]
)
def test_an_engine_that_cannot_answer_costs_no_typing(visit, service, job, error, status):
    service.engine.broken = error
    answer = visit("viewer").post("/console/jobs/parts/try", data={"text": "my long text"})
    assert answer.status_code == status
    assert "<h1>" in answer.text and "dead" not in answer.text
    if status != 500:
        assert "my long text" in answer.text


def test_an_engine_that_never_answers_is_not_waited_for(visit, service, job):
    service.limits, service.engine.slow = Limits(seconds=-0.9), 5
    answer = visit("viewer").post("/console/jobs/parts/try", data={"text": "my long text"})
    assert answer.status_code == 408 and "my long text" in answer.text


def test_texts_that_cannot_be_tried_are_refused_and_kept(visit, job):
    browser = visit("viewer")
    assert browser.post("/console/jobs/parts/try", data={"text": "  "}).status_code == 400
    answer = browser.post("/console/jobs/parts/try", data={"text": "y" * 4001})
    assert answer.status_code == 400 and "y" * 4001 in answer.text


@pytest.mark.parametrize(
    "form",
    [
        {"job": "Big Letters", "prompts": "one\ntwo", "instruction": "Say."},
        {"job": "", "prompts": "one\ntwo"},
        {"job": "ok", "prompts": ""},
        {"job": "ok", "prompts": "one", "examples": "only one cell"},
        {"job": "ok", "prompts": "x\n" * 300},
        {"job": "ok", "prompts": "one", "answers": "free", "answers_detail": "billing, shipping"},
    ],
)
def test_a_new_job_that_cannot_be_is_asked_again_with_all_that_was_typed(visit, service, form):
    answer = visit("operator").post("/console/new", data=form)
    assert answer.status_code == 400
    assert service.queue.recent() == [] and service.plant.registry.jobs() == []
    for value in form.values():
        assert value.strip()[:40] in answer.text


def test_a_huge_paste_is_told_in_one_line(visit, service):
    service.limits = Limits(body=20_000)
    answer = visit("operator").post("/console/new", data={"job": "a", "prompts": "x" * 30_000})
    assert answer.status_code == 400
    assert "at most 1 MB" in answer.text


def test_a_failed_work_says_so_and_two_clicks_are_one_work(visit, service):
    browser, form = visit("operator"), {"job": "new-one", "prompts": "one\ntwo\nthree"}
    held = threading.Event()
    service.queue.start("explain", "another", "x", lambda report: {"held": held.wait(5)})
    places = {browser.post("/console/new", data=form).headers["location"] for _ in range(2)}
    assert len(places) == 1
    assert "hx-trigger" in browser.get(next(iter(places))).text, "it waits for its turn"
    held.set()
    service.queue._pool.shutdown(wait=True)
    answer = browser.get(places.pop())
    assert "notice bad" in answer.text, "there is no generator here"
    assert answer.text.count("<h1>") == 1


def test_a_work_shows_where_it_is_and_then_leads_on(visit, service, job):
    browser = visit("viewer")
    queued = service.queue.start("generate", "parts", "x", lambda report: {"version": job.name})
    service.queue.close()
    assert browser.get(f"/console/queue/{queued.id}").headers["location"].startswith("/console/jobs/parts/try?version=")
    queued.state, queued.progress = "running", {"step": "measure", "share": 0.42, "seconds_left": 130}
    page = browser.get(f"/console/queue/{queued.id}").text
    assert 'aria-current="step"' in page and "hx-trigger" in page and 'http-equiv="refresh"' in page
    assert '<progress max="1" value="0.420"' in page and "42% done. About 2 minutes left." in page
    japanese = browser.get(f"/console/queue/{queued.id}?lang=ja").text
    assert "42% 完了。" in japanese and "残り約 2 分。" in japanese
    queued.kind, queued.progress = "refine", {"step": "refine", "share": 0.1, "seconds_left": None}
    page = browser.get(f"/console/queue/{queued.id}?lang=en").text
    assert '<progress max="1" value="0.100"' in page and "left" not in page, "nobody knows yet"
    assert "/cancel" not in page, "a viewer cancels nothing"
    for kind, steps in STEPS.items():
        queued.kind, queued.progress = kind, {"share": 0.1, "seconds_left": None}
        page = browser.get(f"/console/queue/{queued.id}?lang=en")
        assert page.status_code == 200 and texts("en")[f"queue.step_{steps[0]}"] in html.unescape(page.text), kind


@pytest.mark.parametrize("language", ["en", "ja"])
def test_people_see_the_display_name_and_addresses_keep_the_job_s_name(visit, service, job, language):
    browser, name = visit("operator", language=language), "ポンプ <報告>"
    assert 'action="/console/jobs/parts/name"' in browser.get("/console/jobs/parts/try").text
    assert 'action="/console/jobs/parts/name"' not in visit("viewer").get("/console/jobs/parts/try").text
    answer = browser.post("/console/jobs/parts/name", data={"display_name": name})
    assert answer.status_code == 303 and "/console/jobs/parts" in answer.headers["location"]
    for page in ("", "/jobs/parts/try", "/jobs/parts/return", "/jobs/parts/report/page"):
        assert html.escape(name) in browser.get(f"/console{page}").text, page
    refused = browser.post("/console/jobs/parts/name", data={"display_name": "x" * 81})
    assert refused.status_code == 400 and texts(language)["error.display_name"].format(most=80) in refused.text
    form = {"job": "new-one", "display_name": "新しい作業", "prompts": "a"}
    queued = browser.post("/console/new", data=form).headers["location"]
    assert "新しい作業" in browser.get(queued).text
    assert service.plant.registry.display_names()["new-one"] == "新しい作業"


@pytest.mark.parametrize("language", ["en", "ja"])
def test_a_work_is_cancelled_by_whoever_may_make_one_and_says_so(visit, service, job, language):
    browser, held = visit("operator", language=language), threading.Event()

    def work(report):
        report({"step": "measure", "share": 0.1})
        held.wait(30)
        report({"step": "measure", "share": 0.2})

    queued = service.queue.start("generate", "parts", "x", work)
    while queued.state == "waiting" or not queued.progress:
        time.sleep(0.01)
    place, said = f"/console/queue/{queued.id}", texts(language)
    assert f'action="{place}/cancel"' in browser.get(place).text
    assert visit("viewer").post(f"{place}/cancel").status_code == 403
    answer = browser.post(f"{place}/cancel")
    assert answer.status_code == 303 and said["queue.stopping"] in browser.get(place).text
    held.set()
    service.queue._pool.shutdown(wait=True)
    page = browser.get(place).text
    assert said["queue.cancelled"].format(who="the operator") in page and "hx-trigger" not in page
    assert browser.post(f"{place}/cancel").status_code == 303, "what has ended is shown as it is"
    last = service.plant.registry.audit_lines()[-1]
    assert (last.action, last.subject, last.actor) == ("cancel generate", "parts", "the operator")


def test_htmx_is_told_to_go_on_and_a_browser_without_it_is_redirected(visit, service, job):
    browser = visit("viewer")
    queued = service.queue.start("generate", "parts", "x", lambda report: {"version": job.name})
    service.queue.close()
    answer = browser.get(f"/console/queue/{queued.id}", headers={"hx-request": "true"})
    assert answer.status_code == 200 and answer.headers["hx-redirect"].startswith("/console/jobs/parts/try?version=")
    assert b"htmx" in browser.get("/console/static/htmx.js").content


def test_right_answers_that_are_known_are_learned_from_and_others_inspect(visit, service):
    browser, seen, given = visit("operator"), [], service.generate
    service.generate = lambda *words, **more: seen.append(words[2:]) or given(*words, **more)
    form = {"job": "known", "instruction": "Do.", "prompts": "c", "examples": "a\tb", "inspection": "d\te"}
    assert "/queue/" in browser.post("/console/new", data=form).headers["location"]
    assert browser.post("/console/new", data={**form, "prompts": ""}).status_code == 303
    right, learned = [("d", "e")], [("Do.\n\na", "b")]
    assert seen == [(["Do.\n\nc"], right, learned, None), ([], right, learned, None)]


@pytest.mark.parametrize("language", ["en", "ja"])
def test_how_answers_are_compared_is_chosen_for_a_new_job_and_said_of_its_inspection(visit, service, job, language):
    browser, seen, given = visit("operator", language=language), [], service.generate
    service.generate = lambda *words, **more: seen.append(more["comparison"]) or given(*words, **more)
    page = browser.get("/console/new").text
    said = texts(language)
    assert all(html.escape(said[f"compare.{one}"]) in page for one in ("exact", "compatible", "number"))
    assert browser.post("/console/new", data={"job": "k", "prompts": "c", "comparison": "number"}).status_code == 303
    assert seen == ["number"]
    assert said["compare.said_exact"] in browser.get("/console/jobs/parts/inspection").text


def test_the_sample_is_filled_in_and_large_enough_to_pass(visit):
    page = visit("operator").get("/console/new?sample=1").text
    assert 'value="sample"' in page
    from prompt2lora.console.new_jobs import sample

    def examples(text):
        return read_examples(File("pasted", text=text))[0]

    inspected, prompts = examples(sample()["inspection"]), read_prompts(File("pasted", text=sample()["prompts"]))[0]
    assert len(prompts) == 16
    assert len(inspected) == 48 == len({right for _, right in inspected})
    assert all(right in text for text, right in inspected)
    assert not {text for text, _ in inspected} & set(prompts)
    learned = examples(sample()["examples"])
    assert len(learned) == 32 and all(right in text for text, right in learned)
    assert not set(learned) & set(inspected), "it is never inspected on what it learned"


def test_every_judged_version_has_a_report_and_no_other_file_is_one(visit, service, job):
    browser, said = visit("viewer"), texts("en")["decide.report"]
    assert said in browser.get("/console/jobs/parts/decision").text
    answer = browser.get("/console/jobs/parts/report/page", params={"version": job.name})
    assert job.name in answer.text and "sandbox" in answer.headers["content-security-policy"]
    for name in ("..", "../pilots", "/etc/passwd", f"../pilots/{job.name}"):
        assert browser.get("/console/jobs/parts/report/page", params={"version": name}).status_code == 400


def test_a_version_that_was_never_judged_has_no_report(visit, service, job, tmp_path):
    kept = service.plant.as_actor("maker").registry
    fresh = kept.add_version("parts", adapter_folder(tmp_path / "fresh", "two"), kept.origin(job))
    browser, asked = visit("viewer"), {"version": fresh.name}
    assert browser.get("/console/jobs/parts/report/page", params=asked).status_code == 404
    assert texts("en")["decide.report"] not in browser.get("/console/jobs/parts/decision", params=asked).text


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_report_is_a_pdf_in_either_language(visit, job, language):
    if not pdf.can_write():
        pytest.skip("Pango is not installed; the page offers printing alone")
    browser = visit("viewer", language=language)
    assert "/report/pdf" in browser.get("/console/jobs/parts/report").text
    answer = browser.get("/console/jobs/parts/report/pdf")
    assert answer.content.startswith(b"%PDF")
    assert f"report-parts-{language}.pdf" in answer.headers["content-disposition"]


def test_a_pdf_fetches_nothing(tmp_path):
    if not pdf.can_write():
        pytest.skip("Pango is not installed")
    (tmp_path / "secret.png").write_bytes(b"a secret")
    image = f'<img src="file://{tmp_path}/secret.png"><img src="http://127.0.0.1:9/">'
    made = pdf.pdf(f"<h1>試行の報告書</h1>{image}")
    assert made.startswith(b"%PDF") and b"a secret" not in made


def test_where_no_pdf_can_be_made_printing_is_offered_alone(visit, job, monkeypatch):
    monkeypatch.setattr(pdf, "can_write", lambda: False)
    browser = visit("viewer")
    assert "/report/pdf" not in browser.get("/console/jobs/parts/report").text
    assert texts("en")["error.no_pdf"] in browser.get("/console/jobs/parts/report/pdf").text


def test_the_engineers_view_has_the_metrics_of_this_job_and_of_the_service(visit, job):
    page = html.unescape(visit("viewer").get("/console/jobs/parts/engineer").text)
    assert "running 1" in page and 'asked{job="parts"} 2' in page and "other" not in page


def test_what_people_do_is_on_record_in_their_name(visit, service, job):
    """Also what makes no version and no release: a queued that failed, a watch, corrections, an invitation."""
    seen = approve(service, job).id
    browser = visit("admin", "the boss")
    watch = "/console/jobs/parts/watch"
    browser.post(watch, data={"canary": "20", "correction": "5", "seen": seen})
    browser.post(f"{watch}/corrections", data={"checked": "3", "corrected": "1", "ticket": "t", "seen": seen})
    browser.post("/console/keys", data={"name": "guest", "role": "viewer", "how": "link"})
    browser.post("/console/new", data={"job": "fails", "prompts": "one\ntwo"})
    service.queue._pool.shutdown(wait=True)
    told = {line.action: line for line in service.plant.registry.audit_lines() if line.actor == "the boss"}
    assert {"watch", "correct", "invite", "begin generate"} <= told.keys()
    assert told["correct"].detail["corrected"] == 1 and told["watch"].detail["promised"]["correction"] == 0.05
    page = browser.get("/console/record").text
    assert all(texts("en")[f"did.{action}"] in page for action in ("watch", "correct", "invite", "begin generate"))


def test_candidates_that_are_made_anew_have_a_page_too(visit, service, job):
    browser, held = visit("admin"), threading.Event()
    queued = service.queue.start("regenerate", "parts", "x", lambda report: {"jobs": [], "held": held.wait(5)})
    assert texts("en")["queue.now_regenerate"] in browser.get("/console").text
    assert texts("en")["queue.title_regenerate"] in browser.get(f"/console/queue/{queued.id}").text
    held.set()
    service.queue.close()
    assert browser.get(f"/console/queue/{queued.id}").headers["location"] == "/console?done=regenerated"


@pytest.mark.parametrize(
    ("language", "words"), [("en", "one of these words A-1, A-2"), ("ja", "次の語のどれか A-1, A-2")]
)
def test_which_answers_a_job_has_is_said_in_words(service, job, visit, tmp_path, language, words):
    folder = adapter_folder(tmp_path / "held", "two")
    weights = folder / "adapter_model.safetensors"
    told = {"prompt2lora": json.dumps({"answers": choices(["A-1", "A-2"]).to_dict()})}
    save_file(load_file(weights), weights, metadata=told)
    origin = Origin(("Say the number.\n\nnote one",), "9" * 64, "g", "b", "8" * 64)
    version = service.plant.as_actor("maker").registry.add_version("parts", folder, origin)
    page = visit("admin", language=language).get(f"/console/jobs/parts/try?version={version.name}").text
    assert words in page


# Findings and uploads


def test_advice_never_makes_one_wait():
    release, asked = threading.Event(), []

    def look(prompts):
        asked.append(prompts)
        release.wait(5)
        return [{"kind": "mixed", "prompts": [1], "grave": True}]

    adviser = TypingChecker(look)
    assert adviser.check([]) == ([], False), "nothing is asked for where nothing stands: right answers may be enough"
    first = adviser.check(["one", "one"], 0.01)
    assert first.more and [finding["kind"] for finding in first.findings] == ["few", "duplicate"]
    adviser.check(["typing"], 0.01)
    adviser.check(["typing on"], 0.01)
    release.set()
    assert adviser.check(["typing on"], 5).findings[-1]["kind"] == "mixed"
    assert asked == [["one", "one"], ["typing on"]], "what was overtaken while it waited is not looked at"
    assert [one["kind"] for one in instant_findings(["x" * 20_001] * 300)] == ["endless", "many", "duplicate"]


def test_prompts_are_few_to_the_console_where_they_are_few_to_the_command_line():
    for prompts in ([f"note {i}" for i in range(20)], [f"Say it.\n\nnote {i}" for i in range(20)]):
        for count in range(1, len(prompts)):
            told = advise(prompts[:count], torch.zeros(count, 4))
            few = "few" in [finding.kind for finding in told]
            assert few == ("few" in [one["kind"] for one in instant_findings(prompts[:count])])
    for language in ("en", "ja"):
        assert re.findall(r"\d+", texts(language)["new.prompts"])[:2] == [str(ENOUGH_INSTRUCTED), str(ENOUGH)]


def test_advice_that_fails_is_no_advice():
    def look(prompts):
        raise RuntimeError("no models")

    assert TypingChecker(look).check([f"note {i}" for i in range(16)], 5) == ([], False)


def excel(*rows):
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


PAIR = [("a note", "A-1"), ("二つ目", "40")]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("examples.xlsx", excel(("入力", "正解"), ("a note", "A-1"), ("二つ目", 40))),
        ("examples.xlsx", excel(("no", "output", "input"), (1, "A-1", "a note"), (2, 40.0, "二つ目"))),
        ("examples.csv", "入力,正解\na note,A-1\n二つ目,40\n".encode("cp932")),
        ("examples.csv", "a note;A-1\n二つ目;40".encode("utf-8-sig")),
        ("examples.tsv", "a note\tA-1\r\n二つ目\t40\r\n".encode()),
        ("examples.jsonl", b"".join(json.dumps({"input": a, "output": b}).encode() + b"\n" for a, b in PAIR)),
    ],
)
def test_rows_are_read_from_what_plants_have(name, data):
    assert read_examples(File(name, data))[0] == PAIR


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("p.txt", b"one, with a comma\n\n two\n"),
        ("p.csv", b'input\n"one, with a comma"\ntwo\n'),
        ("p.xlsx", excel(("Input",), ("one, with a comma",), (None,), ("two",))),
        (
            "p.jsonl",
            b'"one, with a comma"\n"two"\n'.replace(b'"one, with a comma"', b'{"prompt": "one, with a comma"}'),
        ),
    ],
)
def test_prompts_are_read_from_what_plants_have(name, data):
    assert read_prompts(File(name, data))[0] == ["one, with a comma", "two"]


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("a.csv", b"input,output\na,b,c\n", "row_width"),
        ("a.csv", b"input,output\na," + b"b" * 20_001, "long_cell"),
        ("a.csv", b"input,other\na,b\n", "no_output"),
        ("a.xlsx", excel(["x"] * 60), "many_columns"),
        ("a.xls", b"\xd0\xcf\x11\xe0", "old_excel"),
        ("a.pdf", b"%PDF-1.7", "file_type"),
        ("a.xlsx", b"not excel", "file_type"),
        ("a.xlsx", b"PK\x03\x04 broken", "broken_excel"),
        ("a.csv", b"\x00\x01\x02", "not_text"),
        ("a.csv", b"\xff\xfe\xfd\xfc\xfb", "not_text"),
        ("a.jsonl", b'{"input": "a", "output": "b"}\n{oh', "broken_json"),
        ("a.jsonl", b'{"input": "a", "output": "b"}\n{"x": 1}', "broken_json"),
        ("a.csv", b"input,output\na,b\nc,\n", "incomplete_example"),
        ("a.csv", b"input,output\n", "no_examples"),
        ("a.csv", b"", "no_examples"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_why(name, data, error):
    with pytest.raises(InputError) as told:
        read_examples(File(name, data))
    assert told.value.rule == error
    for language in LANGUAGES:
        assert Translator(language).explain(told.value) != texts(language)["error.UsageError"]


def test_a_wrong_file_costs_no_typing(visit):
    form = {"job": "ok", "prompts": "my precious line", "instruction": "Say."}
    answer = visit("operator").post(
        "/console/new", data=form, files={"examples_file": ("a.png", b"\x89PNG", "image/png")}
    )
    assert answer.status_code == 400
    assert "my precious line" in answer.text and "a.png" in answer.text


def test_a_column_is_chosen_and_the_first_rows_are_seen_before_anything_is_made(visit, service):
    browser, file = (
        visit("operator"),
        ("r.csv", "番号,報告,担当\n1,軸の音,山\n2,漏れ,川\n3,熱い,森\n".encode(), "text/csv"),
    )
    page = browser.post("/console/new/advice", files={"prompts_file": file}).text
    assert '<option value="2" selected>報告</option>' in page and "<li>軸の音</li>" in page
    page = browser.post("/console/new/advice", data={"prompts_column": "3"}, files={"prompts_file": file}).text
    assert '<option value="3" selected>担当</option>' in page and "<li>山</li>" in page
    other = ("o.csv", b"a,b\n1,x\n2,y\n", "text/csv")
    page = browser.post("/console/new/advice", data={"prompts_column": "3"}, files={"prompts_file": other}).text
    assert "<li>x</li>" in page, "a column that was chosen for another file is forgotten"
    pasted = {"prompts": "番号\t報告\t担当\n1\t軸の音\t山\n2\t漏れ\t川\n3\t熱い\t森"}
    assert "<li>軸の音</li>" in browser.post("/console/new/advice", data=pasted).text
    page = browser.post("/console/new/advice", data={**pasted, "prompts_column": "3"}).text
    assert '<option value="3" selected>担当</option>' in page and "<li>山</li>" in page
    page = browser.post("/console/new/advice", data=pasted, files={"prompts_file": file}).text
    assert page.count('id="prompts_column"') == 1, "the column is that of the file"
    page = browser.post("/console/new/advice", data={"prompts": "one\ntwo", "prompts_column": "3"}).text
    assert "finding grave" not in page and "select" not in page
    assert service.queue.recent() == []


def test_a_form_that_is_refused_keeps_its_file_for_whoever_sent_it(visit, service):
    browser, file = visit("operator"), ("r.csv", "番号,報告\n1,軸の音\n2,漏れ\n".encode(), "text/csv")
    page = browser.post("/console/new", data={"job": ""}, files={"prompts_file": file}).text
    assert "Chosen: r.csv" in page
    token = re.search(r'name="prompts_kept" value="([^"]+)"', page)[1]
    form = {"job": "kept", "prompts_kept": token}
    stranger = visit("admin").post("/console/new", data=form)
    assert stranger.status_code == 400 and texts("en")["error.file_gone"] in stranger.text
    assert browser.post("/console/new", data=form).status_code == 303
    assert service.queue.recent()[0].job == "kept"


@pytest.mark.parametrize("field", ["examples", "inspection"])
def test_a_form_that_is_refused_shows_the_examples_file_it_keeps_without_a_click(visit, field):
    file = ("r.csv", "番号,報告,正解\n1,軸の音,A\n2,漏れ,B\n".encode(), "text/csv")
    page = visit("operator").post("/console/new", data={"job": "no name"}, files={f"{field}_file": file}).text
    shown = next(part for part in page.split("<details")[1:] if f'id="{field}_kept"' in part)
    assert shown.split(">")[0].endswith(" open") and "Chosen: r.csv" in shown
    assert texts("en")["word.no_file"] not in shown, "one of the two is so"
    reading = re.search(rf'<div id="{field}-read"[^>]*>', shown)[0]
    assert 'hx-trigger="load, ' in reading, "how it was read is told again"
    fresh = visit("operator", "another").get("/console/new").text
    assert 'hx-trigger="load, ' not in re.search(rf'<div id="{field}-read"[^>]*>', fresh)[0]


def test_rows_pasted_again_are_the_same_rows():
    assert read_examples(File("pasted", text=as_csv(PAIR)))[0] == PAIR


def test_a_conflict_is_a_conflict_in_both_languages():
    assert Translator("ja").explain(Conflict("x")) == texts("ja")["error.Conflict"]


JAPANESE = "番号;入力;正解\r\n1;一つ, 二つ;A-1\r\n2;三つ;A-2\r\n"


@pytest.mark.parametrize(("codec", "encoding"), [("cp932", "Shift-JIS"), ("euc_jp", "EUC-JP")])
@pytest.mark.parametrize(("language", "said"), [("en", "column"), ("ja", "列「入力」")])
def test_how_a_file_is_read_is_said_before_it_is_sent_and_afterwards(visit, service, language, said, codec, encoding):
    browser = visit("operator", language=language)
    file = ("p.csv", JAPANESE.encode(codec), "text/csv")
    for path, name in (("/console/new/advice", "prompts_file"), ("/console/new/examples", "examples_file")):
        page = browser.post(path, files={name: file}).text
        assert encoding in page and said in page.lower() and "入力" in page
    form = {"job": "read", "prompts": "typed"}
    sent = browser.post("/console/new", data=form, files={"prompts_file": file, "examples_file": file})
    queued = service.queue.recent()[0]
    service.queue._pool.shutdown(wait=True)
    assert sent.headers["location"] == f"/console/queue/{queued.id}"
    if queued.state == "failed":  # as it must, without a generator; what was read is said all the same
        assert browser.get(f"/console/queue/{queued.id}").text.count(encoding) == 2


@pytest.mark.parametrize("language", LANGUAGES)
def test_work_that_a_restart_interrupted_says_so_and_what_failed_is_seen_among_the_jobs(
    visit, service, job, language, tmp_path
):
    browser, said = visit("viewer", language=language), texts(language)
    held = threading.Event()
    queued = service.queue.start("inspect", "parts", "x", lambda report: {"held": held.wait(30)})
    while queued.state == "waiting":
        time.sleep(0.01)
    place = f"/console/queue/{queued.id}"
    assert said["queue.restarted"] not in browser.get(place).text
    queued.restarts = 1
    assert said["queue.restarted"] in browser.get(place).text
    held.set()
    while not queued.over:
        time.sleep(0.01)
    assert place not in browser.get("/console").text
    queued.state, queued.error = "failed", "the service ended 3 times while this ran; look at its log"
    assert f'href="{place}"' in browser.get("/console").text and said["queue.failed"] in browser.get("/console").text
    assert said["error.ended_often"].format(count=3) in html.unescape(browser.get(place).text)
    service.queue.start("inspect", "parts", "x", lambda report: {"version": job.name})
    service.queue.close()
    assert place not in browser.get("/console").text, "it was done after all"
