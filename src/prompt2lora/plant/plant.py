"""The plant: a registry, the generator and the base that work for it, the prices and the policy in force.

All state lives under PROMPT2LORA_HOME. What only looks at the registry loads no torch. Longer work with a plant is in
`candidates`, `importing`, `refinement` and `watches`.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from prompt2lora.custody import decisions
from prompt2lora.custody.bases import telling_version
from prompt2lora.custody.costs import Prices, read_prices
from prompt2lora.custody.explanations import Explanation
from prompt2lora.custody.gate import Policy, read_policy
from prompt2lora.custody.monitor import Monitor, Watch
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.releases import Release
from prompt2lora.custody.reports import explanation_page
from prompt2lora.custody.reports import texts as page_texts
from prompt2lora.custody.versions import Version
from prompt2lora.errors import DamagedFile, Prompt2LoraError
from prompt2lora.ground.files import check_new, write_text
from prompt2lora.ground.home import home
from prompt2lora.ground.pictures import Prompt
from prompt2lora.ground.progress import Report, part, tell
from prompt2lora.plant.alarms import notify

if TYPE_CHECKING:
    from prompt2lora.adapter.peft import Adapter
    from prompt2lora.base.frozen import Frozen
    from prompt2lora.generator.pipeline import Pipeline
    from prompt2lora.plant.measurement import ModelEvaluator


class Verification(NamedTuple):
    """How many versions were checked; those whose files or base are not any more what they were, each as `version` with
    its `fault`; and the bases that are not on this machine, so that they could not be compared."""

    versions: int
    damaged: list[dict[str, str]]
    bases_not_here: list[str]


@dataclass(frozen=True)
class Plant:
    """A registry, and the generator and the base that work for it; not named, they follow from what is there."""

    registry: Registry
    generator: str | Path | None = None
    base: str | None = None
    _pipelines: dict[str, Pipeline] = field(default_factory=dict)

    @classmethod
    def open(cls, generator: str | Path | None = None, base: str | None = None) -> Plant:
        """The plant of this home, used in the name of whoever is logged in.

        The registry's database is SQLite below the home, or the one whose URL PROMPT2LORA_DATABASE holds.
        """
        url = os.environ.get("PROMPT2LORA_DATABASE", "")
        return cls(Registry.open(home(), url=url, actor=_user()), generator, base)

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
        """The same plant, used in somebody's name."""
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
        known = self.registry.has_job(job) and not (self.generator or self.base)
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
        """The same plant, which stays with the base that it would choose now."""
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

    def verify(self) -> Verification:
        """Check the files of all versions, and their pictures, against what was signed, and their bases against the
        digests on record. Nothing is fetched."""
        from prompt2lora.base.weights import weights_digest

        versions = self.registry.every_version()
        wrong = list(self.registry.damaged(versions))
        elsewhere, known = [], dict[str, str]()
        for version in versions:
            if version.base not in known:
                try:
                    known[version.base] = weights_digest(version.base, fetch=False)
                except Prompt2LoraError:
                    known[version.base] = ""
                    elsewhere.append(version.base)
            if not version.made_for(version.base, known[version.base]):
                wrong.append((version, other_weights(version, version.base, known[version.base])))
        damaged = [{"version": version.name, "fault": str(error)} for version, error in wrong]
        return Verification(len(versions), damaged, elsewhere)

    def monitor(self) -> Monitor:
        """The monitor of this plant: alarms go to `alarms.jsonl`, and to the webhook PROMPT2LORA_WEBHOOK."""
        return Monitor(self.registry, home() / "watch", notify)

    def watch(self, job: str, promised: dict[str, float], alpha: float = 0.01) -> Watch:
        """Watch what answers a job from now on, by these promises."""
        return self.monitor().watch(job, promised, alpha)

    def promote(
        self,
        job: str,
        version: str,
        reason: str,
        *,
        seen: int | None = None,
        second: bool | None = None,
        override: str | None = None,
        admin: bool = False,
    ) -> Release:
        """Let a version (by the rules and options of `decisions.approve`) or `base` answer the job. `seen` is the id of
        the release that the decider saw (0: none; None: whatever answers)."""
        if seen is None:
            current = self.registry.current(job)
            seen = current.id if current else 0
        expected = seen or None
        if version == "base":
            return self.registry.promote(job, None, reason, expected=expected)
        return decisions.approve(
            self.registry,
            self.registry.version(job, version),
            reason,
            policy=self.policy,
            expected=expected,
            second=second,
            override=override,
            admin=admin,
        )

    def check_prompts(self, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
        """Advice on prompts; see `prompt2lora.generator.prompt_checks`."""
        return self.evaluator().advise(prompts)

    def explain(
        self,
        prompts: Sequence[Prompt],
        *,
        texts: Sequence[Prompt] = (),
        version: Version | None = None,
        out: Path | None = None,
        language: str = "en",
        report: Report = tell,
    ) -> Explanation:
        """Nearest training tasks, influence of every prompt, and what differs most from what every job gets; of the
        adapter that these prompts make, or of a version that was made of them.

        With `texts` or a page to write (`out`) the base answers too, before and after; the prompts themselves are asked
        if there are no texts. See `plant/explanation.py`.
        """
        page_texts(language)
        if out:
            check_new(out, "page")
        with part(report, 0.0, 0.1, step="load"):
            evaluator = self.evaluator_of(version) if version else self.evaluator()
        from prompt2lora.plant.explanation import explain as explain_all
        from prompt2lora.plant.explanation import kept

        with part(report, 0.1, 1.0) as told:
            asked = texts or (prompts if out else ())
            before = kept(self.registry, version, self.base_of(version)) if version else None
            found = explain_all(evaluator, prompts, asked, before, told)
        if out:
            write_text(out, explanation_page(found, prompts, language, asked))
            found = replace(found, page=str(out))
        return found


def other_weights(version: Version, name: str, digest: str) -> DamagedFile:
    return DamagedFile(
        f"{version.name} was made for a base with the digest {version.base_digest[:12]} and the weights of {name} have "
        f"{digest[:12]}; put the base back, or name it by --base"
    )


def owns_home() -> bool:
    """Whether the user of the operating system owns the home: on the command line that is who an admin is."""
    return home().stat().st_uid == os.geteuid()


def _user() -> str:
    """Who is logged in, by the system's own list: a variable of the environment makes no second person."""
    try:
        import pwd

        return pwd.getpwuid(os.geteuid()).pw_name
    except (ImportError, KeyError):  # not a Unix, or a container's user without a name
        return getpass.getuser()
