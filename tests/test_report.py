import json
import re
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_suites import write_suite_files
from tiny import tiny_generator, write_tasks

from prompt2lora import api
from prompt2lora.errors import DamagedFile, UsageError
from prompt2lora.evaluation.arms import ARMS
from prompt2lora.evaluation.report import plots
from prompt2lora.evaluation.results import BenchmarkResult, read_result
from prompt2lora.training.suites import COMMONSENSE, SUITES
from prompt2lora.training.tasks import read_tasks

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def measured(generator_config, tmp_path_factory):
    """A folder with one measured result. Tests get copies of it."""
    place = tmp_path_factory.mktemp("measured")
    tiny_generator(generator_config).save_pretrained(place / "generator")
    tasks, out = write_tasks(place / "tasks"), place / "results" / "small.json"
    api.benchmark([tasks], out=out, generator=place / "generator", limit=2, prompts_per_task=3)
    return out.parent


draw_tasks = plots.by_task


@pytest.fixture(autouse=True)
def no_pictures_of_tasks(monkeypatch):
    """A picture takes longer than its page: it is drawn where a test looks at it, by `draw_tasks`."""
    monkeypatch.setattr(plots, "by_task", lambda result, form: b"")


@pytest.fixture
def results(measured, tmp_path):
    return shutil.copytree(measured, tmp_path / "results")


def test_the_page_shows_what_the_file_says_and_names_it(results, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "by_task", draw_tasks)
    written = api.report(results, tmp_path / "docs" / "benchmark.md")
    page = written[0].read_text(encoding="utf-8")
    result = json.loads((results / "small.json").read_text())
    assert "`small.json`" in page
    for form in ("full", "bare"):
        for arm, cell in result["mean"][form].items():
            shown = f"{cell['score']:.3f} ({cell['low']:.3f} to {cell['high']:.3f})"
            assert f"| {arm} | {shown} |" in page
            (headline,) = [
                line
                for line in page.splitlines()
                if line.startswith((f"| {arm} | {ARMS[arm].says} |", f"| **{arm}** | "))
            ]
            assert shown in headline
        picture = tmp_path / "docs" / "images" / f"small-{form}.png"
        assert picture in written
        assert picture.read_bytes().startswith(b"\x89PNG")
    for link in re.findall(r"\]\((.+?)\)", page):
        assert (tmp_path / "docs" / link).exists()


def interval(cell):
    return f"{cell['score']:.3f} ({cell['low']:.3f} to {cell['high']:.3f})"


def test_arms_with_labelled_examples_stand_beside_those_that_take_as_many(tasks_folder, generator_folder, tmp_path):
    folder = tmp_path / "results"
    for name, arms, forms in [
        ("all", ["base", "icl-1", "generated"], None),
        ("other", ["icl-1", "examples-1"], ["bare"]),
    ]:
        options = {"arms": arms, "forms": forms} if forms else {"arms": arms}
        api.benchmark([tasks_folder], out=folder / f"{name}.json", generator=generator_folder, limit=1, **options)
    page = api.report(folder, tmp_path / "page.md")[0].read_text(encoding="utf-8")
    found = json.loads((folder / "other.json").read_text())
    difference, mean = found["difference"]["bare"]["examples-1 - icl-1"], found["mean"]["bare"]["examples-1"]
    assert f"| examples-1 minus icl-1 | {interval(difference)} |" in page
    assert f"| {ARMS['examples-1'].says} |  | {interval(mean)} | `other.json` |" in page
    assert page.count(f"| {ARMS['icl-1'].says} |") == 1


@pytest.mark.parametrize("script", ["alignment", "conditioning", "reading"])
def test_what_the_other_benchmarks_measured_stands_on_the_page(
    results, script, generator, tasks_folder, tmp_path, monkeypatch
):
    tasks = [task.name for task in read_tasks([tasks_folder], split="train")]
    generator.provenance = {"validation_tasks": tasks[:2]}
    generator.save_pretrained(tmp_path / "made")
    words = ["--tasks", tasks_folder, "--generator", tmp_path / "made", "--out", results / f"{script}.json"]
    words += {"conditioning": ["--split", "train"], "alignment": ["--most", "1"]}.get(script, [])
    monkeypatch.setattr(sys, "argv", [script, *map(str, words)])
    runpy.run_path(str(BENCHMARKS / f"{script}.py"), run_name="__main__")
    page = api.report(results, tmp_path / "page.md")[0].read_text(encoding="utf-8")
    result = json.loads((results / f"{script}.json").read_text())
    assert f"`{script}.json`" in page
    if script != "alignment":
        assert (tmp_path / "images" / f"{script}.png").read_bytes().startswith(b"\x89PNG")
    if script == "conditioning":
        assert len(result["exact"]) == len(result["names"]) == len(tasks)
        assert f"| the task's own | {result['own']['exact']:.3f} | {result['own']['loss']:.3f} |" in page
    elif script == "alignment":
        assert {found["seconds"] > 0 for found in result["alignments"].values()} == {True, False}, "not all are made"
        assert "| no own answers | " in page
    else:
        few, alone = (result["variants"][name]["bare"]["loss"] for name in ("1 prompts", "the shared adapter alone"))
        assert few != alone
        assert "| the shared adapter alone | " in page


