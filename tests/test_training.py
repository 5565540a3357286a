import csv
import json
import shutil
from functools import cache
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import SIZES, draw_curves, greedy, write_task, write_tasks

from prompt2lora.adapter.grid import initial_grid
from prompt2lora.adapter.hooks import adapted
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.base.packing import common_length, pack_examples, stack
from prompt2lora.base.weights import weights_digest
from prompt2lora.errors import TaskFileError, UsageError
from prompt2lora.generator.generator import Generator
from prompt2lora.training import augmentation, curves, objectives, sampling, selection, synthetic, teachers
from prompt2lora.training.finish import train
from prompt2lora.training.initial import initial_generator
from prompt2lora.training.recipe import Recipe, Stage, read_recipe
from prompt2lora.training.run import Run
from prompt2lora.training.tasks import held_out, read_task, read_tasks, split_families

PREFIX = [5, 6, 7, 8]
PROMPTS = [PREFIX + tail for tail in ([10, 11], [12, 13, 14], [10, 20])]
ANSWERS = [[30, 2], [31, 32, 2], [33, 2]]
PLAN = Path(__file__).parent.parent / "recipes" / "release.toml"
RECIPES = sorted(set(PLAN.parent.glob("*.toml")) - {PLAN})


def random_grid(layout, seed=0):
    return torch.randn(layout.shape, generator=torch.Generator().manual_seed(seed)) * 0.05


@pytest.mark.parametrize("shared", [True, False])
def test_a_pack_gives_the_loss_of_separate_sequences(model, layout, shared):
    prompts = PROMPTS if shared else [[40, *PROMPTS[0]], PROMPTS[1], [41, 42]]
    grids = torch.stack([random_grid(layout, 1), random_grid(layout, 2)])
    packs = stack([pack_examples(prompts, ANSWERS, 100), pack_examples(prompts[1:2], ANSWERS[1:2], 100)], padding=0)
    found = objectives.end_to_end(model, layout, grids, packs).loss

    def alone(grid, chosen):
        losses = []
        with adapted(model, grid[None], layout):
            for i in chosen:
                logits = model(torch.tensor([prompts[i] + ANSWERS[i]])).logits[0, len(prompts[i]) - 1 : -1]
                losses.append(torch.nn.functional.cross_entropy(logits, torch.tensor(ANSWERS[i]), reduction="none"))
        return torch.cat(losses).mean()

    assert torch.allclose(found[0], alone(grids[0], [0, 1, 2]), atol=1e-5)
    assert torch.allclose(found[1], alone(grids[1], [1]), atol=1e-5)


def test_a_pack_shares_the_beginning_and_keeps_to_its_budget():
    pack = pack_examples(PROMPTS, ANSWERS, budget=100)
    assert pack.ids[:4] == PREFIX
    assert len(pack.ids) == 4 + sum(
        len(prompt) - 4 + len(answer) - 1 for prompt, answer in zip(PROMPTS, ANSWERS, strict=True)
    )
    small = pack_examples(PROMPTS, ANSWERS, budget=9)
    assert len(small.ids) <= 9
    assert small.labels == [*ANSWERS[0], *ANSWERS[2]], "the second example is too long, the third fits"
    only = pack_examples(PROMPTS, ANSWERS, budget=1)
    assert only.labels == ANSWERS[0], "if no example fits, the shortest is taken"


@pytest.mark.parametrize(
    ("prompts", "length"),
    [([[1, 2, 3]], 2), ([[1, 2], [1, 2]], 1), ([[1, 2], [1, 2, 3]], 1), ([[9], [9, 1]], 0), ([[1, 2], [3, 2]], 0)],
)
def test_every_prompt_keeps_a_token_of_its_own(prompts, length):
    assert common_length(prompts) == length


