"""What a plant has to survive, done to it many times over; counts how often it did.

python benchmarks/faults.py --out benchmarks/results/faults.json

Processes are killed (SIGKILL) at random moments while they register, promote and roll back, generate, and refine; two
processes promote at once; bytes of stored files are flipped, lines of the record altered; the disk is full, the
database is locked, the clock jumps. After each of these the registry opens, everything in it verifies, and what
answers is the last release on record. The tests do the same a few times.

What takes torch is imported where it is used: the process on the full disk needs none of it.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file
from sqlalchemy import text

from prompt2lora.adapter.settings import CONFIG
from prompt2lora.adapter.tensors import WEIGHTS
from prompt2lora.custody import database
from prompt2lora.custody.registry import Registry
from prompt2lora.custody.versions import Origin
from prompt2lora.errors import Conflict, DamagedFile, Prompt2LoraError, Unavailable, UsageError
from prompt2lora.ground.files import check_new, write_json

JOB = "job"
FROM = Origin(("one", "two"), "0" * 64, "g", "b", "0" * 64)
EXAMPLES = [(f"note {number}", "ok") for number in range(16)]
_STEM = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
_WIDTH = 1 << 15  # of an adapter; large enough that a kill can hit the middle of a copy


class World(NamedTuple):
    """Where the faults happen: a home, a place for what is written beside it, and a tiny generator with its base."""

    home: Path
    place: Path
    generator: Path

    def registry(self, **options: Any) -> Registry:
        return Registry.open(self.home, actor="faults", **options)


def write_folder(folder: Path, random: Random, width: int = _WIDTH) -> Path:
    """A sound adapter of random numbers."""
    folder.mkdir(parents=True)
    settings = {"peft_type": "LORA", "base_model_name_or_path": "b", "r": 8, "lora_alpha": 16}
    (folder / CONFIG).write_text(json.dumps({**settings, "target_modules": ["q_proj"]}))
    numbers = np.random.default_rng(random.randrange(1 << 60)).standard_normal((8, width), dtype=np.float32)
    save_file({f"{_STEM}A.weight": numbers, f"{_STEM}B.weight": np.ones((64, 8), np.float32)}, folder / WEIGHTS)
    return folder


def add(registry: Registry, random: Random, width: int = _WIDTH) -> Any:
    with tempfile.TemporaryDirectory() as place:
        return registry.add_version(JOB, write_folder(Path(place) / "adapter", random, width), FROM)


def promote(registry: Registry, version: Any) -> None:
    current = registry.current(JOB)
    registry.promote(JOB, version, "next", expected=current.id if current else None)


def whole(world: World) -> str:
    """What is wrong with the registry; empty if nothing is."""
    try:
        with opened(world) as registry:
            registry.verify_audit()
            registry.verify()
            for job in registry.jobs():
                current, history = registry.current(job), registry.history(job)
                if (current.id if current else None) != (history[-1].id if history else None):
                    return f"what answers {job} is not the last release on record"
    except Prompt2LoraError as error:
        return f"{type(error).__name__}: {error}"
    return ""


@contextmanager
def opened(world: World, **options: Any) -> Iterator[Registry]:
    registry = world.registry(**options)
    try:
        yield registry
    finally:
        registry.engine.dispose()


def done(world: World) -> dict[str, int]:
    """How much was going on."""
    with opened(world) as registry:
        jobs = registry.jobs()
        counts = {"versions": registry.versions, "releases": registry.history}
        return {name: sum(len(listed(job)) for job in jobs) for name, listed in counts.items()}


# Work that goes on until it is killed; `begun` is set when it is ready to


def registering(world: World, seed: int, begun: Any) -> None:
    registry, random = world.registry(), Random(seed)
    begun.set()
    while True:
        promote(registry, add(registry, random))
        if random.random() < 0.4:
            try:
                registry.rollback(JOB, "no good")
            except UsageError:
                continue  # the base answers already


def generating(world: World, seed: int, begun: Any) -> None:
    from prompt2lora.generator.pipeline import Pipeline

    pipeline, registry = Pipeline.load(world.generator), world.registry()
    begun.set()
    for number in range(1_000_000):
        folder = world.place / f"adapter-{seed}-{number}"
        pipeline.write([f"note {seed} {number}"], folder)
        registry.add_version(JOB, folder, FROM)


def refining(world: World, seed: int, begun: Any) -> None:
    from prompt2lora.plant.plant import Plant
    from prompt2lora.plant.refinement import refine

    os.environ["PROMPT2LORA_HOME"] = str(world.home)
    begun.set()
    while True:
        refine(Plant.open(), JOB, EXAMPLES, steps=8)


def processes_of_their_own() -> Any:
    """Each begins as a fork of a process that has imported everything and done nothing."""
    context = multiprocessing.get_context("forkserver")
    ours = ["prompt2lora.generator.pipeline", "prompt2lora.plant.refinement", "prompt2lora.plant.measurement"]
    context.set_forkserver_preload([__name__, *ours, "transformers.models.llama.modeling_llama"])
    return context


def killed(work: Callable[[World, int, Any], None], world: World, count: int) -> Iterator[str]:
    """Processes that work, each killed at a moment drawn at random; what is wrong after each kill."""
    context, random = processes_of_their_own(), Random(1)
    with opened(world) as registry:
        registry.add_job(JOB)
        if work is refining and not registry.versions(JOB):
            from prompt2lora import api

            api.generate(["one"], world.place / "start", generator=world.generator)
            base = json.loads((world.place / "start" / CONFIG).read_text())["base_model_name_or_path"]
            registry.add_version(JOB, world.place / "start", replace(FROM, base=base))
    for kill in range(count):
        begun = context.Event()
        process = context.Process(target=work, args=(world, kill, begun))
        process.start()
        begun.wait(60)
        time.sleep(random.uniform(0.0, 3.0 if work is refining else 1.0))
        process.kill()
        process.join()
        ended = "" if process.exitcode == -signal.SIGKILL else "it had ended before it was killed"
        yield ended or whole(world) or half_written(world, kill)


def half_written(world: World, seed: int) -> str:
    """An adapter folder that a killed process left is there as a whole."""
    from prompt2lora.adapter.peft import Adapter
    from prompt2lora.base import models

    for folder in world.place.glob(f"adapter-{seed}-*"):
        try:
            Adapter.load(
                folder, models.load_config(json.loads((folder / CONFIG).read_text())["base_model_name_or_path"])
            )
        except (Prompt2LoraError, OSError) as error:
            return f"{folder.name}: {error}"
    return ""


# Faults of other kinds: each gives what is wrong after every time, empty if nothing is


def races(world: World, count: int) -> Iterator[str]:
    """Two processes promote at once: one wins, the other is told."""
    context, random = processes_of_their_own(), Random(2)
    with opened(world) as registry:
        registry.add_job(JOB)
        names = [add(registry, random, 64).name for _ in range(2)]
    for _ in range(count):
        with opened(world) as registry:
            promote(registry, None)  # what answers already is no change
        gate, results = context.Barrier(2), context.Queue()
        processes = [context.Process(target=racing, args=(world, name, gate, results)) for name in names]
        for process in processes:
            process.start()
        told = sorted(results.get(timeout=60) for _ in processes)
        for process in processes:
            process.join()
        yield whole(world) if told == ["refused", "won"] else f"the two were told {told}"


def racing(world: World, name: str, gate: Any, results: Any) -> None:
    registry = world.registry()
    current = registry.current(JOB)
    gate.wait()
    try:
        registry.promote(JOB, registry.version(JOB, name), "race", expected=current.id if current else None)
        results.put("won")
    except Conflict:
        results.put("refused")


def flips(world: World, count: int) -> Iterator[str]:
    """One bit of one stored file: it is noticed, and a release that stands on it is refused."""
    random = Random(3)
    with opened(world) as registry:
        registry.add_job(JOB)
        version = add(registry, random, 64)
        files = sorted(registry.store.path(version.adapter).iterdir())
        for number in range(count):
            file = files[number % len(files)]
            before = file.read_bytes()
            after = bytearray(before)
            after[random.randrange(len(after))] ^= 1 << random.randrange(8)
            file.write_bytes(after)
            wrong = (
                "" if not registry.store.is_sound(version.adapter) else f"a flipped bit of {file.name} went unnoticed"
            )
            try:
                promote(registry, version)
                wrong = f"released with a flipped bit of {file.name}"
            except DamagedFile:
                pass
            file.write_bytes(before)
            yield wrong or whole(world)


def alterations(world: World, count: int) -> Iterator[str]:
    """A line of the record is altered, removed or moved behind the registry's back: it is found."""
    random = Random(4)
    with opened(world) as registry:
        registry.add_job(JOB)
        for _ in range(4):
            promote(registry, add(registry, random, 64))
        with registry.engine.begin() as connection:
            for change in ("update", "delete"):
                connection.execute(text(f"drop trigger audit_no_{change}"))
        lines = len(registry.audit_lines())
        columns = ("at", "actor", "action", "subject", "before", "hash")
        for number in range(count):
            line, column = 1 + random.randrange(lines), columns[number % len(columns)]
            statement = random.choice(
                [
                    f"update audit set {column} = {column} || 'x' where number = {line}",
                    f"update audit set detail = '{{\"x\": {number}}}' where number = {line}",
                    f"delete from audit where number = {line}",
                    f"delete from audit where number >= {line}",
                    f"update audit set number = {lines + 9} where number = {line}",
                ]
            )
            found = ""
            with registry.engine.connect() as connection:
                connection.execute(text(statement))
                try:
                    database_says(registry, connection)
                    found = f"not found: {statement}"
                except DamagedFile:
                    pass
                connection.rollback()
            yield found or whole(world)