def test_every_variant_of_a_recipe_is_trained_once_and_stands_on_the_page(
    results, base, encoder_folder, tasks_folder, tmp_path, monkeypatch
):
    recipe, variants = tmp_path / "recipe.toml", tmp_path / "variants.toml"
    recipe.write_text(
        f'base = "{base}"\nencoder = "{encoder_folder}"\nvalidation = 0.45\n'
        "[generator]\nwidth = 64\nhidden = 16\ngrid = [2, 2, 16]\ntrunk = [[2, 112, 16]]\n"
        "[[stage]]\nsteps = 9\ntasks = 2\nbudget = 120\n"
    )
    variants.write_text(
        f'recipe = "{recipe}"\nsteps = 1\nall = {{ prompts = 4 }}\n[variants.usual]\n'
        '[variants."two tasks, twice"]\nmost = 2\nstages = [{ bare = 0.0 }, { steps = 2 }]\n[variants.other]\n'
    )
    words = [
        "--tasks",
        tasks_folder,
        "--variants",
        variants,
        "--runs",
        tmp_path / "runs",
        "--out",
        results / "ablations.json",
    ]
    for only in (["usual"], ["two tasks, twice"], []):
        monkeypatch.setattr(sys, "argv", ["ablations", *map(str, words), "--only", *only])
        runpy.run_path(str(BENCHMARKS / "ablations.py"), run_name="__main__")
    trained = json.loads((results / "ablations.json").read_text())["trained"]
    assert {name: run["steps"] for name, run in trained.items()} == {"usual": 1, "two tasks, twice": 3}
    assert trained["two tasks, twice"]["changes"]["most"] == 2
    kept = json.loads((tmp_path / "runs" / "two-tasks-twice" / "recipe.json").read_text())
    assert [kept["most"], kept["prompts"], [stage["bare"] for stage in kept["stages"]]] == [2, 4, [0.0, 0.5]]
    (tmp_path / "runs").rename(tmp_path / "elsewhere")  # as on another machine, which has the result file alone
    monkeypatch.setattr(sys, "argv", ["ablations", *map(str, words), "--only", "usual"])
    runpy.run_path(str(BENCHMARKS / "ablations.py"), run_name="__main__")
    assert json.loads((results / "ablations.json").read_text())["trained"] == trained
    assert not (tmp_path / "runs").exists(), "what the file says is not trained again"
    (tmp_path / "elsewhere").rename(tmp_path / "runs")
    assert "| two tasks, twice | " in api.report(results, tmp_path / "page.md")[0].read_text(encoding="utf-8")
    assert (tmp_path / "images" / "ablations.png").read_bytes().startswith(b"\x89PNG")
    variants.write_text(variants.read_text().replace("prompts = 4", "prompts = 5"))
    with pytest.raises(UsageError, match="another recipe"):
        runpy.run_path(str(BENCHMARKS / "ablations.py"), run_name="__main__")


def measured_suites(tmp_path, generator_folder, arms, names, **options):
    """The file of what was measured, in answers of three tokens: the tiny base ends none by itself."""
    suites = write_suite_files(tmp_path / "suites")
    out = tmp_path / "results" / "published.json"
    settings = {"limit": 2, "samples": 0, "prompts_per_task": 3, "generator": generator_folder, **options}
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            patch.setitem(SUITES, name, replace(SUITES[name], max_new_tokens=3))
        api.benchmark_published(suites, names, arms=arms, out=out, scores=tmp_path / "kept.jsonl", **settings)
    return out