def test_what_teacher_forcing_calls_exact_is_what_greedy_decoding_gets_right(model, layout, chat):
    grid = random_grid(layout, 3)
    asked = ["a", "bc", "def"]
    prompts = chat.prompt_ids(asked)
    with torch.no_grad(), adapted(model, grid[None], layout):
        given = greedy(model, prompts, chat, max_new_tokens=6)
    other = [*given[1][:-1], (given[1][-1] + 1) % 256]
    pack = pack_examples(prompts, [given[0], other, given[2]], 500)
    with torch.no_grad():
        exact = objectives.end_to_end(model, layout, grid[None], stack([pack], 0)).exact
    assert all(given)
    assert exact.item() == pytest.approx(2 / 3)


def test_reconstruction_is_zero_for_the_teacher_itself_and_grows_with_the_distance(layout):
    grid, weight = random_grid(layout)[None], torch.ones(*layout.shape[:2], 1)
    assert objectives.reconstruction(grid, grid, weight).item() == 0
    near = objectives.reconstruction(grid + 0.1, grid, weight)
    assert near < objectives.reconstruction(grid + 0.2, grid, weight)


def test_a_task_file_tells_its_task(tmp_path):
    task = read_task(write_task(tmp_path, "one", "First letter.", lambda text: text[0]))
    assert (task.name, task.instruction, len(task.train), len(task.test)) == ("one", "First letter.", 40, 4)
    assert task.prompt("xy") == "First letter.\n\nxy"


@pytest.mark.parametrize(
    "line",
    ["{broken", "[1]", '{"input": "a"}', '{"input": 1, "output": "b"}', '{"input": "a", "output": "b", "part": "x"}'],
)
def test_a_broken_line_is_told_by_file_and_number(tmp_path, line):
    file = write_task(tmp_path, "one", "Do.", str.upper)
    lines = file.read_text().splitlines()
    lines[6] = line
    file.write_text("\n".join(lines))
    with pytest.raises(TaskFileError, match=r"one\.jsonl:7: "):
        read_task(file)


def test_families_are_held_out_as_a_whole_and_always_the_same(tasks_folder):
    for letter in "uvwxyz":
        write_task(tasks_folder, f"{letter}1", "Do.", str.upper, family=letter)
        write_task(tasks_folder, f"{letter}2", "Do.", str.upper, family=letter)
    tasks = read_tasks([tasks_folder])
    fit, validation = split_families(tasks, 0.4)
    assert fit and validation
    assert not {task.family for task in fit} & {task.family for task in validation}
    assert split_families(tasks[::-1], 0.4)[1][::-1] == validation