def database_says(registry: Registry, connection: Any) -> None:
    from prompt2lora.custody import audit

    audit.verify(connection, registry.seal)


def locks(world: World, count: int) -> Iterator[str]:
    """Another program holds the database: told in one line, nothing changed, and reading goes on."""
    patience, database._PATIENCE = database._PATIENCE, 0
    try:
        with opened(world) as registry, opened(world) as other:
            registry.add_job(JOB)
            version = add(registry, Random(5), 64)
            for _ in range(count):
                before = registry.history(JOB)
                with database.writing(other.engine):
                    try:
                        promote(registry, version)
                        yield "written past a lock"
                        continue
                    except Unavailable as error:
                        told = str(error)
                    still = registry.history(JOB) == before
                yield whole(world) if "lock" in told and still else f"told {told!r}"
    finally:
        database._PATIENCE = patience


def clocks(world: World, count: int) -> Iterator[str]:
    """The clock jumps back and forth by years: the order of releases does not depend on it."""
    random = Random(6)

    def jumping() -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=random.uniform(-9000, 9000))

    with opened(world, clock=jumping) as registry:
        registry.add_job(JOB)
        versions = [add(registry, random, 64) for _ in range(3)]
        for number in range(count):
            promote(registry, versions[number % 3])
            promote(registry, versions[(number + 1) % 3])
            back = registry.rollback(JOB, "worse").version
            yield whole(world) if back == versions[number % 3] else "a rollback went elsewhere"


