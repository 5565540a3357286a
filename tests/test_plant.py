"""The plant's commands on a real (tiny) base: a pilot from prompts to report, and the record that it leaves."""

import json
import math
from pathlib import Path

import pytest
import torch

from prompt2lora.generator.atlas import Atlas
from prompt2lora.plant import read_labelled
from prompt2lora.weights.health import Reference


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def plant_generator(generator, tmp_path):
    random = torch.Generator().manual_seed(5)
    layout = generator.config.layout
    grids = generator.start + torch.randn(12, *layout.shape, generator=random) * 0.01
    means = torch.randn(40, generator.config.width, generator=random)
    names = tuple(f"task{i}" for i in range(40))
    generator.atlas = Atlas(
        names, tuple(f"Do {n}." for n in names), means, Reference.of(grids, generator.start, layout)
    )
    generator.save_pretrained(tmp_path / "plant-generator")
    return tmp_path / "plant-generator"


@pytest.fixture
def files(tmp_path):
    prompts, rows = tmp_path / "prompts.txt", tmp_path / "rows.jsonl"
    prompts.write_text("".join(f"note {a}{b}\n" for a in "abcd" for b in "wxyz"))
    rows.write_text("".join(json.dumps({"input": f"note {i}", "output": str(i)}) + "\n" for i in range(6)))
    return prompts, rows


@pytest.fixture
def piloted(run, home, plant_generator, files):
    prompts, rows = files
    words = ("--job", "mail", "--prompts", prompts, "--instruction", "Say the number.", "--inspection", rows)
    code, out, error = run("pilot", *words, "--generator", plant_generator, "--approve", "--json")
    assert code == 0, error
    return json.loads(out)


def test_a_pilot_leaves_a_verdict_a_report_and_a_record(piloted, run, home):
    assert piloted["verdict"] in ("fail", "not enough evidence"), "the tiny base knows nothing"
    assert piloted["release"] is None
    page = Path(piloted["report"]).read_text(encoding="utf-8")
    assert piloted["version"] in page
    saved = json.loads((home / "pilots" / piloted["version"] / "pilot.json").read_text())
    assert saved == piloted
    measured = {check["metric"]: check["value"] for check in piloted["checks"]}
    assert measured["signature"] == 1
    assert measured["change of the logits"] > 0
    for metric in ("gain over the base", "canary divergence", "weight health", "distance of the prompts"):
        assert math.isfinite(measured[metric])
    assert measured["bias"] is None, "no bias file was given"
    assert piloted["scores"].keys() == {"base", "generated", "wrong", "gain"}
    code, out, _ = run("audit", "verify", "--json")
    assert (code, json.loads(out)["sound"]) == (0, True)


def test_the_registry_tells_what_a_pilot_kept(piloted, run):
    jobs = json.loads(run("registry", "list", "--json")[1])["jobs"]
    assert jobs == [{"job": "mail", "answers": "base", "versions": 1}]
    shown = json.loads(run("registry", "show", "--job", "mail", "--json")[1])
    assert [version["name"] for version in shown["versions"]] == [piloted["version"]]
    assert shown["versions"][0]["verdict"] == piloted["verdict"]
    assert json.loads(run("registry", "history", "--job", "mail", "--json")[1])["releases"] == []
    assert json.loads(run("registry", "verify", "--json")[1]) == {"versions": 1, "damaged": []}


def test_what_did_not_pass_is_not_promoted(piloted, run):
    code, _, error = run(
        "registry", "promote", "--job", "mail", "--version", piloted["version"], "--reason", "I want it"
    )
    assert code == 2
    assert "did not pass its gate" in error
    code, out, _ = run("registry", "promote", "--job", "mail", "--version", "base", "--reason", "stay", "--json")
    assert (code, json.loads(out)["version"]) == (0, None)
    assert run("registry", "rollback", "--job", "mail", "--reason", "x")[0] == 2


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
    assert set(told["modules"]) == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "no row found"),
        ('{"input": "a"}\n', ":1: a line needs input, output"),
        ('{"task": "t"}\n{"input": "a", "output": "b"}\n{', ":3: every line must be JSON"),
    ],
)
def test_broken_inspection_rows_are_told_by_line(run, home, files, text, told):
    prompts, rows = files
    rows.write_text(text)
    code, out, error = run("pilot", "--job", "mail", "--prompts", prompts, "--inspection", rows)
    assert (code, out) == (2, "")
    assert told in error
    assert not (home / "store").exists()


def test_a_task_file_gives_its_test_rows(tasks_folder):
    assert len(read_labelled(tasks_folder / "task0.jsonl")) == 4