def test_drawn_tasks_differ_within_a_step_and_large_families_do_not_drown_small_ones(tasks_folder):
    for number in range(16):
        write_task(tasks_folder, f"big{number}", "Do.", str.upper, family="big")
    tasks = read_tasks([tasks_folder])
    weights = sampling.task_weights(tasks)
    drawn = [sampling.draw_tasks(tasks, weights, 4, Random(step)) for step in range(300)]
    assert all(len({task.name for task in group}) == 4 for group in drawn)
    share = sum(task.family == "big" for group in drawn for task in group) / 1200
    assert 0.3 < share < 0.5  # 16 tasks of one family weigh 4, six others 6


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.name)
def test_every_recipe_that_we_ship_is_valid(file):
    assert read_recipe(file).steps > 0


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("seed = 1\n", "at least one"),
        ("sed = 1\n[[stage]]\nsteps = 1\n", "unknown key 'sed'"),
        ("[[stage]]\nsteps = 1\nrate = 2\n", "unknown key 'rate'"),
        ("[[stage]]\ntasks = 2\n", "steps"),
        ("[generator]\nhiden = 16\n[[stage]]\nsteps = 1\n", r"\[generator\] unknown key 'hiden'"),
        ('[generator]\nhidden = "16"\n[[stage]]\nsteps = 1\n', r"\[generator\] hidden must be a valid integer"),
        ("[generator]\ndropout = 2\n[[stage]]\nsteps = 1\n", r"\[generator\] dropout must be less than 1"),
        ("[generator]\nkernel = 2\n[[stage]]\nsteps = 1\n", r"\[generator\] kernel must be odd, not 2"),
        ("not toml", "TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_by_its_key(tmp_path, text, told):
    file = tmp_path / "r.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=told):
        read_recipe(file)


@pytest.mark.parametrize(
    ("sizes", "told"),
    [
        ({"trunk": [[2, 8, 16]]}, r"trunk must end with a stage of \(2, 112, columns\) for these adapters"),
        ({"width": 1536}, r"width must be that of .*, 64, not 1536; leave it out"),
        ({"asks_base": True, "grid": [1, 2, 16]}, "grid must begin with the base's 2 layers"),
    ],
)
def test_sizes_that_do_not_fit_the_base_or_the_encoder_are_refused(base, encoder_folder, sizes, told):
    wanted = Recipe(stages=(Stage(steps=1),), base=base, encoder=encoder_folder)
    fitting = {key: size for key, size in SIZES.items() if key != "width"}
    assert initial_generator(wanted.changed(generator=fitting)).generator.config.width == 64, "the encoder's own"
    with pytest.raises(UsageError, match=told):
        initial_generator(wanted.changed(generator={**fitting, **sizes}))


def test_a_value_of_another_kind_is_told_by_key_rule_and_value_in_one_line(tmp_path):
    file = tmp_path / "r.toml"
    for text, told in [
        ("steps = true", "steps must be a valid integer, not 'True'"),
        ('steps = 1\nbare = "x"', "bare must be a valid number, not 'x'"),
        ("steps = 1\nbare = 1.5", "bare must be less than or equal to 1, not '1.5'"),
        ("steps = 1\nclip = 0", "clip must be greater than 0, not '0'"),
        ("steps = 1\nwarmup = -1", "warmup must be greater than or equal to 0, not '-1'"),
        ("steps = 1\nlearning_rate = nan", "learning_rate must be a finite number, not 'nan'"),
        ("warmup = 1", "steps is missing; it must be given"),
    ]:
        file.write_text(f"[[stage]]\n{text}\n")
        with pytest.raises(UsageError) as refused:
            read_recipe(file)
        assert str(refused.value) == f"{file}: {told}; see the recipes in recipes/"


def test_a_recipe_cannot_be_changed_and_its_changed_copy_is_checked():
    made = Recipe(stages=(Stage(steps=1),))
    with pytest.raises(ValueError, match="frozen"):
        made.seed = 1
    assert made.changed(seed=1).seed == 1
    with pytest.raises(UsageError, match="prompts must be greater than or equal to 1"):
        made.changed(prompts=0)


def test_without_task_files_a_recipe_must_ask_for_synthetic_tasks_alone(base, encoder_folder, tmp_path):
    with pytest.raises(UsageError, match="needs a folder of task files unless synthetic is 1"):
        train(recipe(base, encoder_folder, "", (Stage(steps=1),), synthetic=0.4), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_of_synthetic_tasks_alone_needs_no_file_and_holds_out_whole_families(
    base, encoder_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(selection, "_SYNTHETIC_TASKS", 60)
    changes = {"synthetic": 1.0, "validation": 0.2, "known": 2, "validate_every": 9, "most": 20}
    wanted = recipe(base, encoder_folder, "", (Stage(steps=2, tasks=2, budget=120),), **changes)
    one = Run(wanted, tmp_path / "run", lambda record: None)
    held_out = {task.family.removeprefix(synthetic.PREFIX) for task in one.validation}
    assert held_out and not held_out & set(one.fresh_families)
    assert held_out | set(one.fresh_families) == set(synthetic.FAMILIES)
    train(wanted, tmp_path / "run")
    made = Generator.from_pretrained(tmp_path / "run" / "generator")
    assert made.provenance["validation_tasks"] == [task.name for task in one.validation]
    assert all(name.startswith(synthetic.PREFIX) for name in made.atlas.names)


def recipe(base, encoder_folder, tasks_folder, stages, **changes):
    sizes = {**SIZES, "grid": (2, 2, 16), "trunk": ((2, 112, 16),)}
    settings = {
        "tasks": str(tasks_folder),
        "base": base,
        "encoder": encoder_folder,
        "generator": sizes,
        "validation": 0.45,
        "prompts": 8,
        "known": 10,
        "log_every": 1,
        "validate_every": 3,
        "save_every": 1,
    }
    return Recipe(stages=stages, **{**settings, **changes})


def losses_of(recipe, folder):
    """The loss of every step; nothing is measured, kept or made of the weights."""
    losses, never = [], recipe.steps + 1
    wanted = recipe.changed(validate_every=never, save_every=never)
    one = Run(wanted, folder, lambda record: losses.append(record["loss"]) if "loss" in record else None)
    one.prepare()
    one.train()
    return losses


class Killed(Exception):
    pass


def killed_at(step):
    def report(record):
        if record.get("step") == step:
            raise Killed

    return report


def curve(folder):
    """All that a run logged but the time that it took."""
    with (folder / "curves.csv").open() as stream:
        lines = list(csv.DictReader(stream))
    assert all(float(line.pop("seconds")) > 0 and float(line.pop("step_seconds")) > 0 for line in lines)
    return lines


def same_weights(left, right):
    return all(torch.equal(a, b) for a, b in zip(left.parameters(), right.parameters(), strict=True))


@pytest.fixture(scope="module")
def teachers_once(base, tmp_path_factory):
    """Teachers of three tasks that are called learned whatever they learned. Tests get copies of them."""
    place = tmp_path_factory.mktemp("teachers")
    options = teachers.TeacherOptions(base=base, steps=3, snapshots=2, every=1, budget=200, least_gain=-1.0)
    teachers.collect(read_tasks([write_tasks(place / "tasks")])[:3], place / "teachers", options)
    return place / "teachers", options


@pytest.fixture
def collected(teachers_once, tmp_path):
    """The folder of the teachers, and how they were trained."""
    folder, options = teachers_once
    return shutil.copytree(folder, tmp_path / "teachers"), options


@pytest.fixture(scope="module")
def run_whole(base, encoder_folder, tmp_path_factory):
    """A recipe of two stages for a generator of either kind; the weights and the curve of its run without a cut."""

    @cache
    def made(asks_base):
        place = tmp_path_factory.mktemp("whole")
        stages = (Stage(steps=3, tasks=2, budget=120, warmup=1), Stage(steps=3, tasks=3, budget=80, warmup=2))
        sizes = {**SIZES, "asks_base": asks_base}
        wanted = recipe(base, encoder_folder, write_tasks(place / "tasks"), stages, generator=sizes)
        return wanted, train(wanted, place / "run"), curve(place / "run")

    return made


@pytest.mark.parametrize(("kill", "asks_base"), [(1, True), (3, False), (3, True), (5, False)])
def test_a_killed_run_goes_on_to_the_same_weights_and_curve(run_whole, tmp_path, kill, asks_base):
    wanted, whole, its_curve = run_whole(asks_base)
    with pytest.raises(Killed):
        train(wanted, tmp_path / "cut", killed_at(kill))
    resumed = train(wanted, tmp_path / "cut")
    assert same_weights(whole, resumed)
    assert its_curve == curve(tmp_path / "cut")
    assert not same_weights(whole, Generator(whole.config, seed=wanted.seed))


@pytest.mark.parametrize("swapped", ["base", "encoder"])
def test_a_run_goes_on_with_the_weights_that_it_began_with_or_not_at_all(
    base, encoder_folder, tasks_folder, tmp_path, swapped
):
    places = {
        name: str(shutil.copytree(place, tmp_path / name))
        for name, place in zip(("base", "encoder"), (base, encoder_folder), strict=True)
    }
    wanted = recipe(places["base"], places["encoder"], tasks_folder, (Stage(steps=1),))
    for _ in range(2):
        Run(wanted, tmp_path / "run", print)
    (tmp_path / "run" / "weights.json").rename(tmp_path / "weights.json")
    Run(wanted, tmp_path / "run", print)  # one that was begun before they were noted
    file = tmp_path / swapped / "model.safetensors"
    save_file({name: weight + 1 for name, weight in load_file(file).items()}, file, {"format": "pt"})
    with pytest.raises(UsageError, match=r"begun with other weights of .*; put these back, name another folder or"):
        Run(wanted, tmp_path / "run", print)


def test_a_finished_run_leaves_a_generator_with_its_provenance_and_a_picture(
    base, encoder_folder, tasks_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(curves, "draw", draw_curves)
    wanted = recipe(base, encoder_folder, tasks_folder, (Stage(steps=3, tasks=2, budget=120),))
    train(wanted, tmp_path / "run")
    made = Generator.from_pretrained(tmp_path / "run" / "generator")
    assert made.provenance["recipe"]["base"] == base
    assert made.provenance["base_weights_sha256"] == weights_digest(base)
    assert made.provenance["fit_tasks"] + len(made.provenance["validation_tasks"]) == 6
    kept_back = held_out([tasks_folder], made.provenance)
    assert [task.name for task in kept_back] == sorted(made.provenance["validation_tasks"]) != []
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match="another recipe"):
        train(recipe(base, encoder_folder, tasks_folder, (Stage(steps=4),)), tmp_path / "run")


def test_training_end_to_end_lowers_the_loss_of_its_tasks(base, encoder_folder, tasks_folder, tmp_path):
    stage = Stage(steps=20, tasks=4, budget=160, warmup=5, learning_rate=1e-2)
    losses = losses_of(recipe(base, encoder_folder, tasks_folder, (stage,)), tmp_path / "run")
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_with_the_shared_adapter_alone_the_prompts_change_nothing(base, encoder_folder, tasks_folder, tmp_path):
    stage = Stage(steps=3, tasks=2, budget=120, warmup=1, bare=0.0, alone=1.0)
    told = []
    wanted = recipe(base, encoder_folder, tasks_folder, (stage,))
    made = train(wanted, tmp_path / "run", told.append)
    arms = {key for record in told for key in record if key.endswith("_full") or key.endswith("_bare")}
    assert arms == {"alone_full"}, "nothing that was not trained is measured"
    one, other = (made.generate(torch.randn(4, made.config.width)) for _ in range(2))
    assert torch.equal(one, other)
    assert not torch.equal(one, initial_grid(made.config.layout, 0)), "the shared adapter was trained"
    multi_task = Adapter.load(tmp_path / "run" / "shared-adapter", models.load_config(base))
    assert torch.allclose(multi_task.grid, one, atol=1e-3), "and stands beside the generator, in float16"


def test_the_strength_with_the_least_held_out_loss_is_kept(base, encoder_folder, tasks_folder, tmp_path):
    stage = Stage(steps=6, tasks=3, budget=120, warmup=1, learning_rate=3e-2)
    told = []
    changes = {"strengths": (0.01, 1.0, 40.0), "validate_every": 9}
    wanted = recipe(base, encoder_folder, tasks_folder, (stage,), **changes)
    made = train(wanted, tmp_path / "run", lambda record: told.append(record) if "strength" in record else None)
    losses = {record["strength"]: record["own_full_loss"] + record["own_bare_loss"] for record in told}
    assert list(losses) == [0.01, 1.0, 40.0]
    best = min(losses, key=losses.get)
    assert made.provenance["strength"] == best
    plain = train(recipe(base, encoder_folder, tasks_folder, (stage,), validate_every=9), tmp_path / "plain")
    assert torch.allclose(made.head.weight, plain.head.weight * best)


def test_a_shared_adapter_goes_as_far_from_where_it_began_as_serves_held_out_tasks(
    base, encoder_folder, tasks_folder, tmp_path
):
    stage = Stage(steps=4, tasks=2, budget=120, warmup=1, bare=0.0, alone=1.0)
    began = train(recipe(base, encoder_folder, tasks_folder, (stage,)), tmp_path / "began")
    shared = {"shared": str(tmp_path / "began" / "shared-adapter"), "seed": 1, "validate_every": 9}
    told = []
    halfway = recipe(base, encoder_folder, tasks_folder, (stage,), strengths=(0.01, 0.5, 40.0), **shared)
    made = train(halfway, tmp_path / "made", lambda record: told.append(record) if "strength" in record else None)
    losses = {record["strength"]: record["alone_full_loss"] for record in told}
    assert list(losses) == [0.01, 0.5, 40.0]
    best = min(losses, key=losses.get)
    assert made.provenance["strength"] == best
    whole = train(recipe(base, encoder_folder, tasks_folder, (stage,), **shared), tmp_path / "whole")
    moved = best * (whole.start - began.start)  # kept in 16 bits each, and so off by as many times as it is scaled
    assert torch.allclose(made.start, began.start + moved, atol=1e-4 * max(1.0, best))


def test_the_shared_adapter_learns_at_its_own_rate(base, encoder_folder, tasks_folder, tmp_path):
    changes = []
    for shared in (1.0, 4.0):
        stage = Stage(steps=1, tasks=2, budget=120, warmup=1, learning_rate=1e-4, shared=shared)
        made = train(recipe(base, encoder_folder, tasks_folder, (stage,)), tmp_path / str(shared))
        changes.append(float((made.start - initial_grid(made.config.layout, 0)).abs().max()))
    assert changes[0] == pytest.approx(1e-4, rel=0.05)
    assert changes[1] == pytest.approx(4e-4, rel=0.05)


def test_a_generator_goes_on_with_another_shared_adapter_that_is_held_still(
    base, encoder_folder, tasks_folder, tmp_path
):
    stage = Stage(steps=2, tasks=2, budget=120, warmup=1)
    first, other = (
        train(recipe(base, encoder_folder, tasks_folder, (stage,), seed=seed), tmp_path / str(seed)) for seed in (0, 1)
    )
    still = Stage(steps=2, tasks=2, budget=120, warmup=1, alone=0.0, shared=0.0)
    names = {"start": str(tmp_path / "0" / "generator"), "shared": str(tmp_path / "1" / "shared-adapter")}
    second = train(recipe(base, encoder_folder, tasks_folder, (still,), **names), tmp_path / "second")
    assert torch.allclose(second.start, other.start, atol=1e-3), "in float16"
    assert not torch.equal(second.head.weight, first.head.weight)
    assert second.training_hours > first.training_hours > 0, "those of its start are told, too"
    assert "hours" not in json.dumps(second.provenance)
    assert json.dumps(second.provenance).count("validation_tasks") == 1, "earlier ones follow from recipe and tasks"
    with pytest.raises(UsageError, match="alone must be 0"):
        Stage(steps=1, shared=0.0)


def test_reconstruction_brings_the_generator_to_its_teachers_and_end_to_end_follows(
    base, encoder_folder, tasks_folder, collected, tmp_path
):
    stages = (
        Stage(steps=12, objective="reconstruction", tasks=2, warmup=3, learning_rate=1e-2),
        Stage(steps=1, tasks=2, budget=100),
    )
    changes = {"teachers": str(collected[0]), "validation": 0.05, "seed": 1}
    losses = losses_of(recipe(base, encoder_folder, tasks_folder, stages, **changes), tmp_path / "run")
    assert len(losses) == 13
    assert losses[11] < 0.8 * losses[0]


@pytest.mark.parametrize("canonical", [False, True])
def test_the_product_objective_brings_the_updates_to_the_teachers(
    base, encoder_folder, tasks_folder, collected, tmp_path, canonical
):
    folder, _ = collected
    stage = Stage(objective="product", steps=20, tasks=2, learning_rate=1e-2, warmup=5)
    wanted = recipe(base, encoder_folder, tasks_folder, (stage,), teachers=str(folder), canonical=canonical)
    losses = losses_of(wanted, tmp_path / "run")
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


@pytest.mark.parametrize("taught", [False, True])
def test_distillation_adds_what_the_instructed_teacher_says(
    base, encoder_folder, tasks_folder, collected, tmp_path, taught
):
    folder, _ = collected
    first = []
    for distil in (0.0, 0.5, 1.0):
        stage = Stage(steps=1, tasks=3, budget=120, bare=1.0, distil=distil, twisted=0.0)
        wanted = recipe(base, encoder_folder, tasks_folder, (stage,), teachers=str(folder) if taught else "")
        first += losses_of(wanted, tmp_path / f"run{distil}")
    assert first[1] > first[0] * 0.5
    assert first[2] > first[1], "more weight, more loss on the same draw"


def test_a_twisted_task_does_not_learn_from_the_teacher_of_the_task_that_it_was(
    base, encoder_folder, tasks_folder, collected, tmp_path
):
    wanted = recipe(base, encoder_folder, tasks_folder, (Stage(steps=1),), teachers=str(collected[0]))
    run = Run(wanted, tmp_path / "run", print)
    task = next(task for task in run.fit if task.name in run.teachers.names)
    own, shared = run._told([task, augmentation.draw(task, Random(0))])
    assert torch.equal(own, run.teachers.last(task.name))
    assert torch.equal(shared, run.generator.start)


def test_reconstruction_without_teachers_says_what_to_do(base, encoder_folder, tasks_folder):
    with pytest.raises(UsageError, match="needs teachers"):
        recipe(base, encoder_folder, tasks_folder, (Stage(steps=1, objective="reconstruction"),))


def test_teachers_share_their_start_and_keep_the_snapshots_asked_for(collected, layout):
    folder, _ = collected
    manifest = json.loads((folder / "manifest.json").read_text())["teachers"]
    assert len(manifest) == 3
    for record in manifest:
        assert {"seconds", "loss", "validation", "validation_before", "learned"} <= record.keys()
        assert [step.name for step in sorted((folder / record["task"]).glob("step-*"))] == ["step-0002", "step-0003"]
    assert torch.equal(initial_grid(layout, 0), teachers.initial_grid(layout, 0))
    loaded = teachers.Teachers(folder, layout)
    assert loaded.draw(manifest[0]["task"], Random(0)).shape == layout.shape
    assert loaded.weight.mean().item() == pytest.approx(1, rel=1e-3)


def test_a_collection_goes_on_with_what_is_missing_and_leaves_the_rest(collected, tasks_folder):
    folder, options = collected
    tasks = read_tasks([tasks_folder])[:3]
    shutil.rmtree(folder / tasks[1].name)
    before = {task.name: (folder / task.name / "teacher.json").stat().st_mtime_ns for task in (tasks[0], tasks[2])}
    trained = []
    teachers.collect(
        tasks, folder, options, lambda record: trained.extend([record["task"]] if "task" in record else [])
    )
    assert trained == [tasks[1].name]
    assert before == {name: (folder / name / "teacher.json").stat().st_mtime_ns for name in before}
    with pytest.raises(UsageError, match="other options"):
        teachers.collect(tasks, folder, teachers.TeacherOptions(base=options.base, steps=4))


def test_a_teacher_that_did_not_learn_is_marked_and_not_read(base, tasks_folder, layout, tmp_path):
    options = teachers.TeacherOptions(base=base, steps=1, budget=100, least_gain=0.99)
    manifest = teachers.collect(read_tasks([tasks_folder])[:1], tmp_path / "t", options)
    assert not manifest[0]["learned"]
    with pytest.raises(UsageError, match="no teacher that learned"):
        teachers.Teachers(tmp_path / "t", layout)
