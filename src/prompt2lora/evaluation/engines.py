"""An exported adapter held against PEFT's arithmetic in the engine that it was exported for, where that is installed.

In: an adapter with its base, and the folder of its export. Out: how far the engine's log probabilities are moved by the
adapter, beside how far they should be. Both are differences to the engine's own base, so one in 4 bits is held against
itself. It writes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from prompt2lora.adapter.formats import gguf, onnxruntime
from prompt2lora.adapter.hooks import adapted
from prompt2lora.adapter.peft import Adapter
from prompt2lora.adapter.tensors import WEIGHTS
from prompt2lora.base import models
from prompt2lora.base.frozen import Frozen
from prompt2lora.base.packaged import packaged_gguf
from prompt2lora.errors import UsageError
from prompt2lora.evaluation import engine_bases

# Answered in whole characters from the first token on: of pieces of one, llama.cpp tells no probabilities.
TEXTS = ("Hello", "Used KX-4825 in pump 3, please order two more.", "Name a colour.", "What is 17 + 25?")
_MOST_ERROR = 0.25  # of the change; at half or double strength it is about a half or more
_LIKELIEST = 8  # tokens compared of each prompt, those of the base and those of the adapter
_BEAMS = 256  # likeliest tokens that OpenVINO is asked for; what is not among them is not compared
_ASKED = 20_000  # likeliest tokens that llama.cpp is asked for; what is not among them counts as its last one

# (prompt, with the adapter?) -> log probability of a token, nan where the engine does not tell it
Ask = Callable[[list[int], bool], Callable[[int], float]]


class EngineInput(NamedTuple):
    """What an engine is opened with: the exported folder, its model of the base (empty: none was named), and of what
    these were made."""

    folder: Path
    model: str
    adapter: Adapter
    base: Frozen


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


def check(adapter: Adapter, base: Frozen, folder: Path, to: str, model: str = "") -> Compared:
    """Ask the engine `to` with the exported `folder` and without; `model` is its file or folder of the same base.

    Raises UsageError if there is no such check, its engine is not installed, or it needs a model that is not named.
    """
    if to not in _ENGINES:
        raise UsageError(f"an export to {to} cannot be checked here, only to {', '.join(_ENGINES)}; leave out --check")
    packages, opened = _ENGINES[to]
    missing = [name for name in packages if find_spec(name.replace("-", "_")) is None]
    if missing:
        raise UsageError(f"the check runs {to}'s engine, which is not installed: pip install {' '.join(missing)}")
    prompts = base.chat.prompt_ids(list(TEXTS))
    wanted, found = [], []
    with opened(EngineInput(folder, model, adapter, base)) as ask:
        for ids in prompts:
            plain, moved = _log_probabilities(base, None, ids), _log_probabilities(base, adapter.grid, ids)
            likeliest = {*plain.topk(_LIKELIEST).indices.tolist(), *moved.topk(_LIKELIEST).indices.tolist()}
            tokens = sorted(likeliest - set(base.chat.ends))  # llama.cpp tells of the others only while none ends
            wanted.append((moved - plain)[tokens])
            before, after = ask(ids, False), ask(ids, True)
            found.append(torch.tensor([after(token) - before(token) for token in tokens]))
    change, move = torch.cat(wanted), torch.cat(found)
    told = move.isfinite()
    if not told.any():
        raise UsageError(f"{to}'s engine tells nothing of the tokens that PEFT finds likely; export to another engine")
    change, move = change[told], move[told]
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


def _own_gguf(name: str) -> str:
    """The base as a package brought it, in llama.cpp's own format."""
    file = packaged_gguf(name)
    if file is None:
        raise UsageError(f"the check asks llama.cpp, which needs {name} as a GGUF file; name it by --model")
    return str(file)


