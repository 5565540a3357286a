"""The opening of the page: what is measured, the headline table, and what forms and arms are, for a newcomer.

In: the results of `prompt2lora benchmark`. Out: Markdown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from prompt2lora.evaluation.arms import ARMS
from prompt2lora.evaluation.benchmark import OWN
from prompt2lora.evaluation.judge import FORMS
from prompt2lora.evaluation.report.tables import counted, interval, table
from prompt2lora.evaluation.results import BenchmarkResult

_OPENING = """\
# Benchmark

How well does a small language model do a job it was not made for, with an adapter that was generated from a few
unlabelled prompts of that job? And how does that compare with the other ways to get there?
"""
_TERMS = """\
Every task has an instruction ("Extract the part number.") and examples, each an input with its right answer. Adapters
are made from inputs of a task's training part; scores are of its test part, which nothing else ever reads. Tasks of the
split *dev* belong to families that neither the generator nor the LoRA for all tasks was trained on.

* **Full form**: the model is asked with the instruction and the input.
* **Bare form**: the model is asked with the input alone. What to do is then known to the adapter only.
* **Exact match**: the share of answers that are the right one, letter for letter but for case and outer spaces.
  **Token F1** gives credit for right words. Both run from 0 to 1.
* **Intervals** in brackets are 95 % bootstrap intervals over tasks and examples: how far a figure
  might move with other tasks and examples.
* An **arm** is one way to answer: this product, a rival, or a control.
"""
_REST = """\
The rest of this page shows the result files in `benchmarks/results/`, one section each. It is made by
`prompt2lora report`, which computes nothing: every figure stands in the file that its section names. Commands are those
of their day; scripts, recipes and options may have been renamed since (`--kept` is now `--scores`, `--rows` is
`--examples`), and arms that are gone are left out of the tables.
"""


def opening(results: Mapping[Path, BenchmarkResult]) -> str:
    """The page up to its first section, with one table a base; the base with the most answers judged comes first."""
    if not results:
        return f"{_OPENING}\n{_REST}"
    ordered = sorted(results.items(), key=lambda item: (-_judged(item[1]), item[0].stem))
    bases = dict.fromkeys(result.base for _, result in ordered)
    tables = [_headline([item for item in ordered if item[1].base == base]) for base in bases]
    return "\n".join([_OPENING, *tables, "## What the words mean\n", _TERMS, _REST])


def _judged(result: BenchmarkResult) -> int:
    """Test examples of all tasks."""
    cells = (next(iter(next(iter(forms.values())).values())) for forms in result.tasks.values())
    return sum(cell.n for cell in cells)


def _measured(result: BenchmarkResult) -> tuple[object, ...]:
    """What two results have to have in common to stand in one table."""
    asked, dtype = result.request, result.hardware.get("dtype")
    return result.tasks.keys(), asked.limit, asked.seeds, asked.prompts_per_task, result.generator.sha256, dtype


def _headline(results: Sequence[tuple[Path, BenchmarkResult]]) -> str:
    """The tasks of the first result; others of the same examples and prompts, with the same
    generator in the same dtype, add the arms and forms that it lacks."""
    first = results[0][1]
    same = [(file, result) for file, result in results if _measured(result) == _measured(first)]
    forms = [form for form in FORMS if any(form in result.mean for _, result in same)]
    rows = []
    measured = {arm for _, result in same for mean in result.mean.values() for arm in mean}
    for arm in (arm for arm in ARMS if arm in measured):
        cells, files = [], dict[str, None]()
        for form in forms:
            found = [(file, result.mean[form][arm]) for file, result in same if arm in result.mean.get(form, {})]
            cells.append(interval(found[0][1]) if found else "")
            files |= {f"`{file.name}`": None for file, _ in found[:1]}
        rows.append([f"**{arm}**" if arm == OWN else arm, ARMS[arm].says, *cells, ", ".join(files)])
    base, limit = first.base.rpartition("/")[2], first.request.limit
    limited = f", at most {limit} test examples each" if limit else ""
    heads = ["arm", "what it is", *(f"{form} form" for form in forms), "file"]
    return f"Exact match of {base} on {counted(first.request.tasks, 'task')}{limited}:\n\n{table(heads, rows)}\n"
