"""A collection of teachers: one start for all, and complete teachers only, whatever happens."""

import json

import pytest
import torch

from prompt2lora.adapter.grid import encode, initial_grid
from prompt2lora.errors import DamagedFile, UsageError
from prompt2lora.ground.files import read_safetensors
from prompt2lora.training import objectives, teachers
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