@contextmanager
def _llama_cpp(given: EngineInput) -> Iterator[Ask]:
    import xllamacpp

    model = given.model or _own_gguf(given.adapter.layout.base_model)
    if not Path(model).is_file():
        raise UsageError(f"{model} is not a file; name the base as a GGUF file with --model")
    options = xllamacpp.CommonParams()
    options.model.path, options.n_ctx, options.n_parallel, options.warmup = model, 1024, 1, False
    options.verbosity = -1
    options.cpuparams.n_threads = torch.get_num_threads()
    options.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(given.folder / gguf.FILE), 1.0)]
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
def _mlx(given: EngineInput) -> Iterator[Ask]:
    import mlx.core as mx
    from mlx_lm.tuner.utils import load_adapters
    from mlx_lm.utils import load_model

    model = Path(given.model or models.locate(given.adapter.layout.base_model))
    plain = load_model(model)[0]
    other = load_adapters(load_model(model)[0], str(given.folder))
    other.eval()

    def ask(ids: list[int], adapted: bool) -> Callable[[int], float]:
        logits = (other if adapted else plain)(mx.array([ids]))[0, -1].astype(mx.float32)
        known = (logits - mx.logsumexp(logits)).tolist()
        return lambda token: float(known[token])

    yield ask


@contextmanager
def _openvino(given: EngineInput) -> Iterator[Ask]:
    """One beam a token: their scores are the log probabilities of the likeliest."""
    import numpy as np
    import openvino
    import openvino_genai as genai

    with TemporaryDirectory(prefix="prompt2lora-") as place:
        model = given.model or str(engine_bases.openvino(given.base, Path(place) / "base"))
        adapters = genai.AdapterConfig(genai.Adapter(str(given.folder / "adapter" / WEIGHTS)))
        options = {"adapters": adapters, "ATTENTION_BACKEND": "SDPA"}
        pipeline = genai.LLMPipeline(model, genai.Tokenizer(model), "CPU", **options)
        beams = min(_BEAMS, given.base.model.config.vocab_size)
        one = {"max_new_tokens": 1, "num_beams": beams, "num_return_sequences": beams, "eos_token_id": 1 << 30}

        def ask(ids: list[int], adapted: bool) -> Callable[[int], float]:
            prompt = openvino.Tensor(np.array([ids])), openvino.Tensor(np.ones((1, len(ids)), np.int64))
            wanted = genai.GenerationConfig(**one, adapters=adapters if adapted else genai.AdapterConfig())
            answer = pipeline.generate(genai.TokenizedInputs(*prompt), wanted)
            known = {tokens[0]: float(score) for tokens, score in zip(answer.tokens, answer.scores, strict=True)}
            return lambda token: known.get(token, math.nan)

        yield ask


@contextmanager
def _onnxruntime(given: EngineInput) -> Iterator[Ask]:
    """Without the adapter there is one of zeros, for its matrices are inputs that have to be given."""
    import numpy as np
    import onnxruntime_genai as genai

    adapter, nothing = given.adapter, torch.zeros_like(given.adapter.grid)
    with TemporaryDirectory(prefix="prompt2lora-") as place:
        onnxruntime.write(replace(adapter, grid=nothing), None, Path(place))
        model = genai.Model(given.model or str(engine_bases.onnxruntime(adapter, Path(place) / "base")))
        adapters = genai.Adapters(model)
        adapters.load(str(given.folder / onnxruntime.FILE), "adapter")
        adapters.load(str(Path(place) / onnxruntime.FILE), "base")

        def ask(ids: list[int], adapted: bool) -> Callable[[int], float]:
            settings = genai.GeneratorParams(model)
            settings.set_search_options(max_length=len(ids) + 1)
            generator = genai.Generator(model, settings)
            generator.set_active_adapter(adapters, "adapter" if adapted else "base")
            try:
                generator.append_tokens(np.array(ids, np.int32))
            except RuntimeError as error:
                said = str(error).splitlines()[0][:200]
                raise UsageError(
                    f"ONNX Runtime cannot put the adapter on {given.model or 'its base'} ({said}); give its model "
                    "builder the `adapter_path` of a PEFT folder of this rank, and make those matrices inputs"
                ) from error
            logits = torch.from_numpy(np.array(generator.get_logits())).float()
            known = torch.log_softmax(logits.reshape(-1, logits.shape[-1])[-1], -1).tolist()
            return lambda token: float(known[token])

        yield ask


# The packages of each engine, the one whose version counts last, and how it is opened.
_ENGINES: dict[str, tuple[tuple[str, ...], Any]] = {
    "gguf": (("xllamacpp",), _llama_cpp),
    "mlx": (("mlx", "mlx-lm"), _mlx),
    "onnxruntime": (("onnxruntime", "onnxruntime-genai"), _onnxruntime),
    "openvino": (("openvino", "openvino-genai"), _openvino),
}
