"""An exported adapter held against PEFT's arithmetic in the engine that it was exported for, where that is installed.

In: an adapter with its base, and the folder of its export. Out: how far the engine's log probabilities are moved by the
adapter, beside how far they should be. Both are differences to the engine's own base, so one in 4 bits is held against
itself. It writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.formats import gguf
from prompt2lora.adapter.hooks import adapted
from prompt2lora.adapter.peft import Adapter
from prompt2lora.base import models
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.packaged import packaged_gguf
from prompt2lora.errors import UsageError

# Answered in whole characters from the first token on: of pieces of one, llama.cpp tells no probabilities.
TEXTS = ("Hello", "Used KX-4825 in pump 3, please order two more.", "Name a colour.", "What is 17 + 25?")
_MOST_ERROR = 0.25  # of the change; at half or double strength it is about a half or more
_LIKELIEST = 8  # tokens compared of each prompt, those of the base and those of the adapter
_ASKED = 20_000  # likeliest tokens that llama.cpp is asked for; what is not among them counts as its last one

Ask = Callable[[list[int], bool], Callable[[int], float]]  # (prompt, with the adapter?) -> log probability of a token


@dataclass(frozen=True)
class Compared:
    """change  how far the adapter moves the log probabilities in PEFT: root of the mean square over all tokens compared
    error   how far the engine's move differs from that, as a share of `change`
    """

    engine: str
    version: str
    prompts: int
    tokens: int
    change: float
    error: float

    @property
    def agrees(self) -> bool:
        return self.error <= _MOST_ERROR


def check(
    adapter: Adapter, base: Frozen, folder: Path, to: str, model: str = "", texts: Sequence[str] = TEXTS
) -> Compared:
    """Ask the engine `to` with the exported `folder` and without; `model` is its file or folder of the same base.

    Raises UsageError if there is no such check, its engine is not installed, or it needs a model that is not named.
    """
    if to not in _ENGINES:
        raise UsageError(f"an export to {to} cannot be checked here, only to {', '.join(_ENGINES)}; leave out --check")
    packages, opened = _ENGINES[to]
    missing = [name for name in packages if find_spec(name.replace("-", "_")) is None]
    if missing:
        raise UsageError(f"the check runs {to}'s engine, which is not installed: pip install {' '.join(missing)}")
    prompts = base.chat.prompt_ids(list(texts))
    wanted, found = [], []
    with opened(folder, model or _own_model(to, adapter.layout.base_model)) as ask:
        for ids in prompts:
            plain, moved = _log_probabilities(base, None, ids), _log_probabilities(base, adapter.grid, ids)
            likeliest = {*plain.topk(_LIKELIEST).indices.tolist(), *moved.topk(_LIKELIEST).indices.tolist()}
            tokens = sorted(likeliest - set(base.chat.ends))  # llama.cpp tells of the others only while none ends
            wanted.append((moved - plain)[tokens])
            before, after = ask(ids, False), ask(ids, True)
            found.append(torch.tensor([after(token) - before(token) for token in tokens]))
    change, move = torch.cat(wanted), torch.cat(found)
    size = float(change.square().mean().sqrt())
    error = float((move - change).square().mean().sqrt()) / max(size, 1e-9)
    return Compared(to, version(packages[-1]), len(prompts), len(change), size, error)


@torch.inference_mode()
def _log_probabilities(
    base: Frozen, grid: Float[Tensor, "layers rows cols"] | None, ids: list[int]
) -> Float[Tensor, " vocabulary"]:
    asked = torch.tensor([ids], device=base.model.device)
    if grid is None:
        logits = base.model(input_ids=asked).logits
    else:
        with adapted(base.model, grid[None].to(asked.device), base.layout):
            logits = base.model(input_ids=asked).logits
    return torch.log_softmax(logits[0, -1].float(), -1).cpu()


def _own_model(to: str, name: str) -> str:
    """The base as this machine has it, in the engine's own format."""
    if to == "mlx":
        return models.locate(name)
    file = packaged_gguf(name)
    if file is None:
        raise UsageError(f"the check asks llama.cpp, which needs {name} as a GGUF file; name it by --model")
    return str(file)


@contextmanager
def _llama_cpp(folder: Path, model: str) -> Iterator[Ask]:
    import xllamacpp

    if not Path(model).is_file():
        raise UsageError(f"{model} is no file; name the base as a GGUF file by --model")
    options = xllamacpp.CommonParams()
    options.model.path, options.n_ctx, options.n_parallel, options.warmup = model, 1024, 1, False
    options.verbosity = -1
    options.cpuparams.n_threads = torch.get_num_threads()
    options.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(folder / gguf.FILE), 1.0)]
    options.lora_init_without_apply = True
    server = xllamacpp.Server(options)

    def ask(ids: list[int], adapted: bool) -> Callable[[int], float]:
        request = {"prompt": ids, "n_predict": 1, "n_probs": _ASKED, "logprobs": _ASKED, "temperature": 0.0}
        adapter = {"lora": [{"id": 0, "scale": float(adapted)}], "cache_prompt": False, "ignore_eos": True}
        answer: Any = server.handle_completions({**request, **adapter})
        answered = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        known = {one["id"]: float(one["logprob"]) for one in answered}
        return lambda token: known.get(token, min(known.values()))

    yield ask


@contextmanager
def _mlx(folder: Path, model: str) -> Iterator[Ask]:
    import mlx.core as mx
    from mlx_lm.tuner.utils import load_adapters
    from mlx_lm.utils import load_model

    plain = load_model(Path(model))[0]
    other = load_adapters(load_model(Path(model))[0], str(folder))
    other.eval()

    def ask(ids: list[int], adapted: bool) -> Callable[[int], float]:
        logits = (other if adapted else plain)(mx.array([ids]))[0, -1].astype(mx.float32)
        known = (logits - mx.logsumexp(logits)).tolist()
        return lambda token: float(known[token])

    yield ask


# The packages of each engine, the one whose version counts last, and how it is opened.
_ENGINES: dict[str, tuple[tuple[str, ...], Any]] = {
    "gguf": (("xllamacpp",), _llama_cpp),
    "mlx": (("mlx", "mlx-lm"), _mlx),
}
