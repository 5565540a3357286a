"""After an alarm nobody is answered by the bad version: clients ask all the time, while its outcomes take it back.

python benchmarks/takeback.py --out benchmarks/results/takeback.json

Gateway, monitor and registry are the real ones; the engine only says which version it was given, after a moment.
Counted apart: answers that were asked for before the alarm and came after it ("under way"): what answered when they
were begun finishes them.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from faults import add
from serving import client_of, keys_of, service_of

from prompt2lora.base.versions import origin
from prompt2lora.custody.registry import Registry
from prompt2lora.ground.files import check_new, write_json

JOB, CLIENTS, AFTER = "job", 8, 5  # questions of every client after the alarm
PROMISED, BAD = 0.1, 0.6  # rates of bad outcomes
MOMENT = 0.003  # seconds between two words of an answer


async def one_alarm(service: Any, tokens: dict[str, str], random: Random) -> Counter[str]:
    """Outcomes of what answers now until it is taken back, while clients ask; who was answered by it, and when."""
    bad = service.release(JOB)
    service.plant.monitor().watch(JOB, {"correction": PROMISED})
    counts, alarm = Counter[str](), asyncio.Event()
    body = {"model": JOB, "messages": [{"role": "user", "content": "hello"}]}

    async def ask_on(client: Any) -> None:
        left = AFTER
        while left:
            asked_after = alarm.is_set()
            left -= asked_after
            answer = await client.post("/v1/chat/completions", json=body)
            answer.raise_for_status()
            said = answer.json()["choices"][0]["message"]["content"]
            when = "asked after" if asked_after else "under way" if alarm.is_set() else "before"
            counts[f"{when}: {'bad' if bad.version.name in said else 'good'}"] += 1

    async def tell_on(client: Any) -> None:
        while not alarm.is_set():
            told = {"release": bad.id, "source": "correction", "bad": float(random.random() < BAD)}
            answer = await client.post(f"/admin/jobs/{JOB}/outcomes", json=told)
            if answer.json()["alarm"]:
                alarm.set()
            counts["outcomes"] += 1

    async with client_of(service, tokens["asks"]) as asks, client_of(service, tokens["operator"]) as tells:
        await asyncio.gather(tell_on(tells), *(ask_on(asks) for _ in range(CLIENTS)))
    return counts


def take_back(alarms: int, home: Path) -> Counter[str]:
    """So many alarms of one job, each of a new version that is promoted over a good one."""
    os.environ["PROMPT2LORA_HOME"] = str(home)
    registry, random = Registry.open(home, actor="takeback"), Random(1)
    registry.add_job(JOB)
    tokens = keys_of(registry)
    service = service_of(registry, per_minute=10**9, per_job=10**6)
    service.engine.wait = MOMENT
    good, counts = add(registry, random, 64), Counter[str]()
    registry.promote(JOB, good, "good", expected=None)
    for _ in range(alarms):
        before = registry.current(JOB)
        registry.promote(JOB, add(registry, random, 64), "bad", expected=before.id)
        counts += asyncio.run(one_alarm(service, tokens, random))
        counts["not back at the good one"] += registry.current(JOB).version != good
    counts["alarms"] = alarms
    counts["audit lines"] = registry.verify_audit()
    registry.engine.dispose()
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--alarms", type=int, default=50)
    asked = parser.parse_args()
    check_new(asked.out, "result file")
    with tempfile.TemporaryDirectory() as place:
        counts = take_back(asked.alarms, Path(place) / "home")
    wrong = counts["asked after: bad"] + counts["not back at the good one"]
    told = {"wrong": wrong, "counts": dict(sorted(counts.items()))}
    result = {"clients": CLIENTS, "promised": PROMISED, "bad": BAD, **told, **origin()}
    write_json(asked.out, result)
    print(result["counts"])


if __name__ == "__main__":
    main()
