"""What is wrong is refused in one line, before anything is written and before any work is done for nothing."""

import io
import json
import shutil
import sqlite3
import subprocess
import sys

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny import SIZES, write_task

from prompt2lora import api
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.cli.main import main
from prompt2lora.errors import DamagedFile, InputError, ModelNotFound, Prompt2LoraError, UsageError
from prompt2lora.evaluation import benchmark
from prompt2lora.evaluation.judge import BenchmarkRequest
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.text_encoder import Encoder
from prompt2lora.ground import files
from prompt2lora.ground.examples import read_prompts
from prompt2lora.training import teachers
from prompt2lora.training.finish import train
from prompt2lora.training.recipe import Recipe, Stage, read_recipe
from prompt2lora.training.run import Run
from prompt2lora.training.tasks import read_task, read_tasks

LINE = '{"input": "a", "output": "b"}\n'


@pytest.mark.parametrize(
    ("name", "content", "prompts"),
    [
        ("p.jsonl", '"a\u2028b"\n"c\u0085d"\n', ["a\u2028b", "c\u0085d"]),
        ("p.csv", "prompt\na\u2028b\n", ["a\u2028b"]),
        ("p.txt", "a\u2028b\n", ["a\u2028b"]),
    ],
)
def test_a_line_of_prompts_ends_where_a_line_feed_is_and_nowhere_else(tmp_path, name, content, prompts):
    (tmp_path / name).write_bytes(content.encode())
    assert read_prompts(tmp_path / name)[0] == prompts


@pytest.mark.parametrize(
    ("name", "content"),
    [("p.csv", "x" * 200_000), ("p.jsonl", "[" * 200_000), ("p.jsonl", '"half a character \\ud800"\n')],
    ids=["huge cell", "deep nesting", "lone surrogate"],
)
def test_prompts_that_break_their_reader_are_refused(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError):
        read_prompts(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [
        b'{"task": "t"}\n{"input": "a\xe2\x80\xa8b", "output": "c"}\n',
        b'\xef\xbb\xbf{"task": "t"}\n{"input": "a\xe2\x80\xa8b", "output": "c"}\n',
    ],
    ids=["line separator", "byte order mark"],
)
def test_a_task_file_may_hold_what_json_and_editors_put_into_it(tmp_path, content):
    (tmp_path / "t.jsonl").write_bytes(content)
    assert read_task(tmp_path / "t.jsonl").test[0].input == "a\u2028b"


@pytest.mark.parametrize("name", ["../escaped", "", "..", "a/b"])
def test_a_task_s_name_is_never_a_path(tmp_path, name):
    (tmp_path / "t.jsonl").write_text(json.dumps({"task": name}) + "\n" + LINE)
    with pytest.raises(UsageError, match="name"):
        read_task(tmp_path / "t.jsonl")


def test_two_tasks_of_one_name_are_refused_and_never_share_an_adapter(tmp_path):
    for file in ("one", "two"):
        (tmp_path / f"{file}.jsonl").write_text('{"task": "same"}\n' + LINE)
    with pytest.raises(UsageError, match="same"):
        read_tasks([tmp_path])


def test_numbers_too_large_for_half_precision_are_not_written_as_infinite(layout, tmp_path):
    grid = torch.zeros(layout.shape)
    grid[0, 0, 0] = 1e5
    with pytest.raises(DamagedFile, match="finite"):
        Adapter(layout, grid).save(tmp_path / "a")


def test_an_adapter_whose_scale_is_nothing_is_refused(layout, base, tmp_path):
    Adapter(layout, torch.ones(layout.shape)).save(tmp_path / "a")
    file = tmp_path / "a" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "lora_alpha": 0}))
    with pytest.raises(DamagedFile, match="lora_alpha"):
        Adapter.load(tmp_path / "a", models.load_config(base))


def test_an_adapter_whose_origin_is_not_readable_is_refused(layout, base, tmp_path):
    Adapter(layout, torch.ones(layout.shape)).save(tmp_path / "a")
    file = tmp_path / "a" / "adapter_model.safetensors"
    save_file(load_file(file), file, metadata={"prompt2lora": "{oops"})
    with pytest.raises(DamagedFile):
        Adapter.load(tmp_path / "a", models.load_config(base))


