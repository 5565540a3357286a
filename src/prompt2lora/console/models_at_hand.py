"""Which base and which generator this service makes adapters with, what they read, and which others this machine has.

In: a service. Out: plain values for the page of a new job. A service holds one base; for another one there is the
command that starts a service with it. No model is loaded to find out.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

from prompt2lora.base.packaged import PACKAGED, languages_of
from prompt2lora.errors import Prompt2LoraError
from prompt2lora.generator.released import Released, generator_used, released
from prompt2lora.serving.service import Service


class Models(NamedTuple):
    """A generator with the base that it makes adapters for; `languages` are empty where none are on record."""

    generator: str
    base: str
    languages: str
    encoder_languages: str
    ready: bool
    install: str

    @property
    def command(self) -> str:
        """What starts a service with them."""
        return f"prompt2lora serve --generator {self.generator}"

    @classmethod
    def of(cls, one: Released, generator: str = "", base: str = "") -> Models:
        """`generator` and `base` are the names by which this service knows them."""
        package = PACKAGED.get(one.base)
        return cls(
            generator or one.name,
            base or one.base,
            languages_of(one.base),
            languages_of(one.encoder),
            one.is_at_hand,
            package.install if package else "",
        )


def models_at_hand(service: Service) -> tuple[Models, list[Models]] | None:
    """Those of this service, and the others; None if its generator cannot be read."""
    plant, base = service.plant, service.setup.base if service.setup else service.engine.base
    with suppress(Prompt2LoraError, OSError):
        used = generator_used(plant.generator, plant.usual_base)
        others = [Models.of(one) for one in released() if one.base != used.base]
        return Models.of(used, str(plant.generator or ""), base), others
    return None
