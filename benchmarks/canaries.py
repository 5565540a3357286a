"""How far the generator's own adapters move general texts, and how far ones whose update was made too strong.

python benchmarks/canaries.py --tasks ../shared/data/tasks --out benchmarks/results/canaries.json

The bounds of the gate's two checks on general texts are set by it.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from random import Random

import numpy as np
from tqdm import tqdm

from prompt2lora.base.versions import origin
from prompt2lora.custody.gate import Policy
from prompt2lora.generator.pipeline import Pipeline
from prompt2lora.ground.files import check_new, write_json
from prompt2lora.plant.inspection import canary
from prompt2lora.training.tasks import read_tasks

PROMPTS = 16
STRONGER = (1.2, 1.5, 2.0)  # factors on the whole update B A
SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--count", type=int, default=60, help="training tasks, drawn at random")
    parser.add_argument("--generator")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    check_new(asked.out, "result file")
    pipeline = Pipeline.load(asked.generator)
    tasks = Random(0).sample(read_tasks([asked.tasks], split="train"), asked.count)
    found: dict[float, list[dict[str, float]]] = {factor: [] for factor in (1.0, *STRONGER)}
    for task in tqdm(tasks):
        inputs = sorted({example.input for example in task.train})
        chosen = Random(1).sample(inputs, min(PROMPTS, len(inputs)))
        grid = pipeline.make([task.prompt(text) for text in chosen]).grid
        for factor in found:  # A and B both grow by the root
            found[factor].append(asdict(canary(pipeline.base, grid * factor**0.5)))
    bounds = {"kl": Policy().most_canary_kl, "perplexity_ratio": Policy().most_canary_perplexity}
    result = {
        f"update times {factor}": {
            name: {
                **{
                    f"{share:.0%}": round(float(np.quantile([one[name] for one in many], share)), 3) for share in SHARES
                },
                "bound": bound,
                "refused": sum(one[name] > bound for one in many),
            }
            for name, bound in bounds.items()
        }
        for factor, many in found.items()
    }
    alone = asdict(canary(pipeline.base, pipeline.generator.start.detach()))
    provenance = {"generator": pipeline.generator.provenance.get("sha256", ""), **origin()}
    write_json(asked.out, {"adapters": result, "shared adapter alone": alone, "of": asked.count, **provenance})


if __name__ == "__main__":
    main()
