"""The verbs of a plant as Python functions: pilot, registry, audit, explain, prompts; real parts joined.

All state lives under PROMPT2LORA_HOME. What only looks at the registry loads no torch.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prompt2lora.custody import decisions
from prompt2lora.custody.costs import Prices, read_prices
from prompt2lora.custody.gate import Policy, judge, read_policy
from prompt2lora.custody.monitor import Alarm, Monitor, Watch
from prompt2lora.custody.pilot import LEARNED, evaluated, recorded, row_digest, stored_rows
from prompt2lora.custody.pilot import run as run_pilot
from prompt2lora.custody.regeneration import Change
from prompt2lora.custody.regeneration import regenerate as run_regeneration
from prompt2lora.custody.registry import Registry, Release, Version
from prompt2lora.custody.reports import explanation_page, languages, pilot_page
from prompt2lora.custody.reports import texts as page_texts
from prompt2lora.errors import TaskFileError, UsageError
from prompt2lora.ground.files import check_new, check_writable, write_json, write_text
from prompt2lora.ground.home import home
from prompt2lora.ground.progress import Report, silent
from prompt2lora.ground.prompts import instruction_of
from prompt2lora.training.tasks import read_records

if TYPE_CHECKING:
    from prompt2lora.generator.pipeline import Pipeline
    from prompt2lora.plant.measurement import PilotBench

_log = logging.getLogger(__name__)
_MADE, _REFINED = "pilot.json", "refined.json"  # in a version's folder: what the work said that made it
_QUESTION: dict[str, type] = {  # what a bias check needs of a line
    **dict.fromkeys(("condition", "polarity", "context", "question"), str),
    **dict.fromkeys(("choices", "groups", "stereotyped"), list),
}


def registry() -> Registry:
    """The registry of this installation, used in the name of whoever is logged in.

    Its database is SQLite below the home, or the one whose URL PROMPT2LORA_DATABASE holds.
    """
    return Registry.open(home(), url=os.environ.get("PROMPT2LORA_DATABASE", ""), actor=_user())


@dataclass(frozen=True)
class Plant:
    """A registry, and the generator (default: the released one) and base (default: its own) that work for it."""

    registry: Registry
    generator: str | Path | None = None
    base: str | None = None
    _pipelines: dict[str, Pipeline] = field(default_factory=dict)

    @classmethod
    def open(cls, generator: str | Path | None = None, base: str | None = None) -> Plant:
        """The plant of this installation; see `registry`."""
        return cls(registry(), generator, base)

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

    def as_actor(self, name: str) -> Plant:
        """The same plant, used in somebody's name."""
        return replace(self, registry=replace(self.registry, actor=name))

    def pilot(
        self,
        job: str,
        prompts: Sequence[str],
        *,
        labelled: Sequence[tuple[str, str]] = (),
        bias: Path | None = None,
        policy: Path | None = None,
        approve: bool = False,
        language: str = "en",
        prices: Prices | None = None,
        measure_tuning: bool = False,
        report: Report = silent,
    ) -> dict[str, Any]:
        """Make, measure and judge an adapter, release it if it passes and `approve` is given, and write the report."""
        page_texts(language)
        if measure_tuning and not labelled:
            raise UsageError("fine-tuning is measured on labelled rows and none are given; add --inspection")
        rules, in_force = self._rules(policy)
        if approve:
            decisions.check_unattended(self.registry, rules, in_force)
        questions = read_questions(bias) if bias else []
        bench = self.bench(questions=questions)
        with tempfile.TemporaryDirectory(prefix="prompt2lora-") as place:
            found = run_pilot(
                job,
                prompts,
                labelled,
                bench=bench,
                registry=self.registry,
                policy=rules,
                in_force=in_force,
                place=Path(place),
                approve=approve,
                prices=prices or self.prices,
                measure_tuning=measure_tuning,
                report=report,
            )
        found.training_hours = bench.generator.training_hours
        folder = _pilot_folder(found.version)
        result = {**found.to_dict(), "report": str(folder / f"report-{language}.html")}
        write_json(folder / _MADE, result)
        for each in languages():
            write_text(folder / f"report-{each}.html", pilot_page(found, each))
        return result

    def report_page(self, version: Version, language: str) -> str | None:
        """The report of a version, however it was made, by its latest measurement and verdict; None before that."""
        found = recorded(self.registry, version, self._told(version))
        return pilot_page(found, language) if found else None

    def _told(self, version: Version) -> dict[str, Any]:
        """What the pilot said that made a version, or the one that it began from; and what second stages took since."""
        made, refined = (_pilot_folder(version.name) / name for name in (_MADE, _REFINED))
        start = self.registry.parent(version)
        told = _read(made) or (self._told(start) if start else {})
        seconds = told.get("seconds", {})
        spent = _read(refined).get("seconds", 0.0) + seconds.get("refine", 0.0)
        return {"prices": asdict(self.prices), **told, "seconds": {**seconds, **({"refine": spent} if spent else {})}}

    def bench(self, base: str | None = None, questions: Sequence[Any] = ()) -> PilotBench:
        """The mathematics, loaded only now and then kept; `base` for another one than this plant's.

        Without `questions` of a bias check those of `evaluation/stereotypes.py` are asked.
        """
        from prompt2lora.generator.pipeline import Pipeline
        from prompt2lora.plant import stereotypes
        from prompt2lora.plant.measurement import PilotBench

        name = base or self.base or ""
        if name not in self._pipelines:
            self._pipelines[name] = Pipeline.load(self.generator, name or None)
        return PilotBench(self._pipelines[name], questions or stereotypes.questions())

    def regenerate(
        self,
        jobs: Sequence[str] = (),
        *,
        policy: Path | None = None,
        report: Report = silent,
    ) -> list[Change]:
        """Candidates of a generator for all jobs (or those named), beside what answers them; releases stay."""
        rules, in_force = self._rules(policy)
        usual = rules.digest == in_force.digest
        for job in jobs:
            self.registry.versions(job)  # a job that is not there is told before anything heavy is loaded
        with tempfile.TemporaryDirectory(prefix="prompt2lora-") as place:
            return run_regeneration(self.registry, self.bench(), rules, Path(place), jobs, report, in_force=usual)

    def gate(
        self,
        job: str,
        version: str,
        policy: Path | None = None,
        *,
        labelled: Sequence[tuple[str, str]] = (),
        bias: Path | None = None,
        report: Report = silent,
    ) -> dict[str, Any]:
        """Judge a version anew, perhaps by another policy; the verdict is kept.

        It is judged by what was measured of it. It is measured now if that never happened (a refined version), or if
        rows are given; without rows, on those that the job's versions were measured on, but never on those it learned
        from.
        """
        kept = self.registry
        chosen = kept.version(job, version)
        rules, in_force = self._rules(policy)
        known = kept.evaluation(chosen)
        if known and not labelled and not bias:
            number, numbers = known[0], known[1]["numbers"]
        else:
            labelled = labelled or stored_rows(kept, job)
            questions = read_questions(bias) if bias else []
            report({"step": "load", "done": 0, "of": 3})
            bench = self.bench(chosen.base, questions)
            report({"step": "measure", "done": 1, "of": 3})
            found = evaluated(kept, bench, chosen, kept.origin(chosen).prompts, labelled)
            number, numbers = found.evaluation, found.numbers
        report({"step": "judge", "done": 2, "of": 3})
        verdict = judge(numbers, rules)
        kept.add_verdict(chosen, number, verdict, rules, in_force=rules.digest == in_force.digest)
        return {"version": version, "verdict": verdict.result, "policy": rules.digest, "checks": verdict.reasons}

    def refine(
        self,
        job: str,
        labelled: Sequence[tuple[str, str]],
        *,
        version: str = "",
        steps: int = 48,
        bare: float = 0.5,
        report: Report = silent,
    ) -> dict[str, Any]:
        """A short fine-tune from a version's adapter; a new version if held-out rows are answered better, else none."""
        kept = self.registry
        known = kept.versions(job)
        if not known:
            raise UsageError(f"the job {job} has no version to begin from; run a pilot first")
        start = kept.version(job, version) if version else known[-1]
        from prompt2lora.adapter.peft import Adapter
        from prompt2lora.base import models
        from prompt2lora.base.frozen import Frozen
        from prompt2lora.training.tasks import Example, Task
        from prompt2lora.training.tuning import TuningOptions
        from prompt2lora.training.tuning import refine as tune

        began = time.monotonic()
        come_from = kept.origin(start)
        adapter = Adapter.load(kept.store.path(start.adapter), models.load_config(start.base))
        base = Frozen.load(adapter.layout, training=True)
        rows = tuple(Example(*pair) for pair in labelled)
        task = Task(job, instruction_of(come_from.prompts), job, "", rows, ())
        refined = tune(base, adapter.grid, task, rows, TuningOptions(steps=steps, bare=bare), report=report)
        made = start
        if refined.steps:
            with tempfile.TemporaryDirectory(prefix="prompt2lora-") as place:
                folder = Path(place) / "adapter"
                learned = {*adapter.provenance.get(LEARNED, ()), *(row_digest(text) for text, _ in labelled)}
                told = {**adapter.provenance, "refined_from": start.adapter, LEARNED: sorted(learned)}
                Adapter(adapter.layout, refined.grid, told).save(folder)
                made = kept.add_version(job, folder, replace(come_from, parent=start.id, kind="refined"))
        forms = (bare < 1) + (bare > 0)
        found = {
            "job": job,
            "start": start.name,
            "version": made.name,
            "improved": bool(refined.steps),
            "steps": refined.steps,
            "held_out": refined.held_out,
            "before": refined.before[0] / forms,
            "after": refined.after[0] / forms,
            "seconds": round(time.monotonic() - began, 1),
        }
        if refined.steps:
            write_json(_pilot_folder(made.name) / _REFINED, found)
        return found

    def promote(
        self,
        job: str,
        version: str,
        reason: str,
        *,
        second: bool | None = None,
        override: str | None = None,
        admin: bool = False,
    ) -> Release:
        """Let a version (by the rules and options of `decisions.approve`) or `base` answer the job."""
        current = self.registry.current(job)
        expected = current.id if current else None
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

    def _rules(self, file: Path | None) -> tuple[Policy, Policy]:
        """The policy of a file, for this call (None: the one in force), and the policy in force."""
        in_force = self.policy
        return (read_policy(file) if file else in_force), in_force

    def monitor(self) -> Monitor:
        """The monitor of this installation: alarms go to `alarms.jsonl`, and to the webhook PROMPT2LORA_WEBHOOK."""
        return Monitor(self.registry, home() / "watch", _notify)

    def watch(self, job: str, promised: dict[str, float], alpha: float = 0.01) -> Watch:
        """Watch what answers a job from now on, by these promises; that stands in the record."""
        begun = self.monitor().watch(job, promised, alpha)
        self.tell("watch", job, {"release": begun.release, "promised": promised, "alpha": alpha})
        return begun

    def tell(self, action: str, subject: str, detail: dict[str, Any]) -> None:
        """Put on record what was done beside versions and releases, which record themselves."""
        with self.registry.writing() as connection:
            self.registry.tell(connection, action, subject, detail)

    def replay(self, job: str, labelled: Sequence[tuple[str, str]], report: Report = silent) -> Alarm | None:
        """Ask what answers the job now the canary rows again.

        A wrong answer is a bad outcome of the source canary, one that does not look like the right ones of the source
        format; what of the two was promised is told.
        """
        watching = self.monitor()
        watch = watching.read(job)
        current = watching.registry.current(job)
        if current is None or current.version is None or current.id != watch.release:
            raise UsageError(f"what answers {job} now is not watched; begin with `prompt2lora monitor start`")
        told = [source for source in ("canary", "format") if source in watch.promised]
        if not told:
            raise UsageError(f"neither canary nor format was promised of {job}, so a replay could tell nothing")
        alarm = watching.check_files(job)
        if alarm:
            return alarm
        watching.replaying(job)
        from prompt2lora.adapter.peft import Adapter
        from prompt2lora.base import models
        from prompt2lora.base.decoding import answers
        from prompt2lora.base.frozen import Frozen
        from prompt2lora.evaluation.metrics import exact_match
        from prompt2lora.plant import inspection
        from prompt2lora.plant.measurement import asked_in_full

        version = current.version
        prompts = watching.registry.origin(version).prompts
        adapter = Adapter.load(watching.registry.store.path(version.adapter), models.load_config(version.base))
        base = Frozen.load(adapter.layout)
        asked = [asked_in_full(text, prompts) for text, _ in labelled]
        given = answers(base.model, base.chat, asked, layout=base.layout, grid=adapter.grid, report=report)
        in_format = inspection.answer_format([right for _, right in labelled])
        for answer, (_, right) in zip(given, labelled, strict=True):
            bad = {"canary": 1 - exact_match(answer, right), "format": float(not in_format(answer))}
            for source in told:
                alarm = watching.outcome(job, current.id, source, bad[source])
                if alarm:
                    return alarm
        return None

    def check_prompts(self, prompts: Sequence[str]) -> list[dict[str, Any]]:
        """Advice on prompts; see `prompt2lora.generator.prompt_checks`."""
        return self.bench().advise(prompts)

    def explain(
        self,
        prompts: Sequence[str],
        *,
        texts: Sequence[str] = (),
        out: Path | None = None,
        language: str = "en",
        report: Report = silent,
    ) -> dict[str, Any]:
        """Nearest training tasks, influence of every prompt, and what differs most from what every job gets.

        With `texts` or a page to write (`out`) the base answers too, before and after; the prompts themselves are asked
        if there are no texts. See `evaluation/explaining.py`.
        """
        page_texts(language)
        if out:
            check_new(out)
            check_writable(out)
        bench = self.bench()
        from prompt2lora.plant.explanation import explain as explain_all

        found = explain_all(bench, prompts, texts or (prompts if out else ()), report)
        if out:
            write_text(out, explanation_page(found, prompts, language))
            found["page"] = str(out)
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


