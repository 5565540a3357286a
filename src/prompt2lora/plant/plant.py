"""The plant as Python functions: what people do with a registry, a generator and a base, one method each.

All state lives under PROMPT2LORA_HOME. What only looks at the registry loads no torch. The longer ones have modules of
their own: `candidates`, `importing`, `refinement`, `watches`.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prompt2lora.custody import decisions
from prompt2lora.custody.explanations import Explanation
from prompt2lora.custody.pilot import LONG_ANSWERS
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.releases import Release
from prompt2lora.custody.reports import explanation_page
from prompt2lora.custody.reports import texts as page_texts
from prompt2lora.custody.versions import Version
from prompt2lora.ground.files import check_new, check_writable, write_text
from prompt2lora.ground.home import home
from prompt2lora.ground.pictures import Prompt
from prompt2lora.ground.progress import Report, part, tell
from prompt2lora.plant import candidates, importing, refinement, watches
from prompt2lora.plant.installation import Installation


def registry() -> Registry:
    """The registry of this installation, used in the name of whoever is logged in.

    Its database is SQLite below the home, or the one whose URL PROMPT2LORA_DATABASE holds.
    """
    return Registry.open(home(), url=os.environ.get("PROMPT2LORA_DATABASE", ""), actor=_user())


class Plant(Installation):
    """An installation and everything that is done with it."""

    pilot = candidates.pilot
    report_page = candidates.report_page
    gate = candidates.gate
    regenerate = candidates.regenerate
    import_version = importing.import_version
    refine = refinement.refine
    monitor = watches.monitor
    watch = watches.watch
    replay = watches.replay

    @classmethod
    def open(cls, generator: str | Path | None = None, base: str | None = None) -> Plant:
        """The plant of this installation; see `registry`."""
        return cls(registry(), generator, base)

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
        evaluator = self.evaluator()
        pipeline = evaluator.pipeline
        long = pipeline.instruction(prompts) and pipeline.answered_at_length(prompts)
        return [*evaluator.advise(prompts), *([LONG_ANSWERS] if long else [])]

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
            check_new(out)
            check_writable(out)
        with part(report, 0.0, 0.1, step="load"):
            evaluator = self.evaluator_of(version) if version else self.evaluator()
        from prompt2lora.plant.explanation import explain as explain_all
        from prompt2lora.plant.explanation import kept

        with part(report, 0.1, 1.0) as told:
            asked = texts or (prompts if out else ())
            found = explain_all(evaluator, prompts, asked, kept(self, version) if version else None, told)
        if out:
            write_text(out, explanation_page(found, prompts, language, asked))
            found = replace(found, page=str(out))
        return found


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
