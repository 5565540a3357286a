"""Result -> picture. In: what a result file holds, typed. Out: the bytes of a PNG, empty without matplotlib.

It computes nothing but where the points go.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import wraps
from operator import attrgetter
from typing import Any, Concatenate, ParamSpec

from prompt2lora.evaluation.report.experiments import Costs, Matrix, ReadingVariants, SecondStage, Trained
from prompt2lora.evaluation.results import BenchmarkResult

P = ParamSpec("P")
Size = tuple[float, float]

# The arms that are drawn task by task, if they are there, with colour and mark.
_SHOWN = {
    "base": ("0.45", "o"),
    "generated": ("#0a6ebd", "D"),
    "decoded": ("#d9822b", "s"),
    "full-shot": ("#3a7d44", "^"),
}
_MOST_TASKS = 60


def _picture(size: Callable[P, Size]) -> Callable[[Callable[Concatenate[Any, P], None]], Callable[P, bytes]]:
    """A function that draws into a figure of this size -> one that returns a PNG, empty where nothing was drawn."""

    def framed(draw: Callable[Concatenate[Any, P], None]) -> Callable[P, bytes]:
        @wraps(draw)
        def picture(*args: P.args, **kwargs: P.kwargs) -> bytes:
            try:
                from matplotlib.figure import Figure
            except ImportError:
                return b""
            figure = Figure(figsize=size(*args, **kwargs), layout="constrained")
            draw(figure, *args, **kwargs)
            buffer = io.BytesIO()
            if figure.axes:
                figure.savefig(buffer, dpi=110, format="png", metadata={"Software": None})
            return buffer.getvalue()

        return picture

    return framed


@_picture(lambda result, form: (8.0, 1 + 0.2 * min(_MOST_TASKS, sum(form in task for task in result.tasks.values()))))
def by_task(figure: Any, result: BenchmarkResult, form: str) -> None:
    """One line a task, with a mark for every arm; nothing for fewer than two of the arms that are drawn."""
    tasks = {name: by_form[form] for name, by_form in result.tasks.items() if form in by_form}
    arms = [arm for arm in _SHOWN if all(arm in cells for cells in tasks.values())]
    if len(arms) < 2:
        return
    order = sorted(tasks, key=lambda name: (tasks[name][arms[1]].score, tasks[name][arms[0]].score))[-_MOST_TASKS:]
    axes = figure.subplots()
    for place, name in enumerate(order):
        scores = [tasks[name][arm].score for arm in arms]
        axes.plot([min(scores), max(scores)], [place, place], color="0.8", linewidth=1.5, zorder=1)
    for arm in arms:
        colour, mark = _SHOWN[arm]
        scores = [tasks[name][arm].score for name in order]
        axes.scatter(scores, range(len(order)), color=colour, marker=mark, s=22, label=arm, zorder=2)
    axes.set_yticks(range(len(order)), [name[:48] for name in order], fontsize=7)
    axes.set_xlabel(f"exact match, {form} form")
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-1, len(order))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)  # above the points


@_picture(lambda result: (6.0, 4.0))
def by_prompts(figure: Any, result: ReadingVariants) -> None:
    """Exact match against the number of prompts."""
    axes = figure.subplots()
    shown = {name: found for name, found in result.variants.items() if name.endswith(" prompts")}
    counts = [int(name.split()[0]) for name in shown]
    for form in ("full", "bare"):
        cells = [getattr(found, form).exact for found in shown.values()]
        axes.plot(counts, [cell.score for cell in cells], "o-", label=f"{form} form")
        axes.fill_between(counts, [cell.low for cell in cells], [cell.high for cell in cells], alpha=0.2)
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, list(map(str, counts)))
    axes.set_xlabel("prompts")
    axes.set_ylabel("exact match, teacher-forced")
    axes.legend()


@_picture(lambda result: (8.0, 1.2 + 0.25 * len(result.trained)))
def own_and_wrong_losses(figure: Any, result: Trained) -> None:
    """One line a run, from own prompts to wrong ones: the longer, the more the prompts matter."""
    runs = dict(reversed(result.trained.items()))
    axes = figure.subplots()
    own, wrong = [run.own_bare.loss for run in runs.values()], [run.wrong_bare.loss for run in runs.values()]
    axes.hlines(range(len(runs)), own, wrong, color="0.8")
    axes.plot(own, range(len(runs)), "D", label="own prompts")
    axes.plot(wrong, range(len(runs)), "o", label="another task's prompts")
    axes.set_yticks(range(len(runs)), list(runs), fontsize=8)
    axes.set_xlabel("loss per answer token, bare form")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)  # above the points


@_picture(lambda result: (6.0, 4.0))
def seconds_a_job(figure: Any, result: Costs) -> None:
    """Seconds per job against the number of jobs."""
    axes = figure.subplots()
    jobs = [10 ** (i / 10) for i in range(41)]
    training, arms = 3600 * result.generator_training_hours, result.arms
    axes.plot(jobs, [training / n + arms["generated"].adapt.median for n in jobs], label="generated")
    for name in result.break_even_jobs:
        axes.plot(jobs, [arms[name].adapt.median] * len(jobs), label=name, linestyle="--")
    axes.set(xscale="log", yscale="log", xlabel="jobs", ylabel="seconds per job, the generator's training included")
    axes.legend()


@_picture(lambda result: (9.0, 3.6))
def labels_and_seconds(figure: Any, result: SecondStage) -> None:
    """Two panels: score against labelled examples, and against seconds until ready."""
    panels = figure.subplots(1, 2, sharey=True)
    for way in dict.fromkeys(point.way for point in result.points):
        mine = [point for point in result.points if point.way == way]
        for panel, key in zip(panels, (attrgetter("labels"), attrgetter("ready")), strict=True):
            ordered = sorted(mine, key=key)
            panel.plot([key(point) for point in ordered], [point.score for point in ordered], "o-", label=way)
    for panel, label in zip(panels, ("labelled examples", "seconds until ready"), strict=True):
        panel.set_xlabel(label)
        panel.set_xscale("symlog")
    panels[0].set_ylabel("exact match")
    panels[0].legend()


@_picture(lambda result: (9.0, 8.0))
def loss_matrix(figure: Any, result: Matrix) -> None:
    """Losses as colours, every column against its own best and its median."""
    names, loss = result.names, result.loss
    columns = [sorted(column) for column in zip(*loss, strict=True)]
    span = [max(column[len(column) // 2] - column[0], 1e-6) for column in columns]
    shown = [[(x - c[0]) / s for x, c, s in zip(line, columns, span, strict=True)] for line in loss]
    axes = figure.subplots()
    image = axes.imshow(shown, vmin=0, vmax=1.5, cmap="viridis_r", interpolation="nearest")
    for side in (axes.set_xticks, axes.set_yticks):
        side(range(len(names)), [name[:28] for name in names], fontsize=5)
    axes.tick_params(axis="x", rotation=90)
    axes.set_xlabel("test examples of")
    axes.set_ylabel("adapter made from the prompts of")
    figure.colorbar(image, label="0: the column's best adapter, 1: its median", shrink=0.7)


@_picture(lambda result: (6.0, 4.0))
def similarity(figure: Any, result: Matrix) -> None:
    """How near adapters lie against how near their prompts lie."""
    prompts, adapters = result.similarity.prompts, result.similarity.adapters
    pairs = [(prompts[i][j], adapters[i][j]) for i in range(len(prompts)) for j in range(i)]
    axes = figure.subplots()
    axes.scatter(*zip(*pairs, strict=True), s=4, alpha=0.4, color="#0a6ebd")
    axes.set_xlabel("cosine between two tasks' prompts")
    axes.set_ylabel("cosine between their adapters")
