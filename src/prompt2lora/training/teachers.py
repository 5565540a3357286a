"""A folder of teacher LoRAs, read for training."""
from pathlib import Path
class Teachers:
    def __init__(self, folder: Path, layout) -> None: ...
