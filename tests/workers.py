"""What tests do in processes of their own. Light to import: none of them holds what the tests' process has loaded."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

from prompt2lora.custody.registry import Registry
from prompt2lora.errors import Conflict


def race(work, *each):
    """What `work` tells in processes that all pass one gate at once, one for each of these arguments."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as empty:
        return empty.submit(_fork, work, each).result(timeout=120)


def _fork(work, each):
    """In a process that has nothing but this file and begins the others: they need not import it again."""
    context = multiprocessing.get_context("fork")
    gate, results = context.Barrier(len(each)), context.SimpleQueue()
    processes = [context.Process(target=work, args=(*arguments, gate, results)) for arguments in each]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [results.get() for process in processes if process.exitcode == 0]


def promote(home, url, number, gate, results):
    """Promote a version that no other process promotes; tells its number, or None if another one was faster."""
    registry = Registry.open(home, url=url, actor=f"process {number}")
    version = registry.versions("mail")[number]
    gate.wait()
    try:
        registry.promote("mail", version, "race", expected=None)
        results.put(number)
    except Conflict:
        results.put(None)


def open_home(home, url, gate, results):
    """Open a home that others open at the same time; tells its public key."""
    gate.wait()
    results.put(Registry.open(home, url=url).store.signer.public)
