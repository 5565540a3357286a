"""One change each to a recipe, at equal steps: what it does to the held-out training tasks, and what it costs.

A variant is data in a TOML file. Every run is resumable and is kept under --runs; the result file is written anew after
each, so that it always says what is known so far. --only names variants.

python benchmarks/ablations.py --variants benchmarks/ablations.toml --out benchmarks/results/ablations.json
"""

import argparse
import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

from prompt2lora.files import read_toml, write_json
from prompt2lora.training.recipe import Recipe, read_recipe
from prompt2lora.training.train import train
from prompt2lora.versions import origin

MEASURED = ("alone_full", "own_full", "own_bare", "wrong_bare")


def varied(recipe: Recipe, changes: dict[str, Any], steps: int) -> Recipe:
    """The recipe with one change, cut to `steps` and validated once, at the end."""
    changes = dict(changes)
    stage = changes.pop("stage", {})
    stages = tuple(replace(one, steps=steps, **stage) for one in recipe.stages)
    changes = {key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()}
    return replace(recipe, stages=stages, validate_every=steps, strengths=(1.0,), **changes)


def outcome(run: Path) -> dict[str, Any]:
    """The last line of a run's curve, and the size of its generator."""
    with (run / "curves.csv").open(encoding="utf-8") as stream:
        *_, last = csv.DictReader(stream)
    figures = {arm: {"exact": float(last[arm]), "loss": float(last[f"{arm}_loss"])} for arm in MEASURED}
    size = (run / "generator" / "generator.safetensors").stat().st_size
    return {**figures, "steps": int(last["step"]), "seconds": float(last["seconds"]), "megabytes": round(size / 1e6, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--variants", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    plan = read_toml(asked.variants, "a list of variants")
    recipe = read_recipe(Path(plan["recipe"]))
    result: dict[str, Any] = {}
    for name, changes in plan["variants"].items():
        run = asked.runs / name.replace(",", "").replace(" ", "-")
        if not (run / "generator").exists():
            if asked.only is not None and name not in asked.only:
                continue
            print(f"== {name}", flush=True)
            train(varied(recipe, changes, plan["steps"]), run, lambda record: print(*record.items(), flush=True))
        result[name] = {"changes": changes, **outcome(run)}
        write_json(asked.out, {"recipe": plan["recipe"], "trained": result, **origin()})


if __name__ == "__main__":
    main()
