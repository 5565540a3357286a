"""A job about pictures in a real browser, with a tiny base that reads them behind it: chosen, seen, made, tried."""

from types import SimpleNamespace

import pytest
from axe_playwright_python.sync_playwright import Axe
from fastapi import FastAPI
from picture_bases import picture_bytes, write_picture_base
from test_console_browser import LAX, Served, TinyEngine, chromium, person, pytestmark  # noqa: F401
from tiny import every_question, tiny_generator, tiny_generator_config, write_encoder, write_plant_generator

from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base import models
from prompt2lora.console.i18n import LANGUAGES, texts
from prompt2lora.console.routing import router
from prompt2lora.custody.registry import Registry
from prompt2lora.plant import stereotypes
from prompt2lora.plant.plant import Plant
from prompt2lora.serving.job_queue import JobQueue
from prompt2lora.serving.service import Service

LOADED = "image => image.complete && image.naturalWidth > 0"


class SeeingEngine(TinyEngine):
    """A tiny base that reads pictures."""

    @property
    def base(self):
        return self.plant.evaluator().layout.base_model


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    place = tmp_path_factory.mktemp("picture console")
    base, encoder = write_picture_base(place / "llava", "llava"), write_encoder(place / "encoder")
    layout = LoraLayout.from_config(models.load_config(base), base_model=base)
    made = tiny_generator(tiny_generator_config(layout, encoder, asks_base=True))
    generator = write_plant_generator(made, place / "generator")
    few = every_question()[::48]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMPT2LORA_HOME", str(place / "home"))
        patch.setattr(stereotypes, "questions", lambda: few)
        plant = Plant(Registry.open(place / "home", actor="service"), generator)
        (place / "home" / "policy.toml").write_text(LAX)
        engine = SeeingEngine(Plant(plant.registry, generator))
        service = Service(plant, engine, JobQueue(plant.registry.clock), first_code="sesame")
        app = FastAPI()
        app.include_router(router(service, lambda: b"running 1"))
        with Served(app) as address:
            yield SimpleNamespace(address=address, service=service)
        service.queue.close()
        plant.registry.engine.dispose()


def check_page(page):
    """It has nothing to mend, and is no wider than a screen or a phone."""
    report = Axe().run(page, options={"resultTypes": ["violations"]})
    assert report.violations_count == 0, report.response["violations"]
    for width in (390, 1180):
        page.set_viewport_size({"width": width, "height": 820})
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), width


@pytest.mark.parametrize("language", LANGUAGES)
def test_pictures_are_chosen_seen_and_kept_on_the_way_to_an_adapter(world, person, tmp_path, language):  # noqa: F811
    said, job = texts(language), f"digits-{language}"
    files = [tmp_path / f"{seed}.png" for seed in range(6)]
    for seed, file in enumerate(files):
        file.write_bytes(picture_bytes(seed, 60, 40))
    maker = person("operator", f"maker {language}", language)
    maker.goto(f"{world.address}/new")
    maker.get_by_label(said["new.job"]).fill(job)
    maker.get_by_label(said["new.instruction"]).fill("Name the digit.")
    head = {"en": "image,input", "ja": "画像,入力"}[language]
    maker.locator("#prompts").fill("\n".join([head, *(f"{seed}.png,Which?" for seed in range(4))]))
    maker.locator("#advice .finding.grave", has_text="0.png").wait_for()  # not chosen yet
    maker.get_by_label(said["pictures.label"], exact=True).set_input_files(files)
    maker.locator("#pictures-read li").nth(5).wait_for()
    assert maker.locator("#pictures-read img").first.evaluate(LOADED), "the page's own rules let them be seen"
    maker.get_by_text(said["advice.count"].format(count=4)).wait_for()
    check_page(maker)
    maker.get_by_text(said["new.inspection_open"]).click()
    rows = [{"en": "image,input,output", "ja": "画像,入力,正解"}[language], "4.png,Which?,four", "5.png,Which?,five"]
    maker.locator("#inspection").fill("\n".join(rows))
    maker.get_by_role("button", name=said["new.make"]).click()
    maker.wait_for_url("**/try?**")
    maker.locator("#pictures_file").set_input_files(files[0])
    maker.get_by_label(said["try.field"]).fill("Which?")
    maker.get_by_role("button", name=said["try.button"]).click()
    maker.locator(".answer").nth(1).wait_for()
    assert maker.locator(".answer .finding").count() == 0
    maker.goto(f"{world.address}/jobs/{job}/inspection")
    for part in maker.locator("details.examples").all():
        part.evaluate("part => { part.open = true }")
    small = maker.locator("details.examples img.small")
    small.first.scroll_into_view_if_needed()
    maker.wait_for_function(
        "[...document.querySelectorAll('details.examples img.small')].some(i => i.naturalWidth > 0)"
    )
    assert small.count() == 2
    check_page(maker)
    maker.goto(f"{world.address}/jobs/{job}/report")
    report = maker.frame_locator("iframe").locator("img").first
    report.scroll_into_view_if_needed()
    assert report.evaluate(LOADED)
    version = world.service.plant.registry.versions(job)[-1]
    assert len(world.service.plant.registry.origin(version).prompts) == 4
