"""One result file -> one section of the page. In: what the file holds. Out: Markdown without pictures.

Which section a file gets depends on the keys that it has (`page.py`). Figures are shown as they stand in the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from prompt2lora.evaluation.benchmark import OWN
from prompt2lora.evaluation.report.experiments import (
    Alignments,
    Costs,
    Forced,
    ForcedInterval,
    Matrix,
    ReadingVariants,
    SecondStage,
    Trained,
)
from prompt2lora.evaluation.report.tables import counted, interval, table
from prompt2lora.evaluation.results import BenchmarkResult


def _section(file: Path, command: str, text: str, *parts: str) -> str:
    """A section: what was measured, the file that holds it, the command that made it, and what came out."""
    return "\n".join([f"## {file.stem}\n", f"{text} File `{file.name}`, made by\n", f"    {command}\n", *parts]) + "\n"


def benchmark(file: Path, result: BenchmarkResult) -> str:
    asked = result.request
    examples = "all test examples" if asked.limit is None else f"at most {asked.limit} test examples each"
    made = ", ".join(f"{name} {version}" for name, version in result.versions.items())
    trained_on = f", which was **trained or validated on {', '.join(result.seen)}**" if result.seen else ""
    tables = []
    for form in result.mean:
        tables += [f"\n### {file.stem}, {form} form\n", _scores(result, form), *_compared(result, form)]
    return _section(
        file,
        result.command,
        f"{counted(asked.tasks, 'task')}, {examples}, {counted(asked.prompts_per_task, 'prompt')} per adapter, "
        f"{counted(len(asked.seeds), 'draw')} of the prompts; {result.base}, generator "
        f"`{result.generator.sha256[:12]}`{trained_on}.",
        f"with {made}, on {counted(int(result.hardware['cores']), 'core')}, in {result.seconds / 60:.0f} minutes.",
        *tables,
    )


def _scores(result: BenchmarkResult, form: str) -> str:
    cells = [task[form] for task in result.tasks.values() if form in task]
    lines, differences = [], result.difference[form]
    compared = f"{OWN} minus this arm" if any(key.startswith(f"{OWN} - ") for key in differences) else ""
    for arm, mean in result.mean[form].items():
        difference = differences.get(f"{OWN} - {arm}")
        seconds = [cell[arm].seconds for cell in cells]
        lines.append(
            [
                arm,
                interval(mean),
                f"{mean.f1.score:.3f}",
                *([interval(difference) if difference else ""] if compared else []),
                f"{_mean(cell[arm].prompt_tokens for cell in cells):.0f}",
                f"{_mean(one.adapt for one in seconds):.2f}",
                f"{_mean(one.answer for one in seconds):.1f}",
            ]
        )
    heads = ["arm", "exact match", "token F1", *filter(None, [compared]), "tokens in a prompt"]
    return table([*heads, "seconds to adapt", "seconds to answer a task"], lines)


def _compared(result: BenchmarkResult, form: str) -> list[str]:
    """Arms with labelled examples against the others that take as many."""
    lines = [
        [name.replace(" - ", " minus "), interval(found)]
        for name, found in result.difference[form].items()
        if not name.startswith(f"{OWN} - ")
    ]
    return ["\n" + table(["with as many labelled examples", "exact match"], lines)] if lines else []


def reading(file: Path, result: ReadingVariants) -> str:
    """What the finished generator makes of other prompts, on held-out training tasks."""
    lines = [
        [name, *(text for form in (found.full, found.bare) for text in (interval(form.exact), _loss(form)))]
        for name, found in result.variants.items()
    ]
    return _section(
        file,
        result.command,
        f"What the generator needs to read: {result.tasks} held-out training tasks, teacher-forced (every answer "
        f"token is predicted from the right ones before it); nothing is trained anew, and adapters are not aligned. "
        f"Generator `{result.generator[:12]}`.",
        table(["read", "full form: exact match", "loss", "bare form: exact match", "loss"], lines),
    )


def alignments(file: Path, result: Alignments) -> str:
    """What alignment reads, and of whose adapter, on held-out training tasks."""
    lines = [
        [name, interval(found.full), interval(found.bare), f"{found.seconds:.1f}"]
        for name, found in result.alignments.items()
    ]
    return _section(
        file,
        result.command,
        f"What alignment gives, and how much it has to read: {len(result.tasks)} held-out training tasks, "
        f"{result.examples} test examples each, greedy decoding.",
        table(["adapter", "full form: exact match", "bare form: exact match", "seconds"], lines),
    )


def trained(file: Path, result: Trained) -> str:
    """Runs that differ from a recipe in a few things each."""
    lines = [
        [
            name,
            *(f"{scores.exact:.3f} ({_loss(scores)})" for scores in (run.own_full, run.own_bare, run.wrong_bare)),
            str(run.steps),
            f"{run.seconds / 60:.1f}",
        ]
        for name, run in result.trained.items()
    ]
    heads = ["run", "full form, own prompts", "bare form, own prompts", "bare form, another task's prompts"]
    return _section(
        file,
        result.command,
        f"Changes to the recipe `{result.recipe}` (as it was called then), one short run each, on the held-out "
        f"training tasks, teacher-forced; exact match, and the loss per answer token in brackets.",
        table([*heads, "steps", "minutes"], lines),
    )


def costs(file: Path, result: Costs) -> str:
    """What every arm costs, and from how many jobs on the generator's training has paid."""
    faster = {name: f"{times:.0f} times" for name, times in result.faster_than.items()}
    lines = [
        [
            name,
            f"{arm.prepare:.1f}",
            f"{arm.adapt.median:.2f}",
            f"{arm.answer.median:.3f}",
            str(arm.peak_megabytes),
            faster.get(name, ""),
        ]
        for name, arm in result.arms.items()
    ]
    rivals = list(result.break_even_jobs)
    by_jobs = [
        [jobs, f"{seconds['generated']:.1f}", *(f"{seconds[rival]:.1f}" for rival in rivals)]
        for jobs, seconds in result.seconds_per_job.items()
    ]
    even = ", ".join(f"{jobs} jobs against {arm}" for arm, jobs in result.break_even_jobs.items() if jobs)
    heads = ["arm", "seconds to load", "to adapt (median)", "for an answer", "peak MB", "adapting, against generating"]
    return _section(
        file,
        result.command,
        f"What the arms cost in seconds of one processor. The generator's training took "
        f"{result.generator_training_hours:.1f} hours.",
        table(heads, lines),
        "\nSeconds per job, by the number of jobs that share the generator's training:\n",
        table(["jobs", "generated, with its training", *rivals], by_jobs),
        f"\nThe training has paid off after {even}.",
    )


