"""Rows a second of a file that is answered in batches, beside rows that are asked one by one.

The base is the released generator's, the adapter is made of examples/department.jsonl, the rows are its test inputs
(repeated with a number before them, so that no two are the same). Asked one by one means: by the same code, one row a
time, with the base in memory.

    python benchmarks/answer_file.py --rows 1000 --one-by-one 60 --out benchmarks/results/answer-file.json
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

import prompt2lora as p2l
from prompt2lora.base.versions import origin
from prompt2lora.evaluation.score_cache import ScoreCache
from prompt2lora.ground.declared_form import found
from prompt2lora.ground.examples import read_examples
from prompt2lora.ground.files import write_json
from prompt2lora.ground.prompts import full_prompt
from prompt2lora.serving import offline

GENERATOR = "smollm2-135m-instruct"
INSTRUCTION = "Which department should handle this message: maintenance, IT, purchasing or personnel?"
EXAMPLES = Path(__file__).parent.parent / "examples" / "department.jsonl"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--one-by-one", type=int, default=60)
    parser.add_argument("--max-batch-size", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    learned, _ = read_examples(EXAMPLES, "train")
    judging, _ = read_examples(EXAMPLES, "test")
    texts = {n: f"No. {n}: {judging[n % len(judging)][0]}" for n in range(given.rows)}
    right = {n: judging[n % len(judging)][1] for n in texts}
    result = {}
    with tempfile.TemporaryDirectory() as place:
        folder, labels = Path(place) / "adapter", found([answer for _, answer in learned])
        p2l.generate(
            [],
            folder,
            examples=[(full_prompt(INSTRUCTION, text), answer) for text, answer in learned],
            form=labels,
            generator=GENERATOR,
        )
        asked = offline.by_folder(folder, instruction=INSTRUCTION)
        for name, count, size in (("one by one", given.one_by_one, 1), ("batch", given.rows, given.max_batch_size)):
            request = replace(asked.request, max_new_tokens=32, at_once=size)
            some = {n: texts[n] for n in range(count)}
            told: list[tuple[float, float]] = []

            def report(_: dict, told: list[tuple[float, float]] = told) -> None:
                told.append((time.monotonic(), time.process_time()))

            rows = offline.answer(replace(asked, request=request), some, ScoreCache(Path(place) / name), report)
            # From the first request to the last answer, without loading.
            spent, worked = (last - first for first, last in zip(told[0], told[-1], strict=True))
            result[name] = {
                "rows": count,
                "seconds": round(spent, 2),
                "rows_a_second": round(count / spent, 3),
                "processor_seconds": round(worked, 2),
                "right": round(sum(rows[n].answer == right[n] for n in some) / count, 4),
                "unsure_or_wrong": sum(not row.answer for row in rows.values()),
            }
            print(name, result[name], file=sys.stderr, flush=True)
    result["times_faster"] = round(result["batch"]["rows_a_second"] / result["one by one"]["rows_a_second"], 2)
    work = {name: told["processor_seconds"] / told["rows"] for name, told in result.items() if name != "times_faster"}
    result["times_less_work"] = round(work["one by one"] / work["batch"], 2)  # what another program takes is not in it
    write_json(given.out, {**result, **origin(), "command": " ".join(sys.argv), "threads": given.threads})


if __name__ == "__main__":
    main()
