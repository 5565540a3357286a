"""A collection of teachers: one start for all, and complete teachers only, whatever happens."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from test_suites import lettered, write, write_suite_files

from prompt2lora import api
from prompt2lora.adapter.grid import encode, initial_grid
from prompt2lora.base.frozen import Frozen
from prompt2lora.errors import DamagedFile, UsageError
from prompt2lora.ground.files import read_safetensors
from prompt2lora.training import objectives, teachers
from prompt2lora.training.suites import SUITES
from prompt2lora.training.tasks import read_tasks

STEPS = 4


@pytest.fixture
def options(base):
    return teachers.TeacherOptions(base=base, steps=STEPS, snapshots=2, every=2, budget=120, least_gain=-1.0)


def grid(folder, layout):
    return encode(read_safetensors(folder / "adapter_model.safetensors")[0], layout).float()


def test_all_teachers_start_from_one_a_and_no_b_and_move_away_with_every_step(tasks_folder, options, layout, tmp_path):
    tasks = read_tasks([tasks_folder])[:2]
    teachers.collect(tasks, tmp_path / "t", options)
    start = initial_grid(layout, options.seed)
    assert not torch.equal(start, initial_grid(layout, 1))
    ends = []
    for task in tasks:
        early, late = (grid(tmp_path / "t" / task.name / f"step-000{step}", layout) for step in (2, 4))
        for block in layout.blocks:
            rows = slice(block.start, block.stop)
            for step, now in ((2, early), (4, late)):
                # one step of AdamW moves a number by little more than the rate
                bound = 1.6 * options.learning_rate * step + 1e-3
                assert (now[:, rows] - start[:, rows]).abs().max() < bound
            if block.side == "B":
                assert (start[:, rows] == 0).all()
                assert (late[:, rows] != 0).any()
        assert not torch.equal(early, late)
        ends.append(late)
    assert not torch.equal(*ends)


def test_a_teacher_of_a_task_that_has_changed_since_is_not_taken_for_one_of_the_new_task(
    tasks_folder, options, tmp_path
):
    task = read_tasks([tasks_folder])[0]
    teachers.collect([task], tmp_path / "t", options)
    with pytest.raises(UsageError, match=f"was taught another task {task.name}; remove it"):
        teachers.collect([replace(task, instruction="Another one.")], tmp_path / "t", options)


def test_teachers_are_ranked_on_the_same_tasks(tasks_folder, options, tmp_path, base, layout):
    tasks, folder = read_tasks([tasks_folder]), tmp_path / "t"
    teachers.collect(tasks[:1], folder, options)
    frozen = Frozen.load(layout)
    teachers.compare(frozen, teachers.Teachers(folder, layout), tasks[3:4])
    manifest = teachers.collect(tasks[1:2], folder, options)
    assert [record["task"] for record in manifest] == [task.name for task in tasks[:2]], "those of before, too"
    teachers.compare(frozen, teachers.Teachers(folder, layout), tasks[4:6])
    kept = json.loads((folder / "best.json").read_text())
    assert kept["tasks"] == [task.name for task in tasks[4:6]]
    assert {name: list(scores) for name, scores in kept["by_task"].items()} == dict.fromkeys(
        [task.name for task in tasks[:2]], kept["tasks"]
    )
    kept["exact"] |= dict.fromkeys(kept["exact"], 9.0)  # what is not scored again
    (folder / "best.json").write_text(json.dumps(kept))
    shutil.rmtree(folder / tasks[0].name)
    teachers.collect([replace(tasks[0], train=tasks[0].train[1:])], folder, options)
    teachers.compare(frozen, teachers.Teachers(folder, layout), tasks[4:6])
    exact = json.loads((folder / "best.json").read_text())["exact"]
    assert exact[tasks[0].name] <= 1 and exact[tasks[1].name] == 9, "one that was made anew is scored anew"
    with pytest.raises(UsageError, match="there are none; raise validation or add families"):
        teachers.compare(frozen, teachers.Teachers(folder, layout), [])


def test_a_teacher_that_is_interrupted_leaves_no_folder_and_the_next_run_makes_the_same_as_one_in_one_go(
    tasks_folder, options, tmp_path, monkeypatch
):
    tasks = read_tasks([tasks_folder])[:2]
    calls, real = [], objectives.end_to_end

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == STEPS + 2 + 3:  # in the middle of the second teacher
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(objectives, "end_to_end", interrupted)
        with pytest.raises(KeyboardInterrupt):
            teachers.collect(tasks, tmp_path / "cut", options)
    assert sorted(file.name for file in (tmp_path / "cut").iterdir()) == ["options.json", tasks[0].name]
    teachers.collect(tasks, tmp_path / "cut", options)
    teachers.collect(tasks, tmp_path / "whole", options)
    files = [
        sorted(file.relative_to(tmp_path / run) for file in (tmp_path / run).rglob("*.safetensors"))
        for run in ("cut", "whole")
    ]
    assert files[0] == files[1]
    assert len(files[0]) == 4
    for file in files[0]:
        assert (tmp_path / "cut" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_test_examples_teach_nothing(tasks_folder, options, tmp_path):
    tasks = read_tasks([tasks_folder])[:1]
    teachers.collect(tasks, tmp_path / "one", options)
    file = tasks_folder / "task0.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if line.get("part") == "test":
            line |= {"input": "other", "output": "thing"}
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    teachers.collect(read_tasks([tasks_folder])[:1], tmp_path / "two", options)
    one, two = ((tmp_path / run / "task0" / "step-0004" / "adapter_model.safetensors") for run in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_a_folder_that_is_no_teacher_or_no_collection_is_refused_by_name(tasks_folder, options, layout, tmp_path):
    tasks = read_tasks([tasks_folder])[:1]
    (tmp_path / "t" / "task0").mkdir(parents=True)
    with pytest.raises(DamagedFile, match="task0 is not a complete teacher"):
        teachers.collect(tasks, tmp_path / "t", options)
    with pytest.raises(UsageError, match="no manifest"):
        teachers.Teachers(tmp_path / "empty", layout)


@pytest.fixture
def suite_folder(tmp_path):
    folder = write_suite_files(tmp_path / "suites")
    for name in ("obqa_train", "piqa_validation", "boolq_train_noctx"):
        yes = name.startswith("boolq")
        rows = [lettered(f"{name} is {at}?", "AB"[at % 2]) for at in range(80)]
        plain = [{"instruction": "Yes or no?", "input": f"is it {at}?", "output": "yes"} for at in range(40)]
        write(folder, name, plain if yes else rows)
    return folder


def test_on_a_suite_the_teachers_of_the_other_suites_are_averaged_and_the_best_is_told_by_the_others(
    suite_folder, base, layout, generator_folder, tmp_path, run, monkeypatch
):
    for name, suite in SUITES.items():
        monkeypatch.setitem(SUITES, name, replace(suite, max_new_tokens=3))
    place = tmp_path / "t"
    words = ["--suites", suite_folder, "--suite", "obqa,piqa,boolq", "--base", base, "--steps", 2, "--budget", 120]
    code, shown, told = run("collect", *words, "--out", place)
    assert code == 0, told
    assert "3 teachers" in shown
    manifest = json.loads((place / "manifest.json").read_text())
    for record in manifest["teachers"]:
        record["learned"] = True
    (place / "manifest.json").write_text(json.dumps(manifest))
    code, _, told = run("compare", "--teachers", place, "--suites", suite_folder)
    assert code == 0, told
    ranking = json.loads((place / "best.json").read_text())
    assert set(ranking["tasks"]) == set(ranking["by_task"]) == {"obqa", "piqa", "boolq"}
    scores = {
        "obqa": {"obqa": 0.0, "piqa": 0.0, "boolq": 0.2},
        "piqa": {"obqa": 1.0, "piqa": 0.0, "boolq": 0.0},
        "boolq": {"obqa": 0.0, "piqa": 0.1, "boolq": 0.3},
    }
    exact = {name: sum(by.values()) / 3 for name, by in scores.items()}
    (place / "best.json").write_text(json.dumps({**ranking, "exact": exact, "by_task": scores}))

    def best(*names):
        return teachers.Teachers(place, layout, without=names).best

    assert (best(), best("obqa"), best("boolq"), best("piqa")) == ("piqa", "boolq", "piqa", "boolq")
    left = teachers.Teachers(place, layout, without={"piqa"})
    assert left.names == {"obqa", "boolq"}
    assert torch.allclose(left.mean(), (left.last("obqa") + left.last("boolq")) / 2, atol=1e-6)
    result = api.benchmark_published(
        suite_folder,
        ["piqa"],
        arms=["mean-teacher", "best-teacher", "nearest-teacher", "full-fine-tuning"],
        limit=2,
        generator=generator_folder,
        teachers=place,
        scores=tmp_path / "kept.jsonl",
        metrics=["letter"],
    )
    assert set(result.published["piqa"].arms) == set(result.request.arms)
    (place / "best.json").write_text(json.dumps({"tasks": ["piqa"], "exact": exact}))
    with pytest.raises(UsageError, match="not compared on other tasks than piqa"):
        best("piqa")
    assert best("arc_e") == "piqa"
    with pytest.raises(UsageError, match="no teacher that learned but for boolq, obqa, piqa"):
        best("obqa", "piqa", "boolq")


def test_what_teachers_are_made_of_has_to_be_named(run, tmp_path):
    for verb, told in (("collect", "or both"), ("compare", "with --suites")):
        code, _, said = run(verb, "--out" if verb == "collect" else "--teachers", tmp_path / "t")
        assert (code, told in said) == (2, True), said
