"""How far a result would move with other kinds of tasks, and without tasks whose inputs training tasks have, too.

The intervals of a benchmark draw tasks one by one, as if none were akin. Here whole sources of tasks (the `source` of a
task file: list functions, morphology, shop floor) are drawn, and then the mean of their tasks. Apart from that, tasks
are left out of which at least half of the test inputs stand in one training task as well, under another instruction.

    python benchmarks/kinds.py --tasks ../shared/data/tasks --result benchmarks/results/dev.json \\
        --arms base,multi-task,generated --out benchmarks/results/kinds.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from prompt2lora.ground.files import check_new, write_json
from prompt2lora.training.tasks import read_records, read_tasks

DRAWS, LEAST = 10_000, 0.5


def interval(values: dict[str, float], sources: dict[str, str]) -> dict[str, float]:
    """Mean over tasks, and the bounds of a 95 % bootstrap that draws whole sources."""
    every = sorted({sources[name] for name in values})  # in one order, so that the same draws come again
    groups = [[value for name, value in values.items() if sources[name] == one] for one in every]
    sums, sizes = np.array([sum(group) for group in groups]), np.array([len(group) for group in groups])
    chosen = np.random.default_rng(0).integers(0, len(groups), size=(DRAWS, len(groups)))
    low, high = np.quantile(sums[chosen].sum(1) / sizes[chosen].sum(1), [0.025, 0.975])
    return {"score": round(float(np.mean(list(values.values()))), 4), "low": round(low, 4), "high": round(high, 4)}


def akin(folder: Path, names: list[str]) -> dict[str, str]:
    """By task: the training task that has most of its test inputs, where these are at least half of them."""
    tasks = read_tasks([folder])
    inputs = {task.name: {one.input for one in (*task.train, *task.test)} for task in tasks if task.split == "train"}
    found = {}
    for task in tasks:
        asked = {one.input for one in task.test}
        if task.name in names:
            share, name = max((len(asked & known) / len(asked), name) for name, known in inputs.items())
            if share >= LEAST:
                found[task.name] = name
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--arms", required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    check_new(given.out, "result file")
    result, arms = json.loads(given.result.read_text(encoding="utf-8")), given.arms.split(",")
    names = list(result["tasks"])
    sources = {name: read_records(given.tasks / f"{name}.jsonl")[0][1]["source"] for name in names}
    relatives = akin(given.tasks, names)
    found: dict[str, dict] = {"by source": {}, "difference by source": {}, "without relatives": {}}
    for form in ("full", "bare"):
        scores = {
            arm: {name: by[form][arm]["score"] for name, by in result["tasks"].items() if form in by} for arm in arms
        }
        found["by source"][form] = {arm: interval(values, sources) for arm, values in scores.items()}
        last = scores[arms[-1]]
        found["difference by source"][form] = {
            f"{arms[-1]} - {arm}": interval({name: last[name] - value for name, value in scores[arm].items()}, sources)
            for arm in arms[:-1]
        }
        found["without relatives"][form] = {
            arm: round(float(np.mean([one for name, one in values.items() if name not in relatives])), 4)
            for arm, values in scores.items()
        }
    count = {"sources": len(set(sources.values())), "tasks": len(names)}
    told = {"result": given.result.name, **count, "relatives": relatives, **found, "command": " ".join(sys.argv)}
    write_json(given.out, told)
    print(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
