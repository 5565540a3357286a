"""What an engine is started for: a base, and adapters up to a rank on certain modules.

In: the registry, the layout of the generator's adapters, the digest of the base. Out: a `Setup`, which every kind of
engine is started with; or one line, before the first question, if nothing that is released was made for the base. What
an engine cannot hold is a matter of how it was started, and never counts against a version. It knows no engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.adapter.settings import read_config
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.versions import Version
from prompt2lora.errors import DamagedFile, Misconfigured, UsageError
from prompt2lora.ground.profile import TARGETS


@dataclass(frozen=True)
class Setup:
    """`base_digest` is that of the base's weights (empty: not known, then names count)."""

    base: str
    base_digest: str = ""
    rank: int = 8
    targets: tuple[str, ...] = TARGETS

    def serves(self, version: Version) -> bool:
        """Whether a version was made for this base."""
        return version.made_for(self.base, self.base_digest)

    def check(self, version: Version) -> None:
        """Raises Misconfigured for a version of another base."""
        if not self.serves(version):
            raise Misconfigured(
                f"the job {version.job} belongs to the base {version.base} and this service holds {self.base}; ask a "
                "service that was started with --base and the name of the job's"
            )


def needed(registry: Registry, layout: LoraLayout, base_digest: str) -> Setup:
    """Large enough for every version of the registry that the base can serve, and for those the generator makes.

    Jobs of another base may stand in the registry: another service answers them. Raises UsageError if there are no
    others, or if a version was made for other weights under the name of this base.
    """
    base = layout.base_model
    released = registry.released()
    others = [version for version in released if not version.made_for(base, base_digest)]
    changed = [version for version in others if version.base == base]
    for version in changed or (others if len(others) == len(released) else ()):
        raise UsageError(
            f"{version.name} answers the job {version.job} and was made for the base {version.base} "
            f"({version.base_digest[:12]}), not for {base} ({base_digest[:12]}); start with --base and the name of "
            "its base, or promote another version, or the base, first"
        )
    rank, targets = layout.rank, {target.name for target in layout.targets}
    for version in registry.every_version():
        if version.made_for(base, base_digest):
            with suppress(DamagedFile):  # whoever asks for it is told
                settings = read_config(registry.store.path(version.adapter))
                rank, targets = max(rank, settings["r"]), targets | {*settings["target_modules"]}
    return Setup(base, base_digest, rank, tuple(name for name in TARGETS if name in targets))


def elsewhere(registry: Registry, setup: Setup) -> Sequence[Version]:
    """What answers jobs of other bases, which this setup cannot serve."""
    return [version for version in registry.released() if not setup.serves(version)]
