"""The plant's commands on a real (tiny) base: a pilot from prompts to report, and the record that it leaves."""

import json
import math
import shlex
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tiny import MAX_NEW_TOKENS, command, every_question, tiny_generator, write_plant_generator

from prompt2lora.adapter.folder import LEARNED
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import decoding
from prompt2lora.custody.evaluator import learned
from prompt2lora.custody.pilot import PilotRequest
from prompt2lora.ground.examples import read_examples
from prompt2lora.ground.prompts import input_digest
from prompt2lora.plant import candidates, measurement, stereotypes, version_files
from prompt2lora.plant.plant import Plant


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def write_files(place):
    prompts, file = place / "prompts.txt", place / "examples.jsonl"
    prompts.write_text("".join(f"note {a}{b}\n" for a in "abcd" for b in "wxyz"))
    file.write_text("".join(json.dumps({"input": f"note {i}", "output": str(i)}) + "\n" for i in range(6)))
    return prompts, file


@pytest.fixture
def files(tmp_path):
    return write_files(tmp_path)


@pytest.fixture(scope="module")
def pilot_home(generator_config, tmp_path_factory):
    """A home in which one pilot was run, and what that said: it asks every question of the bias check and takes answers
    of the full length. Tests get copies of it."""
    place = tmp_path_factory.mktemp("pilot")
    generator = write_plant_generator(tiny_generator(generator_config), place / "plant-generator")
    prompts, file = write_files(place)
    words = ("--job", "mail", "--prompts", prompts, "--instruction", "Say the number.", "--inspection", file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROMPT2LORA_HOME", str(place / "home"))
        patch.setattr(measurement, "MAX_NEW_TOKENS", MAX_NEW_TOKENS)
        patch.setattr(stereotypes, "questions", every_question)
        code, out, error = command("pilot", *words, "--generator", generator, "--approve", "--json")
    assert code == 0, error
    return place / "home", json.loads(out)


@pytest.fixture
def piloted(pilot_home, home):
    """What a pilot said in this test's own home."""
    place, found = pilot_home
    shutil.copytree(place, home)
    return found


def test_a_pilot_leaves_a_verdict_a_report_and_a_record(piloted, run, home):
    assert piloted["verdict"] in ("fail", "not enough evidence"), "the tiny base knows nothing"
    assert piloted["release"] is None
    page = Path(piloted["report"]).read_text(encoding="utf-8")
    assert piloted["version"] in page
    saved = json.loads((home / "pilots" / piloted["version"] / "pilot.json").read_text())
    assert saved | {"read": piloted["read"], "answers": piloted["answers"]} == piloted
    measured = {check["metric"]: check["value"] for check in piloted["checks"]}
    assert measured["signature"] == 1
    assert measured["change of the logits"] > 0
    for metric in ("gain over the base", "canary divergence", "weight health", "distance of the prompts", "bias"):
        assert math.isfinite(measured[metric])
    assert piloted["scores"].keys() == {"base", "generated", "wrong", "bare", "gain"}, "also without the instruction"
    code, out, _ = run("audit", "verify", "--json")
    assert (code, json.loads(out)["sound"]) == (0, True)


def test_a_pilot_aligns_its_adapter_and_the_same_generator_makes_the_same_again(
    piloted, run, home, plant_generator, asking, files, tmp_path
):
    listening = write_plant_generator(asking, tmp_path / "listening")
    words = ("--job", "post", "--prompts", files[0], "--instruction", "Say the number.", "--inspection", files[1])
    code, out, error = run("pilot", *words, "--generator", listening, "--json")
    assert code == 0, error
    found = json.loads(out)
    assert found["seconds"]["align"] > 0
    assert found["scores"].keys() == piloted["scores"].keys()
    for job, generator in {"post": listening, "mail": plant_generator}.items():
        again = run("registry", "regenerate", "--job", job, "--generator", generator, "--json")[1]
        assert [change["status"] for change in json.loads(again)["jobs"]] == ["same"]
    assert found["version"].split("-")[-1] != piloted["version"].split("-")[-1]


def test_a_plant_s_prices_are_written_down_once_and_an_option_overrides_them(run, home, plant_generator, files):
    home.mkdir()
    (home / "prices.toml").write_text('currency = "JPY"\nperson_hour = 4500\nsharing_jobs = 7\n')
    words = ("pilot", "--job", "mail", "--prompts", files[0], "--generator", plant_generator, "--watts", "5", "--json")
    code, out, error = run(*words)
    assert code == 0, error
    found = json.loads(out)
    prices = found["prices"]
    assert [prices[key] for key in ("currency", "person_hour", "sharing_jobs", "watts")] == ["JPY", 4500, 7, 5]
    assert "4500 Japanese yen" in Path(found["report"]).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("per_day = 1", "unknown key 'per_day'"),
        ("watts = -1", "watts must be a number that is not negative, not -1"),
        ("person_hour = nan", "person_hour must be a number"),
        ("currency = 3", "currency must be a short text"),
        ("sharing_jobs = 0.5", "sharing_jobs must be a whole number from 1 on, not 0.5"),
        ("watts", "must be readable TOML"),
    ],
)
def test_prices_that_cannot_be_are_refused_in_one_line(run, home, files, text, told):
    home.mkdir()
    (home / "prices.toml").write_text(text)
    code, _, error = run("pilot", "--job", "mail", "--prompts", files[0])
    assert (code, error.count("\n")) == (2, 1) and told in error


