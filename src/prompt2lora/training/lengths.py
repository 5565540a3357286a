"""How jobs with long answers are told, so that a generator leaves these answers to the base.

In: the pipeline of a trained generator, prompts of its training tasks, a seed. Out: `Lengths` for its atlas: a linear
rule on what the base makes of prompts, fitted to jobs whose answers run to lines, short jobs on the same texts, and the
training tasks, which are all short; and how adapters that begin with the base usually look. Nothing is trained by
steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.health import Reference
from prompt2lora.generator.atlas import Lengths
from prompt2lora.generator.hidden_states import states
from prompt2lora.generator.pipeline import Pipeline
from prompt2lora.ground.pictures import Prompt
from prompt2lora.ground.progress import Report, part
from prompt2lora.training.synthetic.requests import prompt_groups

_READ = 2  # prompts of every job
_RIDGE = 0.06  # of the mean square of a job's states
_CLEARLY = 0.2  # where short jobs are put to -1 and long ones to 1


def lengths_of(pipeline: Pipeline, short: Sequence[Sequence[Prompt]], seed: int, report: Report) -> Lengths:
    """`short` are prompts of the training tasks. The base has to be one that can be aligned (`Pipeline.align_base`)."""
    long, brief = prompt_groups(seed)
    with part(report, 0.0, 0.3) as inside:
        means = job_states(pipeline, [*long, *brief, *short], inside)
    rule = linear_rule(means[: len(long)], means[len(long) :], pipeline.layout.layers)
    grids = []
    made = [group[:1] if number % 2 else group for number, group in enumerate(long)]  # a job may be told by one prompt
    with part(report, 0.3, 1.0) as inside:
        for done, prompts in enumerate(made, 1):
            grids.append(pipeline.align_base(prompts))
            inside({"done": done, "of": len(made)})
    health = Reference.of(torch.stack(grids), pipeline.generator.start.detach(), pipeline.layout)
    return Lengths(*rule, health)


def linear_rule(
    long: Float[Tensor, "jobs states"], short: Float[Tensor, "others states"], layers: int
) -> tuple[Float[Tensor, " states"], float]:
    """(direction, offset) of the rule: ridge regression of 1 and -1, where both sides weigh the same.

    Of the layers those from a third to three quarters of the depth, which tell best what is asked for.
    """
    count, width = len(long), long.shape[1]
    middle = torch.zeros(layers, width // layers)
    middle[layers // 3 : max(layers // 3 + 1, 3 * layers // 4)] = 1
    spread = short.std(0).clamp_min(1e-6)
    x = torch.cat([long, short]) * middle.flatten() / spread
    sides = torch.ones(len(x))
    sides[count:] = -1
    weight = torch.where(sides > 0, 0.5 / count, 0.5 / len(short))
    centre, root = weight @ x, weight.sqrt()
    inner = (x - centre) * root[:, None]
    products = inner @ inner.T
    ridge = _RIDGE * products.diagonal().mean() * torch.eye(len(x))
    direction = inner.T @ torch.linalg.solve(products + ridge, sides * root)
    return direction / spread, -float(centre @ direction) - _CLEARLY


def job_states(
    pipeline: Pipeline, groups: Sequence[Sequence[Prompt]], report: Report
) -> Float[Tensor, "groups states"]:
    """The mean of what the base makes of a few prompts of every job."""
    shared, found = pipeline.generator.start.detach(), []
    for done, group in enumerate(groups, 1):
        found.append(states(pipeline.base, shared, group[:_READ]).mean(0).cpu())
        report({"done": done, "of": len(groups)})
    return torch.stack(found)
