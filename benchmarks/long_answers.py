"""Are jobs with long answers told from short ones whose like the rule has not seen?

The rule of `training/lengths.py` is fitted with every fourth wording, or one whole kind of jobs, left out at a time and
judges what was left out, on other texts, by two prompts of a job and by one. And the rule as a generator has it judges
held-out training tasks.

python benchmarks/long_answers.py --tasks ../shared/data/tasks --out benchmarks/results/long-answers.json
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from prompt2lora.base.versions import origin
from prompt2lora.generator.pipeline import Pipeline
from prompt2lora.ground.files import check_new, write_json
from prompt2lora.training.lengths import job_states, linear_rule
from prompt2lora.training.sampling import PromptPool
from prompt2lora.training.synthetic.requests import KINDS, prompt_groups
from prompt2lora.training.tasks import held_out, read_tasks

PROMPTS = 16
FOLDS = 4
Jobs = Float[Tensor, "jobs states"]


def read(pipeline: Pipeline, groups: Sequence[Sequence[str]], said: str) -> Jobs:
    bar = tqdm(total=len(groups), desc=said)
    return job_states(pipeline, groups, lambda _: bar.update())


def places(counts: Sequence[int]) -> Tensor:
    """The kind of every job, and its number among them all."""
    kinds = [kind for kind, count in enumerate(counts) for _ in range(count)]
    return torch.tensor([kinds, range(len(kinds))])


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--generator")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    check_new(asked.out, "result file")
    pipeline = Pipeline.load(asked.generator)
    generator, layers = pipeline.generator, pipeline.layout.layers
    recipe = generator.provenance["recipe"]
    known = [task for task in read_tasks([asked.tasks]) if task.name in {*generator.atlas.names}]
    others = held_out([asked.tasks], generator.provenance)
    pool = PromptPool([*known, *others], most=PROMPTS, known=PROMPTS, seed=asked.seed)
    tasks = read(pipeline, [pool.usual(task, PROMPTS) for task in known], "training tasks")
    fitted = [read(pipeline, groups, "jobs") for groups in prompt_groups(recipe["seed"])]
    new = prompt_groups(recipe["seed"] + asked.seed)
    judged = {
        "two prompts": [read(pipeline, groups, "the same on other texts") for groups in new],
        "one prompt": [read(pipeline, [group[:1] for group in groups], "by one prompt") for groups in new],
    }
    of_kind = [places([len(kind.at_length) for kind in KINDS]), places([len(kind.brief) for kind in KINDS])]
    left_out = {
        "wording": [[number % FOLDS == fold for _, number in of_kind] for fold in range(FOLDS)],
        "kind": [[kinds == kind for kinds, _ in of_kind] for kind in range(len(KINDS))],
    }
    found: dict[str, dict[str, dict[str, float]]] = {}
    for what, parts in left_out.items():
        for told, jobs in judged.items():
            taken: list[list[bool]] = [[], []]
            for part in parts:
                long, brief = (jobs[~out] for jobs, out in zip(fitted, part, strict=True))
                direction, offset = linear_rule(long, torch.cat([brief, tasks]), layers)
                for side, states, out in zip(taken, jobs, part, strict=True):
                    side += (states[out] @ direction + offset > 0).tolist()
            long_found, short_taken = (round(sum(side) / len(side), 3) for side in taken)
            found.setdefault(what, {})[told] = {"long found": long_found, "short taken": short_taken}
    wrong = [task.name for task in others if pipeline.answered_at_length(pool.usual(task, PROMPTS))]
    counts = {"kinds": len(KINDS), "long": len(fitted[0]), "short": len(fitted[1]), "training tasks": len(known)}
    result = {"left out": found, "held-out tasks": len(others), "held-out tasks taken for long": wrong, "jobs": counts}
    made = {"base": pipeline.layout.base_model, "generator": generator.provenance["sha256"][:12]}
    write_json(asked.out, {**result, **made, **origin()})
    for what, both in found.items():
        print(what, both)


if __name__ == "__main__":
    main()
