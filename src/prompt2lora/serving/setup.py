"""What an engine is started for: a base, and adapters up to a rank on certain modules.

In: the registry, the layout of the generator's adapters, the digest of the base. Out: a `Setup`, which every kind of
engine is started with; or one line, before the first question, if what is released was made for another base. What an
engine cannot hold is a matter of how it was started, and never counts against a version. It knows no engine.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from prompt2lora.adapter.folder import read_config
from prompt2lora.adapter.layout import LoraLayout
from prompt2lora.custody.registry import Registry
from prompt2lora.errors import DamagedFile, UsageError
from prompt2lora.ground.profile import TARGETS


@dataclass(frozen=True)
class Setup:
    """`base_digest` is that of the base's weights (empty: not known, then names count)."""

    base: str
    base_digest: str = ""
    rank: int = 8
    targets: tuple[str, ...] = TARGETS


def needed(registry: Registry, layout: LoraLayout, base_digest: str) -> Setup:
    """Large enough for every version of the registry that the base can serve, and for those the generator makes.

    Raises UsageError if a job is answered by a version that was made for another base.
    """
    base = layout.base_model
    for version in registry.released():
        if not version.made_for(base, base_digest):
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
