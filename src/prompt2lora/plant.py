"""The verbs of a plant as Python functions: pilot, registry, audit, explain, prompts; real parts joined.

All state lives under PROMPT2LORA_HOME. What only looks at the registry loads no torch.
"""

from __future__ import annotations

import getpass
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prompt2lora.custody.gate import Policy, read_policy
from prompt2lora.custody.pages import pilot_page, texts
from prompt2lora.custody.pilot import Prices
from prompt2lora.custody.pilot import run as run_pilot
from prompt2lora.custody.registry import Registry
from prompt2lora.errors import TaskFileError, UsageError
from prompt2lora.files import write_json, write_text
from prompt2lora.home import home


def registry() -> Registry:
    """The registry of this installation, used in the name of whoever is logged in."""
    return Registry.open(home(), actor=getpass.getuser())


def pilot(
    job: str,
    prompts: Sequence[str],
    *,
    inspection: Path | None = None,
    bias: Path | None = None,
    policy: Path | None = None,
    approve: bool = False,
    language: str = "en",
    prices: Prices | None = None,
    generator: str | Path | None = None,
    base: str | None = None,
) -> dict[str, Any]:
    """Make, measure and judge an adapter, release it if it passes and `approve` is given, and write the report."""
    texts(language)
    labelled = read_labelled(inspection) if inspection else []
    rules = read_policy(policy) if policy else Policy()
    kept = registry()
    from prompt2lora.evaluation.bench import PilotBench
    from prompt2lora.verbs import Workshop

    workshop = Workshop(generator, base)
    questions = _json_lines(bias, ("context", "question", "choices", "groups", "stereotyped")) if bias else []
    bench = PilotBench(workshop.generator, workshop.encoder, workshop.layout, questions)
    with tempfile.TemporaryDirectory(prefix="prompt2lora-") as place:
        found = run_pilot(
            job,
            prompts,
            labelled,
            bench=bench,
            registry=kept,
            policy=rules,
            place=Path(place),
            approve=approve,
            prices=prices or Prices(),
        )
    found.training_hours = workshop.generator.provenance.get("hours")
    folder = home() / "pilots" / found.version
    result = {**found.to_dict(), "report": str(folder / "report.html")}
    write_json(folder / "pilot.json", result)
    write_text(folder / "report.html", pilot_page(found, language))
    return result


def check_prompts(prompts: Sequence[str], *, generator: str | Path | None = None) -> list[dict[str, Any]]:
    """Advice on prompts; see `prompt2lora.generator.advice`."""
    from prompt2lora.evaluation.bench import PilotBench
    from prompt2lora.verbs import Workshop

    workshop = Workshop(generator)
    return PilotBench(workshop.generator, workshop.encoder, workshop.layout).advise(prompts)


def explain(prompts: Sequence[str], *, generator: str | Path | None = None) -> dict[str, Any]:
    """Nearest training tasks, influence of every prompt, and the modules that differ most from what every job gets."""
    import torch

    from prompt2lora.generator.explanation import changes, influences
    from prompt2lora.generator.generator import SetPooling
    from prompt2lora.verbs import Workshop

    made = Workshop(generator)
    conditions = made.encoder.conditions(prompts)
    condition = SetPooling.mean(conditions[None], torch.ones(1, len(conditions), dtype=torch.bool))[0]
    grid = made.generator.generate(conditions)
    moved = changes(grid, made.generator.start.detach(), made.layout)
    names = [target.name for target in made.layout.targets]
    return {
        "neighbours": [neighbour._asdict() for neighbour in made.generator.atlas.neighbours(condition)],
        "distance": made.generator.atlas.distance(condition),
        "influences": [influence._asdict() for influence in influences(made.generator, conditions)],
        "modules": dict(zip(names, moved.mean(0).tolist(), strict=True)),
        "layers": moved.mean(1).tolist(),
    }


def read_labelled(file: Path) -> list[tuple[str, str]]:
    """Labelled inspection rows: JSONL with "input" and "output"; a task file gives its test rows.

    Raises TaskFileError that names the line.
    """
    rows = _json_lines(file, ("input", "output"), head="task")
    return [(row["input"], row["output"]) for row in rows if row.get("part", "test") == "test"]


def _json_lines(file: Path, needed: Sequence[str], head: str = "") -> list[Any]:
    """The objects of a JSONL file; a first line that has the key `head` is passed over."""
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskFileError(f"{file}: must be readable UTF-8 text ({error}); check the path") from error
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TaskFileError(f"{file}:{number}: every line must be JSON ({error}); mend the line") from error
        if head and isinstance(row, dict) and head in row and not found:
            continue
        if not isinstance(row, dict) or any(key not in row for key in needed):
            raise TaskFileError(f"{file}:{number}: a line needs {', '.join(needed)}; mend the line")
        found.append(row)
    if not found:
        raise UsageError(f"{file}: no row found; write one JSON object a line with {', '.join(needed)}")
    return found