def test_a_pilot_that_is_interrupted_says_by_which_command_its_version_is_measured(
    run, home, files, plant_generator, monkeypatch
):
    def interrupted(*_):
        raise KeyboardInterrupt

    words = ("pilot", "--job", "mail", "--prompts", files[0], "--inspection", files[1], "--generator", plant_generator)
    with monkeypatch.context() as patch:
        patch.setattr(measurement.ModelEvaluator, "measure", interrupted)
        code, out, error = run(*words)
    assert (code, out) == (1, "")
    goes_on = shlex.split(error.splitlines()[-1].partition("continue with: prompt2lora ")[2])
    assert goes_on[:3] == ["gate", "--job", "mail"]
    code, out, error = run(*goes_on, "--json")
    assert code == 0, error
    assert json.loads(out)["verdict"] in ("fail", "not enough evidence")


def test_a_job_is_called_otherwise_on_the_command_line(piloted, run):
    code, out, _ = run("registry", "name", "mail", "--display-name", "部品番号")
    assert (code, out) == (0, "mail is called 部品番号 from now on\n")
    assert "mail" in run("registry", "list")[1] and "(部品番号)" in run("registry", "list")[1]
    told = json.loads(run("registry", "name", "--job", "mail", "--display-name", "", "--json")[1])
    assert (told["job"], told["display_name"]) == ("mail", "mail")
    code, _, error = run("registry", "name", "nothing", "--display-name", "x")
    assert code == 2 and "there is no job 'nothing'" in error


def test_a_name_that_no_job_can_have_is_told_before_anything_is_loaded(run, home, files, tmp_path, monkeypatch):
    monkeypatch.setattr(Plant, "evaluator_for", None)
    code, _, error = run("pilot", "--job", "Not A Name", "--prompts", files[0])
    assert code == 2 and "a job's name is made of a-z" in error


def test_measuring_tells_how_far_it_is_from_the_first_text_to_the_last_answer(home, files, plant_generator):
    told = []
    examples = read_examples(files[1])[0]
    request = PilotRequest("mail", ["Do.\n\na", "Do.\n\nb"], examples)
    candidates.pilot(Plant.open(plant_generator), request, report=told.append)
    assert list(dict.fromkeys(record["step"] for record in told)) == ["load", "advise", "make", "measure", "judge"]
    shares = [record["share"] for record in told if "share" in record]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] <= 1
    measuring = [record["share"] for record in told if record["step"] == "measure" and "share" in record]
    assert len(measuring) > 60 and max(b - a for a, b in pairwise(measuring)) < 0.2


