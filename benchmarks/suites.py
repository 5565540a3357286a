"""Leave one out on the commonsense suites, by the protocol of Drag-and-Drop (arXiv 2506.16406, table 1).

For every suite the released generator is trained further on the six others alone, makes an adapter from 16 unlabelled
prompts of the one left out, and is tested on it. Beside it: the base, the mean and the best of the six other teachers
(best by its score on the five suites that are not its own and not the one left out), and the suite's own teacher
(full-shot). Two scores: the most likely of the allowed answers, and what is written freely (exact match).
Everything that takes long is kept under --runs and resumed.

python benchmarks/suites.py --suites ../shared/data/suites --out benchmarks/results/suites.json
"""

import argparse
import json
import re
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from tqdm import tqdm

from prompt2lora import api
from prompt2lora.base.decoding import answers
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.versions import origin
from prompt2lora.evaluation.likelihood import choices
from prompt2lora.evaluation.statistics import mean_interval
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.pipeline import Pipeline
from prompt2lora.generator.text_encoder import cached_encoder
from prompt2lora.ground.files import check_new, write_json, write_text
from prompt2lora.training.recipe import Recipe, Stage
from prompt2lora.training.tasks import Task, read_tasks
from prompt2lora.training.teachers import TeacherOptions, Teachers

# suite -> files of its training examples and of its test examples; where they are the same, half of it is each
SUITES = {
    "arc_e": ("arc_e_train", "arc_e_test"),
    "obqa": ("obqa_train", "obqa_test"),
    "arc_c": ("arc_c_train", "arc_c_test"),
    "piqa": ("piqa_validation", "piqa_validation"),
    "hellaswag": ("hellaswag_val_a", "hellaswag_val_b"),
    "boolq": ("boolq_train_noctx", "boolq_validation_noctx"),
    "winogrande": ("winogrande_validation", "winogrande_validation"),
}
TRAIN_EXAMPLES, PROMPTS = 600, 16
_OPTION = re.compile(r"^([A-H])\. ", re.MULTILINE)


