"""The alarm's false positives and delays, on simulated streams through the class that the monitor uses.

python benchmarks/alarm.py --out benchmarks/results/alarm.json
"""

import argparse
import statistics
from pathlib import Path
from random import Random

from prompt2lora.base.versions import origin
from prompt2lora.custody.eprocess import EProcess
from prompt2lora.ground.files import check_new, write_json

PROMISED, ALPHA = 0.1, 0.01
STREAMS, LENGTH = 10_000, 500
DROPS, REPEATS, MOST = (0.05, 0.10, 0.30), 400, 5_000
QUIET = 200  # good outcomes before the drop


def false_alarms(rate: float) -> int:
    """Streams of `rate` that ever raise the alarm."""
    count = 0
    for seed in range(STREAMS):
        random, process = Random(f"clean {seed}"), EProcess(PROMISED, ALPHA)
        count += any(process.update(random.random() < rate) for _ in range(LENGTH))
    return count


def delays(drop: float) -> list[int]:
    """Outcomes from the drop to the alarm; MOST where there was none."""
    found = []
    for seed in range(REPEATS):
        random, process = Random(f"drop {drop} {seed}"), EProcess(PROMISED, ALPHA)
        for _ in range(QUIET):
            process.update(random.random() < PROMISED)
        after = (step for step in range(1, MOST) if process.update(random.random() < PROMISED + drop))
        found.append(next(after, MOST))
    return sorted(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    check_new(out, "result file")
    result = {
        "promised": PROMISED,
        "alpha": ALPHA,
        "clean": {
            str(rate): {"streams": STREAMS, "outcomes": LENGTH, "false_alarms": false_alarms(rate)}
            for rate in (PROMISED, 0.8 * PROMISED)
        },
        "delay": {
            f"{100 * drop:.0f} points": {
                "median": statistics.median(found),
                "low": found[len(found) // 20],
                "high": found[-len(found) // 20],
                "streams": REPEATS,
                "good_outcomes_before": QUIET,
                "never_within": {"outcomes": MOST, "streams": found.count(MOST)},
            }
            for drop in DROPS
            for found in [delays(drop)]
        },
        **origin(),
    }
    write_json(out, result)
    print(result["clean"], result["delay"])


if __name__ == "__main__":
    main()