def full_disks(world: World, count: int) -> Iterator[str]:
    """A disk with a random rest of space; in a namespace of its own, where a small one can be mounted."""
    command = ["unshare", "-rm", sys.executable, __file__, "--full-disk", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    if done.returncode:
        yield f"could not be tried: {done.stderr.strip().splitlines()[-1:]}"
        return
    yield from json.loads(done.stdout)


def on_a_full_disk(count: int) -> Iterator[str]:
    """Begin to work, fill all space but a random rest, go on until it is told; give the space back and look."""
    random = Random(7)
    with tempfile.TemporaryDirectory() as place:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", place], check=True)
        for number in range(count):
            home = Path(place) / str(number)
            world = World(home / "home", home, home)
            with opened(world) as registry:
                registry.add_job(JOB)
                promote(registry, add(registry, random, 64))
                space = os.statvfs(place)
                free = space.f_bavail * space.f_frsize
                ballast = Path(place) / "ballast"
                ballast.write_bytes(bytes(max(0, free - random.randrange(0, 120_000))))
                wrong = "the disk was never full"
                for _ in range(60):
                    try:
                        promote(registry, add(registry, random, 256))
                    except (Prompt2LoraError, OSError) as error:
                        wrong = "" if "full" in str(error) or "space" in str(error) else f"told {error}"
                        break
            ballast.unlink()
            yield wrong or whole(world)
            shutil.rmtree(home)
        subprocess.run(["umount", "--lazy", place], check=True)


FAULTS: dict[str, Callable[[World, int], Iterator[str]]] = {
    "kill while registering, promoting and rolling back": partial(killed, registering),
    "kill while generating": partial(killed, generating),
    "kill while refining": partial(killed, refining),
    "two processes promote at once": races,
    "a flipped bit of a stored file": flips,
    "an altered line of the record": alterations,
    "a full disk": full_disks,
    "a locked database": locks,
    "a clock that jumps": clocks,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--full-disk", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.full_disk:
        print(json.dumps(list(on_a_full_disk(asked.full_disk))))
        return
    check_new(asked.out, "result file")
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    import torch
    import transformers
    from tiny import tiny_world

    from prompt2lora.base.versions import origin

    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    found = {}
    for name, fault in FAULTS.items():
        with tempfile.TemporaryDirectory() as place:
            os.environ["PROMPT2LORA_HOME"] = str(Path(place) / "home")
            world = World(Path(place) / "home", Path(place), tiny_world(Path(place)))
            wrong = list(fault(world, asked.count))
            found[name] = {"times": len(wrong), "wrong": [fault for fault in wrong if fault], **done(world)}
        print(f"{name}: {len(wrong)} times, {len(found[name]['wrong'])} not survived", flush=True)
    write_json(asked.out, {"faults": found, **origin()})


if __name__ == "__main__":
    main()
