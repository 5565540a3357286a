"""prompt2lora: a handful of unlabelled prompts in, a LoRA adapter out, without training.

The names below are loaded on first use, so that `import prompt2lora` costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_VERBS = (
    "ask benchmark benchmark_published check_export collect compare doctor export generate import_adapter release "
    "report train"
).split()
_PUBLIC = {
    "Generator": "prompt2lora.generator.generator",
    "LoraLayout": "prompt2lora.adapter.layout",
    "Adapter": "prompt2lora.adapter.peft",
    **dict.fromkeys(_VERBS, "prompt2lora.api"),
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'prompt2lora' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
