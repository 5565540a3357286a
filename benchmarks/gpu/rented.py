"""Train on a rented machine that takes 64 MiB a call and reaches nothing: what it needs goes there in pieces.

    pack     here   recipe, task files, base, encoder, wheels, and to go on an earlier run -> pieces, one for each call
    receive  there  one piece -> a folder outside the working tree; says which are missing
    train    there  with all pieces: environment, wheels, base; then the run, until the minutes are over -> parts
    unpack   here   the parts that came back -> a run's folder, finished or to be gone on with

README.md says how they follow each other. `receive` needs nothing but Python; every step can be repeated, and whatever
is killed goes on where it was.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MIB = 1 << 20
PIECE, ROLL = "piece.bin", "pieces.json"
PARTS, PART = 8, 15 * MIB  # that come back: so many files, each of so many bytes
NEEDED = "torch transformers safetensors peft jaxtyping pydantic gguf filelock huggingface_hub".split()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def pack(asked: argparse.Namespace) -> None:
    """Everything as one tar file, cut into folders that each fit beside the working tree."""
    from prompt2lora.base.packaged import PACKAGED
    from prompt2lora.base.weights import weights_digest
    from prompt2lora.training.checkpoint import Checkpoint
    from prompt2lora.training.recipe import read_recipe

    recipe = read_recipe(asked.recipe)
    told = {"base": recipe.base, "base_digest": weights_digest(recipe.base)}
    small, whole = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=small, mode="w:xz") as tar:
        add_bytes(tar, "plan.json", json.dumps(told).encode())
        tar.add(asked.recipe, "recipe.toml")
        for name in ("tasks", "wheels", "start", "shared"):
            if place := getattr(asked, name):
                tar.add(place, name)
        if asked.run:
            for name in ("recipe.json", "curves.csv"):
                tar.add(asked.run / name, f"run/{name}")
    with tarfile.open(fileobj=whole, mode="w") as tar:
        add_bytes(tar, "small.tar.xz", small.getvalue())
        if asked.run:
            saved = Checkpoint.load(asked.run, "cpu")
            add_bytes(tar, "run/checkpoint.pt", saved.small().to_bytes() if saved else b"")
        for name in (recipe.base, recipe.encoder):
            for module, found in zip(PACKAGED[name].modules, PACKAGED[name].files, strict=True):
                inside = next(parent for parent in found.parents if parent.name == module)
                add_bytes(tar, f"site/{module}/__init__.py", b"")
                tar.add(found, f"site/{found.relative_to(inside.parent)}", filter=what_transformers_loads)
    data, room = whole.getvalue(), int(asked.room * MIB)
    pieces = [data[at : at + room] for at in range(0, len(data), room)]
    digests = [digest(piece) for piece in pieces]
    shutil.rmtree(asked.to, ignore_errors=True)
    for number, piece in enumerate(pieces):
        folder = asked.to / f"{number + 1:02}"
        folder.mkdir(parents=True)
        (folder / PIECE).write_bytes(piece)
        (folder / ROLL).write_text(json.dumps({"number": number, "digests": digests}))
    print(f"{len(data) / MIB:.0f} MiB in {len(pieces)} pieces: {asked.to}/01 to {asked.to}/{len(pieces):02}")


def what_transformers_loads(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Not the same weights once more for other libraries."""
    kept = (".bin", ".gguf", ".json", ".txt", ".safetensors")
    extra = ("onnx", "openvino", "pytorch_model.bin")
    path = Path(member.name)
    wanted = member.isdir() or path.suffix in kept
    return member if wanted and not any(word in extra for word in path.parts) else None


def receive(asked: argparse.Namespace) -> None:
    """Keep one piece where the next call does not remove it."""
    roll, data = json.loads((asked.piece / ROLL).read_text()), (asked.piece / PIECE).read_bytes()
    number, digests = roll["number"], roll["digests"]
    if digest(data) != digests[number]:
        sys.exit(f"error: {asked.piece} was damaged on the way; send it again")
    place = asked.at / "pieces"
    place.mkdir(parents=True, exist_ok=True)
    (place / ROLL).write_text(json.dumps(digests))
    write(place / f"{number}-{digests[number]}", data)
    lacking = missing(asked.at)
    print(
        f"piece {number + 1} of {len(digests)} is here; missing: {', '.join(map(str, lacking)) or 'none'}", flush=True
    )


