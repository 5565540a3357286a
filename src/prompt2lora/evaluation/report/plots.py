"""Result -> picture. In: what a result file holds. Out: the bytes of a PNG, empty without matplotlib.

It computes nothing but where the points go.
"""

from __future__ import annotations

import io
from typing import Any

from prompt2lora.evaluation.results import BenchmarkResult

# The arms that are drawn task by task, if they are there, with colour and mark.
_SHOWN = {
    "base": ("0.45", "o"),
    "generated": ("#0a6ebd", "D"),
    "decoded": ("#d9822b", "s"),
    "full-shot": ("#3a7d44", "^"),
}
_MOST_TASKS = 60


def by_task(result: BenchmarkResult, form: str) -> bytes:
    """One line a task, with a mark for every arm; empty for fewer than two of the arms that are drawn."""
    tasks = {name: by_form[form] for name, by_form in result.tasks.items() if form in by_form}
    arms = [arm for arm in _SHOWN if all(arm in cells for cells in tasks.values())]
    if len(arms) < 2:
        return b""
    order = sorted(tasks, key=lambda name: (tasks[name][arms[1]].score, tasks[name][arms[0]].score))[-_MOST_TASKS:]
    figure = _figure((8.0, 1 + 0.2 * len(order)))
    if figure is None:
        return b""
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
    return _png(figure)


def by_prompts(result: dict[str, Any]) -> bytes:
    """Exact match against the number of prompts."""
    figure = _figure((6.0, 4.0))
    if figure is None:
        return b""
    axes = figure.subplots()
    shown = {name: forms for name, forms in result["variants"].items() if name.endswith(" prompts")}
    counts = [int(name.split()[0]) for name in shown]
    for form in ("full", "bare"):
        cells = [forms[form]["exact"] for forms in shown.values()]
        axes.plot(counts, [cell["score"] for cell in cells], "o-", label=f"{form} form")
        axes.fill_between(counts, *([cell[end] for cell in cells] for end in ("low", "high")), alpha=0.2)
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts, list(map(str, counts)))
    axes.set_xlabel("prompts")
    axes.set_ylabel("exact match, teacher-forced")
    axes.legend()
    return _png(figure)


def own_and_wrong_losses(result: dict[str, Any]) -> bytes:
    """One line a run, from own prompts to wrong ones: the longer, the more the prompts matter."""
    runs = dict(reversed(result["trained"].items()))
    figure = _figure((8.0, 1.2 + 0.25 * len(runs)))
    if figure is None:
        return b""
    axes = figure.subplots()
    own, wrong = ([run[arm]["loss"] for run in runs.values()] for arm in ("own_bare", "wrong_bare"))
    axes.hlines(range(len(runs)), own, wrong, color="0.8")
    axes.plot(own, range(len(runs)), "D", label="own prompts")
    axes.plot(wrong, range(len(runs)), "o", label="another task's prompts")
    axes.set_yticks(range(len(runs)), list(runs), fontsize=8)
    axes.set_xlabel("loss per answer token, bare form")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)  # above the points
    return _png(figure)


def seconds_a_job(result: dict[str, Any]) -> bytes:
    """Seconds per job against the number of jobs."""
    figure = _figure((6.0, 4.0))
    if figure is None:
        return b""
    axes = figure.subplots()
    jobs = [10 ** (i / 10) for i in range(41)]
    training, arms = 3600 * result["generator_training_hours"], result["arms"]
    axes.plot(jobs, [training / n + arms["generated"]["adapt"]["median"] for n in jobs], label="generated")
    for name in result["break_even_jobs"]:
        axes.plot(jobs, [arms[name]["adapt"]["median"]] * len(jobs), label=name, linestyle="--")
    axes.set(xscale="log", yscale="log", xlabel="jobs", ylabel="seconds per job, the generator's training included")
    axes.legend()
    return _png(figure)


def labels_and_seconds(result: dict[str, Any]) -> bytes:
    """Two panels: score against labelled examples, and against seconds until ready."""
    figure = _figure((9.0, 3.6))
    if figure is None:
        return b""
    panels = figure.subplots(1, 2, sharey=True)
    for way in dict.fromkeys(point["way"] for point in result["points"]):
        mine = [point for point in result["points"] if point["way"] == way]
        for panel, key in zip(panels, ("labels", "ready"), strict=True):
            ordered = sorted(mine, key=lambda point: point[key])
            panel.plot([point[key] for point in ordered], [point["score"] for point in ordered], "o-", label=way)
    for panel, label in zip(panels, ("labelled examples", "seconds until ready"), strict=True):
        panel.set_xlabel(label)
        panel.set_xscale("symlog")
    panels[0].set_ylabel("exact match")
    panels[0].legend()
    return _png(figure)


def loss_matrix(result: dict[str, Any]) -> bytes:
    """Losses as colours, every column against its own best and its median."""
    figure = _figure((9.0, 8.0))
    if figure is None:
        return b""
    names, loss = result["names"], result["loss"]
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
    return _png(figure)


def similarity(result: dict[str, Any]) -> bytes:
    """How near adapters lie against how near their prompts lie."""
    figure = _figure((6.0, 4.0))
    if figure is None:
        return b""
    prompts, adapters = (result["similarity"][kind] for kind in ("prompts", "adapters"))
    pairs = [(prompts[i][j], adapters[i][j]) for i in range(len(prompts)) for j in range(i)]
    axes = figure.subplots()
    axes.scatter(*zip(*pairs, strict=True), s=4, alpha=0.4, color="#0a6ebd")
    axes.set_xlabel("cosine between two tasks' prompts")
    axes.set_ylabel("cosine between their adapters")
    return _png(figure)


def _figure(size: tuple[float, float]) -> Any:
    """An empty picture, or None without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    return Figure(figsize=size, layout="constrained")


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, format="png", metadata={"Software": None})
    return buffer.getvalue()
