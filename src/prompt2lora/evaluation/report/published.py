"""The published tasks beside the published figures: the section that follows the headline.

In: results of `prompt2lora benchmark --suites`. Out: Markdown. Figures are shown as they stand in the file; those of
others are from Drag-and-Drop (arXiv 2506.16406), on Qwen2.5-0.5B unless the line says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prompt2lora.evaluation.benchmark import OWN
from prompt2lora.evaluation.published.results import PublishedResult
from prompt2lora.evaluation.published.runner import NAMESPACES
from prompt2lora.evaluation.published.scoring import MAIN, METRICS
from prompt2lora.evaluation.report.tables import counted, interval, table
from prompt2lora.training.suites import COMMONSENSE, SuiteKind

# Percent by suite in the order of COMMONSENSE, then their mean.
_COMMONSENSE = {
    "base": (54.8, 16.6, 38.3, 16.6, 26.5, 37.0, 50.2, 34.3),
    "average of the training LoRAs": (37.5, 30.2, 39.5, 40.5, 22.4, 13.5, 38.8, 31.8),
    "best training LoRA, picked with test labels": (64.3, 46.2, 53.4, 80.4, 46.7, 44.6, 52.8, 55.5),
    "Drag-and-Drop": (68.6, 40.8, 51.6, 87.9, 25.9, 44.9, 50.0, 52.8),
}
_OTHERS = {
    "base": {
        "gsm8k-steps": "0.644 (1.5B), 0.812 (7B)",
        "math-steps": "0.293 (size unknown)",
        "humaneval": "0.147 (1.5B)",
    },
    "Drag-and-Drop": {
        "gsm8k-steps": "0.663 (1.5B), 0.831 (7B)",
        "math-steps": "0.239 (size unknown)",
        "humaneval": "0.327 (1.5B)",
    },
}
_TRAINED = ("full-shot", "full-fine-tuning")
_SAYS = {
    "written": "The answer is written, in the form that is asked for (a letter, yes or no)",
    "letter": "Of the answers that are allowed the right one is the likeliest",
    "acc": "Of the options' texts the right one is the likeliest, the question being shown alone (the field's acc)",
    "acc_norm": "The same per letter of the text (the field's acc_norm)",
}


def published(file: Path, result: PublishedResult) -> str:
    asked = result.request
    limit = f"at most {asked.limit} test examples each" if asked.limit else "all test examples"
    parts = [
        f"## {file.stem}\n",
        f"Published tasks, {limit}; {counted(asked.prompts_per_task, 'prompt')} per adapter, "
        f"{counted(len(asked.seeds), 'draw')} of the prompts; {result.base}. File `{file.name}`, made by\n",
        f"    {result.command}\n",
        "Published figures are those of Drag-and-Drop (arXiv 2506.16406), of Qwen2.5-0.5B unless a size is named.\n",
        *_commonsense(result),
        *_others(result),
        *_gains(result),
        *_seconds(result),
        *_ratios(result),
        *_notes(result),
    ]
    return "\n".join(parts) + "\n"


def _commonsense(result: PublishedResult) -> list[str]:
    names = [name for name in COMMONSENSE if name in result.published]
    if not names:
        return []
    parts = []
    measured = next(iter(result.mean.values()))
    first, *_ = chosen = [metric for metric in METRICS[SuiteKind.COMMONSENSE] if metric in measured]
    for metric in chosen:
        lines = [
            [
                _bold(arm),
                *(f"{result.published[name].arms[arm].scores[metric].score:.3f}" for name in names),
                interval(mean[metric]),
            ]
            for arm, mean in result.mean.items()
        ]
        if metric == "written":
            lines += [_published_line(arm, percent, names) for arm, percent in _COMMONSENSE.items()]
        examples = ", ".join(f"{name} {result.published[name].examples}" for name in names)
        told = f" ({examples} examples)" if metric == first else ""
        parts += [f"{_SAYS[metric]}{told}:\n", table(["arm", *names, "mean"], lines), ""]
    return parts


def _published_line(arm: str, percent: Sequence[float], names: Sequence[str]) -> list[str]:
    shown = dict(zip((*COMMONSENSE, "mean"), percent, strict=True))
    mean = f"{shown['mean'] / 100:.3f}" if len(names) == len(COMMONSENSE) else ""
    return [f"published, {arm}", *(f"{shown[name] / 100:.3f}" for name in names), mean]


def _others(result: PublishedResult) -> list[str]:
    """Mathematics and code: a column for every suite and metric."""
    columns = [
        (name, metric)
        for name, suite in result.published.items()
        if suite.kind != SuiteKind.COMMONSENSE
        for metric in METRICS[SuiteKind(suite.kind)]
        if all(metric in arm.scores for arm in suite.arms.values())
    ]
    if not columns:
        return []
    lines = [
        [_bold(arm), *(interval(result.published[name].arms[arm].scores[metric]) for name, metric in columns)]
        for arm in result.request.arms
    ]
    lines += [
        [f"published, {arm}", *(known.get(name, "") if metric in MAIN.values() else "" for name, metric in columns)]
        for arm, known in _OTHERS.items()
    ]
    heads = [f"{name}, {metric} ({result.published[name].examples})" for name, metric in columns]
    return ["Mathematics and code (in the heads: how many examples):\n", table(["arm", *heads], lines), ""]


def _gains(result: PublishedResult) -> list[str]:
    """This product minus the base, suite by suite, by the first metric of its kind; losses are shown as they are."""
    lines = []
    for name, suite in result.published.items():
        metric = MAIN[SuiteKind(suite.kind)]
        found = suite.arms.get(OWN)
        if found and metric in found.gain:
            lines.append([name, metric, interval(found.gain[metric])])
    return [table(["suite", "metric", f"{OWN} minus base"], lines), ""] if lines else []


def _seconds(result: PublishedResult) -> list[str]:
    """What adapting took, and answering, of every arm that adapts anything."""
    suites = result.published.values()
    lines = [
        [_bold(arm), *(f"{one.arms[arm].seconds.adapt:.1f} + {one.arms[arm].seconds.answer:.0f}" for one in suites)]
        for arm in result.request.arms
        if any(one.arms[arm].seconds.adapt >= 0.1 for one in suites)
    ]
    if not lines:
        return []
    cores = counted(int(result.hardware["cores"]), "core")
    return [f"Seconds to adapt + to answer all examples, {cores}:\n", table(["arm", *result.published], lines), ""]


def _ratios(result: PublishedResult) -> list[str]:
    """How many times as long as this product the arms that learn labelled examples take to adapt."""
    own = {name: one.arms[OWN].seconds.adapt for name, one in result.published.items() if OWN in one.arms}
    names = [name for name, seconds in own.items() if seconds]
    lines = [
        [arm, *(f"{result.published[name].arms[arm].seconds.adapt / own[name]:,.0f}" for name in names)]
        for arm in result.request.arms
        if names and arm in _TRAINED
    ]
    if not lines:
        return []
    told = f"Seconds to adapt as a multiple of those of {OWN} (published, full fine-tuning: 2,500 to 12,000):\n"
    return [told, table(["arm", *names], lines), ""]


def _notes(result: PublishedResult) -> list[str]:
    lines = []
    for name, suite in result.published.items():
        if suite.seen is None:
            lines.append(f"* {name}: the generator does not tell what it was trained on.")
        elif suite.seen:
            lines.append(f"* {name}: **not left out**, the generator was trained on {', '.join(suite.seen)}.")
    if result.shut_off_by and result.shut_off_by != NAMESPACES:
        lines.append("* Programs were kept from the network by the interpreter alone: this system lends no namespaces.")
    return lines


def _bold(arm: str) -> str:
    return f"**{arm}**" if arm == OWN else arm
