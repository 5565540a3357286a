"""What a form of answers is worth: exact match with and without it, of every arm alike; and what confidences are worth.

Tasks are those whose labelled training answers show a form (a few texts that recur, numbers, dates); test answers are
never looked at for it. Every arm answers the same test examples freely and held to the form. Of the answers that were
held to it, their confidences say which share can be answered with which share right (risk and coverage), by the
probability of the whole answer and by the geometric mean of its tokens' probabilities; and, with some of the examples
to calibrate on, how well the calibrated share foretells what is right on the others. What was answered before is kept
in a file, so that the run goes on after any cut.

    python benchmarks/answer_forms.py --tasks ../shared/data/tasks --arms base,generated,wrong-prompt,examples-16 \\
        --kept benchmarks/results/answer-forms.lines.jsonl --out benchmarks/results/answer-forms.json
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch

from prompt2lora.base.decoding import confidence, scored_answers
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.versions import origin
from prompt2lora.evaluation.arms import ARMS
from prompt2lora.evaluation.attempts import make
from prompt2lora.evaluation.resources import Resources
from prompt2lora.evaluation.revisions import revisions
from prompt2lora.evaluation.score_cache import ScoreCache, base_key, digest
from prompt2lora.evaluation.statistics import mean_interval, paired_difference
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.text_encoder import cached_encoder
from prompt2lora.ground.answer_form import AnswerForm
from prompt2lora.ground.declared_form import found
from prompt2lora.ground.files import write_json
from prompt2lora.plant.calibration import ENOUGH, calibrate
from prompt2lora.training.tasks import Task, read_tasks

GENERATOR = "smollm2-135m-instruct"
COVERAGES = (1.0, 0.9, 0.75, 0.5, 0.25)
SLACK = 8
LEAST_FORETOLD = 15  # examples of a task that a calibration is held against
CONFIDENCES = {
    "sequence": confidence,
    "geometric mean": lambda tokens: math.exp(sum(tokens) / max(1, len(tokens))),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--arms", default="base,generated,wrong-prompt,examples-16")
    parser.add_argument("--most", type=int, default=1000, help="tasks, in an order drawn by their names")
    parser.add_argument("--limit", type=int, default=100, help="test examples of a task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kept", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    tasks = read_tasks([given.tasks], split=given.split)
    forms = {task.name: found([example.output for example in task.train]) for task in tasks}
    chosen = sorted((task for task in tasks if forms[task.name]), key=lambda task: digest(task.name))[: given.most]
    generator = Generator.from_pretrained(GENERATOR)
    base = Frozen.load(generator.config.layout, dtype=torch.float32)
    resources = Resources(base, cached_encoder(generator.config.encoder), generator, tasks)
    kept = ScoreCache(given.kept)
    told = {}
    for number, task in enumerate(chosen, 1):
        form = forms[task.name]
        assert form is not None
        for arm in given.arms.split(","):
            told[task.name, arm] = judged(resources, kept, task, arm, form, given.limit, given.seed)
        print(f"{number}/{len(chosen)} {task.name} {form}"[:110], file=sys.stderr, flush=True)
    write_json(given.out, summary(told, given.arms.split(","), chosen, forms, base) | {"command": " ".join(sys.argv)})


def judged(
    resources: Resources, kept: ScoreCache, task: Task, arm: str, form: AnswerForm, limit: int, seed: int
) -> dict[str, list]:
    """Per test example: right without the form, right with it, and the log-probabilities of the answer's tokens."""
    attempt = ARMS[arm].attempt(resources, task, seed)
    examples = task.test[:limit]
    asked = [[example.input, example.output] for example in examples]
    depends = [asked, task.instruction, form.to_dict(), attempt.depends, revisions("answers", *attempt.code)]
    key = digest(["answer forms", base_key(resources.base.layout), task.comparison, *depends])
    if known := kept.get(key):
        return known
    base, grid, _ = make(attempt, resources.base)
    longest = max(len(ids) for ids in base.chat.answer_ids([example.output for example in examples])) + SLACK
    prompts = [task.prompt(example.input) for example in examples]
    shown = [(task.prompt(one.input), one.output) for one in attempt.examples]
    options = {"examples": shown, "layout": base.layout, "grid": grid, "max_new_tokens": longest, "scored": True}
    free, held = (scored_answers(base.model, base.chat, prompts, form=one, **options) for one in (None, form))
    pairs = [(given, wanted.output) for given, wanted in zip(free, examples, strict=True)]
    entry = {
        "free": [task.comparison.score(given.text, right) for given, right in pairs],
        "held": [task.comparison.score(given.text, one.output) for given, one in zip(held, examples, strict=True)],
        "of_form": [float(form.fits(given.text)) for given, _ in pairs],
        "tokens": [[round(value, 4) for value in given.log_probabilities] for given in held],
        "free_tokens": [[round(value, 4) for value in given.log_probabilities] for given in free],
    }
    kept.add(key, entry)
    return entry


