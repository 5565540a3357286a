"""The generator: conditions of a job's prompts -> the weight grid of an adapter. Composition, saving, loading.

    prompts -> Pipeline -> (prompts, width) -> SetPooling -> condition grid -> HyperConvDecoder -> weight grid

The grid that leaves is  start + step * decoder(condition).  `start` is a learned adapter that every job
shares (A random, B zero at first), and `step` keeps the effective learning rate of a head with a large fan-in
in bounds. The head begins at zero: training starts at the base model itself, and what is shared is learned
without the noise of conditions that do not mean anything yet.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from prompt2lora.adapter.folder import FROM_BASE
from prompt2lora.adapter.grid import initial_grid
from prompt2lora.adapter.health import Reference
from prompt2lora.errors import DamagedFile, cause
from prompt2lora.generator.atlas import FILE as ATLAS
from prompt2lora.generator.atlas import Atlas, Lengths
from prompt2lora.generator.config import GeneratorConfig
from prompt2lora.generator.decoder import HyperConvDecoder
from prompt2lora.generator.pooling import SetPooling
from prompt2lora.generator.quantised import CODES, quantised, restored
from prompt2lora.generator.released import CONFIG, default_generator, generator_folder
from prompt2lora.ground.files import file_digest, new_folder, read_safetensors, write_json, write_safetensors

WEIGHTS, HOURS = "generator.safetensors", "training_hours.json"
EXAMPLES = "examples_start.safetensors"
_FORMAT, _READ = 3, (2, 3)
_DTYPES = {f"pooling.{name}": torch.float32 for name in ("center", "spread")}  # a base's states may go beyond float16


class ExamplesStart(NamedTuple):
    """What an adapter made of labelled examples begins with, and what such adapters usually look like (None: as others
    do)."""

    grid: Float[Tensor, "layers rows cols"]
    health: Reference | None = None


class Generator(nn.Module):
    """Conditions (batch prompts width) and their mask -> weight grids (batch layers rows cols)."""

    def __init__(self, config: GeneratorConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.provenance: dict[str, Any] = {}
        self.name = ""  # of the release, the folder or on the hub; empty: not loaded from any
        self.training_hours: float | None = None  # with those of the generators that it began with; None: not known
        self._atlas: Atlas | Path | None = None
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.pooling = SetPooling(config)
            self.decoder = HyperConvDecoder(config.decoder)
        self.start = nn.Parameter(initial_grid(config.layout, seed))
        self.examples: ExamplesStart | None = None  # None: what is made of examples begins with the shared adapter
        nn.init.zeros_(self.head.weight)

    @property
    def head(self) -> Any:
        return self.decoder.head

    def forward(
        self, conditions: Float[Tensor, "batch prompts width"], mask: Bool[Tensor, "batch prompts"]
    ) -> Float[Tensor, "batch layers rows cols"]:
        change: Tensor = self.decoder(self.pooling(conditions, mask))
        return self.start + self.config.step * change.float()

    @torch.inference_mode()
    def generate(self, conditions: Float[Tensor, "prompts width"]) -> Float[Tensor, "layers rows cols"]:
        """The weight grid for one job's prompts."""
        everyone = torch.ones(1, len(conditions), dtype=torch.bool)
        grids: Tensor = self(conditions[None], everyone)
        return grids[0]

    @property
    def atlas(self) -> Atlas:
        """What it was trained on. Raises DamagedFile if its folder holds none."""
        if isinstance(self._atlas, Path):
            self._atlas = Atlas.load(self._atlas, self.start.detach())
        if self._atlas is None:
            raise DamagedFile("this generator came without an atlas of its training tasks; train it again")
        return self._atlas

    @atlas.setter
    def atlas(self, atlas: Atlas) -> None:
        self._atlas = atlas

    @atlas.deleter
    def atlas(self) -> None:
        self._atlas = None

    @property
    def known_tasks(self) -> frozenset[str] | None:
        """Names of the tasks that it was trained or validated on; None if its folder does not tell them."""
        try:
            return frozenset([*self.atlas.names, *self.provenance.get("validation_tasks", ())])
        except DamagedFile:
            return None

    @property
    def examples_start(self) -> Float[Tensor, "layers rows cols"]:
        """What an adapter made of labelled examples begins with: an adapter of its own, or else the shared one."""
        return self.examples.grid if self.examples else self.start.detach()

    @property
    def lengths(self) -> Lengths | None:
        """How jobs with long answers are told, which are left to the base; None: no job is, as without an atlas."""
        return self.atlas.lengths if self._atlas is not None else None

    def health_of(self, provenance: Mapping[str, Any]) -> Reference:
        """How adapters of such a provenance usually look."""
        if provenance.get("examples"):
            return (self.examples and self.examples.health) or self.atlas.health
        if provenance.get(FROM_BASE) and self.lengths:
            return self.lengths.health
        return self.atlas.health

    @property
    def trained_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that `from_pretrained` reads: configuration and float16 weights.

        Raises UsageError if the folder exists, OutputError if it cannot be written, DamagedFile if a weight is
        not finite in float16; nothing is left half written.
        """
        kept = {name: tensor.to(_DTYPES.get(name, torch.float16)) for name, tensor in self.state_dict().items()}
        if wrong := next((name for name, tensor in kept.items() if not tensor.isfinite().all()), None):
            raise DamagedFile(f"{wrong} of the generator is not finite in {kept[wrong].dtype}; train it again")
        with new_folder(Path(folder)) as aside:
            state = {name: tensor.contiguous() for name, tensor in kept.items()}
            digest = write_safetensors(aside / WEIGHTS, state)
            atlas = self.atlas.save(aside) if self._atlas else ""
            files = {"weights": {"file": WEIGHTS, "sha256": digest}, "atlas": {"file": ATLAS, "sha256": atlas}}
            if self.examples:  # they may begin with the shared adapter, which is not written twice
                shared = self.start.detach().half()
                same = torch.equal(self.examples.grid.half(), shared)
                start = {} if same else quantised(self.examples.grid - shared.float())
                health = self.examples.health.to_dict() if self.examples.health else {}
                written = write_safetensors(aside / EXAMPLES, {**start, **health})
                files["examples_start"] = {"file": EXAMPLES, "sha256": written}
            description = {
                "format": _FORMAT,
                "config": self.config.to_dict(),
                **files,
                "provenance": self.provenance,
            }
            write_json(aside / CONFIG, {**description, "sha256": _digest(description)})
            if self.training_hours is not None:  # apart: the same training takes another time every time
                write_json(aside / HOURS, {"hours": round(self.training_hours, 6)})

    @classmethod
    def from_pretrained(cls, name: str | Path | None = None, *, base: str | None = None) -> Generator:
        """Load a released generator by its name, a local folder or a hub id; without a name the released one that
        `default_generator` finds for this machine, or for `base`.

        Raises ModelNotFound if there is none, DamagedFile if it is truncated, altered or unreadable.
        """
        name = name or default_generator(base).folder
        folder = generator_folder(str(name), [CONFIG, WEIGHTS, ATLAS, EXAMPLES, HOURS])
        try:
            description = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
            if description["format"] not in _READ:
                raise DamagedFile(f"{folder}: generator format {description['format']}, this version reads {_READ}")
            if description.pop("sha256") != _digest(description):
                raise _altered(folder / CONFIG)
            config = GeneratorConfig.from_dict(description["config"])
            expected = description["weights"]["sha256"]
            atlas = description.get("atlas", {}).get("sha256", "")
            examples = description.get("examples_start", {}).get("sha256", "")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedFile(
                f"{folder / CONFIG} is not a generator's configuration: fetch the folder again"
            ) from error
        state, digest = _weights(folder / WEIGHTS, expected)
        generator = cls(config)
        generator.load_state_dict({key: tensor.float() for key, tensor in state.items()}, assign=True)
        generator.provenance = {**description["provenance"], "sha256": digest}
        generator.name = folder.resolve().name if Path(name).is_dir() else str(name)
        generator.training_hours = _hours(folder, generator.provenance)
        if examples:
            state = _weights(folder / EXAMPLES, examples)[0]
            shared = generator.start.detach()
            if "grid" in state:  # format 2 kept it whole
                grid = state["grid"].float()
            else:
                grid = shared + restored(state, shared.shape) if CODES in state else shared
            health = Reference.from_dict(state, grid) if "health_mean" in state else None
            generator.examples = ExamplesStart(grid, health)
        if atlas:
            if file_digest(folder / ATLAS) != atlas:
                raise _altered(folder / ATLAS)
            generator._atlas = folder
        return generator.eval().requires_grad_(False)


def _weights(file: Path, expected: str) -> tuple[dict[str, Tensor], str]:
    """The tensors of a file whose digest is on record, and that digest."""
    state, digest = read_safetensors(file)
    if digest != expected:
        raise _altered(file)
    return state, digest


def _altered(file: Path) -> DamagedFile:
    return DamagedFile(f"{file} was altered (its SHA-256 is not the recorded one): fetch it again")


def _hours(folder: Path, provenance: dict[str, Any]) -> float | None:
    """Of its own file, or, as the first release has them, out of the provenance of each generator in turn."""
    if (folder / HOURS).exists():
        try:
            return float(json.loads((folder / HOURS).read_text(encoding="utf-8"))["hours"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DamagedFile(f"{folder / HOURS} cannot be read ({cause(error)}); remove or fetch it again") from error
    told, hours = provenance, list[float]()
    while told:
        hours += [told["hours"]] if "hours" in told else []
        told = told.get("start", {})
    return sum(hours) if hours else None


def _digest(description: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).hexdigest()