def test_the_published_tasks_follow_the_headline_beside_the_published_figures(results, generator_folder, tmp_path):
    out = measured_suites(tmp_path, generator_folder, ["base", "generated"], [*COMMONSENSE, "mbpp"])
    page = api.report(results, tmp_path / "page.md")[0].read_text(encoding="utf-8")
    assert [line for line in page.splitlines() if line.startswith("## ")][:3] == [
        "## What the words mean",
        "## published",
        "## small",
    ]
    found = json.loads(out.read_text())
    ours = [
        f"{found['published'][name]['arms']['generated']['scores']['written']['score']:.3f}" for name in COMMONSENSE
    ]
    mean = interval(found["mean"]["generated"]["written"])
    assert f"| **generated** | {' | '.join(ours)} | {mean} |" in page
    assert "| published, Drag-and-Drop | 0.686 | 0.408 | 0.516 | 0.879 | 0.259 | 0.449 | 0.500 | 0.528 |" in page
    gain = interval(found["published"]["mbpp"]["arms"]["generated"]["gain"]["pass@1"])
    assert f"| mbpp | pass@1 | {gain} |" in page


def test_a_suite_that_was_not_left_out_is_named(results, generator_folder, tmp_path):
    out = measured_suites(tmp_path, generator_folder, ["base"], ["boolq"])
    found = json.loads(out.read_text())
    found["published"]["boolq"]["seen"] = ["boolq"]
    out.write_text(json.dumps(found))
    page = api.report(results, tmp_path / "page.md")[0].read_text(encoding="utf-8")
    assert "* boolq: **not left out**, the generator was trained on boolq." in page


def test_what_was_not_measured_has_no_table(results, generator_folder, tmp_path):
    measured_suites(tmp_path, generator_folder, ["base", "generated"], ["obqa", "piqa"], metrics=["letter"])
    page = api.report(results, tmp_path / "page.md")[0].read_text(encoding="utf-8")
    assert "is the likeliest (obqa 2, piqa 2 examples):" in page
    assert "The answer is written" not in page
    assert "published, Drag-and-Drop" not in page


def test_training_is_told_as_a_multiple_of_the_seconds_that_generating_takes(results, generator_folder, tmp_path):
    out = measured_suites(tmp_path, generator_folder, ["base", "generated"], ["obqa", "piqa"])
    found = json.loads(out.read_text())
    for seconds, name in ((2.0, "obqa"), (4.0, "piqa")):
        arms = found["published"][name]["arms"]
        arms["generated"]["seconds"]["adapt"] = seconds
        for number, arm in enumerate(("full-shot", "full-fine-tuning"), 1):
            arms[arm] = {**arms["generated"], "seconds": {"adapt": 4000.0 * number, "answer": 1.0}}
    found["request"]["arms"] += ["full-shot", "full-fine-tuning"]
    out.write_text(json.dumps(found))
    page = api.report(results, tmp_path / "page.md")[0].read_text(encoding="utf-8")
    assert "| full-shot | 2,000 | 1,000 |" in page
    assert "| full-fine-tuning | 4,000 | 2,000 |" in page