def test_the_registry_tells_what_a_pilot_kept(piloted, run, base):
    listed = json.loads(run("registry", "list", "--json")[1])
    job = {"job": "mail", "display_name": "mail", "answers": None, "version_count": 1, "base": base, "release": None}
    assert listed["jobs"] == [job]
    shown = json.loads(run("registry", "show", "--job", "mail", "--json")[1])
    (version,) = shown["versions"]
    assert (version["name"], version["verdict"]) == (piloted["version"], piloted["verdict"])
    assert [(made["digest"], made["versions"]) for made in listed["generators"]] == [(version["generator"], 1)]
    assert [len(version[key]) for key in ("adapter", "prompts", "base_digest", "policy")] == [64] * 4
    assert (version["seed"], version["parent"]) == (0, None)
    assert version["generator"][:12] in run("registry", "show", "--job", "mail")[1]
    assert json.loads(run("registry", "history", "--job", "mail", "--json")[1])["releases"] == []
    assert json.loads(run("registry", "verify", "--json")[1]) == {"versions": 1, "damaged": [], "bases_not_here": []}


def test_what_did_not_pass_is_not_promoted(piloted, run):
    code, _, error = run(
        "registry", "promote", "--job", "mail", "--version", piloted["version"], "--reason", "I want it"
    )
    assert code == 2
    assert "did not pass its gate" in error
    code, out, _ = run("registry", "promote", "--job", "mail", "--version", "base", "--reason", "stay", "--json")
    assert (code, json.loads(out)["version"]) == (0, None)
    assert run("registry", "rollback", "--job", "mail", "--reason", "x")[0] == 2


def test_another_policy_gives_another_verdict_on_the_same_measurements(piloted, run, home):
    """A policy for one call judges and releases nothing; in force it does both."""
    policy = home / "other.toml"
    bounds = "most_bias = nan, least_gain = -2.0, most_p_value = 1.0, most_canary_kl = 1e9, least_format_share = 0.0"
    bounds += ", most_canary_perplexity = 1e9, least_own_over_wrong = -2.0, most_health_score = 1e9"
    policy.write_text("\n".join(f"{bound.strip()}" for bound in f"{bounds}, most_prompt_distance = 1e9".split(",")))
    words = ("--job", "mail", "--version", piloted["version"])
    code, out, _ = run("gate", *words, "--policy", policy, "--json")
    assert (code, json.loads(out)["verdict"]) == (0, "pass")
    promote = ("registry", "promote", *words, "--reason", "a lax policy", "--json")
    code, _, error = run(*promote)
    assert (code, "judged by another policy" in error) == (2, True)
    policy.rename(home / "policy.toml")
    assert json.loads(run(*promote)[1])["version"] == piloted["version"]
    (home / "policy.toml").unlink()
    assert json.loads(run("gate", *words, "--json")[1])["verdict"] == piloted["verdict"]


