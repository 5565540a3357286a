"""Result files of the benchmark -> one page with tables and plots. In: JSON files. Out: Markdown and pictures.

It computes nothing: every figure on the page stands in the file that it names.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prompt2lora.errors import DamagedFile, UsageError
from prompt2lora.evaluation.benchmark import OWN
from prompt2lora.ground.files import write_bytes, write_text

# The arms of the dumbbell plot, if they are there, with colour and mark.
_SHOWN = {
    "base": ("0.45", "o"),
    "generated": ("#0a6ebd", "D"),
    "decoded": ("#d9822b", "s"),
    "full-shot": ("#3a7d44", "^"),
}
_MOST_BARS = 60


def report(results: Path, page: Path) -> list[Path]:
    """Write the page and, into a folder `images` beside it, the pictures; returns what was written.

    Raises UsageError if the folder holds no result that it shows, DamagedFile for one that is broken.
    """
    found = {file: _read(file) for file in sorted(results.glob("*.json"))}
    written, parts = [], ["# Benchmark\n\nMade by `prompt2lora report`; every table names the file that it shows.\n"]

    def picture(name: str, caption: str, drawn: bytes) -> None:
        if drawn:
            written.append(page.parent / "images" / name)
            write_bytes(written[-1], drawn)
            parts.append(f"![{caption}](images/{name})\n")

    for file, result in found.items():
        if "difference" in result:
            parts.append(_section(file, result))
            for form in result["mean"]:
                caption = f"Every task of {file.stem}, {form} form"
                picture(f"{file.stem}-{form}.png", caption, _dumbbells(result, form))
    for file, result in found.items():
        if "variants" in result:
            parts.append(_variants(file, result))
            picture(f"{file.stem}.png", "Exact match against the number of prompts", _prompt_curve(result))
        if "alignments" in result:
            parts.append(_alignments(file, result))
        if "trained" in result:
            parts.append(_trained(file, result))
            caption = "Loss without instruction, with the adapter of the task's own prompts and of another's"
            picture(f"{file.stem}.png", caption, _losses(result))
        if "break_even_jobs" in result:
            parts.append(_costs(file, result))
            picture(f"{file.stem}.png", "Seconds of this machine a job, by number of jobs", _cost_curve(result))
        if "suites" in result:
            parts.append(_suites(file, result))
        if "own_prompts_best" in result:
            parts.append(_matrix(file, result))
            caption = "Loss of every task's adapter (rows) on every task's test rows (columns), without instruction"
            picture(f"{file.stem}.png", caption, _heat(result))
            caption = "How near adapters lie against how near their prompts lie"
            picture(f"{file.stem}-similarity.png", caption, _similarity(result))
        if "break_even" in result:
            parts.append(_stages(file, result))
            picture(f"{file.stem}.png", "Score against labels, and against seconds until ready", _curves(result))
    if len(parts) == 1:
        raise UsageError(f"{results} holds no result of a benchmark; make one or name another folder")
    write_text(page, "\n".join(parts))
    return [page, *written]


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{file} is no readable result ({error}); make it anew or remove it") from error
    return found if isinstance(found, dict) else {}


def _head(file: Path, result: dict[str, Any], text: str) -> list[str]:
    """A section's first lines: what was measured, the file that holds it, and the command that made it."""
    return [f"## {file.stem}\n", f"{text} File `{file.name}`, made by\n", f"    {result['command']}\n"]


def _section(file: Path, result: dict[str, Any]) -> str:
    request, versions = result["request"], result["versions"]
    rows = "all test rows" if request["limit"] is None else f"{request['limit']} test rows each"
    made = ", ".join(f"{name} {version}" for name, version in versions.items())
    lines = [
        *_head(
            file,
            result,
            f"{request['tasks']} tasks, {rows}, {request['prompts_per_task']} prompts, {len(request['seeds'])} "
            f"seed(s); {result['base']}, generator `{result['generator']['sha256'][:12]}`.",
        ),
        f"with {made} on {result['hardware']['cores']} cores in {result['seconds'] / 60:.0f} minutes.\n",
    ]
    for form, arms in result["mean"].items():
        lines += [f"### {form.capitalize()} form\n", _scores(result, form, list(arms))]
    return "\n".join(lines)