def test_the_page_says_from_how_many_jobs_on_the_training_has_paid(results, tmp_path):
    costs = runpy.run_path(str(BENCHMARKS / "costs.py"))
    assert costs["break_even"](1.0, 0.5, 36.5) == 101
    assert costs["break_even"](1.0, 36.5, 0.5) is None
    step = {"median": 36.5, "low": 30.0, "high": 40.0}
    arm = {"prepare": 2.0, "adapt": step, "answer": step, "peak_megabytes": 900}
    made = {**arm, "adapt": {"median": 0.5, "low": 0.4, "high": 0.6}}
    found = {
        "arms": {"generated": made, "full-shot": arm},
        "generator_training_hours": 1.0,
        "seconds_per_job": {"100": {"generated": 36.5, "full-shot": 36.5}},
        "break_even_jobs": {"full-shot": 101},
        "faster_than": {"full-shot": 73.0},
        "command": "python benchmarks/costs.py",
    }
    (results / "costs.json").write_text(json.dumps(found))
    page = api.report(results, tmp_path / "page.md")[0].read_text(encoding="utf-8")
    assert "101 jobs against full-shot" in page
    assert "| full-shot | 2.0 | 36.50 | 36.500 | 900 | 73 times |" in page
    assert (tmp_path / "images" / "costs.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_results_give_the_same_page(results, tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "by_task", draw_tasks)
    pages = [api.report(results, tmp_path / name / "page.md") for name in ("a", "b")]
    for left, right in zip(*pages, strict=True):
        assert left.read_bytes() == right.read_bytes()


@pytest.mark.parametrize("change", [{"mean": 3}, {"kept": 1}])
def test_a_result_that_is_not_what_a_benchmark_writes_is_refused_by_its_field(results, tmp_path, change):
    file = results / "small.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(DamagedFile, match=rf"small.json is not a result of a benchmark \({next(iter(change))}"):
        api.report(results, tmp_path / "page.md")


@pytest.mark.parametrize(
    ("held", "field"),
    [
        ({"trained": {"short": {"steps": 1}}, "recipe": "r.toml", "command": "made"}, "trained.short.own_full"),
        ({"published": {}, "mean": {}, "command": "made"}, "request"),
        ({"alignments": {}}, "command"),
    ],
)
def test_an_experiment_that_lacks_a_figure_is_refused_by_its_field(results, tmp_path, held, field):
    (results / "other.json").write_text(json.dumps(held))
    with pytest.raises(DamagedFile, match=rf"other.json is not a result of a benchmark \({field}: "):
        api.report(results, tmp_path / "page.md")
    assert not (tmp_path / "page.md").exists() and not (tmp_path / "images").exists(), "nothing is written"


def test_a_picture_of_fewer_than_two_arms_is_left_out(results):
    result = read_result(BenchmarkResult, results / "small.json", json.loads((results / "small.json").read_text()))
    lone = {task: {"bare": {"base": forms["bare"]["base"]}} for task, forms in result.tasks.items()}
    assert draw_tasks(result, "bare").startswith(b"\x89PNG")
    assert draw_tasks(result.model_copy(update={"tasks": lone}), "bare") == b""


def test_a_folder_without_results_and_a_broken_file_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no result"):
        api.report(tmp_path, tmp_path / "page.md")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(DamagedFile, match="broken"):
        api.report(tmp_path, tmp_path / "page.md")


def test_every_base_has_a_headline_table_of_its_own_of_the_result_with_most_answers(results, tmp_path):
    result = json.loads((results / "small.json").read_text())
    (results / "other.json").write_text(json.dumps({**result, "base": "somebody/other-base"}))
    (results / "a-part.json").write_text(json.dumps({**result, "tasks": dict([*result["tasks"].items()][:1])}))
    page = api.report(results, tmp_path / "page.md")[0].read_text(encoding="utf-8")
    tables = page.split("## What the words mean")[0].split("Exact match of ")[1:]
    assert [table.split()[0] for table in tables] == ["other-base", result["base"].rpartition("/")[2]]
    assert all("at most 2 test examples each" in table and f"| {ARMS['base'].says} |" in table for table in tables)
    assert "`a-part.json`" not in page.split("## What the words mean")[0]


def test_what_another_generator_or_other_prompts_gave_stands_in_no_table_of_this_one(results, tmp_path):
    result = json.loads((results / "small.json").read_text())
    rival = {
        "tasks": {name: {"full": {"icl-1": forms["full"]["base"]}} for name, forms in result["tasks"].items()},
        "mean": {"full": {"icl-1": result["mean"]["full"]["base"]}},
        "difference": {"full": {}},
    }
    asked = [{"seeds": [1]}, {"prompts_per_task": 9}]
    changes = [{"generator": {"sha256": "other", "steps": 1}}, *({"request": result["request"] | one} for one in asked)]
    for number, change in enumerate(changes):
        (results / f"x{number}.json").write_text(json.dumps(result | rival | change))
    headline = api.report(results, tmp_path / "page.md")[0].read_text().split("## What the words mean")[0]
    assert "`small.json`" in headline and "icl-1" not in headline


def test_tasks_that_the_generator_was_trained_on_are_named(results, tmp_path):
    file = results / "small.json"
    assert "validated on" not in api.report(results, tmp_path / "one.md")[0].read_text().split("## small")[1]
    file.write_text(json.dumps({**json.loads(file.read_text()), "seen": ["task1"]}))
    assert "which was **trained or validated on task1**" in api.report(results, tmp_path / "two.md")[0].read_text()


def test_the_headline_has_every_form_of_an_arm_from_the_file_that_measured_it(results, tmp_path):
    result = json.loads((results / "small.json").read_text())
    for form in ("full", "bare"):
        one = {**result, **{key: {form: result[key][form]} for key in ("mean", "difference")}}
        one["tasks"] = {name: {form: forms[form]} for name, forms in result["tasks"].items()}
        (results / f"only-{form}.json").write_text(json.dumps(one))
    (results / "small.json").unlink()
    page = api.report(results, tmp_path / "page.md")[0].read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith("| **generated** | ")][:1]
    assert all(interval(result["mean"][form]["generated"]) in line for form in ("full", "bare"))
    assert line.endswith("| `only-full.json`, `only-bare.json` |")
    other = json.loads((results / "only-full.json").read_text())
    other["hardware"]["dtype"] = "bfloat16"
    (results / "only-full.json").write_text(json.dumps(other))
    page = api.report(results, tmp_path / "again.md")[0].read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith("| **generated** | ")][:1]
    assert line.endswith("| `only-bare.json` |"), "figures of two dtypes stand in two tables"