def matrix(file: Path, result: Matrix) -> str:
    own, others = result.own, result.others
    lines = [
        ["the task's own", f"{own.exact:.3f}", _loss(own)],
        ["another task's, mean of all", f"{others.exact:.3f}", _loss(others)],
    ]
    return _section(
        file,
        result.command,
        f"Do the prompts matter? Every task's adapter on every task's test examples, bare form, teacher-forced. "
        f"Generator `{result.generator[:12]}`.",
        table(["prompts", "exact match", "loss"], lines),
        f"\nOf {len(result.names)} tasks, {result.own_prompts_best:.0%} have their lowest loss with the adapter "
        f"of their own prompts. Tasks whose prompts are more similar have adapters that are more similar: rank "
        f"correlation {result.similarity.rank_correlation:.2f}.",
    )


def refined(file: Path, result: SecondStage) -> str:
    """The second stage beside training from scratch and examples in the context."""
    told, left = len(result.tasks), result.left_out
    lines = [
        [
            point.way,
            str(point.labels),
            str(point.steps or ""),
            interval(point),
            f"{point.ready:.1f}",
            f"{point.asking:.1f}",
        ]
        for point in result.points
    ]
    even = []
    for way, least in result.break_even.items():
        if way != "generated":
            labels, seconds = least.labels, least.seconds
            even.append(f"* {way}: " + ("none of these" if labels is None else f"{labels} labels, {seconds:.1f} s"))
    heads = ["way", "labelled examples", "most steps", "exact match", "seconds until ready", "seconds to answer a task"]
    return _section(
        file,
        result.command,
        f"What a few labels add: {told} {f'of {told + left} ' if left else ''}tasks ({result.order}), at most "
        f"{result.examples} test examples each, full form; seconds of one processor. Generator "
        f"`{result.generator[:12]}`.",
        table(heads, lines),
        "\nThe least that reaches the generated adapter, which needs no labels:\n",
        *even,
    )


def _loss(cell: Forced | ForcedInterval) -> str:
    return f"{cell.loss:.3f}"


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
