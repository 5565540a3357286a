"""The training run: a recipe in, a generator folder out; killed at any moment, it goes on where it was.

Every step draws its tasks, prompts and examples from a random generator seeded by the step's number, so a
resumed run sees exactly what an uninterrupted one would have seen. A run's folder holds

    recipe.json       what was asked for, and the digests of all it was asked of; anything else is refused
    weights.json      digests of the base's and the encoder's weights; with others it does not go on
    checkpoint.pt     step, weights, optimiser (checkpoint.py)
    curves.csv        loss of every logged step, validation beside; curves.png drawn from it (curves.py)
    generator/        the finished generator (finish.py)
    shared-adapter/   the adapter that every job shares, as a PEFT folder; with alone = 1 and bare = 0 it is
                      a plain multi-task LoRA, and the generator's decoder is as it was
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.peft import adapter_digest
from prompt2lora.base import models
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.logits import answer_logits
from prompt2lora.base.weights import weights_digest
from prompt2lora.errors import UsageError
from prompt2lora.generator.text_encoder import Encoder
from prompt2lora.ground.files import claim
from prompt2lora.ground.home import home
from prompt2lora.ground.progress import Report
from prompt2lora.training import curves, objectives, sampling, synthetic
from prompt2lora.training.checkpoint import Checkpoint, CheckpointWriter
from prompt2lora.training.drawing import Drawing, DrawnAhead, drawing_processes, seeded
from prompt2lora.training.grids import READ_ALL, Grids
from prompt2lora.training.initial import initial_generator
from prompt2lora.training.optimiser import SETTLING, optimiser_of, set_rate
from prompt2lora.training.recipe import Recipe, Stage
from prompt2lora.training.selection import tasks_digest, training_tasks
from prompt2lora.training.tasks import Task
from prompt2lora.training.teachers import Teachers
from prompt2lora.training.validation import AFTER, ALONE, ARMS, PRACTISED, PROMPTS, GridsOf, validate

_KNOWN_CONDITIONS = 128  # tasks that tell what conditions look like
_DRAW_EVERY = 60  # seconds; a picture takes as long as a step of a small base


class Run:
    """A recipe with everything loaded that its steps need."""

    def __init__(self, recipe: Recipe, folder: Path, report: Report) -> None:
        self.recipe, self.folder, self.report = recipe, folder, report
        self.device = models.default_device()
        self.dtype = models.default_dtype(self.device) if recipe.dtype == "auto" else getattr(torch, recipe.dtype)
        self.fit, self.validation = training_tasks(recipe)
        everyone = [*self.fit, *self.validation]
        # What is remembered was encoded text by text: it depends on nothing but the text (see `Encoder.remember`).
        device = "cpu" if self.device == "mps" else self.device
        self.encoder = Encoder(recipe.encoder, cache=home() / "training-conditions.sqlite", device=device)
        self.encoder.load()
        self.prompts = sampling.PromptPool(everyone, most=recipe.prompts, known=recipe.known, seed=recipe.seed)
        generator, self.earlier, self.earlier_hours, self.shared = initial_generator(recipe)
        self.generator = generator.to(self.device)
        self.layout = self.generator.config.layout
        self.began = self.generator.start.detach().clone()  # the shared adapter before any step
        self.grids = Grids(self.generator, self.encoder, lambda: self.base, self.device, self.dtype)
        self.teachers: Teachers | None = None
        if recipe.teachers:
            self.teachers = Teachers(Path(recipe.teachers), self.layout, canonical=recipe.canonical)
        self.step, self.seconds = 0, 0.0
        self._began_anew = -SETTLING  # the step at which the optimiser began anew, within a stage
        self._optimiser: tuple[int, torch.optim.Optimizer] | None = None
        refusal = f"{folder} belongs to another recipe or to other tasks; name another folder or remove it"
        claim(folder / "recipe.json", self.origin, refusal)
        weights = {"base": weights_digest(recipe.base), "encoder": self.encoder.weights_digest}
        refusal = (
            f"{folder} was begun with other weights of {recipe.base} or {recipe.encoder}; put these back, name another "
            "folder or remove it"
        )
        claim(folder / "weights.json", weights, refusal)

    @cached_property
    def origin(self) -> dict[str, Any]:
        """All that the run's weights depend on, by what it is and not by where it lies."""
        recipe = self.recipe
        found = {**recipe.method(), "tasks": tasks_digest([*self.fit, *self.validation])}
        if recipe.start:
            found["start"] = self.earlier["sha256"]
        if recipe.shared:
            found["shared"] = adapter_digest(Path(recipe.shared))
        if self.teachers:
            found["teachers"] = self.teachers.digest
        return found

    @cached_property
    def base(self) -> Frozen:
        """The frozen base and its chat format; loaded only if something asks for it."""
        return Frozen.load(self.layout, dtype=self.dtype, training=True)

    @cached_property
    def fresh_families(self) -> list[str]:
        """Families of the synthetic tasks that are drawn anew: not those held out, where the tasks are synthetic."""
        held_out = {task.family for task in self.validation}
        names = synthetic.families(self.recipe.languages)
        return [name for name in names if f"{synthetic.PREFIX}{name}" not in held_out]

    @cached_property
    def taught(self) -> dict[str, Task]:
        """The tasks that a teacher has learned, by name."""
        names = self.teachers.names if self.teachers else frozenset()
        return {task.name: task for task in self.fit if task.name in names}

    def prepare(self) -> None:
        """Encode every text that may be drawn (cached on disk)."""
        everyone = [*self.fit, *self.validation]
        self.encoder.remember(
            self.prompts.texts(everyone),
            lambda done, total: self.report({"done": done, "of": total}),
        )

    def train(self) -> None:
        """Every step that is still to be made."""
        self._resume()
        drawing = Drawing(self.recipe, self.fit, self.fresh_families, self.prompts, self.base.chat)
        ahead = DrawnAhead(drawing, self.recipe.steps, drawing_processes(self.device))
        with CheckpointWriter(self.folder) as writer, ahead as self._drawn:
            self._make_steps(writer)

    def _make_steps(self, writer: CheckpointWriter) -> None:
        drawn, logged = time.monotonic(), (self.step, time.monotonic())
        while self.step < self.recipe.steps:
            began = time.monotonic()
            number, inside = self.recipe.stage_at(self.step)
            goes_on = number == 0 and self.recipe.start and not self.recipe.shared
            if not inside and not goes_on and self.recipe.decodes:
                self._standardise()
            record = self._update(number, inside)
            self.step += 1
            last = self.step == self.recipe.steps
            validated = last or self.step % self.recipe.validate_every == 0
            if validated:
                record |= self.validate()
            self.seconds += time.monotonic() - began
            if validated or self.step % self.recipe.log_every == 0:
                pace = (time.monotonic() - logged[1]) / (self.step - logged[0])
                line = {"step": self.step, "seconds": round(self.seconds, 3), **record, "step_seconds": round(pace, 3)}
                if self.device == "cuda":
                    line["memory"] = torch.cuda.max_memory_allocated()
                logged = (self.step, time.monotonic())
                curves.add(self.folder, line)
                self.report({"done": self.step, "of": self.recipe.steps, **line})
            if last or (validated and time.monotonic() - drawn > _DRAW_EVERY):
                curves.draw(self.folder)
                drawn = time.monotonic()
            if last or self.step % self.recipe.save_every == 0:
                self._save(writer)

    def _standardise(self) -> None:
        """What conditions look like, from a few hundred fit tasks."""
        tasks = Random(self.recipe.seed).sample(self.fit, min(_KNOWN_CONDITIONS, len(self.fit)))
        self.grids.standardise([self.prompts.usual(task, PROMPTS) for task in tasks])

    def _update(self, number: int, inside: int) -> dict[str, float]:
        random, dropout = seeded(self.recipe.seed, self.step)
        torch.manual_seed(dropout)
        stage = self.recipe.stages[number]
        optimiser = self._optimiser_of(number)
        rate = set_rate(optimiser, stage, inside, anew=self.step - self._began_anew)
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

    def _losses(self, stage: Stage, random: Random) -> tuple[Float[Tensor, " batch"], float]:
        if stage.objective == "end-to-end":
            return self._end_to_end(stage)
        assert self.teachers is not None  # the recipe was refused otherwise
        taught = list(self.taught.values())
        tasks = sampling.draw_tasks(taught, sampling.task_weights(taught), stage.tasks, random)
        target = torch.stack([self.teachers.draw(task.name, random) for task in tasks]).to(self.device)
        grid = self.grids.of([self.prompts.draw(task, random) for task in tasks])
        if stage.objective == "product":
            return objectives.product(grid, target, self.layout), float("nan")
        return objectives.reconstruction(grid, target, self.teachers.weight.to(self.device)), float("nan")

    def _end_to_end(self, stage: Stage) -> tuple[Float[Tensor, " batch"], float]:
        model, (questions, groups) = self.base.model, self._drawn(self.step)
        packs = questions.packs.to(self.device)
        if questions.others:
            grid = self.grids.after_practice(questions.tasks, questions.others, stage)
        else:
            grid = self.grids.of(groups, questions.alone)
        logits = answer_logits(model, self.layout, grid, packs)
        answers = objectives.judged(logits, packs)
        loss = answers.loss
        if questions.told is not None:
            told, taught = questions.told.to(self.device), torch.tensor(questions.taught, device=self.device)
            with torch.no_grad():
                teachers = self._told([questions.tasks[i] for i in questions.taught])
                teacher = answer_logits(model, self.layout, teachers, told)
            mine = logits[torch.isin(packs.place[:, 0], taught)]
            loss = loss.index_add(0, taught, stage.distil * objectives.distillation(mine, teacher, told))
        return loss, float(answers.exact.mean())

    def _told(self, tasks: Sequence[Task]) -> Float[Tensor, "batch layers rows cols"]:
        """The adapters that the distillation learns from: the tasks' own teachers or, where there is none or a task was
        twisted, the shared adapter alone."""
        shared = self.generator.start.detach()

        def teacher(task: Task) -> Float[Tensor, "layers rows cols"]:
            if self.teachers is None or self.taught.get(task.name) != task:
                return shared
            return self.teachers.last(task.name).to(self.device)

        return torch.stack([teacher(task) for task in tasks])

    @torch.no_grad()
    def validate(self, arms: Sequence[str] = ARMS) -> dict[str, float]:
        """Loss and exact match on the held-out training tasks, by arm; only of what is trained."""
        self.generator.eval()
        tasks = self.validation
        prompts = [self.prompts.usual(task, PROMPTS) for task in tasks]
        others = [*prompts[len(prompts) // 2 :], *prompts[: len(prompts) // 2]]
        makers: dict[str, GridsOf] = {ALONE: lambda _: self.generator.start[None]}
        if self.recipe.practises:
            stage, shown = self.recipe.stages[-1], [task.train[:PRACTISED] for task in tasks]
            makers[AFTER] = lambda some: self.grids.after_practice(tasks[some], shown[some], stage)
        if self.recipe.decodes:
            makers["own"] = lambda some: self.grids.of(prompts[some], budget=READ_ALL)
            makers["wrong"] = lambda some: self.grids.of(others[some], budget=READ_ALL)
        return validate(self.base, tasks, makers, arms)

    def _optimiser_of(self, number: int) -> torch.optim.Optimizer:
        """The optimiser of a stage; every stage begins with a new one."""
        if self._optimiser is None or self._optimiser[0] != number:
            made = optimiser_of(self.generator, self.recipe.stages[number], self.device)
            self._optimiser = (number, made)
        return self._optimiser[1]

    def _save(self, writer: CheckpointWriter) -> None:
        assert self._optimiser is not None
        index, optimiser = self._optimiser
        state = self.generator.state_dict()
        writer.write(Checkpoint(self.step, self.seconds, state, index, optimiser.state_dict()))

    def _resume(self) -> None:
        saved = Checkpoint.load(self.folder, self.device)
        if saved:
            self.generator.load_state_dict(saved.generator)
            self.step, self.seconds = saved.step, saved.seconds
            if saved.optimiser:
                self._optimiser_of(saved.stage).load_state_dict(saved.optimiser)
            else:
                self._began_anew = self.step
            self.report({"resumed_at": self.step})
        curves.forget_after(self.folder, self.step)
