"""What a plant works with: a registry, a generator and a base, the prices and the policy in force.

All state lives under PROMPT2LORA_HOME. What only looks at the registry loads no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from prompt2lora.custody.bases import telling_version
from prompt2lora.custody.costs import Prices, read_prices
from prompt2lora.custody.gate import Policy, read_policy
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.versions import Version
from prompt2lora.errors import DamagedFile, Prompt2LoraError
from prompt2lora.ground.home import home

if TYPE_CHECKING:
    from prompt2lora.adapter.peft import Adapter
    from prompt2lora.base.frozen import Frozen
    from prompt2lora.generator.pipeline import Pipeline
    from prompt2lora.plant.measurement import ModelEvaluator


@dataclass(frozen=True)
class Installation:
    """A registry, and the generator and the base that work for it; not named, they follow from what is there."""

    registry: Registry
    generator: str | Path | None = None
    base: str | None = None
    _pipelines: dict[str, Pipeline] = field(default_factory=dict)

    @property
    def prices(self) -> Prices:
        """What is in `prices.toml` below the home; round figures if there is none."""
        file = home() / "prices.toml"
        return read_prices(file) if file.exists() else Prices()

    @property
    def policy(self) -> Policy:
        """The policy in force: `policy.toml` below the home, else the bounds that come with prompt2lora."""
        file = home() / "policy.toml"
        return read_policy(file) if file.exists() else Policy()

    def rules(self, file: Path | None) -> tuple[Policy, Policy]:
        """The policy of a file, for this call (None: the one in force), and the policy in force."""
        in_force = self.policy
        return (read_policy(file) if file else in_force), in_force

    def as_actor(self, name: str) -> Self:
        """The same installation, used in somebody's name."""
        return replace(self, registry=replace(self.registry, actor=name))

    def evaluator(self, base: str | None = None, questions: Sequence[Any] = ()) -> ModelEvaluator:
        """The mathematics, loaded only now and then kept; `base` for another one than this plant's.

        Without `questions` of a bias check those of `plant/stereotypes.py` are asked. Where this plant's generator was
        not named, the released one for the base works.
        """
        from prompt2lora.generator.pipeline import Pipeline
        from prompt2lora.plant import stereotypes
        from prompt2lora.plant.measurement import ModelEvaluator

        name = base or self.usual_base or ""
        if name not in self._pipelines:
            self._pipelines[name] = Pipeline.load(self.generator, name or None)
        return ModelEvaluator(self._pipelines[name], questions or stereotypes.questions())

    def evaluator_of(self, version: Version, questions: Sequence[Any] = ()) -> ModelEvaluator:
        """The mathematics for a version's own base."""
        return self.evaluator(self.base_of(version), questions)

    def evaluator_for(self, job: str, questions: Sequence[Any] = ()) -> ModelEvaluator:
        """The mathematics for the next version of a job: for the base that it belongs to, if neither generator nor base
        was named."""
        known = job in self.registry.jobs() and not (self.generator or self.base)
        telling = telling_version(self.registry, job) if known else None
        return self.evaluator_of(telling, questions) if telling else self.evaluator(questions=questions)

    @property
    def usual_base(self) -> str | None:
        """What works where no other base is asked for: the one that was named, or (None) the named generator's own;
        without either that of what answers jobs now, so that a service can answer a new job beside them; before the
        first release that of the generator that fits this machine."""
        if self.base or self.generator:
            return self.base
        from prompt2lora.generator.released import default_generator, released

        answering = self.registry.released()
        ours = (one.base for one in released() if any(version.made_for(one.base, "") for version in answering))
        return next(ours, None) or default_generator().base

    def settled(self) -> Self:
        """The same installation, which stays with the base that it would choose now."""
        return replace(self, base=self.usual_base)

    def base_of(self, version: Version) -> str:
        """Where the base of a version is found now: under the name on record, or as this plant's own base.

        Raises DamagedFile if other weights lie there than it was made for, ModelNotFound if none do.
        """
        from prompt2lora.base.weights import weights_digest

        def others(name: str) -> Prompt2LoraError | None:
            try:
                digest = weights_digest(name)
            except Prompt2LoraError as error:
                return error
            return None if version.made_for(name, digest) else other_weights(version, name, digest)

        wrong = others(version.base)
        if wrong is None:
            return version.base
        own = self.usual_base or self.evaluator().layout.base_model
        if own != version.base and others(own) is None:
            return own
        raise wrong

    def opened(self, version: Version, *, training: bool = False) -> tuple[Adapter, Frozen]:
        """A version's adapter and its base, where that is found now; for `training` see `base.models.load_base`.

        Raises DamagedFile, ModelNotFound.
        """
        from prompt2lora.adapter.peft import Adapter
        from prompt2lora.base.frozen import Frozen
        from prompt2lora.base.models import load_config

        name = self.base_of(version)
        adapter = Adapter.load(self.registry.store.path(version.adapter), load_config(name))
        return adapter, Frozen.load(replace(adapter.layout, base_model=name), training=training)

    def changed_bases(self) -> tuple[list[tuple[Version, str]], list[str]]:
        """Versions whose bases are not any more what they were made for, each with what is wrong; and the names of the
        bases that are not on this machine. Nothing is fetched."""
        from prompt2lora.base.weights import weights_digest

        changed, elsewhere, known = [], [], dict[str, str]()
        for version in self.registry.every_version():
            if version.base not in known:
                try:
                    known[version.base] = weights_digest(version.base, fetch=False)
                except Prompt2LoraError:
                    known[version.base] = ""
                    elsewhere.append(version.base)
            if not version.made_for(version.base, known[version.base]):
                changed.append((version, str(other_weights(version, version.base, known[version.base]))))
        return changed, elsewhere

    def tell(self, action: str, subject: str, detail: dict[str, Any]) -> None:
        """Put on record what was done beside versions and releases, which record themselves."""
        with self.registry.writing() as connection:
            self.registry.tell(connection, action, subject, detail)


def other_weights(version: Version, name: str, digest: str) -> DamagedFile:
    return DamagedFile(
        f"{version.name} was made for a base with the digest {version.base_digest[:12]} and the weights of {name} have "
        f"{digest[:12]}; put the base back, or name it by --base"
    )