def write_suites(source: Path, folder: Path, test_examples: int) -> list[Task]:
    """Every suite as a task file, examples drawn by a fixed seed."""
    for name, (train, test) in SUITES.items():
        examples = {file: [json.loads(line) for line in (source / f"{file}.jsonl").open()] for file in {train, test}}
        for file, some in examples.items():
            Random(file).shuffle(some)
        parts = {"train": examples[train], "test": examples[test]}
        if train == test:
            half = len(examples[train]) // 2
            parts = {"train": examples[train][:half], "test": examples[train][half:]}
        head = {"task": name, "family": name, "split": "train", "instruction": parts["train"][0]["instruction"]}
        lines = [head] + [
            {"input": example["input"], "output": example["output"], "part": part}
            for part, some in parts.items()
            for example in some[: TRAIN_EXAMPLES if part == "train" else test_examples]
        ]
        write_text(folder / f"{name}.jsonl", "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return read_tasks([folder])


def allowed(text: str) -> list[str]:
    """The answers that a question may have: its letters, or yes and no."""
    return _OPTION.findall(text) or ["yes", "no"]


def chosen(base: Frozen, task: Task, grid: torch.Tensor | None) -> list[float]:
    """Whether the most likely of the allowed answers is the right one, example by example."""
    options = [allowed(example.input) for example in task.test]
    picked = choices(base, [task.prompt(example.input) for example in task.test], options, grid)
    return [float(some[i] == example.output) for some, i, example in zip(options, picked, task.test, strict=True)]


def written(base: Frozen, task: Task, grid: torch.Tensor | None) -> list[float]:
    """Whether what is written freely is the right answer, example by example."""
    prompts = [task.prompt(example.input) for example in task.test]
    given = answers(base.model, base.chat, prompts, layout=base.layout, grid=grid, max_new_tokens=6)
    return [task.comparison.score(answer, example.output) for answer, example in zip(given, task.test, strict=True)]


def without(task: Task, tasks: list[Task], runs: Path, steps: int, start: Path) -> Generator:
    """The generator, trained further on all suites but one."""
    folder = runs / f"without-{task.name}"
    for other in tasks:
        if other != task:
            file = folder / "tasks" / f"{other.name}.jsonl"
            write_text(file, (runs / "tasks" / file.name).read_text(encoding="utf-8"))
    if not (folder / "run" / "generator").exists():
        stage = Stage(
            steps=steps, tasks=4, budget=384, bare=0.3, alone=0.3, twisted=0.0, learning_rate=2e-4, shared=1.0
        )
        config = Generator.from_pretrained(start).config
        recipe = Recipe(
            stages=(stage,),
            tasks=str(folder / "tasks"),
            base=config.layout.base_model,
            encoder=config.encoder,
            rank=config.layout.rank,
            targets=tuple(target.name for target in config.layout.targets),
            start=str(start),
            validation=0.0,
            validate_every=steps,
        )
        api.train(recipe, folder / "run", report=lambda record: print(*record.items(), flush=True))
    return Generator.from_pretrained(folder / "run" / "generator")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suites", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/suites"))
    parser.add_argument("--generator", default="smollm2-135m-instruct")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--teacher-steps", type=int, default=150)
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    check_new(asked.out)
    tasks = write_suites(asked.suites, asked.runs / "tasks", asked.examples)
    layout = Generator.from_pretrained(asked.generator).config.layout
    options = replace(TeacherOptions(), base=layout.base_model, steps=asked.teacher_steps, budget=512, bare=0.0)
    api.collect([asked.runs / "tasks"], asked.runs / "teachers", options=options, validation=0.0)
    teachers = Teachers(asked.runs / "teachers", layout)
    made = {task.name: without(task, tasks, asked.runs, asked.steps, asked.generator) for task in tasks}
    base = Frozen.load(layout, dtype=torch.float32)
    own = {task.name: teachers.last(task.name) for task in tasks}
    crossed = {
        (name, task.name): chosen(base, task, grid) for name, grid in tqdm(own.items(), "teachers") for task in tasks
    }

    def average(name: str, left_out: str) -> float:
        found = [crossed[name, task.name] for task in tasks if task.name not in (name, left_out)]
        return sum(sum(scores) / len(scores) for scores in found) / len(found)

    scores: dict[str, dict[str, dict[str, list[float]]]] = {}
    for task in tqdm(tasks, "suites"):
        others = [name for name in own if name != task.name]
        inputs = [example.input for example in task.train]
        pipeline = Pipeline(made[task.name], cached_encoder(made[task.name].config.encoder), base)
        best = max(others, key=lambda name: average(name, task.name))
        grids = {
            "base": None,
            "mean-teacher": torch.stack([own[name] for name in others]).mean(0),
            "best-teacher": own[best],
            "generated": pipeline.make([task.prompt(text) for text in inputs[:PROMPTS]]).grid,
            "full-shot": own[task.name],
        }
        known = {"best-teacher": crossed[best, task.name], "full-shot": crossed[task.name, task.name]}
        scores[task.name] = {
            arm: {"choice": known.get(arm) or chosen(base, task, grid), "written": written(base, task, grid)}
            for arm, grid in grids.items()
        }
    metrics = ("choice", "written")
    result: dict[str, Any] = {
        "suites": {
            name: {
                arm: {metric: round(sum(some[metric]) / len(some[metric]), 4) for metric in metrics}
                for arm, some in by_arm.items()
            }
            for name, by_arm in scores.items()
        },
        "mean": {
            arm: {
                metric: {
                    key: round(value, 4)
                    for key, value in mean_interval([by[arm][metric] for by in scores.values()])._asdict().items()
                }
                for metric in metrics
            }
            for arm in scores["arc_e"]
        },
        "examples": asked.examples,
        "steps": asked.steps,
        "teacher_steps": asked.teacher_steps,
        **origin(torch.float32),
    }
    write_json(asked.out, result)
    print(json.dumps(result["mean"], indent=1))


if __name__ == "__main__":
    main()
