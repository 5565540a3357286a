"""What a generator needs to read: how many prompts, which part of them, and by which of its two readers.

Nothing is trained anew. The tasks are the held-out training tasks of the generator's own recipe, never the dev tasks;
every variant changes only what the finished generator is given. Loss per answer token and teacher-forced exact match.

python benchmarks/reading.py --tasks ../shared/data/tasks --out benchmarks/results/reading.json
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from prompt2lora.base.packing import stack
from prompt2lora.base.versions import origin
from prompt2lora.evaluation.statistics import mean_interval
from prompt2lora.generator.pipeline import Pipeline
from prompt2lora.ground.files import check_new, write_json
from prompt2lora.training.objectives import end_to_end
from prompt2lora.training.sampling import PromptPool, make_pack
from prompt2lora.training.tasks import Example, Task, held_out

EXAMPLES, USUAL, MOST, AT_ONCE = 24, 16, 128, 8
USUAL_FORM = "instruction and input"
SOURCES = ("text", "base")
FORMS: dict[str, Callable[[Task, Example], str]] = {
    USUAL_FORM: lambda task, example: task.prompt(example.input),
    "instruction alone": lambda task, example: task.instruction,
    "input alone": lambda task, example: example.input,
    "with the answer": lambda task, example: f"{task.prompt(example.input)}\n{example.output}",
}


def asked(task: Task, form: str) -> list[str]:
    """As many prompts as any variant of the form reads; those that read fewer read the first of them."""
    most = MOST if form == USUAL_FORM else USUAL
    known = {example.input: example for example in task.train}
    inputs = PromptPool([task], most=most, known=most, seed=0).inputs[task.name]
    return [FORMS[form](task, known[text]) for text in inputs]


def deaf(pipeline: Pipeline, which: str, conditions: Tensor) -> Tensor:
    """The conditions with what one source says replaced by its mean over the training tasks; no source: unchanged."""
    config, centre = pipeline.generator.config, pipeline.generator.pooling.center
    changed = conditions.clone()
    if which == "text":
        changed[:, : config.width] = centre[: config.width]
    elif which == "base":
        changed[:, config.width :] = centre[config.width :]
    return changed


@torch.no_grad()
def measured(pipeline: Pipeline, tasks: list[Task], grids: list[Tensor], *, bare: bool) -> dict[str, object]:
    model, chat, layout = pipeline.base
    loss, exact = [], []
    for at in range(0, len(tasks), AT_ONCE):
        packs = [
            make_pack(task, task.test[:EXAMPLES], chat, bare=bare, budget=256) for task in tasks[at : at + AT_ONCE]
        ]
        found = end_to_end(model, layout, torch.stack(grids[at : at + AT_ONCE]), stack(packs, chat.padding))
        loss += found.loss.tolist()
        exact += found.exact.tolist()
    summary = mean_interval([[value] for value in exact])._asdict()
    return {"loss": round(sum(loss) / len(loss), 4), "exact": {key: round(x, 4) for key, x in summary.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--generator", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    check_new(options.out, "result file")
    pipeline = Pipeline.load(options.generator)
    generator = pipeline.generator
    tasks = held_out([options.tasks], generator.provenance)
    given = {f"{count} prompts": (USUAL_FORM, count, "") for count in (1, 2, 4, 8, USUAL, 64, MOST)}
    given |= {form: (form, USUAL, "") for form in FORMS if form != USUAL_FORM}
    if generator.config.states:
        given |= {f"without {which}": (USUAL_FORM, USUAL, which) for which in SOURCES}
    read = {form: [pipeline.conditions(asked(task, form)) for task in tqdm(tasks, form)] for form in FORMS}
    result: dict[str, dict[str, object]] = {}
    for name, (form, count, which) in tqdm(given.items()):
        some = [deaf(pipeline, which, found[:count]) for found in read[form]]
        grids = [generator.generate(conditions) for conditions in some]
        result[name] = {form: measured(pipeline, tasks, grids, bare=form == "bare") for form in ("full", "bare")}
    nothing = {
        "the shared adapter alone": generator.start.detach(),
        "the mean condition": generator.generate(generator.pooling.center[None]),
    }
    for name, grid in nothing.items():
        grids = [grid] * len(tasks)
        result[name] = {form: measured(pipeline, tasks, grids, bare=form == "bare") for form in ("full", "bare")}
    write_json(
        options.out,
        {"tasks": len(tasks), "variants": result, "generator": generator.provenance.get("sha256", ""), **origin()},
    )
    for name, forms in result.items():
        print(f"{name:<26}", *(f"{form} {forms[form]}" for form in forms))


if __name__ == "__main__":
    main()
