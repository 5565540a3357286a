"""Do the prompts matter? Every task's adapter on every task's test examples, without instruction.

A generator that reads its prompts is good on the diagonal and nowhere else. Two more matrices say how near tasks lie
by their prompts and how near their adapters lie by their weights. Answers are judged by their loss and by
teacher-forced exact match (all tokens of an answer right, the right beginning given), which needs no decoding.

python benchmarks/conditioning.py --tasks ../shared/data/tasks --split dev --out benchmarks/results/conditioning.json
"""

import argparse
from pathlib import Path
from random import Random

import torch
from torch.nn.functional import normalize
from tqdm import tqdm

from prompt2lora.adapter.grid import Factors, factors, inner
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base.packing import stack
from prompt2lora.base.versions import origin
from prompt2lora.generator.pipeline import Pipeline
from prompt2lora.ground.files import check_new, write_json
from prompt2lora.training.objectives import end_to_end
from prompt2lora.training.sampling import make_pack
from prompt2lora.training.tasks import Task, read_tasks

PROMPTS, AT_ONCE = 16, 16


def prompts_of(task: Task, seed: int) -> list[str]:
    inputs = sorted({example.input for example in task.train})
    return [task.prompt(text) for text in Random(f"{seed} {task.name}").sample(inputs, min(PROMPTS, len(inputs)))]


def gram(grids: torch.Tensor, layout: LoraLayout) -> torch.Tensor:
    """Frobenius inner products of the updates of all pairs of adapters."""
    products = []
    for grid in grids:
        one = factors(grid[None], layout)
        products.append(
            inner(
                {path: Factors(*(part.expand(len(grids), -1, -1) for part in f)) for path, f in one.items()},
                factors(grids, layout),
            ).sum(1)
        )
    return torch.stack(products)


def spearman(one: torch.Tensor, other: torch.Tensor) -> float:
    """Rank correlation of two lists."""
    ranks = torch.stack([values.argsort().argsort().double() for values in (one, other)])
    return float(torch.corrcoef(ranks)[0, 1])


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--examples", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--generator", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    check_new(asked.out, "result file")
    tasks = [task for task in read_tasks([asked.tasks], split=asked.split) if task.instruction]
    pipeline = Pipeline.load(asked.generator)
    layout = pipeline.layout
    model, chat, _ = pipeline.base
    groups = [prompts_of(task, asked.seed) for task in tasks]
    grids = torch.stack([pipeline.make(group).grid for group in groups])
    places = torch.stack([pipeline.encoder.conditions(group).mean(0) for group in groups])
    places = normalize(places - places.mean(0), dim=-1)
    size = len(tasks)
    products = gram(torch.cat([grids, pipeline.generator.start[None]]), layout)
    moved = products[:-1, :-1] - products[:-1, -1:] - products[-1:, :-1] + products[-1, -1]
    norms = moved.diagonal().sqrt()
    alike = moved / norms[:, None] / norms
    loss, exact = torch.zeros(size, size), torch.zeros(size, size)
    for column, task in enumerate(tqdm(tasks)):
        pack = make_pack(task, task.test[: asked.examples], chat, bare=True, budget=512)
        for at in range(0, size, AT_ONCE):
            some = grids[at : at + AT_ONCE]
            found = end_to_end(model, layout, some, stack([pack] * len(some), chat.padding))
            loss[at : at + len(some), column], exact[at : at + len(some), column] = found.loss, found.exact
    away = ~torch.eye(size, dtype=torch.bool)
    best = (loss.argmin(0) == torch.arange(size)).float().mean()
    summary = {
        "names": [task.name for task in tasks],
        "exact": [[round(float(x), 3) for x in row] for row in exact],
        "loss": [[round(float(x), 3) for x in row] for row in loss],
        "own": {"exact": round(float(exact.diagonal().mean()), 4), "loss": round(float(loss.diagonal().mean()), 4)},
        "others": {"exact": round(float(exact[away].mean()), 4), "loss": round(float(loss[away].mean()), 4)},
        "own_prompts_best": round(float(best), 4),
        "similarity": {
            "prompts": [[round(float(x), 3) for x in row] for row in places @ places.T],
            "adapters": [[round(float(x), 3) for x in row] for row in alike],
            "rank_correlation": round(spearman((places @ places.T)[away], alike[away]), 4),
        },
        "generator": pipeline.generator.provenance.get("sha256", ""),
        **origin(),
    }
    write_json(asked.out, summary)
    print({key: summary[key] for key in ("own", "others", "own_prompts_best")})


if __name__ == "__main__":
    main()