def summary(told: dict, arms: list[str], tasks: list[Task], forms: dict, base: Frozen) -> dict:
    """Means over tasks with intervals, risk and coverage over all examples."""
    result = {"tasks": {task.name: {"form": forms[task.name].to_dict()} for task in tasks}, "arms": {}}
    for arm in arms:
        cells = [told[task.name, arm] for task in tasks]
        for task, cell in zip(tasks, cells, strict=True):
            means = {name: round(float(np.mean(cell[name])), 4) for name in ("free", "held", "of_form")}
            result["tasks"][task.name][arm] = means | {"n": len(cell["free"])}
        free, held = [cell["free"] for cell in cells], [cell["held"] for cell in cells]
        right = [score for cell in cells for score in cell["held"]]
        result["arms"][arm] = {
            "free": rounded(mean_interval(free)),
            "held": rounded(mean_interval(held)),
            "gain": rounded(paired_difference(held, free)),
            "of_form": round(float(np.mean([np.mean(cell["of_form"]) for cell in cells])), 4),
            "risk": {
                name: risk([rule(tokens) for cell in cells for tokens in cell["tokens"]], right)
                for name, rule in CONFIDENCES.items()
            },
            "calibration": calibration(cells),
        }
    return {**result, **origin(base.model.dtype)}


def risk(confidences: list[float], right: list[float]) -> dict:
    """Share right among the most confident answers, and the area under that curve (1: all right)."""
    order = np.argsort(-np.array(confidences), kind="stable")
    shares = np.cumsum(np.array(right)[order]) / np.arange(1, len(right) + 1)
    at = {f"{part:g}": round(float(shares[max(0, round(part * len(right)) - 1)]), 4) for part in COVERAGES}
    return {"share_right_of_answered": at, "area": round(float(shares.mean()), 4), "auc": area(confidences, right)}


def area(confidences: list[float], right: list[float]) -> float | None:
    """How often a right answer is more confident than a wrong one."""
    good = np.array([c for c, r in zip(confidences, right, strict=True) if r == 1])
    bad = np.array([c for c, r in zip(confidences, right, strict=True) if r == 0])
    if not len(good) or not len(bad):
        return None
    wins = (good[:, None] > bad[None]).mean() + 0.5 * (good[:, None] == bad[None]).mean()
    return round(float(wins), 4)


def calibration(cells: list[dict]) -> dict:
    """Per task with enough examples: calibrate on as many as the product asks for, foretell the rest."""
    errors, plain, count = [], [], 0
    for cell in cells:
        confidences = [CONFIDENCES["sequence"](tokens) for tokens in cell["tokens"]]
        if len(confidences) < ENOUGH + LEAST_FORETOLD:
            continue
        rule = calibrate(confidences[:ENOUGH], [score == 1 for score in cell["held"][:ENOUGH]])
        count += 1
        for sure, score in zip(confidences[ENOUGH:], cell["held"][ENOUGH:], strict=True):
            errors.append((rule.share(sure) - score) ** 2)
            plain.append((sure - score) ** 2)
    if not count:
        return {"tasks": 0}
    return {"tasks": count, "brier": round(float(np.mean(errors)), 4), "brier_plain": round(float(np.mean(plain)), 4)}


def rounded(interval) -> dict:
    return {name: round(value, 4) for name, value in interval._asdict().items()}


if __name__ == "__main__":
    main()
