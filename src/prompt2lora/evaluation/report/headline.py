"""The opening of the page: what is measured, the headline table, and what forms and arms are, for a newcomer.

In: the results of `prompt2lora benchmark`. Out: Markdown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from prompt2lora.evaluation.arms import ARMS
from prompt2lora.evaluation.benchmark import OWN
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
    """The page up to its first section, with one table a base; the base of the first file by name comes first."""
    if not results:
        return f"{_OPENING}\n{_REST}"
    ordered = sorted(results.items(), key=lambda item: item[0].stem)
    tasks = ordered[0][1].tasks.keys()
    same = [(file, result) for file, result in ordered if result.tasks.keys() == tasks]
    bases = dict.fromkeys(result.base for _, result in same)
    tables = [_headline([item for item in same if item[1].base == base]) for base in bases]
    return "\n".join([_OPENING, *tables, "## What the words mean\n", _TERMS, _REST])


def _headline(results: Sequence[tuple[Path, BenchmarkResult]]) -> str:
    """Results of one base and the same tasks: the first gives the forms and most of the arms, others add those that it
    lacks."""
    (_, first), *_ = results
    forms, shown = list(first.mean), dict[str, list[str]]()
    for file, result in results:
        for arm in dict.fromkeys(arm for mean in result.mean.values() for arm in mean):
            found = [result.mean.get(form, {}).get(arm) for form in forms]
            cells = [interval(one) if one else "" for one in found]
            says = ARMS[arm].says if arm in ARMS else ""
            shown.setdefault(arm, [f"**{arm}**" if arm == OWN else arm, says, *cells, f"`{file.name}`"])
    base, asked = first.base.rpartition("/")[2], first.request
    limit = f", at most {asked.limit} test examples each" if asked.limit else ""
    heads = ["arm", "what it is", *(f"{form} form" for form in forms), "file"]
    return f"Exact match of {base} on {counted(asked.tasks, 'task')}{limit}:\n\n{table(heads, shown.values())}\n"