def missing(at: Path) -> list[int]:
    """Numbers of the pieces, from 1, that have not come yet."""
    digests = json.loads((at / "pieces" / ROLL).read_text())
    return [number + 1 for number, one in enumerate(digests) if not (at / "pieces" / f"{number}-{one}").exists()]


def put_together(at: Path) -> Path:
    """The folder of all that was sent; made once."""
    if not (at / "pieces" / ROLL).exists() or missing(at):
        sys.exit("error: pieces are missing; send them by `receive` first")
    digests = json.loads((at / "pieces" / ROLL).read_text())
    made = at / f"sent-{digest(json.dumps(digests).encode())[:12]}"
    if not made.exists():
        aside = made.with_suffix(".part")
        shutil.rmtree(aside, ignore_errors=True)
        data = b"".join((at / "pieces" / f"{number}-{one}").read_bytes() for number, one in enumerate(digests))
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            tar.extractall(aside, filter="data")
        with tarfile.open(aside / "small.tar.xz") as tar:
            tar.extractall(aside, filter="data")
        wheels = [str(wheel) for wheel in sorted((aside / "wheels").glob("*.whl"))]
        if wheels:
            quiet = ("--quiet", "--no-index", "--no-deps", "--no-compile", "--target", str(aside / "site"))
            subprocess.run([sys.executable, "-m", "pip", "install", *quiet, *wheels], check=True)
        aside.rename(made)
    return made


