r"""Changes to a recipe, one run each: what they do to the held-out training tasks, and what they cost.

A variant is data in a TOML file: keys of the recipe, and its `stages` as changes of the recipe's first one. What all
variants have in common stands under `all`. Every run is resumable and is kept under --runs; the result file is written
anew after each, so that it always says what is known so far. What it says already of the same recipe is kept. --only
names variants.

python benchmarks/ablations.py --tasks TASKS --variants benchmarks/ablations.toml \
    --out benchmarks/results/ablations.json
python benchmarks/ablations.py --tasks TASKS --variants benchmarks/objectives.toml \
    --out benchmarks/results/objectives.json
"""

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from prompt2lora.base.versions import origin
from prompt2lora.evaluation.score_cache import digest
from prompt2lora.ground.files import read_toml, write_json
from prompt2lora.training.recipe import Recipe, read_recipe
from prompt2lora.training.run import Run

MEASURED = ("alone_full", "own_full", "own_bare", "wrong_bare")


def varied(recipe: Recipe, changes: dict[str, Any], steps: int) -> Recipe:
    """The recipe with the changes, validated once, at the end; a stage that names no steps has `steps` of them."""
    changes = dict(changes)
    stages = tuple(recipe.stages[0].changed(**{"steps": steps, **stage}) for stage in changes.pop("stages", [{}]))
    made = recipe.changed(stages=stages, strengths=(1.0,), **changes)
    return made.changed(validate_every=made.steps)


def last_line(run: Path) -> dict[str, str]:
    """Where a run's curve ends; empty before its first line."""
    file = run / "curves.csv"
    if not file.exists():
        return {}
    with file.open(encoding="utf-8") as stream:
        return [{}, *csv.DictReader(stream)][-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", type=Path, required=True)
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    plan = read_toml(asked.variants, "a list of variants")
    original = read_recipe(Path(plan["recipe"]), tasks=str(asked.tasks))
    known = json.loads(asked.out.read_text(encoding="utf-8"))["trained"] if asked.out.exists() else {}
    recipes = {
        name: varied(original, {**plan.get("all", {}), **changes}, plan["steps"])
        for name, changes in plan["variants"].items()
    }
    which = {
        name: digest(json.dumps({**recipe.to_dict(), "tasks": ""}, sort_keys=True)) for name, recipe in recipes.items()
    }
    result = {name: run for name, run in known.items() if run["recipe"] == which.get(name)}
    for name, recipe in recipes.items():
        folder = asked.runs / name.replace(",", "").replace(" ", "-")
        finished = int(last_line(folder).get("step", 0)) == recipe.steps
        if not finished and (name in result or (asked.only is not None and name not in asked.only)):
            continue
        run = Run(recipe, folder, lambda record: print(*record.items(), flush=True))  # refuses another recipe's folder
        if not finished:
            print(f"== {name}", flush=True)
            run.prepare()
            run.train()
        end = last_line(folder)
        figures = {arm: {"exact": float(end[arm]), "loss": float(end[f"{arm}_loss"])} for arm in MEASURED}
        result[name] = {
            "recipe": which[name],
            "changes": plan["variants"][name],
            **figures,
            "steps": recipe.steps,
            "seconds": float(end["seconds"]),
        }
        trained = {name: result[name] for name in recipes if name in result}
        write_json(asked.out, {"recipe": plan["recipe"], "trained": trained, **origin()})


if __name__ == "__main__":
    main()
