"""The training run: a recipe in, a generator folder out; killed at any moment, it goes on where it was.

Every step draws its tasks, prompts and rows from a random generator seeded by the step's number, so a
resumed run sees exactly what an uninterrupted one would have seen. A run's folder holds

    recipe.json       what was asked for; another recipe is refused
    checkpoint.pt     step, weights, optimiser (replaced as a whole)
    curves.csv        loss of every logged step, validation rows beside; curves.png drawn from it
    generator/        the finished generator
    shared-adapter/   the adapter that every job shares, as a PEFT folder; with alone = 1 and bare = 0 it is
                      a plain multi-task LoRA
"""

from __future__ import annotations

import csv
import io
import math
import pickle
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from prompt2lora.adapter.health import Reference
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.packing import UNLIMITED, Pack, PackBatch, stack
from prompt2lora.base.versions import versions
from prompt2lora.base.weights import weights_digest
from prompt2lora.errors import DamagedFile, UsageError
from prompt2lora.generator.atlas import Atlas
from prompt2lora.generator.generator import Generator, GeneratorConfig
from prompt2lora.generator.hidden_states import prompt_ids, read_packs, reading_pack
from prompt2lora.generator.pipeline import Pipeline
from prompt2lora.generator.text_encoder import cached_encoder, pad
from prompt2lora.ground.files import claim, write_bytes, write_text
from prompt2lora.ground.progress import Report, silent
from prompt2lora.training import augmentation, objectives, sampling, synthetic
from prompt2lora.training.recipe import Recipe, Stage
from prompt2lora.training.tasks import Task, diverse, read_tasks, split_families
from prompt2lora.training.teachers import Teachers

_FEWEST_ADAPTERS, _MOST_ADAPTERS = 16, 140  # that tell what an adapter of this generator usually looks like
_VALIDATION_EXAMPLES = 24
_VALIDATION_PROMPTS = 16
_KNOWN_CONDITIONS = 400  # tasks that tell what conditions look like
_READ, _READ_ALL = 192, 512  # tokens of a job's prompts that the base reads in training and in validation
_ARMS = ("alone_full", "own_full", "own_bare", "wrong_bare")  # whose adapter, and the form of the model's prompt