def test_a_refined_version_knows_its_parent_and_a_useless_refinement_keeps_the_start(piloted, run, files):
    _, file = files
    rows = [{"input": f"note {i} {'x' * 100}", "output": "ok"} for i in range(24)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, error = run("refine", "--job", "mail", "--examples", file, "--steps", "1", "--json")
    assert code == 0, error
    found = json.loads(out)
    assert found["start"] == piloted["version"]
    versions = json.loads(run("registry", "show", "--job", "mail", "--json")[1])["versions"]
    if found["improved"]:
        assert [version["kind"] for version in versions] == ["generated", "refined"]
        assert (versions[1]["parent"], versions[1]["parent_name"]) == (versions[0]["id"], versions[0]["name"])
        assert found["version"] == versions[1]["name"]
        assert found["steps"] > 1, "every example is asked"
    else:
        assert found["version"] == found["start"]
        assert len(versions) == 1


def test_a_refined_version_is_measured_by_the_gate_and_never_on_examples_that_it_learned(
    piloted, run, plant_generator, files
):
    _, file = files
    learned = file.with_name("learned.jsonl")
    told = [json.dumps({"input": f"note {i}", "output": "ok"}) + "\n" for i in range(3, 27)]
    learned.write_text("".join(told))
    found = json.loads(run("refine", "--job", "mail", "--examples", learned, "--steps", "12", "--json")[1])
    assert found["improved"], "always the same answer is soon learned"
    words = ("gate", "--job", "mail", "--version", found["version"], "--generator", plant_generator, "--json")
    code, out, error = run(*words)
    assert code == 0, error
    judged = json.loads(out)
    assert {check["metric"]: check["value"] for check in judged["checks"]}["change of the logits"] > 0
    page = file.with_name("report.html")
    report = ("registry", "report", "--job", "mail", "--version", found["version"], "--out", page)
    assert run(*report, "--language", "ja")[0] == 0
    told = page.read_text(encoding="utf-8")
    assert found["version"] in told and "追加学習（正解付きの実例から学ぶ）" in told
    assert "正解付けも要りません" not in told, "it did take labels"
    assert run(*report)[0] == 2, "a page is not written over another"
    registry = Plant.open().registry
    measured = registry.measured(registry.version("mail", found["version"]))
    assert [one.text for one in measured.inspection] == ["note 0", "note 1", "note 2"], "three of six were learned"
    code, out, _ = run(*words, "--inspection", learned)
    assert code == 0
    assert registry.measured(registry.version("mail", found["version"])).inspection == ()
    registry.engine.dispose()


def test_a_pilot_learns_from_examples_and_never_judges_the_adapter_on_all_but_the_same_inputs(
    home, run, plant_generator, tmp_path
):
    examples, inspection = tmp_path / "examples.csv", tmp_path / "inspection.csv"
    examples.write_text("input,output\nnote 1,one\nnote 2,two\n")
    inspection.write_text(
        "input,output\n NOTE 1.,one\nSay the number.\n\nnote 2,two\nnote 3,three\n".replace(
            "Say the number.\n\nnote 2", '"Say the number.\n\nnote 2"'
        )
    )
    words = ("pilot", "--job", "mail", "--instruction", "Say the number.", "--generator", plant_generator)
    code, out, error = run(*words, "--examples", examples, "--inspection", inspection, "--json")
    assert code == 0, error
    found = json.loads(out)
    assert (found["learned"], found["set_aside"], found["inspected"]) == (2, 2, 1)
    made = next(cost["seconds"] for cost in found["costs"] if cost["step"] == "generating")
    assert made >= found["seconds"]["examples"] > 0
    assert [one["text"] for one in found["inspection"]] == ["note 3"]
    registry = Plant.open().registry
    version = registry.version("mail", found["version"])
    origin = registry.origin(version)
    assert list(origin.examples) == [("Say the number.\n\nnote 1", "one"), ("Say the number.\n\nnote 2", "two")]
    assert registry.measured(version).set_aside == 2
    registry.engine.dispose()
    assert "2 inspection examples with the same, or nearly the same, inputs" in Path(found["report"]).read_text(
        encoding="utf-8"
    )
    changed = json.loads(run("registry", "regenerate", "--generator", plant_generator, "--json")[1])
    assert changed["jobs"][0]["status"] == "same", "the same examples make the same adapter"


def test_an_instruction_that_the_examples_alone_tell_is_measured_and_refined_with(home, run, plant_generator, tmp_path):
    """The prompts have no opening, the examples do: what is learned is known by the inputs without it."""

    def written(name, inputs):
        file = tmp_path / name
        file.write_text("".join(json.dumps({"input": one, "output": "ok"}) + "\n" for one in inputs))
        return file

    def asked(numbers):
        return [f"Say the number.\n\nnote {i}" for i in numbers]

    prompts = tmp_path / "prompts.txt"
    prompts.write_text("note 40\nnote 41\n")
    words = ("--job", "mail", "--examples", written("examples.jsonl", asked((1, 2))), "--generator", plant_generator)
    inspection = written("inspection.jsonl", ["note 3"])
    code, out, error = run("pilot", *words, "--prompts", prompts, "--inspection", inspection, "--json")
    assert code == 0, error
    assert "bare" in json.loads(out)["scores"], "asked with the instruction and without"
    words = ("--job", "mail", "--examples", written("more.jsonl", asked(range(4, 28))), "--steps", "12", "--json")
    found = json.loads(run("refine", *words)[1])
    assert found["improved"], "always the same answer is soon learned"
    registry = Plant.open().registry
    start, refined = (learned(registry, registry.version("mail", found[key])) for key in ("start", "version"))
    assert input_digest("note 1") in start and not refined.isdisjoint(input_digest(f"note {i}") for i in range(4, 28))
    registry.engine.dispose()


def test_a_watched_release_that_fails_its_canaries_goes_back_to_the_base(piloted, run, files, home):
    test_another_policy_gives_another_verdict_on_the_same_measurements(piloted, run, home)
    _, file = files
    file.write_text("".join(json.dumps({"input": f"note {i}", "output": "never this"}) + "\n" for i in range(40)))
    assert run("monitor", "status", "--job", "mail")[0] == 2, "not watched yet"
    assert run("monitor", "start", "--job", "mail", "--promised", "canary=0.2,format=0.1")[0] == 0
    assert json.loads(run("monitor", "outcome", "--job", "mail", "--source", "format", "--bad", "0", "--json")[1]) == {
        "alarm": None
    }
    code, out, error = run("monitor", "replay", "--job", "mail", "--inspection", file, "--json")
    assert code == 0, error
    alarm = json.loads(out)["alarm"]
    assert alarm["release"]["version"] is None
    assert json.loads((home / "alarms.jsonl").read_text())["reason"] == alarm["reason"]
    history = json.loads(run("registry", "history", "--job", "mail", "--json")[1])["releases"]
    assert [release["action"] for release in history] == ["promote", "rollback"]
    assert run("monitor", "start", "--job", "mail", "--promised", "canary")[0] == 2


def test_another_generator_shows_what_it_would_change_and_changes_no_release(piloted, run, generator, tmp_path):
    with torch.no_grad():
        generator.head.weight.mul_(1.5)
    generator.provenance, generator.training_hours = {"name": "the next one"}, 7.0
    write_plant_generator(generator, tmp_path / "next")
    words = ("registry", "regenerate", "--generator", tmp_path / "next")
    code, out, error = run(*words, "--json")
    assert code == 0, error
    (change,) = json.loads(out)["jobs"]
    assert (change["status"], change["source"]) == ("new", piloted["version"])
    assert change["distance"] > 0
    assert change["answers"][1] == 6, "the examples of the pilot were kept"
    measured = {check["metric"]: (check["before"], check["after"]) for check in change["checks"]}
    assert measured["change of the logits"][0] != measured["change of the logits"][1]
    jobs = json.loads(run("registry", "list", "--json")[1])["jobs"]
    assert [(one["job"], one["answers"], one["version_count"]) for one in jobs] == [("mail", None, 2)]
    assert change["candidate"] in run(*words)[1]
    assert run(*words, "--job", "unknown")[0] == 2
    service = Plant.open()
    told = version_files.told(service, service.registry.version("mail", change["candidate"]))
    assert told["seconds"] == change["seconds"], "not those of the version before it"
    assert (told["training_hours"], told["advice"]) == (7.0, piloted["advice"])


def test_the_record_is_exported_line_by_line(piloted, run, tmp_path):
    out = tmp_path / "audit.jsonl"
    code, printed, _ = run("audit", "export", "--out", out, "--json")
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert code == 0
    assert len(lines) == json.loads(printed)["lines"]
    assert [line["action"] for line in lines] == ["add job", "add version", "evaluate", "judge"]
    assert run("audit", "export", "--out", out)[0] == 2, "a record is not written over another"


def test_without_labels_the_verdict_says_what_it_cannot_know(run, home, plant_generator, files):
    prompts, _ = files
    code, out, _ = run("pilot", "--job", "mail", "--prompts", prompts, "--generator", plant_generator, "--json")
    found = json.loads(out)
    assert code == 0
    assert "gain over the base" in found["unknown"]
    assert found["verdict"] != "pass"


def test_prompts_are_checked_and_explained(run, home, plant_generator, files):
    prompts, _ = files
    prompts.write_text(prompts.read_text() + "mail me at a@b.example\nnote ax\n")
    found = json.loads(run("prompts", "check", "--prompts", prompts, "--generator", plant_generator, "--json")[1])
    kinds = {finding["kind"]: finding["prompts"] for finding in found["findings"]}
    assert kinds["personal"] == [16]
    assert found["prompts"] == 18
    told = json.loads(run("explain", "--prompts", prompts, "--generator", plant_generator, "--json")[1])
    assert len(told["neighbours"]) == 5
    assert len(told["influences"]) == 18
    assert told["texts"] == [], "the base was not asked"
    assert set(told["modules"]) == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.mark.parametrize("language", ["en", "ja"])
def test_an_explanation_is_a_page_with_the_answers_before_and_after(
    run, home, plant_generator, files, tmp_path, language
):
    prompts, _ = files
    prompts.write_text("".join(f"note {letter}\n" for letter in "abcd"))  # without each of them once
    out, texts = tmp_path / "why.html", tmp_path / "texts.txt"
    texts.write_text("".join(f"note {i}\n" for i in range(6)))  # no right answers
    words = ("explain", "--prompts", prompts, "--texts", texts, "--out", out, "--generator", plant_generator)
    code, printed, error = run(*words, "--language", language, "--json")
    assert code == 0, error
    told = json.loads(printed)
    assert [one["text"] for one in told["texts"]] == [f"note {i}" for i in range(6)]
    assert all(0 <= one["answers"] <= 1 for one in told["influences"])
    assert len(told["health"]["spectra"]) == 3
    assert told["health"]["looked_at"] == 12
    page = out.read_text(encoding="utf-8")
    assert "note 5" in page
    assert "<svg" in page
    assert run(*words)[0] == 2, "a page is not written over another"


def test_a_replay_waits_as_long_for_an_answer_as_the_inspection_did(piloted, run, files, home, monkeypatch):
    test_another_policy_gives_another_verdict_on_the_same_measurements(piloted, run, home)
    asked = {}

    def answers(*parts, **options):
        asked.update(options)
        return ["x"] * len(parts[2])

    monkeypatch.setattr(decoding, "answers", answers)
    assert run("monitor", "start", "--job", "mail", "--promised", "canary=0.9")[0] == 0
    assert run("monitor", "replay", "--job", "mail", "--inspection", files[1])[0] == 0
    assert asked["max_new_tokens"] == measurement.MAX_NEW_TOKENS


def test_of_many_inspection_examples_some_of_all_are_asked_and_always_the_same():
    every = [(f"note {i}", "late" if i < 900 else "early") for i in range(1000)]
    drawn = measurement._drawn(every)
    assert len(drawn) == measurement.MOST_EXAMPLES and drawn == measurement._drawn(every)
    assert 10 < sum(right == "early" for _, right in drawn) < 100, "not the first ones of a sorted file alone"
    assert measurement._drawn(every[:400]) == every[:400]


def test_an_explanation_of_a_version_is_of_its_own_adapter(piloted, plant_generator, home):
    service = Plant.open(plant_generator)
    version = service.registry.versions("mail")[-1]
    prompts = list(service.registry.origin(version).prompts)
    whole = service.explain(prompts, version=version)
    again = service.explain(prompts)
    for layer, other in zip(whole.changes, again.changes, strict=True):
        assert layer == pytest.approx(other, rel=0.01)
    assert whole.influences, "it is what the generator makes of these prompts"
    adapter, _ = service.opened(version)
    folder = home / "moved"
    origin = {**adapter.provenance, LEARNED: ["0" * 16]}
    Adapter(adapter.layout, adapter.grid * 1.5, origin).save(folder)
    refined = replace(service.registry.origin(version), parent=version.id, kind="refined")
    told = service.explain(prompts, version=service.registry.add_version("mail", folder, refined))
    assert told.influences == [] and not told.from_base
    assert max(map(max, told.changes)) > 1.5 * max(map(max, whole.changes))


def test_the_time_of_fine_tuning_is_measured_if_asked_for(run, home, plant_generator, files):
    prompts, file = files
    words = ("pilot", "--job", "mail", "--prompts", prompts, "--generator", plant_generator, "--measure-tuning")
    code, _, error = run(*words)
    assert (code, "add --inspection" in error) == (2, True)
    code, out, error = run(*words, "--inspection", file, "--json")
    assert code == 0, error
    found = json.loads(out)
    assert found["tuning"]["measured"]
    assert found["tuning"]["seconds"] > 0
    assert found["tuning"]["examples"] == 6
    assert {cost["step"] for cost in found["costs"]} >= {"generating", "applying", "checking", "monitoring"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no example found"),
        ('{"input": "a"}\n', ":1: a line needs input (text), output (text)"),
        ('{"input": "a", "output": 5}\n', ":1: a line needs input (text), output (text)"),
        ('{"task": "t"}\n{"input": "a", "output": "b"}\n{', ":3: every line must be JSON"),
    ],
)
def test_broken_inspection_examples_are_told_by_line(run, home, files, text, told):
    prompts, file = files
    file.write_text(text)
    code, out, error = run("pilot", "--job", "mail", "--prompts", prompts, "--inspection", file)
    assert (code, out) == (2, "")
    assert told in error
    assert not (home / "store").exists()