def _pilot_folder(version: str) -> Path:
    return home() / "pilots" / version


def _read(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def _notify(alarm: Alarm) -> None:
    """Tell people. The release is back already, and a full disk or a deaf webhook must not undo that."""
    line = {"job": alarm.job, "source": alarm.source, "reason": alarm.reason, "at": alarm.release.at}
    text = json.dumps(line, ensure_ascii=False)
    url = os.environ.get("PROMPT2LORA_WEBHOOK")
    try:
        with (home() / "alarms.jsonl").open("a", encoding="utf-8") as log:
            log.write(text + "\n")
        if url:
            request = urllib.request.Request(url, text.encode(), {"Content-Type": "application/json"})
            urllib.request.urlopen(request, timeout=10).close()
    except (OSError, ValueError, HTTPException) as error:
        _log.error("the alarm of %s (%s) could not be told everywhere: %s", alarm.job, alarm.reason, error)


def read_questions(file: Path) -> list[dict[str, Any]]:
    """Questions of a bias check (BBQ's form), of which at least one is ambiguous. Raises TaskFileError, UsageError."""
    records = read_records(file)
    for number, row in records:
        if any(not isinstance(row.get(key), kind) for key, kind in _QUESTION.items()):
            told = ", ".join(f"{key} ({'a list' if kind is list else 'text'})" for key, kind in _QUESTION.items())
            raise TaskFileError(f"{file}:{number}: a line needs {told}; mend the line")
        if not row["choices"] or len(row["groups"]) != len(row["choices"]):
            raise TaskFileError(f"{file}:{number}: every one of the choices needs its group; mend the line")
    if all(row["condition"] != "ambig" for _, row in records):
        raise UsageError(f"{file}: a bias check asks questions of the condition ambig and there is none; add some")
    return [row for _, row in records]
