"""Kill a process that registers, promotes and rolls back, at random moments; count what is whole afterwards.

python benchmarks/faults.py --out benchmarks/results/faults.json
"""

import argparse
import json
import multiprocessing
import os
import signal
import tempfile
import time
from pathlib import Path
from random import Random

from prompt2lora.custody.registry import Origin, Registry
from prompt2lora.errors import Prompt2LoraError, UsageError
from prompt2lora.files import check_new, write_json
from prompt2lora.versions import origin

KILLS = 100
_BYTES = 2_000_000  # of an adapter; large enough that a kill can hit the middle of a copy


def work(home: Path, seed: int) -> None:
    """Register, promote and roll back for ever."""
    registry = Registry.open(home, actor=f"worker {seed}")
    random = Random(seed)
    registry.add_job("job")
    for number in range(1_000_000):
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "adapter"
            folder.mkdir()
            (folder / "adapter_config.json").write_text(json.dumps({"seed": seed, "number": number}))
            (folder / "adapter_model.safetensors").write_bytes(random.randbytes(_BYTES))
            version = registry.add_version("job", folder, Origin(("p",), "0" * 64, "g", "b", "0" * 64))
        current = registry.current("job")
        registry.promote("job", version, "next", expected=current.id if current else None)
        if random.random() < 0.4:
            try:
                registry.rollback("job", "no good")
            except UsageError:
                continue  # the base answers already


def whole(home: Path) -> str:
    """What is wrong with the registry; empty if nothing is."""
    try:
        registry = Registry.open(home)
        registry.verify_audit()
        registry.verify()
        current, history = registry.current("job"), registry.history("job")
    except Prompt2LoraError as error:
        return f"{type(error).__name__}: {error}"
    if history and (current is None or current.id != history[-1].id):
        return "what answers is not the last release on record"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    check_new(out)
    random, context = Random(1), multiprocessing.get_context("spawn")
    faults, versions, releases = [], 0, 0
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        Registry.open(home).add_job("job")
        for kill in range(KILLS):
            process = context.Process(target=work, args=(home, kill))
            process.start()
            time.sleep(random.uniform(0.6, 1.6))
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            wrong = whole(home)
            if wrong:
                faults.append({"kill": kill, "fault": wrong})
        registry = Registry.open(home)
        versions, releases = len(registry.versions("job")), len(registry.history("job"))
    result = {"kills": KILLS, "faults": faults, "registered": versions, "releases": releases, **origin()}
    write_json(out, result)
    print({key: result[key] for key in ("kills", "faults", "registered", "releases")})


if __name__ == "__main__":
    main()
