"""Three jobs that the generator never saw: prompts -> adapter -> before and after, with the seconds of every step.

python examples/demo.py [FOLDER_FOR_THE_ADAPTERS]
"""

import shutil
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.base.decoding import answers
from prompt2lora.custody.costs import MAKING
from prompt2lora.generator.pipeline import Pipeline
from prompt2lora.training.tasks import Task, read_tasks

EXAMPLES = Path(__file__).parent
PROMPTS = 16


def main(folder: Path) -> None:
    console = Console()
    shutil.rmtree(folder, ignore_errors=True)
    console.print("loading the base model, which is made of its package once ...")
    began = time.monotonic()
    pipeline = Pipeline.load()
    model, chat, layout = pipeline.base
    console.print(f"generator, encoder and base model {layout.base_model} loaded in {time.monotonic() - began:.1f} s\n")
    table = Table(title="exact match on examples that nobody trained on")
    for column in ("job", "examples", "base", "generated", "generated, without instruction", "adapter made in"):
        table.add_column(column, justify="right" if column != "job" else "left", no_wrap=column == "job")

    for task in read_tasks([EXAMPLES]):
        prompts = [task.prompt(example.input) for example in task.train[:PROMPTS]]
        made = pipeline.write(prompts, folder / task.name)
        grid = Adapter.load(Path(made.adapter), models.load_config(layout.base_model)).grid

        def ask(adapter: bool, bare: bool, task: Task = task, grid: object = grid) -> tuple[list[str], float]:
            began = time.monotonic()
            asked = [example.input if bare else task.prompt(example.input) for example in task.test]
            given = answers(model, chat, asked, layout=layout, grid=grid if adapter else None, max_new_tokens=32)
            return given, time.monotonic() - began

        base, base_seconds = ask(adapter=False, bare=False)
        full, full_seconds = ask(adapter=True, bare=False)
        bare, bare_seconds = ask(adapter=True, bare=True)
        steps = made.seconds
        console.print(f"[bold]{task.name}[/]: {task.instruction}")
        spent = {name: steps[name] for name in MAKING if name in steps}
        steps_told = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in spent.items())
        console.print(f"  {made.prompts} prompts -> {made.adapter}: {steps_told}")
        console.print(
            f"  {len(task.test)} answers each: base {base_seconds:.1f} s, generated {full_seconds:.1f} s, "
            f"generated without instruction {bare_seconds:.1f} s"
        )
        changed = [
            i
            for i, one in enumerate(task.test)
            if task.comparison.score(full[i], one.output) > task.comparison.score(base[i], one.output)
        ]
        sample = changed[0] if changed else 0
        console.print(f"  asked      {task.test[sample].input}", markup=False, highlight=False)
        console.print(f"  base       {' '.join(base[sample].split())[:100]}", markup=False, highlight=False)
        console.print(f"  generated  {full[sample]}", markup=False, highlight=False)
        console.print(f"  right      {task.test[sample].output}\n", markup=False, highlight=False)
        table.add_row(
            task.name,
            str(len(task.test)),
            *(f"{share(given, task):.2f}" for given in (base, full, bare)),
            f"{sum(spent.values()):.2f} s",
        )
    console.print(table)


def share(given: list[str], task: Task) -> float:
    right = [one.output for one in task.test]
    return sum(map(task.comparison.score, given, right)) / len(given)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-adapters"))
