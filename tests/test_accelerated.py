"""What an accelerator's training does otherwise than a CPU's: bfloat16, draws by other processes, pinned copies."""

import shutil
import threading
import time
from contextlib import suppress

import pytest
import torch
from picture_bases import write_picture_base
from test_training import curve, recipe, same_weights
from tiny import SIZES

from prompt2lora.base import models
from prompt2lora.base.chat import ChatFormat
from prompt2lora.errors import OutputError
from prompt2lora.generator.text_encoder import Encoder
from prompt2lora.ground.progress import silent
from prompt2lora.training import run as running
from prompt2lora.training.checkpoint import Checkpoint, CheckpointWriter
from prompt2lora.training.drawing import Drawing, DrawnAhead, drawing_processes
from prompt2lora.training.recipe import Stage
from prompt2lora.training.run import Run

STAGES = (Stage(steps=4, tasks=4, budget=120, warmup=1, bare=0.5, alone=0.3, examples=(0, 2)),)


@pytest.fixture
def wanted(base, encoder_folder, tasks_folder):
    sizes = {**SIZES, "asks_base": True}
    return recipe(base, encoder_folder, tasks_folder, STAGES, generator=sizes, synthetic=0.4, dtype="float32")


def trained(recipe, folder, report=silent):
    """The weights after all steps; nothing is made of them."""
    one = Run(recipe, folder, report)
    one.prepare()
    one.train()
    return one.generator


def test_what_other_processes_draw_trains_the_same_weights(wanted, tmp_path, monkeypatch):
    alone = trained(wanted, tmp_path / "alone")
    monkeypatch.setattr(running, "drawing_processes", lambda device: 2)
    assert same_weights(alone, trained(wanted, tmp_path / "helped"))
    assert curve(tmp_path / "alone") == curve(tmp_path / "helped")


def test_a_process_that_draws_tells_what_went_wrong_and_none_is_left(wanted, tmp_path):
    one = Run(wanted, tmp_path / "run", lambda record: None)
    drawing = Drawing(wanted, [], one.fresh_families, one.prompts, one.base.chat)
    with pytest.raises(ZeroDivisionError), DrawnAhead(drawing, 4, 1) as drawn:
        drawn(0)
    assert drawn._pool._processes is None


def test_for_a_base_that_reads_pictures_steps_are_drawn_here(wanted, tmp_path):
    place = write_picture_base(tmp_path / "llava", "llava")
    chat = ChatFormat.of(*models.load_base(place, dtype=torch.float32, device="cpu"))
    one = Run(wanted, tmp_path / "run", silent)
    one.prepare()
    drawing = Drawing(wanted, one.fit, one.fresh_families, one.prompts, chat)
    with DrawnAhead(drawing, 4, 2) as drawn:
        assert drawn(0).groups == drawing(0).groups


def test_a_cpu_draws_by_itself_and_an_accelerator_has_it_drawn():
    assert drawing_processes("cpu") == 0
    assert drawing_processes("cuda") >= 1


def test_in_bfloat16_the_curve_is_that_of_float32_within_noise(wanted, tmp_path):
    longer = wanted.changed(validate_every=2)
    for dtype in ("float32", "bfloat16"):
        trained(longer.changed(dtype=dtype), tmp_path / dtype)
    full, half = (curve(tmp_path / dtype) for dtype in ("float32", "bfloat16"))
    columns = ("loss", "norm", "own_full_loss", "own_bare_loss")
    for one, other in zip(full, half, strict=True):
        for column in columns:
            if one[column]:
                assert float(other[column]) == pytest.approx(float(one[column]), rel=0.05 if column == "norm" else 0.01)
    assert float(full[-1]["loss"]) != float(half[-1]["loss"])


def test_whatever_a_kill_leaves_between_two_checkpoints_goes_on_to_the_same_weights(wanted, tmp_path, monkeypatch):
    """A copy of the folder at any moment is what a kill at that moment leaves; checkpoints take long here."""
    write = Checkpoint.save

    def slow(checkpoint, folder):
        time.sleep(0.2)
        write(checkpoint, folder)

    def copy(source, target):
        with suppress(FileNotFoundError):  # what was being written has its own name by now
            shutil.copy2(source, target)

    def keep(record):
        if "step" in record:
            shutil.copytree(tmp_path / "whole", tmp_path / f"at-{record['step']}", copy_function=copy)

    monkeypatch.setattr(Checkpoint, "save", slow)
    whole = trained(wanted, tmp_path / "whole", keep)
    monkeypatch.setattr(Checkpoint, "save", write)
    behind = 0
    for step in range(1, 4):
        left = tmp_path / f"at-{step}"
        saved = Checkpoint.load(left, "cpu")
        behind += (saved.step if saved else 0) < step
        assert same_weights(whole, trained(wanted, left))
        assert curve(left) == curve(tmp_path / "whole")
    assert behind == 3, "no step waited for its own checkpoint"


def a_checkpoint(step):
    return Checkpoint(step, 1.0, {"w": torch.full((2,), float(step))}, 0, {"state": {}, "groups": [1, (2, 3)]})


def test_checkpoints_are_written_one_at_a_time_and_the_last_is_there_at_the_end(tmp_path, monkeypatch):
    busy, most, order = threading.Lock(), [], []
    write = Checkpoint.save

    def watched(checkpoint, folder):
        most.append(busy.acquire(blocking=False))
        time.sleep(0.05)
        write(checkpoint, folder)
        order.append(checkpoint.step)
        busy.release()

    monkeypatch.setattr(Checkpoint, "save", watched)
    with CheckpointWriter(tmp_path) as writer:
        for step in range(4):
            writer.write(a_checkpoint(step))
    assert all(most) and order == [0, 1, 2, 3]
    assert Checkpoint.load(tmp_path, "cpu").step == 3


def test_a_checkpoint_is_of_the_moment_it_was_asked_for_whatever_is_trained_meanwhile(tmp_path, monkeypatch):
    wait, write = threading.Event(), Checkpoint.save
    monkeypatch.setattr(Checkpoint, "save", lambda checkpoint, folder: (wait.wait(), write(checkpoint, folder)))
    given = a_checkpoint(7)
    with CheckpointWriter(tmp_path) as writer:
        writer.write(given)
        given.generator["w"].zero_()
        wait.set()
    assert Checkpoint.load(tmp_path, "cpu").generator["w"].tolist() == [7.0, 7.0]


def test_a_checkpoint_that_cannot_be_written_ends_the_run_with_that_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"), CheckpointWriter(tmp_path / "file" / "run") as writer:
        writer.write(a_checkpoint(1))


def test_on_a_cpu_nothing_is_pinned_or_copied():
    tensor = torch.ones(3)
    assert models.moved(tensor, "cpu") is tensor


def test_an_encoder_that_reads_many_texts_at_once_gives_the_same_within_the_rounding_of_its_cache(encoder_folder):
    texts = ["one", "a longer text than that", "x", "日本語"]
    one_by_one, together = Encoder(encoder_folder), Encoder(encoder_folder)
    one_by_one.remember(texts)
    assert torch.allclose(one_by_one.conditions(texts), together.conditions(texts), atol=2e-3)
