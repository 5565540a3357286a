"""Jobs about pictures: what made a version and what it was measured on is kept, and read back wherever it is needed."""

import json
import shutil

import pytest
import torch
from picture_bases import picture, picture_bytes, write_picture_base
from tiny import (
    MAX_NEW_TOKENS,
    command,
    every_question,
    promoted,
    tiny_generator,
    tiny_generator_config,
    write_plant_generator,
)

from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base import models
from prompt2lora.custody.evaluator import learned, stored_inspection
from prompt2lora.errors import DamagedFile
from prompt2lora.ground.pictures import Pictured
from prompt2lora.ground.prompts import input_digest
from prompt2lora.plant import measurement, stereotypes
from prompt2lora.plant.plant import Plant

INSTRUCTION = "Name the digit."


def line(seed, output=None, text="Which?"):
    """A line of a file about a picture; examples have an output."""
    named = {"input": text, "image": f"pictures/{seed}.png"}
    return {"instruction": INSTRUCTION, **named} if output is None else {**named, "output": output}


def written(folder, name, lines):
    file = folder / name
    file.write_text("".join(json.dumps(one) + "\n" for one in lines), encoding="utf-8")
    return file


def asked(seed, text=f"{INSTRUCTION}\n\nWhich?"):
    return Pictured(text, (picture(seed),))


