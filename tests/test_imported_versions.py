"""Adapters made elsewhere as versions of a job: kept, measured, judged, released, served and taken back like any."""

import json

import pytest
from test_import import trained
from tiny import promoted

from prompt2lora.plant.plant import Plant


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def theirs(base, tmp_path):
    """An adapter of rank 12 on two modules, as PEFT saves it."""
    kind = {"r": 12, "target_modules": ["q_proj", "down_proj"]}
    return trained(base, tmp_path / "theirs", seed=3, size=0.05, **kind)


@pytest.fixture
def files(tmp_path):
    prompts, examples = tmp_path / "prompts.txt", tmp_path / "examples.jsonl"
    prompts.write_text("".join(f"note {letter}\n" for letter in "abcdef"))
    examples.write_text("".join(json.dumps({"input": f"note {i}", "output": str(i)}) + "\n" for i in range(6)))
    return prompts, examples


def told(run, *words):
    code, out, error = run(*words, "--json")
    assert code == 0, error
    return json.loads(out)


def test_an_imported_version_is_measured_and_judged_by_all_that_does_not_hold_it_against_a_generator(
    theirs, files, run, base, plant_generator, tmp_path
):
    prompts, examples = files
    words = ("--job", "mail", "--prompts", prompts, "--instruction", "Say the number.", "--out", tmp_path / "ours")
    made = told(run, "import", theirs, *words)
    assert (made["rank"], made["ranks"], made["base"]) == (16, {"12": 4}, base)
    assert (tmp_path / "ours" / "adapter_model.safetensors").is_file()
    version = made["version"]
    gate = ("gate", "--job", "mail", "--version", version)
    checks = told(run, *gate, "--generator", plant_generator, "--inspection", examples)["checks"]
    measured = {check["metric"]: check["value"] for check in checks}
    assert not measured.keys() & {"weight health", "distance of the prompts"}
    assert None not in measured.values()
    assert measured["change of the logits"] > 0
    shown = told(run, "registry", "show", "--job", "mail")["versions"][0]
    assert (shown["kind"], shown["generator_name"]) == ("imported", "imported")
    assert "imported since" in run("registry", "list")[1]
    assert "prompts" in run("registry", "show", "mail")[1]
    page = tmp_path / "report.html"
    assert run("registry", "report", "--job", "mail", "--version", version, "--out", page)[0] == 0
    assert version in page.read_text(encoding="utf-8")


def test_an_imported_version_without_prompts_is_measured_and_answers_once_it_is_released(
    theirs, files, run, plant_generator
):
    version = told(run, "import", theirs, "--job", "mail")["version"]
    words = ("gate", "--job", "mail", "--version", version, "--generator", plant_generator)
    checks = told(run, *words, "--inspection", files[1])["checks"]
    assert "own over wrong prompts" in {check["metric"] for check in checks if check["value"] is not None}
    registry = Plant.open().registry
    promoted(registry, registry.version("mail", version))
    assert run("monitor", "start", "--job", "mail", "--promised", "canary=0.2")[0] == 0
    assert told(run, "monitor", "replay", "--job", "mail", "--inspection", files[1]).keys() == {"alarm"}
    assert told(run, "answer", "--job", "mail", "--in", files[0], "--out", files[0].with_suffix(".csv"))
    told(run, "export", "--job", "mail", "--version", version, "--to", "peft", "--out", files[0].parent / "peft")
    changes = told(run, "registry", "regenerate", "--job", "mail", "--generator", plant_generator)["jobs"]
    assert [(change["status"], "at least one prompt" in change["trouble"]) for change in changes] == [("failed", True)]


def test_where_an_import_goes_and_what_belongs_to_a_job_is_told_before_anything_is_read(theirs, files, run, tmp_path):
    for words, said in (
        ((), "with --out, to the versions of a job with --job, or both"),
        (("--out", tmp_path / "ours", "--prompts", files[0]), "prompts, instruction and display name belong to a job"),
        (("--job", "mail", "--instruction", "Say it."), "name these with --prompts"),
        (("--job", "No such name"), "a job's name is made of"),
        (("--out", theirs), "must not exist yet"),
    ):
        code, _, error = run("import", theirs, *words)
        assert (code, said in error, error.count("\n")) == (2, True, 1), error
    code, _, error = run("import", tmp_path / "nothing", "--out", tmp_path / "ours")
    assert (code, "is no folder; name the folder of an adapter" in error) == (2, True)


def test_a_folder_that_names_another_base_says_so(theirs, run, base, tmp_path):
    settings = json.loads((theirs / "adapter_config.json").read_text())
    (theirs / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": "acme/other"}))
    assert run("import", theirs, "--out", tmp_path / "one")[0] == 2
    code, out, error = run("import", theirs, "--out", tmp_path / "two", "--base", base)
    assert (code, f"made for acme/other, and not for {base}" in error, "4 modules of rank 12 -> rank 16" in out) == (
        0,
        True,
        True,
    )
    (theirs / "adapter_config.json").write_text(json.dumps({**settings, "base_model_name_or_path": None}))
    code, _, error = run("import", theirs, "--out", tmp_path / "three")
    assert (code, "does not say for which base it was made; name that by --base" in error) == (2, True)
