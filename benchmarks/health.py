"""How well weight health tells poisoned adapters from those of the generator: areas under the ROC curve.

python benchmarks/health.py --tasks ../shared/data/tasks --out benchmarks/results/health.json
"""

import argparse
from pathlib import Path

import torch

from prompt2lora.files import check_new, write_json
from prompt2lora.generator.conditions import cached_encoder
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.reading import Reader
from prompt2lora.training.pairs import Prompts
from prompt2lora.training.tasks import read_tasks
from prompt2lora.verbs import released_generator
from prompt2lora.versions import origin
from prompt2lora.weights.health import Reference
from prompt2lora.weights.layout import LoraLayout

REFERENCE, CLEAN = 200, 100  # adapters that the reference is made of, and others that must look healthy
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    check_new(asked.out)
    generator = Generator.from_pretrained(released_generator())
    layout = generator.config.layout
    tasks = read_tasks([asked.tasks], split="train")[: 2 * (REFERENCE + CLEAN) : 2]
    reader = Reader(generator, cached_encoder(generator.config.encoder), layout)
    prompts = Prompts(tasks, most=16, known=16, seed=1)
    grids = torch.stack([reader.generate(prompts.usual(task, 16)) for task in tasks])
    reference = Reference.of(grids[:REFERENCE], generator.start.detach(), layout)
    clean = [reference.judge(grid, layout).score for grid in grids[REFERENCE:]]
    kinds = ("everything scaled", "module scaled", "direction amplified", "noise")
    result = {}
    for kind in kinds:
        for strength in STRENGTHS:
            bad = [
                reference.judge(poisoned(grid, layout, kind, strength, seed), layout).score
                for seed, grid in enumerate(grids[REFERENCE:])
            ]
            result[f"{kind} x{strength}"] = {
                "area": round(area(clean, bad), 4),
                "median_score": middle(bad),
            }
    for kind in ("module of another layer", "not finite"):
        bad = [
            reference.judge(poisoned(grid, layout, kind, 1.0, seed), layout).score
            for seed, grid in enumerate(grids[REFERENCE:])
        ]
        result[kind] = {"area": round(area(clean, bad), 4), "median_score": middle(bad)}
    summary = {
        "reference": REFERENCE,
        "clean": {"count": len(clean), "median_score": middle(clean), "highest": max(clean)},
        "poison": result,
        "generator": generator.provenance.get("sha256", ""),
        **origin(),
    }
    write_json(asked.out, summary)
    for kind, found in result.items():
        print(f"{kind:<32} area {found['area']:.3f}  median score {found['median_score']:.2f}")


if __name__ == "__main__":
    main()