@pytest.fixture(scope="module")
def picture_world(tmp_path_factory, encoder_folder):
    """A home with a pilot about pictures, its files, its generator, and what it said. Tests get copies of the home."""
    place = tmp_path_factory.mktemp("pictured")
    base = write_picture_base(place / "llava", "llava")
    layout = LoraLayout.from_config(models.load_config(base), base_model=base)
    made = tiny_generator(tiny_generator_config(layout, encoder_folder, asks_base=True))
    generator = write_plant_generator(made, place / "generator")
    (place / "pictures").mkdir()
    for seed in range(20):
        (place / "pictures" / f"{seed}.png").write_bytes(picture_bytes(seed))
    words = ["pilot", "--job", "digits", "--generator", generator, "--instruction", INSTRUCTION, "--json"]
    words += ["--prompts", written(place, "prompts.jsonl", [line(seed) for seed in range(4)])]
    words += ["--examples", written(place, "examples.jsonl", [line(4, "four"), line(5, "five")])]
    inspection = [line(6, "six"), line(7, "seven"), line(5, "five", " WHICH ?"), line(6, "six", "Who?")]
    words += ["--inspection", written(place, "inspection.jsonl", inspection)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMPT2LORA_HOME", str(place / "home"))
        patch.setattr(measurement, "MAX_NEW_TOKENS", min(4, MAX_NEW_TOKENS))
        few = every_question()[::48]
        patch.setattr(stereotypes, "questions", lambda: few)
        code, out, error = command(*words)
    assert code == 0, error
    return place, json.loads(out)


@pytest.fixture
def world(picture_world, tmp_path, monkeypatch):
    """(the folder of the files, what the pilot said), with this test's own home."""
    place, found = picture_world
    shutil.copytree(place / "home", tmp_path / "home")
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(measurement, "MAX_NEW_TOKENS", 4)
    few = every_question()[::48]
    monkeypatch.setattr(stereotypes, "questions", lambda: few)
    return place, found


@pytest.fixture
def registry(world):
    opened = Plant.open().registry
    yield opened
    opened.engine.dispose()


def version_of(registry, found):
    return registry.version("digits", found["version"])


def test_a_pilot_keeps_the_pictures_that_made_its_version_and_those_that_it_was_measured_on(world, registry, tmp_path):
    _, found = world
    version = version_of(registry, found)
    origin = registry.origin(version)
    assert origin.prompts == [asked(seed) for seed in range(4)]
    assert origin.examples == ((asked(4), "four"), (asked(5), "five"))
    assert origin.instruction == INSTRUCTION
    assert [one.image().size for one in origin.prompts[0].pictures] == [(12, 10)]
    assert stored_inspection(registry, "digits") == registry.measured(version).pairs
    kept = [file.name for file in (tmp_path / "home" / "store" / "pictures").iterdir()]
    assert sorted(kept) == sorted(picture(seed).digest for seed in range(8)), "each once"
    assert len(registry.store.digests()) == 1, "they are no adapters"
    assert registry.verify() == 1


def test_an_inspection_example_is_set_aside_if_its_text_and_its_picture_were_learned(world, registry):
    _, found = world
    assert (found["learned"], found["set_aside"], found["inspected"]) == (2, 1, 3)
    measured = registry.measured(version_of(registry, found))
    asked_about = [(Pictured("Which?", (picture(6),)), "six"), (Pictured("Which?", (picture(7),)), "seven")]
    assert measured.pairs == [*asked_about, (Pictured("Who?", (picture(6),)), "six")]
    assert [one["pictures"] for one in found["inspection"]] == [[picture(seed).digest] for seed in (6, 7, 6)]


def test_inputs_are_all_but_the_same_only_with_the_same_pictures():
    one = Pictured("Which?", (picture(1),))
    assert input_digest(one) == input_digest(Pictured(" WHICH. ", (picture(1),)))
    assert input_digest(one) == input_digest(asked(1), INSTRUCTION)
    others = ["Which?", Pictured("Which?", (picture(2),)), Pictured("Which?", (picture(1), picture(1)))]
    assert input_digest(one) not in map(input_digest, others)


def test_a_kept_picture_that_is_gone_or_altered_is_noticed(world, registry, tmp_path):
    place = tmp_path / "home" / "store" / "pictures" / picture(7).digest
    place.write_bytes(picture_bytes(8))
    with pytest.raises(DamagedFile, match="was altered; put the backup"):
        registry.verify()
    code, out, _ = command("registry", "verify", "--json")
    assert code == 1 and "was altered" in json.loads(out)["damaged"][0]["fault"]
    place.unlink()
    with pytest.raises(DamagedFile, match="is gone"):
        registry.verify()
    registry.store.put_pictures([picture(7)])
    assert registry.verify() == 1


def test_the_same_generator_makes_the_same_again_of_kept_pictures_and_another_one_a_candidate(
    world, registry, encoder_folder, tmp_path, run
):
    place, found = world
    told = json.loads(run("registry", "regenerate", "--generator", place / "generator", "--json")[1])
    assert [one["status"] for one in told["jobs"]] == ["same"]
    layout = LoraLayout.from_config(models.load_config(str(place / "llava")), base_model=str(place / "llava"))
    other = tiny_generator(tiny_generator_config(layout, encoder_folder, asks_base=True))
    with torch.no_grad():
        other.start.mul_(1.5)
    other.provenance = {"name": "the next one"}
    write_plant_generator(other, tmp_path / "next")
    code, out, error = run("registry", "regenerate", "--generator", tmp_path / "next", "--json")
    assert code == 0, error
    (change,) = json.loads(out)["jobs"]
    assert change["status"] == "new"
    assert change["answers"][1] == 3, "one question about different pictures is as many examples"
    candidate = registry.version("digits", change["candidate"])
    assert registry.origin(candidate).prompts == registry.origin(version_of(registry, found)).prompts


def test_a_version_is_refined_measured_and_replayed_on_pictures(world, registry, run):
    place, found = world
    file = written(place, "more.jsonl", [line(seed, "ok") for seed in range(6, 20)])
    code, out, error = run("refine", "--job", "digits", "--examples", file, "--steps", "12", "--json")
    assert code == 0, error
    refined = json.loads(out)
    assert refined["improved"], "always the same answer is soon learned"
    version = registry.version("digits", refined["version"])
    assert input_digest(asked(6), INSTRUCTION) in learned(registry, version)
    code, out, error = run(
        "gate", "--job", "digits", "--version", version.name, "--generator", place / "generator", "--json"
    )
    assert code == 0, error
    assert registry.origin(version).prompts == registry.origin(version_of(registry, found)).prompts
    promoted(registry, version, "digits")
    assert run("monitor", "start", "--job", "digits", "--promised", "canary=0.2")[0] == 0
    replayed = written(place, "replayed.jsonl", [line(seed, "never this") for seed in range(20)])
    code, out, error = run("monitor", "replay", "--job", "digits", "--inspection", replayed, "--json")
    assert code == 0, error
    assert json.loads(out)["alarm"]["release"]["version"] is None, "taken back"


def test_reports_and_explanations_show_the_pictures_small(world, run, tmp_path):
    place, found = world
    page = tmp_path / "report.html"
    words = ("registry", "report", "--job", "digits", "--version", found["version"], "--out", page)
    assert run(*words)[0] == 0
    assert page.read_text(encoding="utf-8").count('<img src="data:image/jpeg;base64,') == 3
    why = tmp_path / "why.html"
    words = ("--prompts", place / "prompts.jsonl", "--out", why, "--generator", place / "generator", "--json")
    code, out, error = run("explain", *words)
    assert code == 0, error
    assert [one["pictures"] for one in json.loads(out)["texts"]] == [[picture(seed).digest] for seed in range(4)]
    assert why.read_text(encoding="utf-8").count('<img src="data:image/jpeg;base64,') == 8, "prompts and answers"


def test_one_question_about_different_pictures_is_not_the_same_prompt_again(world, run, tmp_path):
    place, _ = world
    words = ("--generator", place / "generator", "--json")
    found = json.loads(run("prompts", "check", "--prompts", place / "prompts.jsonl", *words)[1])
    assert {finding["kind"] for finding in found["findings"]}.isdisjoint({"duplicate", "alike"})
    file = written(place, "twice.jsonl", [line(seed) for seed in (1, 2, 1)])
    found = json.loads(run("prompts", "check", "--prompts", file, *words)[1])
    assert next(one["prompts"] for one in found["findings"] if one["kind"] == "duplicate") == [2]


def test_where_pictures_cannot_be_read_nothing_is_made(world, generator, run, tmp_path, encoder_folder):
    place, _ = world
    words = ("pilot", "--job", "other", "--prompts", place / "prompts.jsonl")
    text = tiny_generator(tiny_generator_config(generator.config.layout, encoder_folder, asks_base=True))
    write_plant_generator(text, tmp_path / "text")
    write_plant_generator(generator, tmp_path / "encoder-alone")
    for folder, told in (
        ("text", "reads only text, and a prompt holds a picture"),
        ("encoder-alone", "this generator reads only texts, and a prompt holds a picture"),
    ):
        code, _, error = run(*words, "--generator", tmp_path / folder)
        assert (code, told in error) == (2, True), error
    words = (*words, "--inspection", place / "inspection.jsonl", "--generator", place / "generator")
    code, _, error = run(*words, "--measure-tuning")
    assert (code, "takes only texts, and prompt 1 holds a picture" in error) == (2, True), error
    opened = Plant.open().registry
    assert opened.jobs() == ["digits"]
    opened.engine.dispose()
