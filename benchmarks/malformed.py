"""A thousand malformed adapter folders and configurations: each is refused in one line, and none leaves a trace.

python benchmarks/malformed.py --out benchmarks/results/malformed.json

The tests draw fewer of the same.
"""

import argparse
import json
import os
import pickle
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from transformers import LlamaConfig

from prompt2lora.adapter.peft import Adapter
from prompt2lora.adapter.settings import CONFIG, OURS, PROFILE
from prompt2lora.adapter.tensors import WEIGHTS
from prompt2lora.base.versions import origin
from prompt2lora.custody.gate import Policy, read_policy
from prompt2lora.custody.signing import Signer
from prompt2lora.custody.store import Store
from prompt2lora.errors import Prompt2LoraError
from prompt2lora.ground.files import check_new, write_json
from prompt2lora.ground.profile import RANKS, TARGETS

EXAMPLES = 1000
BASE = LlamaConfig(
    hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2
)
STEM = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
SETTINGS = {"peft_type": "LORA", "base_model_name_or_path": "b", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
STATE = {f"{STEM}A.weight": torch.ones(8, 64), f"{STEM}B.weight": torch.ones(64, 8)}
SOUND = save(STATE)
_HEADER = 8 + int.from_bytes(SOUND[:8], "little")


class Case(NamedTuple):
    """What to write and what must refuse it: `fault` names what is wrong with it."""

    fault: str
    config: bytes = json.dumps(SETTINGS).encode()
    weights: bytes = SOUND
    beside: Callable[[Path], None] | None = None  # done to the folder afterwards
    policy: bytes | None = None
    keeps: bool = False  # the profile is kept, so that the store takes it; only loading can refuse


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


def encoded(value: Any) -> bytes:
    """JSON in which lone surrogates stay what they are."""
    return json.dumps(value).encode()


def is_allowed(key: str, value: Any) -> bool:
    """The profile, said a second time and more simply than in the code under test."""
    if key == "r":
        return type(value) is int and value in RANKS
    if key == "lora_alpha":
        return type(value) is int and 1 <= value <= 65536
    if key == "target_modules":
        return bool(value) and isinstance(value, list) and all(name in TARGETS for name in map(str, value))
    if key == "base_model_name_or_path":
        return isinstance(value, str) and value.isprintable() and len(value) > 0
    return key != "peft_type" and not value


@st.composite
def configurations(draw: st.DrawFn) -> Case:
    fault = draw(
        st.sampled_from(
            [
                "unknown key",
                "wrong value",
                "missing key",
                "twice",
                "cut",
                "deep",
                "no object",
                "not UTF-8",
                "large",
                "nan",
            ]
        )
    )
    if fault == "unknown key":
        known = {*PROFILE, *OURS, "inference_mode", "lora_dropout", "init_lora_weights", "peft_version"}
        key = draw(st.text(min_size=1).filter(lambda text: text not in known and not text.islower()))
        return Case(fault, encoded({**SETTINGS, key: draw(values.filter(bool))}))
    if fault == "wrong value":
        key = draw(st.sampled_from([*PROFILE, *OURS]))
        wanted = st.sampled_from(["\n", "../\0", "http://x/y", "~root", "-x"]) if key.startswith("base") else values
        value = draw(wanted.filter(lambda value: not is_allowed(key, value) or key.startswith("base")))
        if value == PROFILE.get(key, ...):
            value = [1]
        return Case(fault, encoded({**SETTINGS, key: value}))
    if fault == "missing key":
        missing = draw(st.sampled_from(sorted(SETTINGS)))
        return Case(fault, encoded({key: value for key, value in SETTINGS.items() if key != missing}))
    text = encoded(SETTINGS)
    if fault == "twice":
        key = draw(st.sampled_from(sorted(SETTINGS)))
        return Case(fault, text[:-1] + f", {json.dumps(key)}: {json.dumps(SETTINGS[key])}}}".encode())
    if fault == "cut":
        return Case(fault, text[: draw(st.integers(0, len(text) - 1))])
    if fault == "deep":
        return Case(fault, draw(st.sampled_from([b"[", b'{"a":', b'{"r":8,"x":['])) * draw(st.integers(1_000, 50_000)))
    if fault == "no object":
        return Case(fault, encoded(draw(values.filter(lambda value: not isinstance(value, dict)))))
    if fault == "not UTF-8":
        return Case(fault, text[:-1] + b', "\xff' + draw(st.binary(max_size=4)) + b'": 1}')
    if fault == "nan":
        number = draw(st.sampled_from([b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e400"]))
        return Case(fault, text[:-1] + b', "lora_dropout": ' + number + b"}")
    return Case(fault, text + b" " * (1 << 18))


def with_header(header: Any, data: bytes = SOUND[_HEADER:]) -> bytes:
    text = header if isinstance(header, bytes) else encoded(header)
    return len(text).to_bytes(8, "little") + text + data


class Touch:
    """What unpickling would do if anybody unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("unpickled"),))


@st.composite
def weights(draw: st.DrawFn) -> Case:
    fault = draw(
        st.sampled_from(
            "truncated trailing length nothing header-deep header-text header-twice kind shape offsets name missing "
            "extra not-finite pickle metadata origin rank other-target too-large other-base".split()
        )
    )
    header = json.loads(SOUND[8:_HEADER])
    name = draw(st.sampled_from(sorted(header)))
    entry = dict(header[name])
    whole = st.integers(-(2**70), 2**70)
    if fault == "truncated":
        return Case(fault, weights=SOUND[: draw(st.integers(0, len(SOUND) - 1))])
    if fault == "trailing":
        return Case(fault, weights=SOUND + draw(st.binary(min_size=1)))
    if fault == "length":
        length = draw(st.integers(0, 2**64 - 1).filter(lambda n: n != _HEADER - 8))
        return Case(fault, weights=length.to_bytes(8, "little") + SOUND[8:])
    if fault == "nothing":
        return Case(fault, weights=draw(st.binary(max_size=200)))
    if fault == "header-deep":
        return Case(
            fault, weights=with_header(draw(st.sampled_from([b"[", b'{"a":'])) * draw(st.integers(1_000, 50_000)))
        )
    if fault == "header-text":
        return Case(fault, weights=with_header(encoded(draw(values.filter(lambda value: value != {})))))
    if fault == "header-twice":
        text = encoded(header)
        return Case(fault, weights=with_header(text[:-1] + b", " + encoded({name: entry})[1:]))
    if fault == "kind":
        kinds = st.sampled_from(["F64", "I64", "BOOL", "F8_E4M3", "U8", "f32"]) | values
        entry["dtype"] = draw(kinds.filter(lambda value: value != "F32"))
    elif fault == "shape":
        shapes = (
            values | st.lists(whole, max_size=4) | st.just([0, 64]) | st.just([2**40, 2**40]) | st.just([True, True])
        )
        entry["shape"] = draw(shapes.filter(lambda value: value != header[name]["shape"]))
    elif fault == "offsets":
        places = values | st.lists(whole, max_size=3) | st.just([0, 2048]) | st.just([2**63, 2**64])
        entry["data_offsets"] = draw(places.filter(lambda value: value != header[name]["data_offsets"]))
    elif fault == "name":
        names = st.text() | st.sampled_from(["../../escaped", "/etc/passwd", f"{STEM}C.weight", f"{STEM}A.weight\n"])
        return Case(fault, weights=with_header({**{k: v for k, v in header.items() if k != name}, draw(names): entry}))
    elif fault == "missing":
        return Case(fault, weights=save({key: value for key, value in STATE.items() if key != name}))
    elif fault == "extra":
        more = {draw(st.text(min_size=1)): torch.ones(8, 64)}
        return Case(fault, weights=save({**STATE, **more}))
    elif fault == "not-finite":
        broken = {key: value.clone() for key, value in STATE.items()}
        number = draw(st.sampled_from([float("nan"), float("inf"), float("-inf")]))
        broken[name].view(-1)[draw(st.integers(0, 511))] = number
        kind = draw(st.sampled_from([torch.float16, torch.bfloat16, torch.float32]))
        return Case(fault, weights=save({key: value.to(kind) for key, value in broken.items()}))
    elif fault == "pickle":
        return Case(fault, weights=pickle.dumps(Touch(), protocol=draw(st.integers(0, 5))))
    elif fault == "metadata":
        return Case(
            fault, weights=with_header({**header, "__metadata__": draw(values.filter(lambda v: not _are_texts(v)))})
        )
    elif fault == "origin":
        told = st.text().filter(lambda text: not _is_object(text)) | st.just("[" * 20_000)
        return Case(fault, weights=save(STATE, metadata={"prompt2lora": draw(told)}))
    elif fault == "rank":
        return Case(fault, config=encoded({**SETTINGS, "r": draw(st.sampled_from(RANKS[1:]))}))
    elif fault == "other-target":
        targets = draw(st.lists(st.sampled_from(TARGETS), min_size=1, unique=True).filter(lambda ts: ts != ["q_proj"]))
        return Case(fault, config=encoded({**SETTINGS, "target_modules": targets}))
    elif fault == "too-large":
        entry["data_offsets"] = [entry["data_offsets"][0], draw(st.integers(5_000, 2**70))]
    else:
        width = draw(st.integers(1, 128).filter(lambda n: n != 64))
        state = {f"{STEM}A.weight": torch.ones(8, width), f"{STEM}B.weight": torch.ones(64, 8)}
        return Case(fault, weights=save(state), keeps=True)
    return Case(fault, weights=with_header({**header, name: entry}))


def _are_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


@st.composite
def folders(draw: st.DrawFn) -> Case:
    name = draw(st.sampled_from([CONFIG, WEIGHTS]))

    def without(folder: Path) -> Path:
        (folder / name).unlink()
        return folder / name

    letters = st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=("Cs",))
    extra = draw(
        st.text(letters, min_size=1, max_size=40).filter(lambda text: text not in (".", "..", CONFIG, WEIGHTS))
    )
    actions: dict[str, Callable[[Path], object]] = {
        "extra file": lambda folder: (folder / extra).write_bytes(b"import os"),
        "extra folder": lambda folder: (folder / extra).mkdir(),
        "missing file": without,
        "link": lambda folder: without(folder).symlink_to(Path(__file__)),
        "dangling link": lambda folder: without(folder).symlink_to("../../nowhere"),
        "link to itself": lambda folder: without(folder).symlink_to(name),
        "pipe": lambda folder: os.mkfifo(without(folder)),
        "folder for a file": lambda folder: without(folder).mkdir(),
        "device": lambda folder: without(folder).symlink_to("/dev/zero"),
    }
    fault = draw(st.sampled_from(sorted(actions)))
    return Case(fault, beside=lambda folder: (actions[fault](folder), None)[1])


@st.composite
def policies(draw: st.DrawFn) -> Case:
    fault = draw(st.sampled_from(["policy key", "policy value", "policy text"]))
    if fault == "policy key":
        key = draw(st.text(st.characters(codec="ascii", categories=("Ll", "Lu")), min_size=1))
        return Case(fault, policy=f"{key if key not in vars(Policy()) else 'X'} = 1\n".encode())
    if fault == "policy value":
        key = draw(st.sampled_from(sorted(set(vars(Policy())) - {"signed"})))
        value = draw(
            st.sampled_from(
                ["1" + "0" * 400, '"1"', "[1]", "{a = 1}", "true", "2020-01-01", '"""x\ny"""', "[[1], [2]]"]
            )
        )
        return Case(fault, policy=f"{key} = {value}\n".encode())
    return Case(fault, policy=draw(st.sampled_from([b"\xff", b"=", b"[[", b"a = ", b'x = "', b"\0", b"[" * 9_000])))


cases = st.one_of(configurations(), weights(), weights(), folders(), policies())


def fault_of(case: Case, sandbox: Path) -> str:
    """What is wrong with how the case is treated: empty if it is refused in one line and leaves nothing behind."""
    store = Store(sandbox / "home" / "store", Signer(sandbox / "home" / "key"))
    store.signer.make()
    folder = sandbox / "adapter"
    folder.mkdir()
    (folder / CONFIG).write_bytes(case.config)
    (folder / WEIGHTS).write_bytes(case.weights)
    if case.beside:
        case.beside(folder)
    actions: list[Callable[[], object]] = [lambda: store.put(folder)]
    if case.policy is not None:
        (sandbox / "policy.toml").write_bytes(case.policy)
        actions = [lambda: read_policy(sandbox / "policy.toml")]
    elif case.keeps:
        actions = [lambda: Adapter.load(folder, BASE)]
    elif not case.beside:
        actions += [lambda: Adapter.load(folder, BASE)]
    before = tree(sandbox)
    for action in actions:
        try:
            action()
        except Prompt2LoraError as error:
            if len(str(error).splitlines()) != 1 or not str(error).isprintable():
                return f"refused in {len(str(error).splitlines())} lines"
        except Exception as error:
            return f"{type(error).__name__}: {error}"[:200]
        else:
            return "taken"
    return "" if tree(sandbox) == before and not store.digests() else "something was written"


def tree(place: Path) -> set[tuple[str, int]]:
    """Every name below a place with its time of change, but for the store's own empty folder."""
    found = {(str(file), file.lstat().st_mtime_ns) for file in place.rglob("*") if not file.is_dir()}
    return found | {(str(file), 0) for file in place.rglob("*") if file.is_dir() and file.name not in ("store", "home")}


def run(examples: int) -> tuple[Counter[str], list[dict[str, str]]]:
    """(cases by what was wrong with them, those that were not treated as they must be)."""
    counted: Counter[str] = Counter()
    faults: list[dict[str, str]] = []

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def one(case: Case) -> None:
        with tempfile.TemporaryDirectory() as place:
            wrong = fault_of(case, Path(place))
        counted[case.fault] += 1
        if wrong:
            faults.append({"fault": case.fault, "treated": wrong})

    one()
    return counted, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    check_new(out, "result file")
    warnings.simplefilter("error")
    counted, faults = run(EXAMPLES)
    result = {"cases": sum(counted.values()), "by_fault": dict(sorted(counted.items())), "wrong": faults, **origin()}
    write_json(out, result)
    print(f"{result['cases']} cases of {len(counted)} kinds, {len(faults)} not refused as they must be")
    for fault in faults[:20]:
        print(fault)


if __name__ == "__main__":
    main()
