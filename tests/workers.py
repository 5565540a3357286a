"""What tests do in processes of their own. Light to import: each of them begins with an empty interpreter."""

from prompt2lora.custody.registry import Registry
from prompt2lora.errors import Conflict


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
