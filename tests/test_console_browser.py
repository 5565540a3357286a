"""The console in a real browser, with real generation behind it: a tiny base, a tiny generator, a real registry.

One person makes, another one decides. Whoever reads `WORLD` sees all that is not real here: sizes, and a lax policy,
because a base that knows nothing passes no other one.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import openpyxl
import pytest
import torch
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from fastapi import FastAPI
from playwright.sync_api import sync_playwright
from tiny import tiny_world

from prompt2lora.adapter.health import Reference
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base.decoding import answers
from prompt2lora.console.i18n import LANGUAGES, texts
from prompt2lora.console.routing import router
from prompt2lora.custody.registry import Registry
from prompt2lora.generator.atlas import Atlas
from prompt2lora.generator.generator import Generator
from prompt2lora.ground.answer_sheet import HEADS
from prompt2lora.plant.plant import Plant
from prompt2lora.serving.job_queue import JobQueue
from prompt2lora.serving.protocol import Chunk
from prompt2lora.serving.service import Service

# Without what stands around its pages on a desktop the browser takes half the time; where that is not there, the whole.
CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
# No page lives long enough to repay optimised code, or threads that make it while two cores are busy.
SWITCHES = ["--no-sandbox", "--js-flags=--single-threaded --no-opt --no-maglev"]
LAX = """
most_bias = nan
least_gain = -2.0
most_p_value = 1.0
most_canary_kl = 1e9
least_format_share = 0.0
most_canary_perplexity = 1e9
least_own_over_wrong = -2.0
most_health_score = 1e9
most_prompt_distance = 1e9
"""
PROMPTS = "\n".join(f"note {a}{b}" for a in "abc" for b in "wxyz")
EXAMPLES = "\n".join(f"note {i}\t{i}" for i in range(6))

EN = texts("en")

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no browser: chromium is not installed")


class TinyEngine:
    """The tiny base itself, one answer at a time."""

    tells_tokens = False

    def __init__(self, plant: Plant) -> None:
        self.plant, self.lock = plant, threading.Lock()

    @property
    def base(self):
        return "tiny"

    async def answer(self, version, ask):
        yield Chunk(await asyncio.to_thread(self._answer, version, ask.messages[0].content), 1, 1, "stop")

    def _answer(self, version, text):
        with self.lock:
            base = self.plant.evaluator().base
            grid = None
            if version:
                folder = self.plant.registry.store.path(version.adapter)
                grid = Adapter.load(folder, base.model.config).grid
            return answers(base.model, base.chat, [text], layout=base.layout, grid=grid, max_new_tokens=8)[0]

    async def reconcile(self, versions):
        pass

    async def ready(self):
        return True

    def stats(self):
        return {"requests_running": 0.0}

    async def close(self, seconds):
        pass


def tiny_service(place: Path) -> Service:
    """A service on a tiny base and generator, all of them written below `place`."""
    folder = tiny_world(place)
    generator = Generator.from_pretrained(folder)
    layout, random = generator.config.layout, torch.Generator().manual_seed(5)
    grids = generator.start + torch.randn(12, *layout.shape, generator=random) * 0.01
    names = tuple(f"job {i}" for i in range(40))
    means = torch.randn(40, generator.config.width, generator=random)
    said = tuple(f"Do {name}." for name in names)
    generator.atlas = Atlas(names, said, means, Reference.of(grids, generator.start, layout))
    generator.save_pretrained(place / "with-atlas")
    plant = Plant(Registry.open(place / "home", actor="service"), place / "with-atlas")
    (place / "home" / "policy.toml").write_text(LAX)
    engine = TinyEngine(Plant(plant.registry, place / "with-atlas"))
    return Service(plant, engine, JobQueue(plant.registry.clock), first_code="sesame")


class Served:
    """An application on a free port of this machine, in a thread."""

    def __init__(self, app: FastAPI) -> None:
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws="none")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)

    def __enter__(self) -> str:
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive(), "the server did not start"
            self.thread.join(0.02)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/console"

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join(10)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    place = tmp_path_factory.mktemp("console")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMPT2LORA_HOME", str(place / "home"))
        service = tiny_service(place)

        @asynccontextmanager
        async def living(_):
            service.loop = asyncio.get_running_loop()
            yield

        app = FastAPI(lifespan=living)
        app.include_router(router(service, lambda: b"running 1"))
        with Served(app) as address:
            yield SimpleNamespace(address=address, service=service)
        service.queue.close()
        service.plant.registry.engine.dispose()


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=SWITCHES)
        yield browser
        browser.close()


@pytest.fixture
def person(chromium, world):
    """A page of somebody with a role, who speaks a language. What the page logs as an error, or fetches from anywhere
    else than the console, fails the test."""
    opened, errors, elsewhere = [], [], []

    def note(request):
        if not request.url.startswith((world.address, "data:")):
            elsewhere.append(request.url)

    def open_page(role=None, name="", language="en", javascript=True):
        context = chromium.new_context(
            locale={"ja": "ja-JP", "en": "en-GB"}[language],
            viewport={"width": 1180, "height": 820},
            java_script_enabled=javascript,
        )
        context.set_default_timeout(180_000)  # other work may share the machine
        opened.append(context)
        if role:
            keys = [key.name for key in world.service.access.all()]
            name = name or f"{role} {len(keys)}"
            token = world.service.access.add(name, role=role)[1]
            context.add_cookies([{"name": "p2l_key", "value": token, "url": world.address}])
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", note)
        return page

    yield open_page
    for context in opened:
        context.close()
    assert errors == [] and elsewhere == []


def made(world, maker, job, examples=EXAMPLES):
    """A version of a job, as if somebody had clicked."""
    inspection = [tuple(line.split("\t")) for line in examples.splitlines()]
    work = world.service.generate(maker, job, PROMPTS.splitlines(), inspection)
    while not work.over:
        threading.Event().wait(0.05)
    assert work.error is None
    return work.result["version"]


def released(world, job):
    version = made(world, "maker", job)
    world.service.plant.as_actor("second").promote(job, version, "good", second=True)
    return version


def test_the_first_person_starts_invites_another_and_signs_in_again(world, person):
    page = person()
    page.goto(f"{world.address}/first?code=sesame")
    page.get_by_label(EN["first.name"]).fill("the manager")
    page.get_by_role("button", name=EN["first.button"]).click()
    key = page.get_by_label(EN["sign.key"], exact=True).input_value()
    page.get_by_role("button", name=EN["word.copy"]).click()
    page.get_by_role("button", name=EN["word.copied"]).wait_for()
    page.get_by_role("link", name=EN["key.go"]).click()
    page.get_by_role("link", name=EN["nav.keys"]).click()
    page.get_by_label(EN["keys.name"], exact=True).fill("the foreman")
    page.get_by_label(EN["keys.role"], exact=True).select_option("approver")
    page.get_by_role("button", name=EN["keys.invite"]).click()
    link = page.get_by_label(EN["keys.link"]).input_value()
    guest = person(language="ja")
    guest.goto(link)
    guest.get_by_role("button", name=texts("ja")["invitation.button"]).click()
    assert "the foreman" in guest.inner_text("main")
    page.get_by_role("button", name=EN["nav.sign_out"]).click()
    page.get_by_label(EN["sign.key"]).fill(key)
    page.get_by_role("button", name=EN["sign.button"]).click()
    page.get_by_role("heading", name=EN["overview.empty_title"]).wait_for()


def spreadsheet(place: Path, *rows) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(place)
    return place


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_first_hour_leads_from_a_spreadsheet_to_answers_in_a_spreadsheet(world, person, tmp_path, language):
    """Make, try, inspect, decide, watch, answer a file, correct, return: with two persons, in one language, and every
    file as Excel."""
    said, job, name = texts(language), f"job-{language}", f"ポンプの報告 {language}"
    maker, decider = person("operator", f"maker {language}", language), person("approver", f"boss {language}", language)
    notes = PROMPTS.splitlines()
    reports = spreadsheet(tmp_path / "r.xlsx", ("番号", "担当", "報告"), *((i, "山", t) for i, t in enumerate(notes)))
    learned = spreadsheet(tmp_path / "l.xlsx", ("入力", "正解"), *((f"note {i}", f"{i}") for i in range(20, 24)))
    known = spreadsheet(tmp_path / "k.xlsx", ("input", "output"), *(line.split("\t") for line in EXAMPLES.splitlines()))

    def click(page, key, role="button", **values):
        page.get_by_role(role, name=said[key].format(**values), exact=True).first.click()

    maker.goto(world.address)
    maker.goto(f"{world.address}/new")
    maker.get_by_label(said["new.job"]).fill(job)
    maker.get_by_label(said["name.label"]).fill(name)
    maker.get_by_label(said["new.instruction"]).fill("Say the number.")
    maker.get_by_label(said["new.prompts_file"], exact=True).set_input_files(reports)
    maker.get_by_label(said["read.choose"]).select_option(label="報告")
    maker.locator("#advice .first li", has_text=notes[0]).wait_for()
    maker.get_by_text(said["advice.count"].format(count=12)).wait_for()
    maker.get_by_text(said["new.examples_open"]).click()
    maker.get_by_label(said["examples.file"], exact=True).set_input_files(learned)
    maker.get_by_text(said["new.inspection_open"]).click()
    maker.get_by_label(said["inspection.file"], exact=True).set_input_files(known)
    maker.locator("#inspection-read p").wait_for()
    click(maker, "new.make")
    maker.wait_for_url("**/try?**")
    maker.get_by_text(said["done.made"]).wait_for()
    maker.get_by_label(said["try.field"]).fill("note zz")
    click(maker, "try.button")
    maker.locator(".answer").nth(1).wait_for()
    assert maker.locator(".answer").count() == 2
    click(maker, "tab.inspection", "link")
    assert maker.locator(".plot svg").is_visible()
    click(maker, "tab.decision", "link")
    maker.get_by_text(said["decide.own"]).wait_for()

    decider.goto(f"{world.address}/jobs/{job}/decision")
    decider.get_by_label(said["decide.reason"]).fill("OK")
    click(decider, "decide.approve")
    decider.get_by_text(said["done.approved"]).wait_for()
    click(decider, "watch.start")
    decider.get_by_text(said["done.watched"]).wait_for()

    maker.goto(world.address)
    maker.get_by_role("link", name=name).click()
    click(maker, "tab.sheet", "link")
    maker.wait_for_url("**/sheet")  # loaded: before that nothing listens to the choice of a file
    maker.get_by_label(said["sheet.file"], exact=True).set_input_files(reports)
    maker.get_by_label(said["read.choose"]).select_option(label="報告")
    maker.locator("#sheet-read .first li", has_text=notes[0]).wait_for()
    click(maker, "sheet.button")
    with maker.expect_download() as taken:
        click(maker, "sheet.take", "link")
    assert taken.value.suggested_filename == f"{job}-answered.xlsx"
    taken.value.save_as(tmp_path / "answered.xlsx")
    head, *rows = openpyxl.load_workbook(tmp_path / "answered.xlsx").active.iter_rows(values_only=True)
    assert head == ("番号", "担当", "報告", *HEADS[language])
    assert [row[2] for row in rows] == notes and all(row[3] for row in rows)

    decider.get_by_label(said["watch.checked"]).fill("10")
    decider.get_by_label(said["watch.corrected"]).fill("0")
    click(decider, "watch.enter")
    decider.get_by_text(said["done.counted"]).wait_for()
    decider.goto(world.address)
    assert decider.locator(".job", has_text=name).locator(".light.good").is_visible()
    decider.goto(f"{world.address}/jobs/{job}/watch")
    click(decider, "return.button", "link")
    click(decider, "return.confirm")
    decider.get_by_text(said["done.returned"], exact=True).wait_for()
    assert world.service.release(job).version is None


def test_the_rest_of_a_jobs_pages_work_too(world, person, tmp_path):
    """Canaries, the second stage from a file, the reasons, the report, the record."""
    version, page = released(world, "second"), person("admin")
    world.service.plant.monitor().watch("second", {"canary": 0.95, "correction": 0.05})
    page.goto(f"{world.address}/jobs/second/watch")
    page.get_by_role("button", name=EN["watch.replay"]).click()
    page.get_by_text(EN["done.replayed"]).wait_for()
    page.get_by_role("link", name=EN["tab.why"]).click()
    page.get_by_role("button", name=EN["explain.button"]).click()
    page.get_by_role("link", name=EN["explain.page"]).wait_for()
    assert page.locator(".heat rect").count() == 14
    page.get_by_role("link", name=EN["tab.report"]).click()
    assert version in page.frame_locator("#report").locator("body").inner_text()
    page.get_by_role("link", name=EN["tab.refine"]).click()
    examples = tmp_path / "examples.csv"
    examples.write_text("input,output\n" + "".join(f"note {i},ok\n" for i in range(3, 19)))
    page.get_by_label(EN["examples.file"]).set_input_files(examples)
    page.get_by_role("button", name=EN["refine.button"]).click()
    page.get_by_role("heading", name=EN["refine.result"]).wait_for()
    page.get_by_role("link", name=EN["nav.record"], exact=True).click()
    page.get_by_role("button", name=EN["record.verify"]).click()
    page.locator("#verified .notice.fine").wait_for()


def test_everything_works_without_javascript(world, person):
    page = person("operator", javascript=False)
    page.goto(f"{world.address}/new")
    page.get_by_label(EN["new.job"]).fill("plain")
    page.get_by_label(EN["new.prompts"]).fill(PROMPTS)
    page.get_by_role("button", name=EN["new.make"]).click()
    page.wait_for_url("**/try?**")
    page.get_by_label(EN["try.field"], exact=True).fill("note zz")
    page.get_by_role("button", name=EN["try.button"]).click()
    assert page.locator(".answer").count() == 2
    assert page.get_by_label(EN["try.field"], exact=True).input_value() == "note zz"


def test_a_double_click_a_lost_session_and_a_huge_paste_cost_nothing(world, person):
    page = person("operator")
    page.goto(f"{world.address}/new")
    page.get_by_label(EN["new.job"]).fill("twice")
    page.locator("#prompts").evaluate("field => field.value = 'note '.repeat(500000)")
    page.get_by_role("button", name=EN["new.make"]).click()
    page.get_by_text(EN["error.huge"].split(":")[0]).wait_for()
    page.get_by_label(EN["new.prompts"]).fill(PROMPTS)
    page.get_by_role("button", name=EN["new.make"]).dblclick()
    page.wait_for_url("**/try?**")
    assert len(world.service.plant.registry.versions("twice")) == 1
    page.context.clear_cookies()
    page.get_by_label(EN["try.field"], exact=True).fill("what I typed")
    page.get_by_role("button", name=EN["try.button"]).click()
    page.get_by_text(EN["sign.kept"]).wait_for()
    page.get_by_label(EN["sign.key"]).fill(world.service.access.add("once more", role="operator")[1])
    page.get_by_role("button", name=EN["sign.button"]).click()
    page.get_by_role("button", name=EN["resume.button"]).click()
    page.locator(".answer").nth(1).wait_for()
    assert page.get_by_label(EN["try.field"], exact=True).input_value() == "what I typed"
    page.goto(f"{world.address}/new")
    page.get_by_label(EN["new.job"]).fill("kept")
    page.context.clear_cookies()
    page.get_by_label(EN["new.prompts"]).fill(PROMPTS)
    page.locator("#advice").get_by_text(EN["sign.lost"]).wait_for()
    with page.expect_popup() as opened:
        page.locator("#advice").get_by_role("link").click()
    opened.value.get_by_label(EN["sign.key"]).fill(world.service.access.add("and again", role="operator")[1])
    opened.value.get_by_role("button", name=EN["sign.button"]).click()
    opened.value.get_by_role("heading", name=EN["overview.title"]).wait_for()
    page.get_by_label(EN["new.prompts"]).press_sequentially(" ")
    page.locator("#advice strong").wait_for()
    assert page.get_by_label(EN["new.job"]).input_value() == "kept" and page.locator("h1").count() == 1


def test_a_column_that_was_chosen_outlives_a_lost_session(world, person, tmp_path):
    page = person("operator")
    page.goto(f"{world.address}/new")
    page.locator("#prompts_file").set_input_files(spreadsheet(tmp_path / "r.xlsx", ("a", "b"), *(("x y", "z w"),) * 4))
    page.locator("#prompts_column").select_option("2")
    page.locator("#advice .first li", has_text="z w").first.wait_for()
    page.context.clear_cookies()
    for typed in ("Say", "Say it."):
        page.get_by_label(EN["new.instruction"]).fill(typed)
        page.wait_for_timeout(700)
        page.locator("#advice").get_by_text(EN["sign.lost"]).locator("visible=true").wait_for()
    assert page.locator("#prompts_column").input_value() == "2"


def test_the_keyboard_alone_reaches_and_presses_everything(world, person):
    page = person("operator")
    page.goto(f"{world.address}/new?sample=1")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    assert {"job", "instruction", "prompts", "prompts_file", EN["new.make"]} <= seen
    page.locator("#prompts").focus()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.fixture(scope="module")
def examined(world):
    """A job of which every page has something to show, and the work that explained it."""
    job = "axe"
    released(world, job)
    made(world, "maker", job, examples=EXAMPLES.replace("note 0\t0", "note 0\tnever"))
    world.service.plant.monitor().watch(job, {"canary": 0.2, "correction": 0.05})
    return job, world.service.explain("maker", job, world.service.plant.registry.versions(job)[-1].name)


@pytest.mark.parametrize(("language", "scheme"), [("ja", "light"), ("en", "dark")])
def test_axe_finds_nothing_to_mend_on_any_page(world, examined, person, language, scheme):
    job, work = examined
    page = person("admin", language=language)
    page.emulate_media(color_scheme=scheme)
    paths = ["", "/new?sample=1", "/record", "/keys", "/sign-in", "/nothing", f"/jobs/{job}/return"]
    tabs = ("try", "sheet", "inspection", "decision", "watch", "refine", "why", "report", "engineer")
    found = {}
    for path in [*paths, *(f"/jobs/{job}/{tab}" for tab in tabs), f"/queue/{work.id}"]:
        page.goto(world.address + path)
        report = Axe().run(page, options={"resultTypes": ["violations"]})
        if report.violations_count:
            found[path] = [
                (one["id"], [node["html"][:200] for node in one["nodes"]]) for one in report.response["violations"]
            ]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is too wide"
        if path in ("", "/new?sample=1", *(f"/jobs/{job}/{tab}" for tab in ("sheet", "decision", "watch"))):
            for width, name in ((744, "a tablet held upright"), (390, "a phone")):
                page.set_viewport_size({"width": width, "height": 1100})
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path}: {name}"
            page.set_viewport_size({"width": 1180, "height": 820})
    assert found == {}
