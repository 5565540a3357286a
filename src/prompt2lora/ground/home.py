"""Where state lives: PROMPT2LORA_HOME, or ~/.prompt2lora. Everything below it can be deleted and is made again."""

import os
from pathlib import Path


def home() -> Path:
    return Path(os.environ.get("PROMPT2LORA_HOME") or Path.home() / ".prompt2lora")
