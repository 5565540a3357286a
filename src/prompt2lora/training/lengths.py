"""Where jobs with long answers lie, so that a generator leaves these answers to the base.

In: the pipeline of a trained generator, a seed. Out: `Lengths` for its atlas: the mean conditions of jobs whose answers
run to lines and of short jobs on the same texts, and how adapters that begin with the base usually look. Nothing is
trained.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.health import Reference
from prompt2lora.generator.atlas import Lengths
from prompt2lora.generator.pipeline import Pipeline
from prompt2lora.ground.pictures import Prompt
from prompt2lora.ground.progress import Report
from prompt2lora.training.synthetic.requests import prompt_groups


def lengths_of(pipeline: Pipeline, seed: int, report: Report) -> Lengths:
    """The generator's base has to be one that can be aligned (see `Pipeline.align_base`)."""
    long, brief = prompt_groups(seed)
    grids = []
    made = [prompts for group in long for prompts in (group, group[:1])]  # a job may be told by one prompt
    for done, prompts in enumerate(made, 1):
        grids.append(pipeline.align_base(prompts))
        report({"done": done, "of": len(made)})
    health = Reference.of(torch.stack(grids), pipeline.generator.start.detach(), pipeline.layout)
    return Lengths(_means(pipeline, long), _means(pipeline, brief), health)


def _means(pipeline: Pipeline, groups: Sequence[Sequence[Prompt]]) -> Float[Tensor, "groups width"]:
    return torch.stack([pipeline.encoded(group).mean(0) for group in groups])
