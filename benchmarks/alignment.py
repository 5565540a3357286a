"""What alignment gives, and what it takes: how much it reads, and of whom the adapter is.

The tasks are held-out training tasks of the generator's own recipe (BLiMP apart, whose answers are a letter), never the
dev tasks; every answer is decoded greedily, in both forms. Seconds are processor seconds of making the adapter.

python benchmarks/alignment.py --tasks ../shared/data/tasks --out benchmarks/results/alignment.json
"""

import argparse
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from torch import Tensor
from tqdm import tqdm

from prompt2lora.base.decoding import answers
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.versions import origin
from prompt2lora.evaluation.statistics import mean_interval
from prompt2lora.generator.alignment import AlignmentOptions, aligned, read_prompts
from prompt2lora.generator.pipeline import Pipeline
from prompt2lora.ground.files import check_new, write_json
from prompt2lora.ground.prompts import full_prompt
from prompt2lora.training.sampling import PromptPool
from prompt2lora.training.tasks import Task, held_out

PROMPTS, EXAMPLES, MAX_NEW_TOKENS = 16, 16, 24
VARIANTS = {
    "usual": AlignmentOptions(),
    "no own answers": AlignmentOptions(max_new_tokens=0),
    "one token of own answers": AlignmentOptions(max_new_tokens=1),
    "eight prompts": AlignmentOptions(prompts=8),
    "128 tokens of prompts": AlignmentOptions(budget=128),
    "sixteen prompts, 512 tokens": AlignmentOptions(prompts=16, budget=512),
    "ridge 0.01": AlignmentOptions(ridge=0.01),
    "ridge 1": AlignmentOptions(ridge=1.0),
}


def right(base: Frozen, task: Task, grid: Tensor, *, bare: bool) -> list[float]:
    """Which of the first test examples the adapter answers right."""
    examples = task.test[:EXAMPLES]
    asked = [full_prompt("" if bare else task.instruction, example.input) for example in examples]
    given = answers(base.model, base.chat, asked, layout=base.layout, grid=grid, max_new_tokens=MAX_NEW_TOKENS)
    return [task.comparison.score(answer, example.output) for answer, example in zip(given, examples, strict=True)]


def _aligned(base: Any, grid: Any, teacher: Any, prompts: Any, how: AlignmentOptions) -> Any:
    return aligned(base, grid, read_prompts(base, teacher, prompts, how), how)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--generator", type=Path)
    parser.add_argument("--most", type=int, default=24, help="tasks, drawn at random")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    check_new(options.out, "result file")
    pipeline = Pipeline.load(options.generator)
    generator, base = pipeline.generator, pipeline.base
    tasks = [task for task in held_out([options.tasks], generator.provenance) if not task.name.startswith("blimp")]
    tasks = Random(0).sample(tasks, min(options.most, len(tasks)))
    drawn = PromptPool(tasks, most=PROMPTS, known=PROMPTS, seed=0)
    cells: dict[str, list[dict[str, Any]]] = {}
    for task in tqdm(tasks):
        prompts = drawn.usual(task, PROMPTS)
        shared, decoded = generator.start.detach(), generator.generate(pipeline.conditions(prompts))
        makers = {"decoded": lambda grid=decoded: grid, "shared adapter": lambda grid=shared: grid}
        for name, how in VARIANTS.items():
            makers[name] = partial(_aligned, base, decoded, shared, prompts, how)
        makers["shared adapter, aligned"] = partial(_aligned, base, shared, shared, prompts, AlignmentOptions())
        for name, make in makers.items():
            began = time.process_time()
            grid = make()
            seconds = time.process_time() - began
            scores = {form: right(base, task, grid, bare=form == "bare") for form in ("full", "bare")}
            cells.setdefault(name, []).append({"seconds": seconds, **scores})
    result = {
        name: {
            "seconds": round(sum(cell["seconds"] for cell in found) / len(found), 2),
            **{form: mean_interval([cell[form] for cell in found])._asdict() for form in ("full", "bare")},
        }
        for name, found in cells.items()
    }
    usual = {name: asdict(how) for name, how in VARIANTS.items()}
    write_json(
        options.out,
        {
            "tasks": [task.name for task in tasks],
            "examples": EXAMPLES,
            "options": usual,
            "alignments": result,
            **origin(),
        },
    )
    for name, found in result.items():
        print(f"{name:<28}", *(f"{form} {found[form]['score']:.3f}" for form in ("full", "bare")), found["seconds"])


if __name__ == "__main__":
    main()
