"""The verbs of the command line as Python functions; the package gives them by their names. (A plant's are in
`plant`, and what answers with an engine is in `serving`.)

The only place, beside the command line, where real parts are joined. Every function checks all of its
request before it writes anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prompt2lora import machine
from prompt2lora.adapter import formats
from prompt2lora.adapter.folder import form_of
from prompt2lora.adapter.peft import Adapter
from prompt2lora.adapter.settings import read_config
from prompt2lora.base import models
from prompt2lora.base.chat import ChatFormat
from prompt2lora.base.constraints import check as check_form
from prompt2lora.base.decoding import answers
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.imported import Imported
from prompt2lora.base.imported import import_adapter as bring_in
from prompt2lora.errors import DamagedFile, InputError
from prompt2lora.evaluation import benchmark as judging
from prompt2lora.evaluation import engines
from prompt2lora.evaluation import report as reporting
from prompt2lora.evaluation.engines import Compared
from prompt2lora.evaluation.judge import DEFAULT_ARMS, FORMS, BenchmarkRequest
from prompt2lora.evaluation.named import PROMPTS_PER_TASK, Named
from prompt2lora.evaluation.published import benchmark as published
from prompt2lora.evaluation.published import measuring
from prompt2lora.evaluation.published.results import PublishedResult
from prompt2lora.evaluation.results import BenchmarkResult
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.pipeline import Generated, Pipeline
from prompt2lora.generator.released import default_generator
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.ground.files import check_new, check_writable
from prompt2lora.ground.pictures import Picture, Pictured, Prompt
from prompt2lora.ground.profile import MAX_NEW_TOKENS
from prompt2lora.ground.progress import Report, silent, steps, tell
from prompt2lora.ground.prompts import check_prompts
from prompt2lora.training import finish as training
from prompt2lora.training import release as releasing
from prompt2lora.training import teachers as teaching
from prompt2lora.training.recipe import Recipe, read_recipe
from prompt2lora.training.suites import COMMONSENSE, SUITES, teaching_parts
from prompt2lora.training.suites import without as without_suites
from prompt2lora.training.tasks import diverse, read_tasks, split_families

_SUITE_TOKENS = 2048  # of questions with options that teachers are compared on; other tasks' are short


def generate(
    prompts: Sequence[Prompt],
    out: str | Path,
    *,
    examples: Sequence[tuple[Prompt, str]] = (),
    form: AnswerForm | None = None,
    generator: str | Path | None = None,
    base: str | None = None,
    report: Report = tell,
) -> Generated:
    """Make an adapter from a handful of prompts of a job, and of examples (prompt, right answer) if there are some.

    If the prompts share an instruction (the text before their first blank line), the adapter also does without it what
    it does with it. A prompt may hold pictures (`prompt2lora.ground.pictures.Pictured`), for a base that reads them.
    There may be no prompts if there are examples. `form` is what the answers have to be (see
    `prompt2lora.ground.answer_form`); it is kept with the adapter.
    What looks wrong about the prompts is told as well. Raises UsageError, OutputError.
    """
    if form:
        check_form(form)
    check_prompts([*prompts, *(prompt for prompt, _ in examples)])
    check_new(Path(out), "output folder")
    step = steps(report, load=6, make=3 + 3 * min(12, len(examples)))
    with step("load"):
        pipeline = Pipeline.load(generator, base)
    with step("make"):
        made = pipeline.write(prompts, out, examples=examples, form=form)
    return replace(made, advice=tuple(pipeline.advise(prompts or [prompt for prompt, _ in examples])))


def benchmark(
    tasks: Sequence[str | Path],
    *,
    arms: Sequence[str] = DEFAULT_ARMS,
    forms: Sequence[str] = FORMS,
    seed: int = 0,
    seeds: int = 1,
    limit: int | None = None,
    out: str | Path | None = None,
    generator: str | Path | None = None,
    base: str | None = None,
    multi_task: str | Path | None = None,
    teachers: str | Path | None = None,
    reference: str | Path | None = None,
    prompts_per_task: int = PROMPTS_PER_TASK,
    split: str | None = None,
    scores: str | Path | None = None,
    dtype: str = "float32",
    report: Report = silent,
) -> BenchmarkResult:
    """Score arms on task files; see `prompt2lora.evaluation.benchmark` for what comes out.

    The arms multi-task, *-teacher and reference-decoder need the adapter folder `multi_task`, the collection
    `teachers` and the generator folder `reference`; nearest-teacher finds the teachers' tasks among `tasks`.
    `scores` is the file that keeps the scores of every example, so that a second call asks nothing again. `dtype`,
    float32 or bfloat16, is that of base and training, but for full-fine-tuning, which stays in float32; in float32
    figures do not depend on the processor.
    """
    return judging.benchmark(
        [Path(task) for task in tasks],
        _named(generator, base, multi_task, teachers, reference),
        BenchmarkRequest(tuple(arms), tuple(forms), tuple(range(seed, seed + seeds)), limit),
        split=split,
        prompts_per_task=prompts_per_task,
        out=Path(out) if out else None,
        scores=Path(scores) if scores else None,
        dtype=models.dtype_named(dtype),
        report=report,
    )


def benchmark_published(
    suites: str | Path,
    names: Sequence[str] = (),
    *,
    arms: Sequence[str] = DEFAULT_ARMS,
    seed: int = 0,
    seeds: int = 1,
    limit: int | None = None,
    samples: int = measuring.SAMPLES,
    metrics: Sequence[str] = (),
    out: str | Path | None = None,
    generator: str | Path | None = None,
    base: str | None = None,
    multi_task: str | Path | None = None,
    teachers: str | Path | None = None,
    reference: str | Path | None = None,
    tasks: Sequence[str | Path] = (),
    prompts_per_task: int = measuring.PROMPTS_PER_TASK,
    scores: str | Path | None = None,
    dtype: str = "float32",
    report: Report = silent,
) -> PublishedResult:
    """Score arms on published tasks, all of the folder `suites` or those of `names`.

    `{suite}` in the name of a generator or rival stands for the name of the suite: the one that was trained without it.
    Of every test example with a program for its answer, `samples` programs are drawn for pass@5. `metrics` are what is
    measured (none named: all), and nothing is computed for the others.
    """
    return published.benchmark(
        Path(suites),
        tuple(names),
        _named(generator, base, multi_task, teachers, reference),
        measuring.PublishedRequest(tuple(arms), tuple(range(seed, seed + seeds)), limit, samples, tuple(metrics)),
        tasks=[Path(task) for task in tasks],
        prompts_per_task=prompts_per_task,
        out=Path(out) if out else None,
        scores=Path(scores) if scores else None,
        dtype=models.dtype_named(dtype),
        report=report,
    )


def _named(*places: str | Path | None) -> Named:
    """Generator, base and rivals, in the order of `Named`."""
    return Named(*(str(place) if place else None for place in places))


def ask(
    adapter: str | Path | None,
    text: str,
    *,
    pictures: Sequence[Picture] = (),
    base: str | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
) -> str:
    """The answer of a base, with an adapter folder (and in the form that it tells) or (None) without.

    `base` is by default the one of the adapter; without an adapter, the one that `generate` makes adapters for.

    `pictures` stand before the text, for a base that reads them (`prompt2lora.ground.pictures.checked` makes them).
    Raises DamagedFile for an adapter that changes nothing, so that the base never answers under its name.
    """
    if not text.strip():
        raise InputError("no_text", "the text is blank, so there is nothing to ask; write something")
    settings = read_config(Path(adapter)) if adapter else {}
    name = base or settings.get("base_model_name_or_path") or default_generator().base
    loaded = Adapter.load(Path(adapter), models.load_config(name)) if adapter else None
    if loaded and not loaded.changes_something:
        raise DamagedFile(f"{adapter} answers as the base: its updates are all zero; ask without it, or make it again")
    model, tokenizer = models.load_base(name)
    given = answers(
        model,
        ChatFormat.of(model, tokenizer),
        check_prompts([Pictured(text, tuple(pictures)) if pictures else text]),
        layout=loaded.layout if loaded else None,
        grid=loaded.grid if loaded else None,
        form=form_of(loaded.provenance) if loaded else None,
        max_new_tokens=max_new_tokens,
    )
    return given[0]


def export(adapter: str | Path, to: str, out: str | Path, *, base: str | None = None) -> str:
    """Write an adapter folder in the files of another engine, at the strength of PEFT; returns how to load it.

    `to` is one of `adapter.formats.FORMATS`. Raises UsageError for another one, and if `out`
    exists; DamagedFile, OutputError.
    """
    formats.check_format(to)
    loaded, config = _opened(adapter, base)
    return formats.export(loaded, config, to, Path(out))


def import_adapter(
    folder: str | Path, out: str | Path, *, base: str | None = None, approximate: bool = False
) -> Imported:
    """Bring an adapter that was made elsewhere into the adapter profile, as the folder `out`.

    The base's new weights are those that PEFT makes of `folder`; an adapter of which no plain LoRA can make them is
    refused. `base` is where its base is found; None: under the name that the folder tells. With `approximate` a rank
    that engines do not take is lowered. Raises UsageError, DamagedFile, LayoutError, ModelNotFound, OutputError.
    """
    return bring_in(Path(folder), Path(out), base, approximate=approximate)


def check_export(
    adapter: str | Path, to: str, exported: str | Path, *, base: str | None = None, model: str = ""
) -> Compared:
    """Ask the engine itself, with the exported folder and without, and hold it against PEFT's arithmetic.

    `model` is the base as that engine's file or folder. Raises UsageError if the engine is not installed.
    """
    loaded, _ = _opened(adapter, base)
    layout = replace(loaded.layout, base_model=base) if base else loaded.layout
    return engines.check(loaded, Frozen.load(layout), Path(exported), to, model)


def _opened(adapter: str | Path, base: str | None) -> tuple[Adapter, Any]:
    """An adapter folder, and the configuration of its base (or of the one that is named)."""
    config = models.load_config(base or read_config(Path(adapter))["base_model_name_or_path"])
    return Adapter.load(Path(adapter), config), config


def collect(
    tasks: Sequence[str | Path],
    out: str | Path,
    *,
    suites: str | Path | None = None,
    names: Sequence[str] = COMMONSENSE,
    options: teaching.TeacherOptions | None = None,
    validation: float = 0.0,
    most: int | None = None,
    report: Report = silent,
) -> list[dict[str, Any]]:
    """Train a teacher LoRA for every training task; returns the manifest.

    `validation` leaves out the share of families that a recipe with the same number holds out; `most` takes
    only so many tasks, of as many families as possible. With the folder `suites` those published tasks of it that
    `names` names have teachers, too; measured on one of them, the others take part.
    """
    places = [Path(task) for task in tasks]
    fit, _ = split_families(read_tasks(places, split="train"), validation) if places else ([], [])
    chosen = diverse(fit, most) if most else fit
    if suites:
        chosen = [*without_suites(chosen, Path(suites), names), *teaching_parts(Path(suites), names)]
    return teaching.collect(chosen, Path(out), options or teaching.TeacherOptions(), report)


def compare(
    teachers: str | Path,
    tasks: Sequence[str | Path] = (),
    *,
    suites: str | Path | None = None,
    validation: float = 0.1,
    report: Report = silent,
) -> str:
    """Rank collected teachers on the held-out training tasks (the share `validation`); returns the best one's name.

    Teachers of published tasks, whose folder is `suites`, are ranked on held-out training examples of all these.
    """
    folder = Path(teachers)
    layout = teaching.read_options(folder).layout()
    collected = teaching.Teachers(folder, layout)
    if suites:
        held_out = teaching_parts(Path(suites), [name for name in SUITES if name in collected.names])
        return teaching.compare(Frozen.load(layout), collected, held_out, report, budget=_SUITE_TOKENS)
    _, held_out = split_families(read_tasks([Path(task) for task in tasks], split="train"), validation)
    return teaching.compare(Frozen.load(layout), collected, held_out, report)


def train(
    recipe: str | Path | Recipe,
    out: str | Path,
    *,
    tasks: str | Path | None = None,
    suites: str | Path | None = None,
    without: Sequence[str] = (),
    start: str | Path | None = None,
    shared: str | Path | None = None,
    report: Report = silent,
) -> Generator:
    """Train a generator by a recipe, or go on with the run in `out`.

    `tasks` and `suites` are the folders of the task files and of the published tasks, `start` and `shared` those of
    the generator and the adapter that it begins with; nothing of the published tasks `without` is trained on.
    """
    loaded = recipe if isinstance(recipe, Recipe) else read_recipe(Path(recipe))
    said = {"tasks": tasks, "suites": suites, "start": start, "shared": shared}
    changes: dict[str, Any] = {key: str(place) for key, place in said.items() if place}
    loaded = loaded.changed(**changes) if changes else loaded
    return training.train(loaded.leaving_out(without), Path(out), report)


def release(
    plan: str | Path,
    tasks: str | Path,
    out: str | Path,
    *,
    suites: str | Path | None = None,
    without: Sequence[str] = (),
    report: Report = silent,
) -> Generator:
    """From task files to a finished generator, `out`/generator, by a plan of runs; goes on where it was.

    Nothing of the published tasks `without`, in the folder `suites`, is trained on: leave one out from one command.
    """
    places = Path(plan), Path(tasks), Path(out)
    return releasing.release(*places, report, suites=Path(suites) if suites else None, without=tuple(without))


def report(results: str | Path = "benchmarks/results", out: str | Path = "docs/benchmark.md") -> list[Path]:
    """Result files -> one page with tables and plots; returns what was written."""
    check_writable(Path(out))
    return reporting.report(Path(results), Path(out))


def doctor(generator: str | Path | None = None) -> list[dict[str, str]]:
    """Checks of this machine: name, state (good, bad) and what was found or what to do."""
    return machine.checks(generator)