def altered(folder, *path, value):
    file = folder / "generator_config.json"
    description = json.loads(file.read_text())
    place = description
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    file.write_text(json.dumps(description))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("config", "step"), 1.0),
        (("config", "hidden"), 17),
        (("config", "encoder"), "owner/other"),
        (("config", "layout", "alpha"), 160),
        (("config", "layout", "cols"), 7),
        (("provenance",), {"steps": 9}),
    ],
    ids=str,
)
def test_a_generator_whose_configuration_was_altered_is_refused(generator_folder, path, value):
    altered(generator_folder, *path, value=value)
    with pytest.raises(DamagedFile):
        Generator.from_pretrained(generator_folder)


def test_a_damaged_cache_of_conditions_stops_nothing(encoder_folder, tmp_path):
    (tmp_path / "c.sqlite").write_bytes(b"no database" * 100)
    found = Encoder(encoder_folder, cache=tmp_path / "c.sqlite").conditions(["a"])
    assert torch.equal(found, Encoder(encoder_folder).conditions(["a"]))


def test_the_cache_of_conditions_notices_another_encoder_under_the_same_name(encoder_folder, tmp_path):
    folder, cache = tmp_path / "encoder", tmp_path / "c.sqlite"
    shutil.copytree(encoder_folder, folder)
    before = Encoder(str(folder), cache=cache).conditions(["some text"])
    model = transformers.BertModel.from_pretrained(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    model.save_pretrained(folder)
    after = Encoder(str(folder), cache=cache).conditions(["some text"])
    assert torch.equal(after, Encoder(str(folder)).conditions(["some text"]))
    assert not torch.equal(after, before)


@pytest.mark.parametrize(
    "kind",
    [
        "T5Config",
        "ViTConfig",
        "BertConfig",
        "GPT2Config",
    ],
)
def test_a_base_that_is_no_model_of_our_kind_is_refused(generator_folder, tmp_path, kind):
    getattr(transformers, kind)().save_pretrained(tmp_path / "odd")
    with pytest.raises(Prompt2LoraError) as told:
        api.generate(["a"], tmp_path / "out", generator=generator_folder, base=str(tmp_path / "odd"))
    assert "\n" not in str(told.value)
    assert not (tmp_path / "out").exists()


def test_a_base_with_truncated_weights_is_told(base, tmp_path):
    shutil.copytree(base, tmp_path / "b")
    file = tmp_path / "b" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(DamagedFile):
        models.load_base(str(tmp_path / "b"))


def test_a_result_that_could_not_be_written_is_told_before_the_judging(
    tasks_folder, generator_folder, tmp_path, monkeypatch
):
    def judged(*_):
        pytest.fail("judged for nothing")

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(benchmark, "run", judged)
    with pytest.raises(UsageError, match="name another place"):
        api.benchmark([tasks_folder], generator=generator_folder, out=tmp_path / "file" / "result.json")


@pytest.mark.parametrize(("arms", "forms"), [([], ["full"]), (["base"], [])])
def test_a_benchmark_of_nothing_is_refused(tasks_folder, arms, forms):
    with pytest.raises(UsageError):
        BenchmarkRequest(tuple(arms), tuple(forms)).check(read_tasks([tasks_folder]))


def test_the_bare_form_alone_needs_an_instruction_to_leave_out(tmp_path):
    write_task(tmp_path, "plain", "", str.upper)
    with pytest.raises(UsageError, match="bare"):
        BenchmarkRequest(("base",), ("bare",)).check(read_tasks([tmp_path]))


@pytest.mark.parametrize(
    "changes",
    [{"base": "./nowhere"}, {"rank": 7}, {"steps": 4, "snapshots": 3, "every": 4}],
    ids=str,
)
def test_a_collection_that_cannot_be_is_refused_and_leaves_nothing(base, tasks_folder, tmp_path, changes):
    options = teachers.TeacherOptions(**{"base": base, "steps": 1, "budget": 80, **changes})
    with pytest.raises(Prompt2LoraError):
        teachers.collect(read_tasks([tasks_folder])[:1], tmp_path / "t", options)
    assert not (tmp_path / "t").exists()


def test_a_task_with_too_few_rows_for_a_teacher_is_refused_by_name(base, tmp_path):
    file = write_task(tmp_path / "tasks", "few", "Do.", str.upper)
    file.write_text("\n".join(file.read_text().splitlines()[:11]))
    options = teachers.TeacherOptions(base=base, steps=1, budget=80)
    with pytest.raises(UsageError, match="few"):
        teachers.collect(read_tasks([tmp_path / "tasks"]), tmp_path / "t", options)


@pytest.mark.parametrize(
    "text",
    [
        '[[stage]]\nsteps = 1\nobjective = "reconstrution"\n',
        '[[stage]]\nsteps = "x"\n',
        "[[stage]]\nsteps = 0\n",
        "stage = 1\n",
        "rank = 7\n[[stage]]\nsteps = 1\n",
        'targets = ["lm_head"]\n[[stage]]\nsteps = 1\n',
        "targets = 5\n[[stage]]\nsteps = 1\n",
        "prompts = 0\n[[stage]]\nsteps = 1\n",
        "validation = 2\n[[stage]]\nsteps = 1\n",
    ],
)
def test_a_recipe_with_a_value_that_cannot_be_is_refused_by_its_file(tmp_path, text):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(UsageError, match=r"r\.toml"):
        read_recipe(tmp_path / "r.toml")


@pytest.fixture
def recipe(base, encoder_folder, tasks_folder):
    def made(**changes):
        settings = {
            "stages": (Stage(steps=1, tasks=2, budget=80),),
            "tasks": str(tasks_folder),
            "base": base,
            "encoder": encoder_folder,
            "generator": {**SIZES, "grid": (2, 2, 16), "trunk": ((2, 112, 16),)},
            "validation": 0.45,
            "known": 5,
        }
        return Recipe(**{**settings, **changes})

    return made


@pytest.mark.parametrize(
    "changes",
    [
        {"tasks": "nowhere"},
        {"base": "./nowhere"},
        {"encoder": "./nowhere"},
        {"validation": 1.0},
        {"generator": {"with": 3}},
        {"teachers": "nowhere"},
        {"stages": (Stage(steps=1), Stage(steps=1, objective="reconstruction"))},
        {"start": "./nowhere"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_run_that_cannot_begin_is_refused_and_claims_no_folder(recipe, tmp_path, changes):
    with pytest.raises(Prompt2LoraError):
        train(recipe(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_from_a_generator_of_its_own_layout_only(recipe, generator_folder, tmp_path):
    with pytest.raises(UsageError, match="layout"):
        train(recipe(start=str(generator_folder), rank=16), tmp_path / "run")


@pytest.mark.parametrize("changes", [{"rank": 16}, {"alpha": 64}, {"targets": ["q_proj"]}], ids=str)
def test_a_run_begins_with_a_shared_adapter_of_its_own_layout_only(recipe, base, tmp_path, changes):
    layout = LoraLayout.from_config(models.load_config(base), base_model=base, **changes)
    Adapter(layout, torch.zeros(layout.shape)).save(tmp_path / "shared")
    with pytest.raises(UsageError, match="another rank, alpha or targets"):
        train(recipe(shared=str(tmp_path / "shared")), tmp_path / "run")


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_task_without_examples_of_a_part_is_refused_by_name(recipe, tasks_folder, tmp_path, part):
    other = {"train": "test", "test": "train"}[part]
    for file in tasks_folder.glob("*.jsonl"):
        file.write_text(file.read_text().replace(f'"part": "{part}"', f'"part": "{other}"'))
    with pytest.raises(UsageError, match="task0"):
        train(recipe(), tmp_path / "run")


def test_a_damaged_checkpoint_is_told_by_name(recipe, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(DamagedFile, match=r"checkpoint\.pt"):
        train(recipe(), tmp_path / "run")


def test_two_stages_that_are_alike_are_still_two_with_an_optimiser_each(recipe, tmp_path):
    stage = Stage(steps=1, tasks=2, budget=80)
    run = Run(recipe(stages=(stage, stage)), tmp_path / "run", lambda record: None)
    run.prepare()
    run.train()
    assert run._optimiser[0] == 1


def test_folders_made_for_an_output_that_failed_go_again(tmp_path):
    with pytest.raises(ZeroDivisionError), files.new_folder(tmp_path / "new" / "deep" / "out"):
        _ = 1 / 0
    assert not list(tmp_path.iterdir())


def test_a_question_from_standard_input_that_is_no_text_is_told(base, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe"), encoding="utf-8"))
    monkeypatch.setattr(sys, "argv", ["prompt2lora", "ask", "-", "--base", base])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_a_model_that_is_nowhere_is_refused_by_every_verb(tasks_folder, generator_folder, tmp_path):
    with pytest.raises(ModelNotFound, match="nowhere"):
        api.ask(None, "hello", base="./nowhere")
    with pytest.raises(ModelNotFound, match="nowhere"):
        api.benchmark([tasks_folder], generator=generator_folder, base="./nowhere", out=tmp_path / "r.json")
    assert not (tmp_path / "r.json").exists()


WRONG_KINDS = [
    "stage = [1]\n",
    "tasks = 5\n[[stage]]\nsteps = 1\n",
    'seed = "x"\n[[stage]]\nsteps = 1\n',
    "generator = 5\n[[stage]]\nsteps = 1\n",
    '[[stage]]\nsteps = "x"\n',
    '[[stage]]\nsteps = 1\nlearning_rate = "x"\n',
    '[[stage]]\nsteps = 1\nweight_decay = "x"\n',
]
READ_ALL = """
import sys
from pathlib import Path
from prompt2lora.errors import UsageError
from prompt2lora.training.recipe import read_recipe
for file in map(Path, sys.argv[1:]):
    try:
        read_recipe(file)
        print(file.name, "was read")
    except UsageError as error:
        assert str(file) in str(error)
    except Exception as error:
        print(file.name, repr(error))
"""


def test_a_recipe_with_a_value_of_another_kind_is_refused_where_no_types_are_checked(tmp_path):
    """In a process of its own: the type checks of this one would refuse in place of the code."""
    files = [tmp_path / f"{number}.toml" for number in range(len(WRONG_KINDS))]
    for file, text in zip(files, WRONG_KINDS, strict=True):
        file.write_text(text)
    words = [sys.executable, "-c", READ_ALL, *map(str, files)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_a_run_that_holds_out_every_task_is_refused(recipe, tmp_path):
    write_task(tmp_path / "one", "task0", "Do.", str.upper)
    with pytest.raises(UsageError, match="validation"):
        train(recipe(tasks=str(tmp_path / "one"), validation=0.99), tmp_path / "run")


def test_a_run_goes_on_from_a_generator_that_reads_by_the_same_encoder_only(
    recipe, generator_folder, encoder_folder, tmp_path
):
    shutil.copytree(encoder_folder, tmp_path / "other")
    with pytest.raises(UsageError, match="encoder"):
        train(recipe(start=str(generator_folder), encoder=str(tmp_path / "other")), tmp_path / "run")


def test_a_generator_is_not_trained_on_a_single_task(recipe, tmp_path):
    write_task(tmp_path / "one", "task0", "Do.", str.upper)
    with pytest.raises(UsageError, match="at least two tasks and task0 is alone"):
        train(recipe(tasks=str(tmp_path / "one"), validation=0.0), tmp_path / "run")


def test_a_task_with_one_training_example_leaves_nothing_to_practise_on(recipe, tasks_folder, tmp_path):
    file = tasks_folder / "task3.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([*lines[:2], *lines[-4:]]))
    stage = Stage(steps=1, alone=1.0, practice=1, examples=(2,))
    with pytest.raises(UsageError, match="task3 has none"):
        train(recipe(stages=(stage,), validation=0.0), tmp_path / "run")


TEXTS = [f"text {number}" for number in range(200)]


def test_a_torn_cache_of_conditions_stops_nothing(encoder_folder, tmp_path):
    cache = tmp_path / "c.sqlite"
    before = Encoder(encoder_folder, cache=cache).conditions(TEXTS)
    head = cache.read_bytes()[:4096]
    cache.write_bytes(head + b"\xff" * (cache.stat().st_size - 4096))
    after = Encoder(encoder_folder, cache=cache).conditions(TEXTS)
    assert torch.allclose(after, before, atol=2e-3)


def test_a_cache_of_conditions_on_a_full_disk_stops_nothing(encoder_folder, tmp_path):
    cache = tmp_path / "c.sqlite"
    Encoder(encoder_folder, cache=cache).conditions(["one"])
    database = sqlite3.connect(cache)
    database.execute("create trigger full before insert on vectors begin select raise(abort, 'disk is full'); end")
    database.commit()
    database.close()
    found = Encoder(encoder_folder, cache=cache).conditions(["two"])
    assert torch.equal(found, Encoder(encoder_folder).conditions(["two"]))