def _scores(result: dict[str, Any], form: str, arms: Sequence[str]) -> str:
    cells = [task[form] for task in result["tasks"].values() if form in task]
    heads = ["arm", "exact match", "token F1", f"{OWN} minus this arm"]
    heads += ["prompt tokens", "seconds to adapt", "to answer"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for arm in arms:
        mean = result["mean"][form][arm]
        difference = result["difference"][form].get(f"{OWN} - {arm}")
        adapt, answer = (_mean(cell[arm]["seconds"][step] for cell in cells) for step in ("adapt", "answer"))
        tokens = _mean(cell[arm]["prompt_tokens"] for cell in cells)
        fields = [arm, _interval(mean), f"{mean['f1']['score']:.3f}", _interval(difference) if difference else ""]
        lines.append(f"| {' | '.join(fields)} | {tokens:.0f} | {adapt:.2f} | {answer:.1f} |")
    return "\n".join(lines) + "\n"


def _variants(file: Path, result: dict[str, Any]) -> str:
    """What the finished generator makes of other prompts, on held-out training tasks."""
    lines = [
        *_head(
            file,
            result,
            f"{result['tasks']} held-out training tasks, teacher-forced; nothing trained anew. Generator "
            f"`{result['generator'][:12]}`.",
        ),
        "| read | full: exact match | loss | bare: exact match | loss |",
        "|---|---|---|---|---|",
    ]
    for name, forms in result["variants"].items():
        cells = [f"{_interval(forms[form]['exact'])} | {forms[form]['loss']:.3f}" for form in ("full", "bare")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _alignments(file: Path, result: dict[str, Any]) -> str:
    """What alignment reads, and of whose adapter, on held-out training tasks."""
    lines = [
        *_head(
            file,
            result,
            f"{len(result['tasks'])} held-out training tasks, {result['examples']} test examples each, greedy decoding.",
        ),
        "| adapter | full: exact match | bare: exact match | seconds |",
        "|---|---|---|---|",
    ]
    for name, found in result["alignments"].items():
        lines.append(f"| {name} | {_interval(found['full'])} | {_interval(found['bare'])} | {found['seconds']:.1f} |")
    return "\n".join(lines) + "\n"


def _prompt_curve(result: dict[str, Any]) -> bytes:
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
    axes.set_xlabel("prompts")
    axes.set_ylabel("exact match, teacher-forced")
    axes.legend()
    return _png(figure)


def _trained(file: Path, result: dict[str, Any]) -> str:
    """Runs that differ from a recipe in a few things each."""
    lines = [
        *_head(
            file,
            result,
            f"Changes to `{result['recipe']}`, one run each, on the held-out training tasks, teacher-forced.",
        ),
        "| run | full, own prompts: exact match (loss) | bare, own | bare, wrong | steps | minutes |",
        "|---|---|---|---|---|---|",
    ]
    for name, run in result["trained"].items():
        cells = [f"{run[arm]['exact']:.3f} ({run[arm]['loss']:.3f})" for arm in ("own_full", "own_bare", "wrong_bare")]
        lines.append(f"| {name} | {' | '.join(cells)} | {run['steps']} | {run['seconds'] / 60:.1f} |")
    return "\n".join(lines) + "\n"


def _losses(result: dict[str, Any]) -> bytes:
    """One line a run, from own prompts to wrong ones: the longer, the more the prompts matter."""
    runs = dict(reversed(result["trained"].items()))
    figure = _figure((8.0, 1.2 + 0.25 * len(runs)))
    if figure is None:
        return b""
    axes = figure.subplots()
    own, wrong = ([run[arm]["loss"] for run in runs.values()] for arm in ("own_bare", "wrong_bare"))
    axes.hlines(range(len(runs)), own, wrong, color="0.8")
    axes.plot(own, range(len(runs)), "D", label="own prompts")
    axes.plot(wrong, range(len(runs)), "o", label="wrong prompts")
    axes.set_yticks(range(len(runs)), list(runs), fontsize=8)
    axes.set_xlabel("loss per answer token, bare form")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)  # above the points
    return _png(figure)


# Drag-and-Drop (arXiv 2506.16406, table 1): percent by suite, then their mean.
_SUITES = ("arc_e", "obqa", "arc_c", "piqa", "hellaswag", "boolq", "winogrande")
_PUBLISHED = {
    "published, Qwen2.5-0.5B: average of the training LoRAs": (37.5, 30.2, 39.5, 40.5, 22.4, 13.5, 38.8, 31.8),
    "published, Qwen2.5-0.5B: Drag-and-Drop": (68.6, 40.8, 51.6, 87.9, 25.9, 44.9, 50.0, 52.8),
}


def _suites(file: Path, result: dict[str, Any]) -> str:
    """Leave one out on the commonsense suites, beside the published table."""
    suites, mean = result["suites"], result["mean"]
    lines = [
        *_head(
            file,
            result,
            f"{result['examples']} test examples a suite; every generator was trained further for {result['steps']} steps on "
            f"the six other suites, every teacher for {result['teacher_steps']} on its own. The share of rows whose "
            f"right answer is the most likely one, and (in brackets) is what is written.",
        ),
        f"| arm | {' | '.join(_SUITES)} | mean |",
        "|---" * (2 + len(_SUITES)) + "|",
    ]
    for arm, total in mean.items():
        found = [suites[name][arm] for name in _SUITES]
        cells = [f"{scores['choice']:.3f} ({scores['written']:.3f})" for scores in found]
        cells.append(f"{_interval(total['choice'])} ({total['written']['score']:.3f})")
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    for name, percent in _PUBLISHED.items():
        lines.append(f"| {name} | {' | '.join(f'{value / 100:.3f}' for value in percent)} |")
    return "\n".join(lines) + "\n"


def _costs(file: Path, result: dict[str, Any]) -> str:
    """What every arm costs, and from how many jobs on the generator's training has paid."""
    lines = [
        *_head(file, result, f"The generator's training took {result['generator_training_hours']:.1f} hours."),
        "| arm | seconds to prepare | to adapt (median) | for an answer | peak MB | adapting takes, of generating |",
        "|---|---|---|---|---|---|",
    ]
    for name, arm in result["arms"].items():
        times = f"{result['faster_than'][name]:.0f} times" if name in result["faster_than"] else ""
        lines.append(
            f"| {name} | {arm['prepare']:.1f} | {arm['adapt']['median']:.2f} | {arm['answer']['median']:.3f} "
            f"| {arm['peak_megabytes']} | {times} |"
        )
    rivals = list(result["break_even_jobs"])
    lines += ["", f"| jobs | generated, with its training | {' | '.join(rivals)} |", "|---" * (2 + len(rivals)) + "|"]
    for jobs, seconds in result["seconds_per_job"].items():
        lines.append(f"| {jobs} | {seconds['generated']:.1f} | {' | '.join(f'{seconds[r]:.1f}' for r in rivals)} |")
    even = ", ".join(f"{jobs} jobs against {arm}" for arm, jobs in result["break_even_jobs"].items() if jobs)
    return "\n".join([*lines, "", f"Seconds of this machine a job. The training has paid after {even}.\n"])


def _cost_curve(result: dict[str, Any]) -> bytes:
    figure = _figure((6.0, 4.0))
    if figure is None:
        return b""
    axes = figure.subplots()
    jobs = [10 ** (i / 10) for i in range(41)]
    training, arms = 3600 * result["generator_training_hours"], result["arms"]
    axes.plot(jobs, [training / n + arms["generated"]["adapt"]["median"] for n in jobs], label="generated")
    for name in result["break_even_jobs"]:
        axes.plot(jobs, [arms[name]["adapt"]["median"]] * len(jobs), label=name, linestyle="--")
    axes.set(xscale="log", yscale="log", xlabel="jobs", ylabel="seconds a job, training of the generator included")
    axes.legend()
    return _png(figure)


def _matrix(file: Path, result: dict[str, Any]) -> str:
    own, others, similarity = result["own"], result["others"], result["similarity"]
    return "\n".join(
        [
            *_head(
                file,
                result,
                f"Every task's adapter on every task's test rows, without instruction, teacher-forced. Generator "
                f"`{result['generator'][:12]}`.",
            ),
            "| prompts | exact match | loss |",
            "|---|---|---|",
            f"| the task's own | {own['exact']:.3f} | {own['loss']:.3f} |",
            f"| another task's, mean of all | {others['exact']:.3f} | {others['loss']:.3f} |\n",
            f"Of {len(result['names'])} tasks {result['own_prompts_best']:.0%} have their least loss with the adapter "
            f"of their own prompts. Tasks whose prompts lie nearer have adapters that lie nearer: rank correlation "
            f"{similarity['rank_correlation']:.2f}.\n",
        ]
    )


def _stages(file: Path, result: dict[str, Any]) -> str:
    """The second stage beside training from scratch and examples in the context."""
    told = result["tasks"]
    count = f"{len(told)} of {len(told) + result['left_out']} tasks" if result["left_out"] else f"{len(told)} tasks"
    lines = [
        *_head(
            file,
            result,
            f"{count} ({result['order']}), {result['examples']} test examples each at most, with instruction; seconds of one "
            f"processor. Generator `{result['generator'][:12]}`.",
        ),
        "| way | labelled rows | most steps | exact match | seconds until ready | to answer all rows |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['way']} | {row['labels']} | {row['steps'] or ''} | {_interval(row)} | {row['ready']:.1f} "
        f"| {row['asking']:.1f} |"
        for row in result["points"]
    ]
    lines += ["", "Reaches the generated adapter, which needs no labels, with", ""]
    for way, least in result["break_even"].items():
        if way != "generated":
            labels, seconds = least["labels"], least["seconds"]
            lines.append(f"* {way}: " + ("none of these" if labels is None else f"{labels} labels, {seconds:.1f} s"))
    return "\n".join(lines) + "\n"


def _curves(result: dict[str, Any]) -> bytes:
    """Two panels: score against labels, and against seconds until ready."""
    figure = _figure((9.0, 3.6))
    if figure is None:
        return b""
    panels = figure.subplots(1, 2, sharey=True)
    for way in dict.fromkeys(row["way"] for row in result["points"]):
        mine = [row for row in result["points"] if row["way"] == way]
        for panel, key in zip(panels, ("labels", "ready"), strict=True):
            ordered = sorted(mine, key=lambda row: row[key])
            panel.plot([row[key] for row in ordered], [row["score"] for row in ordered], "o-", label=way)
    for panel, label in zip(panels, ("labelled rows", "seconds until ready"), strict=True):
        panel.set_xlabel(label)
        panel.set_xscale("symlog")
    panels[0].set_ylabel("exact match")
    panels[0].legend()
    return _png(figure)


def _heat(result: dict[str, Any]) -> bytes:
    """Losses as colours, every column against its own best and its median; empty without matplotlib."""
    figure = _figure((9.0, 8.0))
    if figure is None:
        return b""
    names, loss = result["names"], result["loss"]
    columns = [sorted(column) for column in zip(*loss, strict=True)]
    span = [max(column[len(column) // 2] - column[0], 1e-6) for column in columns]
    shown = [[(x - c[0]) / s for x, c, s in zip(row, columns, span, strict=True)] for row in loss]
    axes = figure.subplots()
    image = axes.imshow(shown, vmin=0, vmax=1.5, cmap="viridis_r", interpolation="nearest")
    for side in (axes.set_xticks, axes.set_yticks):
        side(range(len(names)), [name[:28] for name in names], fontsize=5)
    axes.tick_params(axis="x", rotation=90)
    axes.set_xlabel("test rows of")
    axes.set_ylabel("adapter made from the prompts of")
    figure.colorbar(image, label="0 the column's best adapter, 1 its median", shrink=0.7)
    return _png(figure)


def _similarity(result: dict[str, Any]) -> bytes:
    figure = _figure((6.0, 4.0))
    if figure is None:
        return b""
    prompts, adapters = (result["similarity"][kind] for kind in ("prompts", "adapters"))
    pairs = [(prompts[i][j], adapters[i][j]) for i in range(len(prompts)) for j in range(i)]
    axes = figure.subplots()
    axes.scatter(*zip(*pairs, strict=True), s=4, alpha=0.4, color="#0a6ebd")
    axes.set_xlabel("cosine of two tasks' prompts")
    axes.set_ylabel("cosine of their adapters")
    return _png(figure)


def _figure(size: tuple[float, float]) -> Any:
    """An empty picture, or None without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    return Figure(figsize=size, layout="constrained")


def _interval(cell: dict[str, Any]) -> str:
    return f"{cell['score']:.3f} ({cell['low']:.3f} to {cell['high']:.3f})"


def _mean(values: Any) -> float:
    listed = list(values)
    return float(sum(listed) / len(listed))


def _dumbbells(result: dict[str, Any], form: str) -> bytes:
    """One line a task, from the base to the generated adapter; empty without matplotlib or without both arms."""
    tasks = {name: by_form[form] for name, by_form in result["tasks"].items() if form in by_form}
    arms = [arm for arm in _SHOWN if all(arm in cell for cell in tasks.values())]
    if len(arms) < 2:
        return b""
    order = sorted(tasks, key=lambda name: (tasks[name][arms[1]]["score"], tasks[name][arms[0]]["score"]))[-_MOST_BARS:]
    figure = _figure((8.0, 1 + 0.2 * len(order)))
    if figure is None:
        return b""
    axes = figure.subplots()
    for place, name in enumerate(order):
        scores = [tasks[name][arm]["score"] for arm in arms]
        axes.plot([min(scores), max(scores)], [place, place], color="0.8", linewidth=1.5, zorder=1)
    for arm in arms:
        colour, mark = _SHOWN[arm]
        scores = [tasks[name][arm]["score"] for name in order]
        axes.scatter(scores, range(len(order)), color=colour, marker=mark, s=22, label=arm, zorder=2)
    axes.set_yticks(range(len(order)), [name[:48] for name in order], fontsize=7)
    axes.set_xlabel(f"exact match, {form} form")
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-1, len(order))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4)  # above the points
    return _png(figure)


def _png(figure: Any) -> bytes:
    import io

    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, format="png", metadata={"Software": None})
    return buffer.getvalue()
