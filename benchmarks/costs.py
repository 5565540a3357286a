"""What every arm costs: seconds to prepare, to adapt and to answer, peak memory, and how many jobs pay for training.

    python benchmarks/costs.py --tasks examples --out benchmarks/results/costs.json

Every arm runs in a process of its own, on every task. `prepare` is loading what the arm needs, `adapt` making the
adapter for a new job, `answer` one answer of the base with it. The generator's training is spread over 1, 10, 100 and
1,000 jobs; the break-even is the number of jobs from which on generating is cheaper than training for every job.
Seconds are processor seconds, which another process cannot stretch: with OMP_NUM_THREADS=1 those of one idle core.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from prompt2lora.base.decoding import answers
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.versions import origin
from prompt2lora.evaluation.arms import ARMS
from prompt2lora.evaluation.resources import Resources
from prompt2lora.evaluation.statistics import spread
from prompt2lora.generator.generator import Generator
from prompt2lora.generator.text_encoder import Encoder
from prompt2lora.ground.files import write_json
from prompt2lora.training.tasks import read_tasks

GENERATOR = "smollm2-135m-instruct"
MEASURED = ("base", "icl-1", "icl-4", "generated", "few-shot-16", "few-shot-64", "full-shot")
TRAINED = ("few-shot-16", "few-shot-64", "full-shot")
JOBS = (1, 10, 100, 1000)
EXAMPLES, MAX_NEW_TOKENS = 24, 24


def one_arm(arm: str, folders: list[Path]) -> dict:
    """Seconds of an arm on every task, measured in this process."""
    marks = [time.process_time()]
    tasks = read_tasks(folders)
    made = Generator.from_pretrained(GENERATOR)
    encoder = Encoder(made.config.encoder)
    if arm == "generated":
        encoder.load()
    base = Frozen.load(made.config.layout, training=arm in TRAINED)
    resources = Resources(base, encoder, made, tasks)
    resources.training = base
    marks.append(time.process_time())
    adapt, answer = [], []
    for task in tasks:
        began = time.process_time()
        attempt = ARMS[arm].attempt(resources, task, 0)
        grid = attempt.grid()
        adapt.append(time.process_time() - began)
        asked = task.test[:EXAMPLES]
        shots = [(task.prompt(shot.input), shot.output) for shot in attempt.examples]
        prompts, settings = [task.prompt(example.input) for example in asked], {"max_new_tokens": MAX_NEW_TOKENS}
        began = time.process_time()
        answers(base.model, base.chat, prompts, examples=shots, layout=base.layout, grid=grid, **settings)
        answer.append((time.process_time() - began) / len(asked))
    return {
        "prepare": marks[1] - marks[0],
        "adapt": adapt,
        "answer": answer,
        "peak_megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--one", choices=MEASURED, help="measure this arm here and print what came out")
    parser.add_argument("--shared-hours", type=float, default=0.0, help="of the runs that made the shared adapter")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one_arm(options.one, options.tasks)))
        return
    if not options.out:
        parser.error("--out is needed")
    arms = {}
    for arm in MEASURED:
        words = [sys.executable, __file__, "--one", arm, "--tasks", *map(str, options.tasks)]
        found = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
        arms[arm] = {
            "prepare": round(found["prepare"], 2),
            **{step: spread(found[step], digits=3)._asdict() for step in ("adapt", "answer")},
            "peak_megabytes": round(found["peak_megabytes"]),
        }
        print(arm, arms[arm], flush=True)
    hours = (Generator.from_pretrained(GENERATOR).training_hours or 0.0) + options.shared_hours
    generated = arms["generated"]["adapt"]["median"]
    report = {
        "arms": arms,
        "generator_training_hours": hours,
        "seconds_per_job": {
            str(jobs): {
                "generated": round(3600 * hours / jobs + generated, 2),
                **{arm: arms[arm]["adapt"]["median"] for arm in TRAINED},
            }
            for jobs in JOBS
        },
        "break_even_jobs": {arm: break_even(hours, generated, arms[arm]["adapt"]["median"]) for arm in TRAINED},
        "faster_than": {arm: round(arms[arm]["adapt"]["median"] / generated, 1) for arm in TRAINED},
        **origin(),
    }
    write_json(options.out, report)
    print(json.dumps(report, indent=2))


def break_even(hours: float, generated: float, trained: float) -> int | None:
    """Jobs from which on generating has cost less than training each; None: never."""
    return int(3600 * hours / (trained - generated)) + 1 if trained > generated else None


if __name__ == "__main__":
    main()
