"""What a generator was trained on, as far as its users need it: where its tasks lie, and how its adapters look.

A generator folder carries one beside its weights. It tells how near new prompts are to anything known, which training
tasks are the nearest, and whether an adapter looks like those that the generator usually makes. It may also tell jobs
whose answers are long, such as programs: the decoder was trained on short answers, and those are left to the base.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.health import Reference
from prompt2lora.errors import DamagedFile
from prompt2lora.ground.files import read_metadata, read_safetensors, write_safetensors

FILE = "training_tasks.safetensors"
_NEIGHBOURS = 5  # training tasks that are named
_DIRECTIONS = 64  # of the conditions, in which distances are measured


class Neighbour(NamedTuple):
    """A training task and the cosine between its prompts and the new ones."""

    task: str
    instruction: str
    similarity: float


class Lengths(NamedTuple):
    """A linear rule on the mean of what the base with the shared adapter makes of a job's prompts (`hidden_states`):
    above zero, the answers are long. And the usual health of adapters that begin with the base."""

    direction: Float[Tensor, " states"]
    offset: float
    health: Reference

    def answered_at_length(self, states: Float[Tensor, "prompts states"]) -> bool:
        """Whether the answers of a job are long, by what the base made of its prompts."""
        return float(states.mean(0) @ self.direction) + self.offset > 0


class Atlas(NamedTuple):
    """names and instructions of the training tasks, the mean condition of each, and the usual health of adapters;
    lengths if jobs with long answers are left to the base."""

    names: tuple[str, ...]
    instructions: tuple[str, ...]
    means: Float[Tensor, "tasks width"]
    health: Reference
    lengths: Lengths | None = None

    def neighbours(self, condition: Float[Tensor, " width"]) -> list[Neighbour]:
        """The nearest training tasks of a job's mean condition, the nearest first."""
        centre, spread = self.means.mean(0), self.means.std(0).clamp_min(1e-4)
        places = torch.nn.functional.normalize((self.means - centre) / spread, dim=-1)
        place = torch.nn.functional.normalize((condition - centre) / spread, dim=0)
        similarity = places @ place
        best = similarity.topk(min(_NEIGHBOURS, len(self.names)))
        return [
            Neighbour(self.names[i], self.instructions[i], float(s))
            for s, i in zip(best.values, best.indices.tolist(), strict=True)
        ]

    def distance(self, condition: Float[Tensor, " width"]) -> float:
        """Mahalanobis distance from the training tasks in the directions in which they vary most, relative to theirs.

        1 is a training task of the middle; the training tasks reach to about 2 (see Ren et al. 2021, arXiv 2106.09022,
        for why the distance is held against a reference).
        """
        centre = self.means.mean(0)
        directions = min(_DIRECTIONS, max(1, len(self.names) // 4))
        _, values, axes = torch.linalg.svd(self.means - centre, full_matrices=False)
        scale = values[:directions] / len(self.names) ** 0.5

        def far(points: Float[Tensor, "points width"]) -> Float[Tensor, " points"]:
            away = points - centre
            along = away @ axes[:directions].T
            inside, outside = (along / scale).square().mean(-1), (away - along @ axes[:directions]).square().sum(-1)
            usual = values[directions:].square().sum() / len(self.names)
            total: Tensor = inside + outside / usual.clamp_min(1e-9)
            return total.sqrt()

        return float(far(condition[None])[0] / far(self.means).median())

    def save(self, folder: Path) -> str:
        """Write the file into a folder; returns its SHA-256."""
        state = {
            "means": self.means.half(),
            **self.health.to_dict(),
        }
        if self.lengths:
            state |= {"direction": self.lengths.direction, "offset": torch.tensor(self.lengths.offset)}
            state |= {f"long_{name}": tensor for name, tensor in self.lengths.health.to_dict().items()}
        tasks = [list(pair) for pair in zip(self.names, self.instructions, strict=True)]
        return write_safetensors(folder / FILE, state, {"tasks": json.dumps(tasks, ensure_ascii=False)})

    @classmethod
    def load(cls, folder: Path, shared: Float[Tensor, "layers rows cols"]) -> Atlas:
        """Read a generator folder's atlas; `shared` is the generator's shared adapter.

        Raises DamagedFile if it is missing or altered beyond reading.
        """
        state, _ = read_safetensors(folder / FILE)
        try:
            tasks = json.loads(read_metadata(folder / FILE)["tasks"])
            names, instructions = zip(*tasks, strict=True)
            health = Reference.from_dict(state, shared)
            lengths = None
            if "direction" in state:
                usual = {
                    name.removeprefix("long_"): tensor for name, tensor in state.items() if name.startswith("long_")
                }
                lengths = Lengths(state["direction"], float(state["offset"]), Reference.from_dict(usual, shared))
            return cls(names, instructions, state["means"].float(), health, lengths)
        except (KeyError, ValueError, TypeError) as error:
            raise DamagedFile(f"{folder / FILE} is no atlas of training tasks ({error}); fetch it again") from error