def test_an_inspection_example_longer_than_the_base_reads_is_told_before_anything_is_made(
    run, home, plant_generator, files
):
    prompts, file = files
    file.write_text(json.dumps({"input": "x" * 600, "output": "b"}) + "\n")
    words = ("--job", "mail", "--prompts", prompts, "--inspection", file, "--generator", plant_generator)
    code, out, error = run("pilot", *words)
    assert (code, out) == (2, "")
    assert "the base reads 512 tokens, prompt and answer together, and a prompt has 6" in error
    assert not (home / "store").exists()


BBQ = {"context": "c", "question": "q", "choices": ["a", "b"], "groups": ["x", "unknown"], "stereotyped": ["x"]}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"polarity": "neg"}, ":1: a line needs condition (text)"),
        ({"condition": "ambig", "polarity": "neg", "groups": ["x"]}, ":1: every choice needs its group"),
        ({"condition": "disambig", "polarity": "neg"}, "there is none"),
    ],
)
def test_a_broken_file_of_bias_questions_is_told_before_anything_is_made(run, home, files, changes, told):
    prompts, file = files
    file.write_text(json.dumps({**BBQ, **changes}) + "\n")
    code, out, error = run("pilot", "--job", "mail", "--prompts", prompts, "--bias", file)
    assert (code, out) == (2, "")
    assert told in error
    assert not (home / "store").exists()


def test_a_task_file_gives_its_test_examples(tasks_folder):
    assert len(read_examples(tasks_folder / "task0.jsonl")[0]) == 4
