"""Seconds from prompts to a written adapter folder: a warm process, and cold starts of the command line.

    python benchmarks/generation.py --out benchmarks/results/generation.json

With --examples so many of the prompts have their right answers, as well. Every run has prompts
that were never encoded before and no cache of conditions.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from prompt2lora.base.versions import origin
from prompt2lora.custody.costs import MAKING
from prompt2lora.evaluation.statistics import spread
from prompt2lora.generator.pipeline import Pipeline
from prompt2lora.ground.files import write_json
from prompt2lora.training.tasks import read_tasks

EXAMPLES = Path(__file__).parent.parent / "examples"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generator")
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--examples", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--cold", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    tasks = read_tasks([EXAMPLES])

    def job(turn: int) -> list[tuple[str, str]]:
        task = tasks[turn % len(tasks)]
        examples = [*task.train, *task.test][: options.prompts]
        return [(task.prompt(f"{turn}: {example.input}"), example.output) for example in examples]

    pipeline = Pipeline.load(options.generator)
    pipeline.encoder.cache = None
    steps: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(options.repeats + 2):
            examples = job(turn)
            prompts = [prompt for prompt, _ in examples]
            seconds = pipeline.write(prompts, Path(folder) / str(turn), examples=examples[: options.examples]).seconds
            if turn >= 2:  # the first two warm the process up
                warm = {name: seconds[name] for name in MAKING if name in seconds}
                for name, value in {**warm, "total": sum(warm.values())}.items():
                    steps.setdefault(name, []).append(value)
        cold = []
        for turn in range(options.cold):
            file = Path(folder) / f"prompts-{turn}.jsonl"
            file.write_text("".join(json.dumps(prompt) + "\n" for prompt, _ in job(1000 + turn)), encoding="utf-8")
            words = [sys.executable, "-m", "prompt2lora", "generate", "--prompts", str(file)]
            words += ["--generator", options.generator] if options.generator else []
            began = time.perf_counter()
            subprocess.run(
                [*words, "--out", str(Path(folder) / f"cold-{turn}"), "--json"],
                check=True,
                capture_output=True,
                env={**os.environ, "PROMPT2LORA_HOME": str(Path(folder) / "home")},
            )
            cold.append(time.perf_counter() - began)
    report = {
        "prompts": options.prompts,
        "examples": options.examples,
        "base": pipeline.layout.base_model,
        "warm_seconds": {name: {**spread(values)._asdict(), "runs": len(values)} for name, values in steps.items()},
        **({"cold_seconds": {**spread(cold)._asdict(), "runs": len(cold)}} if cold else {}),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "threads": torch.get_num_threads(),
        **origin(),
    }
    write_json(options.out, report)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
