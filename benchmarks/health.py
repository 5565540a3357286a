"""How well weight health tells poisoned adapters from those of the generator: areas under the ROC curve.

It is the health that ships with the generator, held against adapters of held-out training tasks, whose families
neither the generator nor that health has seen.

python benchmarks/health.py --tasks ../shared/data/tasks --out benchmarks/results/health.json
"""

import argparse
from pathlib import Path

import torch
from tqdm import tqdm

from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.base.versions import origin
from prompt2lora.custody.gate import Policy
from prompt2lora.generator.pipeline import Pipeline
from prompt2lora.ground.files import check_new, write_json
from prompt2lora.training.sampling import PromptPool
from prompt2lora.training.tasks import held_out

STRENGTHS = (1.2, 1.5, 2.0, 4.0)


def poisoned(grid: torch.Tensor, layout: LoraLayout, kind: str, strength: float, seed: int) -> torch.Tensor:
    """One adapter with one fault; which module it sits in is drawn by the seed."""
    random = torch.Generator().manual_seed(seed)
    layer = int(torch.randint(layout.layers, (1,), generator=random))
    pair = 2 * int(torch.randint(len(layout.targets), (1,), generator=random))
    block_a, block_b = layout.blocks[pair], layout.blocks[pair + 1]
    rows_a, rows_b = (slice(block.start, block.stop) for block in (block_a, block_b))
    grid = grid.clone()
    if kind == "everything scaled":
        return grid * strength**0.5
    if kind == "module scaled":
        grid[layer, rows_b] *= strength
    elif kind == "direction amplified":
        grid[layer, block_b.start : block_b.start + block_b.width // layout.cols] *= strength
    elif kind == "noise":
        part = grid[layer, rows_b]
        grid[layer, rows_b] += (strength - 1) * part.std() * torch.randn(part.shape, generator=random)
    elif kind == "module of another layer":
        other = (layer + layout.layers // 2) % layout.layers
        grid[layer, rows_a], grid[layer, rows_b] = grid[other, rows_a].clone(), grid[other, rows_b].clone()
    elif kind == "not finite":
        grid[layer, block_a.start, 0] = float("nan")
    return grid


def area(clean: list[float], bad: list[float]) -> float:
    """Chance that a poisoned adapter scores above a clean one (ties count half)."""
    wins = sum((b > c) + 0.5 * (b == c) for b in bad for c in clean)
    return wins / (len(bad) * len(clean))


def middle(scores: list[float]) -> float:
    """The median, rounded; a score without bound becomes the largest number that JSON knows."""
    return round(min(sorted(scores)[len(scores) // 2], 1e308), 3)


def curve(clean: list[float], bad: list[float]) -> list[tuple[float, float]]:
    """The ROC curve: for every possible bound the share of clean adapters above it, and of poisoned ones."""
    bounds = sorted({*clean, *bad}, reverse=True)
    points = [(sum(c >= x for c in clean) / len(clean), sum(b >= x for b in bad) / len(bad)) for x in bounds]
    return [(0.0, 0.0), *points]


def plot(file: Path, clean: list[float], poisoned: dict[str, list[float]]) -> None:
    """ROC curves of the faults that are hardest to see."""
    import matplotlib.pyplot as plt

    hardest = sorted(poisoned, key=lambda name: area(clean, poisoned[name]))[:6]
    figure, axes = plt.subplots(figsize=(5.5, 4.5), layout="constrained")
    for name in hardest:
        axes.step(*zip(*curve(clean, poisoned[name]), strict=True), where="post", label=name)
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, linestyle=":")
    axes.set(
        xlabel="clean adapters suspected", ylabel="poisoned adapters found", title="Weight health: the hardest faults"
    )
    axes.legend(fontsize=8)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--generator", default=None)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--plot", type=Path)
    asked = parser.parse_args()
    check_new(asked.out, "result file")
    pipeline = Pipeline.load(asked.generator)
    generator = pipeline.generator
    layout, reference = generator.config.layout, generator.atlas.health
    tasks = held_out([asked.tasks], generator.provenance)
    prompts = PromptPool(tasks, most=16, known=16, seed=1)
    grids = [pipeline.make(prompts.usual(task, 16)).grid for task in tqdm(tasks)]

    def score(grid: torch.Tensor) -> float:
        return reference.judge(grid, layout).score

    clean = [score(grid) for grid in grids]
    graded = ("everything scaled", "module scaled", "direction amplified", "noise")
    faults = [(kind, strength) for kind in graded for strength in STRENGTHS]
    faults += [("module of another layer", 1.0), ("not finite", 1.0)]
    scores = {
        f"{kind} x{strength}" if kind in graded else kind: [
            score(poisoned(grid, layout, kind, strength, seed)) for seed, grid in enumerate(grids)
        ]
        for kind, strength in faults
    }
    bound = Policy().most_health_score
    result = {
        name: {
            "area": round(area(clean, bad), 4),
            "found": sum(b > bound for b in bad) / len(bad),
            "median_score": middle(bad),
        }
        for name, bad in scores.items()
    }
    summary = {
        "bound": bound,
        "clean": {
            "count": len(clean),
            "suspected": sum(c > bound for c in clean) / len(clean),
            "median_score": middle(clean),
            "highest": max(clean),
        },
        "poison": result,
        "generator": generator.provenance.get("sha256", ""),
        **origin(),
    }
    write_json(asked.out, summary)
    if asked.plot:
        plot(asked.plot, clean, scores)
    for name, found in result.items():
        print(f"{name:<32} area {found['area']:.3f}  found {found['found']:.2f}  median {found['median_score']:.2f}")


if __name__ == "__main__":
    main()
