"""A release: from task files to a generator in one call, the same bytes every time, whatever happens on the way."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import command, write_tasks
from transformers import AutoConfig

from prompt2lora.adapter.peft import Adapter
from prompt2lora.errors import UsageError
from prompt2lora.generator.generator import Generator
from prompt2lora.training.release import read_plan, release

PLAN = Path(__file__).parent.parent / "recipes" / "release.toml"
RECIPE = """
base = "{base}"
encoder = "{encoder}"
dtype = "float32"
validation = 0.45
synthetic = 0.3
prompts = 8
known = 6
seed = {seed}
log_every = 1
validate_every = 2
save_every = 2
strengths = [0.5, 1.0]
generator = {{ asks_base = true, width = 64, hidden = 16, grid = [2, 2, 16], trunk = [[2, 112, 16]] }}

[[stage]]
steps = 3
tasks = 2
budget = 120
alone = {alone}
shared = {shared}
warmup = 1
"""
LAST = "long_answers_from_base = true\n"


class Killed(Exception):
    pass


@pytest.fixture
def plan(base, encoder_folder, tmp_path):
    return write_plan(tmp_path / "recipes", base, encoder_folder)


@pytest.fixture(scope="module")
def finished(base, encoder_folder, tmp_path_factory):
    """A whole release, made by the command: its plan, its tasks, its folder, and what the command said of it."""
    place = tmp_path_factory.mktemp("release")
    plan, tasks = write_plan(place / "recipes", base, encoder_folder), write_tasks(place / "tasks")
    said = command("release", "--plan", plan, "--tasks", tasks, "--out", place / "out", "--json")
    return SimpleNamespace(plan=plan, tasks=tasks, out=place / "out", said=said, base=base)


def write_plan(folder, base, encoder_folder):
    folder.mkdir()
    values = {"base": base, "encoder": encoder_folder}
    (folder / "first.toml").write_text(RECIPE.format(**values, seed=1, alone=0.5, shared=1.0))
    (folder / "generator.toml").write_text(LAST + RECIPE.format(**values, seed=2, alone=0.0, shared=0.0))
    file = folder / "plan.toml"
    file.write_text(
        '[[run]]\nrecipe = "first.toml"\n[[run]]\nrecipe = "generator.toml"\nstart = "first"\nshared = "first"\n'
        'examples = "first"\n'
    )
    return file


def killed_in(run, key, value):
    """A report that ends everything when a run tells this."""
    current = []

    def report(record):
        current[:] = [record["run"]] if "run" in record else current
        if current == [run] and record.get(key) == value:
            raise Killed

    return report


def parts(out):
    """Every file of the generator and of the adapters that runs share, but the hours."""
    found = {}
    for folder in (out / "generator", *out.glob("runs/*/shared-adapter")):
        found |= {file.relative_to(out): file.read_bytes() for file in folder.iterdir()}
    hours = found.pop(Path("generator/training_hours.json"))
    assert 0 < json.loads(hours)["hours"] < 1
    return found


def test_a_rebuild_that_is_killed_again_and_again_elsewhere_gives_the_same_bytes(
    finished, plan, tasks_folder, tmp_path, monkeypatch
):
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "another home"))
    elsewhere = tmp_path / "another place" / "tasks"
    shutil.copytree(tasks_folder, elsewhere)
    for moment in [
        ("first", "done", 5),
        ("first", "step", 3),
        ("generator", "step", 1),
        ("generator", "strength", 1.0),
        ("examples", "done", 3),
    ]:
        with pytest.raises(Killed):
            release(plan, elsewhere, tmp_path / "two", killed_in(*moment))
    made = release(plan, elsewhere, tmp_path / "two")
    one, two = parts(finished.out), parts(tmp_path / "two")
    assert {str(name) for name in one} >= {
        "generator/generator.safetensors",
        "generator/generator_config.json",
        "generator/examples_start.safetensors",
        "generator/training_tasks.safetensors",
        "runs/first/shared-adapter/adapter_model.safetensors",
    }
    assert one == two
    assert str(finished.out) not in one[Path("generator/generator_config.json")].decode()
    assert made.provenance["start"]["recipe"]["seed"] == 1
    assert made.provenance["recipe"]["start"] == made.provenance["start"]["sha256"]


def test_a_release_knows_what_adapters_made_of_labelled_examples_usually_look_like(finished):
    made = Generator.from_pretrained(finished.out / "generator")
    begun = Adapter.load(
        finished.out / "runs" / "first" / "shared-adapter", AutoConfig.from_pretrained(finished.base)
    ).grid
    rows = (begun - made.start).abs().amax(-1, keepdim=True)
    assert ((made.examples_start - begun).abs() <= rows / 14 * 1.01 + 1e-6).all(), "kept as a change in four bits"
    health = made.examples.health
    assert health.usual != made.atlas.health.usual
    assert health.judge(made.examples_start, made.config.layout).score > 0


def test_adapters_of_labelled_examples_may_begin_with_the_change_that_an_earlier_run_made_to_its_own_beginning(
    base, encoder_folder, tasks_folder, tmp_path
):
    values = {"base": base, "encoder": encoder_folder}
    (tmp_path / "first.toml").write_text(RECIPE.format(**values, seed=1, alone=0.5, shared=1.0))
    for seed, name in enumerate(("practised", "last"), 2):
        (tmp_path / f"{name}.toml").write_text(
            f"{RECIPE.format(**values, seed=seed, alone=1.0, shared=1.0)}bare = 0.0\n"
        )
    plan = tmp_path / "plan.toml"
    runs = '[[run]]\nrecipe = "first.toml"\n[[run]]\nrecipe = "practised.toml"\nshared = "first"\n'
    last = '[[run]]\nrecipe = "last.toml"\nstart = "first"\nchange = '
    plan.write_text(f'{runs}{last}"practised"\n')
    made = release(plan, tasks_folder, tmp_path / "out")
    config, places = AutoConfig.from_pretrained(base), tmp_path / "out" / "runs"
    before, after = (Adapter.load(places / name / "shared-adapter", config).grid for name in ("first", "practised"))
    change = made.examples_start - made.start
    assert not torch.equal(made.start, before)
    assert (change - (after - before)).norm() < 0.2 * (after - before).norm(), "in four bits"
    plan.write_text(f'{runs}{last}"first"\n')
    with pytest.raises(
        UsageError, match="change stands in place of examples and names a run with `shared`; correct last"
    ):
        release(plan, tasks_folder, tmp_path / "other")


def test_a_release_knows_which_jobs_it_leaves_to_the_base_if_its_recipe_says_so(finished):
    first, last = (
        Generator.from_pretrained(finished.out / place).atlas.lengths for place in ("runs/first/generator", "generator")
    )
    assert first is None
    assert last.direction.any()


def test_a_finished_release_is_not_made_again(finished):
    told = []
    again = release(finished.plan, finished.tasks, finished.out, told.append)
    assert told == [{"run": "first"}, {"run": "generator"}]
    assert again.provenance["steps"] == 3
    assert (
        again.training_hours
        == Generator.from_pretrained(finished.out / "runs" / "generator" / "generator").training_hours
    )


def test_a_release_does_not_go_on_with_other_tasks(plan, tasks_folder, tmp_path):
    with pytest.raises(Killed):
        release(plan, tasks_folder, tmp_path / "out", killed_in("first", "step", 1))
    (tasks_folder / "task0.jsonl").unlink()
    with pytest.raises(UsageError, match="another recipe or to other tasks"):
        release(plan, tasks_folder, tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "at least one"),
        ("run = 1", "at least one"),
        ('[[run]]\nrecipe = "first.toml"\nsteps = 1', "unknown key 'steps'"),
        ("[[run]]", "recipe must be a recipe file"),
        ('[[run]]\nrecipe = "first.toml"\n[[run]]\nrecipe = "first.toml"', "no earlier run has"),
        ('[[run]]\nrecipe = "first.toml"\nstart = "last"', "start must name an earlier run, not 'last'"),
        ('[[run]]\nrecipe = "nowhere.toml"', "nowhere.toml"),
    ],
)
def test_a_wrong_plan_is_refused_before_anything_is_trained(plan, tasks_folder, tmp_path, text, told):
    plan.write_text(text)
    with pytest.raises(UsageError, match=told):
        release(plan, tasks_folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_plan_that_we_ship_is_five_runs_and_names_no_place_of_any_machine(tmp_path):
    runs = read_plan(PLAN, tmp_path)
    assert [(run.name, run.start, run.shared, run.examples) for run in runs] == [
        ("shared-adapter", "", "", ""),
        ("multi-task", "", "shared-adapter", ""),
        ("examples-shared", "", "multi-task", ""),
        ("base-states", "", "shared-adapter", ""),
        ("generator", "base-states", "shared-adapter", "examples-shared"),
    ]
    for run in runs:
        assert run.recipe.tasks == str(tmp_path)
        assert run.recipe.dtype == "float32"
        assert not any((run.recipe.start, run.recipe.shared, run.recipe.teachers))


def test_every_plan_that_we_ship_can_be_read_and_its_generators_have_a_decoder(tmp_path):
    plans = sorted(PLAN.parent.glob("**/*release.toml"))
    assert len(plans) > 1
    for plan in plans:
        runs = read_plan(plan, tmp_path)
        assert any(run.recipe.decodes for run in runs)
        assert runs[-1].examples or runs[-1].change
        assert len({run.recipe.base for run in runs}) == 1


def test_a_shared_adapter_that_examples_begin_with_is_written_once(finished, tmp_path):
    made = Generator.from_pretrained(finished.out / "generator")
    shared = made.start.detach()
    sizes = []
    for name, start in (("apart", shared + 0.01), ("shared", shared)):
        made.examples = made.examples._replace(grid=start)
        made.save_pretrained(tmp_path / name)
        again = Generator.from_pretrained(tmp_path / name)
        assert torch.allclose(again.examples_start, start.half().float(), atol=1e-3)
        assert again.examples.health.usual == made.examples.health.usual
        sizes.append((tmp_path / name / "examples_start.safetensors").stat().st_size)
    assert shared.numel() / 2 <= sizes[0] - sizes[1] <= shared.numel(), "a start apart costs four bits a number"


def test_release_is_a_command_that_tells_where_the_generator_is(run, finished, tasks_folder, tmp_path):
    code, out, _ = finished.said
    assert code == 0
    assert json.loads(out)["generator"] == str(finished.out / "generator")
    code, _, told = run("release", "--plan", "nowhere.toml", "--tasks", tasks_folder, "--out", tmp_path / "x")
    assert (code, "error: nowhere.toml: " in told) == (2, True)


def test_only_the_last_runs_generator_takes_examples(plan, tasks_folder, tmp_path):
    shutil.copy(plan.with_name("generator.toml"), plan.with_name("third.toml"))
    plan.write_text(plan.read_text() + '[[run]]\nrecipe = "third.toml"\n')
    with pytest.raises(UsageError, match="only the last run's generator has examples, not generator's"):
        release(plan, tasks_folder, tmp_path / "out")
