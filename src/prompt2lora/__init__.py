"""prompt2lora: a handful of unlabelled prompts in, a LoRA adapter out, without training.

The names below are loaded on first use, so that `import prompt2lora` costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Generator": "prompt2lora.generator.generator",
    "LoraLayout": "prompt2lora.adapter.layout",
    "Adapter": "prompt2lora.adapter.peft",
    "generate": "prompt2lora.api",
    "benchmark": "prompt2lora.api",
    "collect": "prompt2lora.api",
    "train": "prompt2lora.api",
    "ask": "prompt2lora.api",
    "import_adapter": "prompt2lora.api",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'prompt2lora' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