def train(asked: argparse.Namespace) -> None:
    """The run until it is done or the minutes are over; either way what is worth keeping is in `out`."""
    began = time.monotonic()
    told = environment()
    print(json.dumps(told), flush=True)
    if asked.device and told["device"] != asked.device:
        sys.exit(f"error: this machine computes on {told['device']}, not on {asked.device}; look at its driver")
    sent = put_together(asked.at)
    sys.path[:0] = [str(sent / "site"), str(Path(__file__).resolve().parents[2] / "src")]
    if lacking := [name for name in NEEDED if find_spec(name) is None]:
        sys.exit(f"error: this machine lacks {', '.join(lacking)}; bring wheels of them along by `pack --wheels`")
    os.environ |= {"PROMPT2LORA_HOME": str(asked.at / "home"), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    from prompt2lora.base.weights import weights_digest
    from prompt2lora.training.finish import train as make
    from prompt2lora.training.recipe import read_recipe

    plan, run = json.loads((sent / "plan.json").read_text()), asked.at / asked.run
    if (sent / asked.run).exists() and not run.exists():
        shutil.copytree(sent / asked.run, run)
    found = weights_digest(plan["base"])
    told |= {"base_digest": found, "base_as_at_home": found == plan["base_digest"], "ready": since(began)}
    print(json.dumps({key: told[key] for key in ("base_as_at_home", "ready")}), flush=True)
    places = {name: str(sent / name) for name in ("tasks", "start", "shared") if (sent / name).exists()}
    places |= {"shared": str(asked.at / asked.shared)} if asked.shared else {}

    def over(*_: Any) -> None:
        raise TimeoutError

    def report(record: dict[str, Any]) -> None:
        if "step" in record:
            print(json.dumps(record), flush=True)
        if since(began) > 60 * asked.minutes:
            over()

    signal.signal(signal.SIGTERM, over)  # the machine's own limit
    try:
        make(read_recipe(asked.recipe or sent / "recipe.toml", **places), run, report)
    except TimeoutError:
        print("the minutes are over; train again to go on", flush=True)
    finally:
        give_back(run, asked.out, {**told, "seconds": since(began)}, asked.bring)


def since(began: float) -> float:
    return round(time.monotonic() - began, 1)


def environment() -> dict[str, Any]:
    """What a run here would have, found out in the first seconds."""
    import torch
    import transformers

    cuda = torch.cuda.is_available()
    told = {"python": sys.version.split()[0], "torch": torch.__version__, "transformers": transformers.__version__}
    told |= {"cores": len(os.sched_getaffinity(0)), "device": "cuda" if cuda else "cpu"}
    if cuda:
        free, whole = torch.cuda.mem_get_info()
        told |= {
            "name": torch.cuda.get_device_name(),
            "free": free,
            "memory": whole,
            "bf16": torch.cuda.is_bf16_supported(),
        }
    return told


def give_back(run: Path, out: Path, told: dict[str, Any], bring: list[str]) -> None:
    """Of a finished run the folders to `bring`, of another its checkpoint in the small form; in parts to be carried."""
    from prompt2lora.training.checkpoint import Checkpoint

    done = (run / "generator").exists() and (run / "shared-adapter").exists()
    kept = io.BytesIO()
    with tarfile.open(fileobj=kept, mode="w:gz", compresslevel=1) as tar:
        add_bytes(tar, "environment.json", json.dumps(told).encode())
        for name in ("recipe.json", "curves.csv", *(bring if done else ())):
            if (run / name).exists():
                tar.add(run / name, name)
        saved = None if done else Checkpoint.load(run, "cpu")
        if saved:
            add_bytes(tar, "checkpoint.pt", saved.small().to_bytes())
    data = kept.getvalue()
    if len(data) > PARTS * PART or len(data) > 64 * MIB:
        sys.exit(f"error: {len(data) / MIB:.0f} MiB are more than can be carried; train a smaller generator")
    out.mkdir(parents=True, exist_ok=True)
    for number, at in enumerate(range(0, len(data), PART)):
        write(out / f"back-{digest(data)[:12]}.{number}", data[at : at + PART])
    print(f"{len(data) / MIB:.1f} MiB in {out}: {'finished' if done else 'to be gone on with'}", flush=True)


def unpack(asked: argparse.Namespace) -> None:
    """What came back, as a run's folder."""
    parts = sorted(asked.parts.glob("back-*.*"), key=lambda part: int(part.suffix[1:]))
    data = b"".join(part.read_bytes() for part in parts)
    if not parts or {part.stem for part in parts} != {f"back-{digest(data)[:12]}"}:
        sys.exit(f"error: {asked.parts} does not hold all parts of one call; fetch them again")
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        tar.extractall(asked.run, filter="data")
    print(f"{asked.run}: {', '.join(sorted(path.name for path in asked.run.iterdir()))}")


def add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def write(file: Path, data: bytes) -> None:
    """Whole or not at all."""
    aside = file.with_name(f".{file.name}")
    aside.write_bytes(data)
    aside.replace(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(required=True)
    one = steps.add_parser("pack")
    one.add_argument("--recipe", type=Path, required=True)
    one.add_argument("--to", type=Path, default=Path(".gpu"))
    one.add_argument("--room", type=float, default=60, help="MiB of a piece: 64 less the working tree that travels")
    for name in ("tasks", "wheels", "start", "shared", "run"):
        one.add_argument(f"--{name}", type=Path)
    one.set_defaults(step=pack)
    one = steps.add_parser("receive")
    one.add_argument("piece", type=Path)
    one.set_defaults(step=receive)
    two = steps.add_parser("train")
    two.add_argument("--minutes", type=float, required=True)
    two.add_argument("--out", type=Path, required=True)
    two.add_argument("--device", choices=("cuda", "cpu"), help="refuse to compute on anything else")
    two.add_argument("--recipe", type=Path, help="of the working tree, instead of the one that was sent")
    two.add_argument("--run", default="run", help="name of the run's folder")
    two.add_argument("--shared", type=Path, help="the adapter of an earlier run below --at to begin with")
    two.add_argument(
        "--bring", nargs="+", default=["generator", "shared-adapter"], help="what comes back when finished"
    )
    two.set_defaults(step=train)
    for each in (one, two):
        each.add_argument("--at", type=Path, default=Path("/tmp/rented"))
    one = steps.add_parser("unpack")
    one.add_argument("parts", type=Path)
    one.add_argument("--run", type=Path, required=True)
    one.set_defaults(step=unpack)
    asked = parser.parse_args()
    asked.step(asked)


if __name__ == "__main__":
    main()