class Run:
    """A recipe with everything loaded that its steps need."""

    def __init__(self, recipe: Recipe, folder: Path, report: Report) -> None:
        self.recipe, self.folder, self.report = recipe, folder, report
        self.device = models.default_device()
        tasks = read_tasks([Path(recipe.tasks)], split="train")
        for task in tasks:
            if not task.train or not task.test:
                raise UsageError(f"task {task.name} needs rows of both parts, train and test; add some or leave it out")
        self.fit, self.validation = split_families(tasks, recipe.validation)
        self.fit = diverse(self.fit, recipe.most) if recipe.most else self.fit
        if not self.fit:
            raise UsageError(f"validation {recipe.validation} holds out every task; lower it or add task families")
        self.encoder = cached_encoder(recipe.encoder)
        self.encoder.load()
        everyone = [*self.fit, *self.validation]
        self.prompts = sampling.Prompts(everyone, most=recipe.prompts, known=recipe.known, seed=recipe.seed)
        self.generator = self._generator().to(self.device)
        self.layout = self.generator.config.layout
        self.teachers: Teachers | None = None
        if recipe.teachers:
            self.teachers = Teachers(Path(recipe.teachers), self.layout, canonical=recipe.canonical)
        self.step, self.seconds = 0, 0.0
        self._optimiser: tuple[int, torch.optim.Optimizer] | None = None
        refusal = f"{folder} belongs to another recipe; name another folder or remove it"
        claim(folder / "recipe.json", recipe.to_dict(), refusal)

    def _generator(self) -> Generator:
        recipe = self.recipe
        config = models.load_config(recipe.base)
        layout = LoraLayout.from_config(config, base_model=recipe.base, rank=recipe.rank, targets=recipe.targets)
        if recipe.start:
            start = Generator.from_pretrained(recipe.start)
            if start.config.layout.digest != layout.digest:
                raise UsageError(f"{recipe.start} makes adapters of another layout than the recipe; name another start")
            if start.config.encoder != recipe.encoder:
                raise UsageError(f"{recipe.start} reads prompts by {start.config.encoder}; name that encoder")
            generator = start.train().requires_grad_(True)
        else:
            try:
                sized = GeneratorConfig.sized(layout, encoder=recipe.encoder, **recipe.generator)
            except TypeError as error:
                raise UsageError(f"[generator] of the recipe: {error}; see the recipes in recipes/") from error
            generator = Generator(sized, seed=recipe.seed)
        if recipe.shared:
            generator.start.data.copy_(Adapter.load(Path(recipe.shared), config).grid)
        return generator

    @cached_property
    def base(self) -> Frozen:
        """The frozen base and its chat format; loaded only if something asks for it."""
        return Frozen.load(self.layout, training=True)

    def prepare(self) -> None:
        """Encode every text that may be drawn (cached on disk), and standardise new conditions."""
        everyone = [*self.fit, *self.validation]
        self.encoder.remember(
            self.prompts.texts(everyone),
            lambda done, total: self.report({"done": done, "of": total}),
        )

    def train(self) -> None:
        """Every step that is still to be made."""
        self._resume()
        while self.step < self.recipe.steps:
            began = time.monotonic()
            number, inside = self.recipe.stage_at(self.step)
            goes_on = number == 0 and self.recipe.start and not self.recipe.shared
            if not inside and not goes_on:
                self._standardise()
            record = self._update(number, inside)
            self.step += 1
            last = self.step == self.recipe.steps
            if last or self.step % self.recipe.validate_every == 0:
                record |= self.validate()
            self.seconds += time.monotonic() - began
            if last or "own_bare" in record or self.step % self.recipe.log_every == 0:
                self._log({"step": self.step, "seconds": round(self.seconds, 1), **record})
            if last or self.step % self.recipe.save_every == 0:
                self._save()

    def _standardise(self) -> None:
        """What conditions look like, from a few hundred fit tasks, as the shared adapter reads them now."""
        tasks = Random(self.recipe.seed).sample(self.fit, min(_KNOWN_CONDITIONS, len(self.fit)))
        groups = [self.prompts.usual(task, _VALIDATION_PROMPTS) for task in tasks]
        means = [group.mean(0) for at in range(0, len(groups), 16) for group in self._conditions(groups[at : at + 16])]
        self.generator.pooling.standardise(torch.stack(means))

    def _conditions(self, groups: Sequence[Sequence[str]], budget: int = _READ) -> list[Tensor]:
        """Conditions of several jobs' prompts, of each as many prompts as the budget of tokens holds."""
        if not self.generator.config.states:
            return [self.encoder.conditions(group, keep=False) for group in groups]
        packs = [reading_pack(prompt_ids(self.base.chat, group), budget) for group in groups]
        read = read_packs(self.base, self.generator.start.detach(), packs)
        texts = [[group[i] for i in pack.used] for group, pack in zip(groups, packs, strict=True)]
        return [
            torch.cat([self.encoder.conditions(some, keep=False).to(self.device), states], 1)
            for some, states in zip(texts, read, strict=True)
        ]

    def _update(self, number: int, inside: int) -> dict[str, float]:
        random = Random(f"{self.recipe.seed} {self.step}")
        torch.manual_seed(random.getrandbits(63))  # for dropout
        stage = self.recipe.stages[number]
        optimiser = self._optimiser_of(number)
        rate = stage.learning_rate * _schedule(inside, stage)
        for group in optimiser.param_groups:
            group["lr"] = rate * group["multiple"]
        self.generator.train()
        losses, exact = self._losses(stage, random)
        loss = losses.mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.generator.parameters(), stage.clip)
        if not torch.isfinite(norm):
            raise UsageError(f"step {self.step}: the gradient is not finite; lower learning_rate in the recipe")
        optimiser.step()
        return {"loss": float(loss.detach()), "exact": exact, "norm": float(norm), "rate": rate}

    def _losses(self, stage: Stage, random: Random) -> tuple[Tensor, float]:
        if stage.objective == "end-to-end":
            return self._end_to_end(stage, random)
        assert self.teachers is not None  # the recipe was refused otherwise
        taught = [task for task in self.fit if task.name in self.teachers.names]
        tasks = sampling.draw_tasks(taught, sampling.task_weights(taught), stage.tasks, random)
        target = torch.stack([self.teachers.draw(task.name, random) for task in tasks]).to(self.device)
        grid = self._grids([self.prompts.draw(task, random) for task in tasks])
        if stage.objective == "product":
            return objectives.product(grid, target, self.layout), float("nan")
        return objectives.reconstruction(grid, target, self.teachers.weight.to(self.device)), float("nan")

    def _end_to_end(self, stage: Stage, random: Random) -> tuple[Tensor, float]:
        model, chat, _ = self.base
        tasks = sampling.draw_tasks(self.fit, sampling.task_weights(self.fit), stage.tasks, random)
        tasks = [synthetic.draw_task(random) if random.random() < self.recipe.synthetic else task for task in tasks]
        tasks = [augmentation.draw(task, random) if random.random() < stage.twisted else task for task in tasks]
        bare = [random.random() < stage.bare for _ in tasks]
        alone = [not hidden and random.random() < stage.alone for hidden in bare]
        rows = [sampling.draw_examples(task, random) for task in tasks]

        def pack(i: int, *, hidden: bool, budget: int = stage.budget) -> Pack:
            return sampling.make_pack(tasks[i], rows[i], chat, bare=hidden, budget=budget)

        taught = [i for i in range(len(tasks)) if bare[i]] if stage.distil else []
        told: PackBatch | None = None
        if taught:
            whole = [pack(i, hidden=False) for i in taught]
            for i, found in zip(taught, whole, strict=True):
                rows[i] = [rows[i][j] for j in found.used]
            told = stack(whole, chat.padding).to(self.device)
        budgets = [UNLIMITED if i in taught else stage.budget for i in range(len(tasks))]
        packs = [pack(i, hidden=bare[i], budget=budget) for i, budget in enumerate(budgets)]
        asked = stack(packs, chat.padding).to(self.device)
        grid = self._grids([self.prompts.draw(task, random) for task in tasks], alone)
        logits = objectives.answer_logits(model, self.layout, grid, asked)
        answers = objectives.judged(logits, asked)
        loss = answers.loss
        if told is not None:
            with torch.no_grad():
                teacher = objectives.answer_logits(model, self.layout, self._told([tasks[i] for i in taught]), told)
            mine = logits[torch.isin(asked.place[:, 0], torch.tensor(taught, device=self.device))]
            divergence = objectives.distillation(mine, teacher, told)
            loss = loss.index_add(0, torch.tensor(taught, device=self.device), stage.distil * divergence)
        return loss, float(answers.exact.mean())

    def _told(self, tasks: Sequence[Task]) -> Tensor:
        """The adapters that the distillation learns from: the tasks' own teachers, or the shared adapter alone."""
        shared = self.generator.start.detach()
        known = self.teachers.names if self.teachers else frozenset()
        return torch.stack(
            [
                self.teachers.last(task.name).to(self.device) if self.teachers and task.name in known else shared
                for task in tasks
            ]
        )

    def _grids(self, groups: Sequence[Sequence[str]], alone: Sequence[bool] = (), *, budget: int = _READ) -> Tensor:
        """Weight grids generated from groups of prompts; where `alone`, the shared adapter instead."""
        if alone and all(alone):
            return self.generator.start[None]  # one adapter serves all rows
        conditions, mask = pad(self._conditions(groups, budget))
        fast = models.default_dtype(self.device) == torch.bfloat16 and self.device != "mps"
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=fast):
            grid: Tensor = self.generator(conditions.to(self.device), mask.to(self.device))
        if any(alone):
            shared = torch.tensor(alone, device=self.device)[:, None, None, None]
            grid = torch.where(shared, self.generator.start, grid)
        return grid

    @torch.no_grad()
    def validate(self, arms: Sequence[str] = _ARMS) -> dict[str, float]:
        """Loss and exact match on the held-out training tasks, by arm."""
        model, chat, _ = self.base
        self.generator.eval()
        result: dict[str, list[float]] = {}
        usual = [self.prompts.usual(task, _VALIDATION_PROMPTS) for task in self.validation]
        groups = {"own": usual, "wrong": [*usual[len(usual) // 2 :], *usual[: len(usual) // 2]]}
        kinds, forms = (sorted({arm.split("_")[part] for arm in arms}) for part in (0, 1))
        for at in range(0, len(usual), 8):
            tasks = self.validation[at : at + 8]
            grids = {kind: self._grids(groups[kind][at : at + 8], budget=_READ_ALL) for kind in kinds if kind in groups}
            grids["alone"] = self.generator.start[None]
            batches = {}
            for form in forms:
                packs = [
                    sampling.make_pack(task, task.test[:_VALIDATION_EXAMPLES], chat, bare=form == "bare", budget=256)
                    for task in tasks
                ]
                batches[form] = stack(packs, chat.padding).to(self.device)
            for arm in arms:
                kind, form = arm.split("_")
                answers = objectives.end_to_end(model, self.layout, grids[kind], batches[form])
                result.setdefault(f"{arm}_loss", []).extend(answers.loss.tolist())
                result.setdefault(arm, []).extend(answers.exact.tolist())
        return {key: sum(values) / len(values) for key, values in result.items()}

    def _optimiser_of(self, index: int) -> torch.optim.Optimizer:
        """The optimiser of a stage; every stage begins with a new one."""
        stage = self.recipe.stages[index]
        if self._optimiser is None or self._optimiser[0] != index:
            rest = [p for name, p in self.generator.named_parameters() if name != "start"]
            self.generator.start.requires_grad_(stage.shared > 0)
            groups: list[dict[str, Any]] = [
                {"params": [self.generator.start], "multiple": stage.shared, "weight_decay": 0.0},
                {"params": [p for p in rest if p.ndim > 1], "multiple": 1.0, "weight_decay": stage.weight_decay},
                {"params": [p for p in rest if p.ndim <= 1], "multiple": 1.0, "weight_decay": 0.0},
            ]
            self._optimiser = (
                index,
                torch.optim.AdamW(groups, lr=stage.learning_rate, betas=(0.9, 0.98), fused=self.device != "mps"),
            )
        return self._optimiser[1]

    def _save(self) -> None:
        assert self._optimiser is not None
        index, optimiser = self._optimiser
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "generator": self.generator.state_dict(),
            "stage": index,
            "optimiser": optimiser.state_dict(),
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_bytes(self.folder / "checkpoint.pt", buffer.getvalue())

    def _resume(self) -> None:
        file = self.folder / "checkpoint.pt"
        if file.exists():
            try:
                saved = torch.load(file, map_location=self.device, weights_only=True)
            except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
                raise DamagedFile(f"{file} is damaged; remove the folder and train anew") from error
            self.generator.load_state_dict(saved["generator"])
            self.step, self.seconds = saved["step"], saved["seconds"]
            self._optimiser_of(saved["stage"]).load_state_dict(saved["optimiser"])
            self.report({"resumed_at": self.step})
        self._forget_after(self.step)

    def _forget_after(self, step: int) -> None:
        """Take back the curve's rows of steps that the checkpoint does not hold: they will be made again."""
        file = self.folder / "curves.csv"
        if file.exists():
            head, *rows = file.read_text(encoding="utf-8").splitlines()
            kept = [row for row in rows if int(row.split(",", 1)[0]) <= step]
            write_text(file, "\n".join([head, *kept]) + "\n")

    def _log(self, record: dict[str, Any]) -> None:
        file = self.folder / "curves.csv"
        columns = ["step", "seconds", "loss", "exact", "norm", "rate"]
        columns += [f"{arm}{kind}" for arm in _ARMS for kind in ("", "_loss")]
        new = not file.exists()
        with file.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, columns)
            if new:
                writer.writeheader()
            writer.writerow({key: round(v, 5) if isinstance(v, float) else v for key, v in record.items()})
        self.report({"done": self.step, "of": self.recipe.steps, **record})
        if "own_bare" in record or self.step == self.recipe.steps:
            draw_curves(file, self.folder / "curves.png")

    @torch.no_grad()
    def _strength(self) -> float:
        """Scale the decoder's output by what serves the held-out training tasks best; returns the factor."""
        strengths = self.recipe.strengths
        if len(strengths) == 1 or not self.validation:
            best = strengths[0]
        else:
            losses = {}
            head = self.generator.head.weight.clone()
            for strength in strengths:
                self.generator.head.weight.copy_(head * strength)
                found = self.validate(("own_full", "own_bare"))
                losses[strength] = found["own_full_loss"] + found["own_bare_loss"]
                self.report({"strength": strength, **found})
            self.generator.head.weight.copy_(head)
            best = min(losses, key=lambda strength: losses[strength])
        self.generator.head.weight.mul_(best)
        return best

    def finish(self) -> Generator:
        """The generator of a trained run, at its best strength, with what it knows about itself; kept in the folder."""
        strength = self._strength()
        generator = self.generator.eval().requires_grad_(False).cpu()
        earlier = generator.provenance
        generator.provenance = {
            "recipe": self.recipe.to_dict(),
            "base_weights_sha256": weights_digest(self.recipe.base),
            "fit_tasks": len(self.fit),
            "validation_tasks": [task.name for task in self.validation],
            "steps": self.step,
            "strength": strength,
            "hours": round(self.seconds / 3600, 2),
            "versions": versions(),
            **({"start": earlier} if earlier else {}),
        }
        generator.atlas = self._atlas(generator)
        target, shared = self.folder / "generator", self.folder / "shared-adapter"
        if not target.exists():
            generator.save_pretrained(target)
        if not shared.exists():
            Adapter(self.layout, generator.start, {"recipe": self.recipe.to_dict()}).save(shared)
        return generator

    @torch.no_grad()
    def _atlas(self, generator: Generator) -> Atlas:
        """Where the real training tasks lie and how their adapters look; for a few tasks, of several draws each."""
        tasks = self.fit
        usual = [self.prompts.usual(task, _VALIDATION_PROMPTS) for task in tasks]
        means = torch.stack([self.encoder.conditions(group).mean(0) for group in usual])
        drawn = [
            self.prompts.draw(tasks[i % len(tasks)], Random(f"{self.recipe.seed} atlas {i}"))
            for i in range(_FEWEST_ADAPTERS - len(usual))
        ]
        pipeline = Pipeline(generator, self.encoder, self.base if generator.config.states else self.layout)
        groups = usual + drawn
        every = math.ceil(len(groups) / _MOST_ADAPTERS)  # so that all families are among them
        grids = torch.stack([pipeline.make(group).grid for group in groups[::every]])
        health = Reference.of(grids, generator.start.detach(), self.layout)
        names, instructions = zip(*((task.name, task.instruction) for task in tasks), strict=True)
        return Atlas(names, instructions, means, health)


def train(recipe: Recipe, folder: Path, report: Report = silent) -> Generator:
    """Train by a recipe, or go on with the run that `folder` holds; returns the finished generator.

    `report` gets one dictionary per logged step. Raises UsageError for a folder of another recipe.
    """
    run = Run(recipe, folder, report)
    run.prepare()
    run.train()
    return run.finish()


def draw_curves(table: Path, picture: Path) -> None:
    """Loss and validation curves as a PNG; silently nothing if matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    with table.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    losses = ("loss", *(f"{arm}_loss" for arm in _ARMS))
    matches = ("exact", *_ARMS)
    for axes, columns in ((left, losses), (right, matches)):
        for column in columns:
            known = [row for row in rows if row[column] not in ("", "nan")]
            points = [(int(row["step"]), float(row[column])) for row in known]
            if points:
                axes.plot(*zip(*points, strict=True), label=column.replace("_", " "), linewidth=1, alpha=0.8)
        axes.set_xlabel("step")
        axes.legend()
    left.set_ylabel("loss per answer token")
    right.set_ylabel("exact match")
    figure.savefig(picture, dpi=120)


def _schedule(step: int, stage: Stage) -> float:
    """Linear warm-up, then a cosine down to a twentieth."""
    if step < stage.warmup:
        return (step + 1) / stage.warmup
    progress = torch.tensor((step - stage.warmup) / max(1, stage.steps - stage.warmup))
    return float(0.05 + 0.95 * 0.5 * (1 + torch.cos(progress * torch.pi)))
