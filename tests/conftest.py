"""Which tests are slow, in which order they run, and what holds for every process of the tests.

Light to import: the process that only hands tests out to others imports this file and neither torch nor `tiny`,
where the fixtures are.
"""

import gc
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import jaxtyping
from shapes import checked

os.environ["HF_HUB_OFFLINE"] = "1"
# Every process of the tests computes on one core, and finds what is compiled already. Said before torch is imported:
# threads of one process that wait for each other on two busy cores take fifty times as long.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["PYTHONDONTWRITEBYTECODE"] = ""
sys.dont_write_bytecode = False  # said above for the processes that are started; this one has begun already

# Files whose tests train, serve, or start processes and databases; `make check` leaves them out. Those that take
# longest come first, and of those that wait for others (cluster, faults) no two run side by side.
SLOW = (
    "console_browser cluster plant training faults console rented report engine release decisions cli picture_browser "
    "pictured_jobs management gateway lengths accelerated benchmark monitor serve two_bases openapi picture_doors "
    "answer_file refusals examples tuning teachers practice doors imported_versions held_answers evaluation "
    "console_sheets refine_benchmark vllm malformed commands takeback"
).split()
_RANK = {name: number for number, name in enumerate(SLOW)}


def pytest_configure(config):
    """Whoever runs tests gets the fixtures; whoever hands them out to others does not need them."""
    if not getattr(config.option, "numprocesses", None):
        gc.disable()  # until all is loaded: nothing of that is garbage
        jaxtyping.jaxtyped = lambda typechecker: checked  # what the hook decorates with
        jaxtyping.install_import_hook(shaped_modules(), "beartype.beartype")
        config.pluginmanager.import_plugin("tiny")


def pytest_xdist_auto_num_workers(config):
    """One more process than there are cores: slow tests also wait, for browsers, programs and disks."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + (config.option.markexpr != "not slow")


def shaped_modules():
    """The modules in which a shape stands in a type: every shape is checked while the tests run."""
    source = Path(find_spec("prompt2lora").origin).parent
    files = (file for file in source.rglob("*.py") if "from jaxtyping import" in file.read_text(encoding="utf-8"))
    return [".".join(("prompt2lora", *file.relative_to(source).with_suffix("").parts)) for file in files]


def pytest_ignore_collect(collection_path, config):
    """Without the slow tests their files are not even imported; None leaves it to the other rules."""
    fast = config.option.markexpr == "not slow"
    return True if fast and _name(collection_path) in _RANK else None


def pytest_collection_modifyitems(items):
    for item in items:
        if _name(item.path) in _RANK or "postgresql" in item.name:
            item.add_marker("slow")
    items.sort(key=lambda item: _RANK.get(_name(item.path), len(SLOW)))  # so that none of them is left alone at the end


def _name(file):
    return file.stem.removeprefix("test_")


def pytest_collection_finish():
    """What is loaded by now stays: no search for garbage looks at it again."""
    gc.collect()
    gc.freeze()
    gc.enable()
