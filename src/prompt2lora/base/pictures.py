"""What a base makes of pictures: token ids behind its vocabulary, which its embedding knows like words.

In: pictures, and a base with its own processor. Out: token ids of a picture; those of its soft tokens stand for the
vectors that the base's vision tower gives. So a prompt with pictures is a list of ids like any other, in packs,
batches and caches, and two pictures never have an id in common. Vectors are kept, the longest unused are forgotten; a
picture that somebody still asks about is then looked at again.

A soft token's id holds how far positions move behind it: by one, like behind a word, or, where a base counts positions
in three axes (Qwen2-VL, M-RoPE), by nothing but at the end of its picture. Offsets in the axes are kept with the
vectors.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from itertools import accumulate, count
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from prompt2lora.errors import Busy, DamagedFile, UsageError
from prompt2lora.ground.pictures import Picture

FIRST = 1 << 62  # of the ids of soft tokens; above it: the step, the number of the picture, the number in it
_PLACE, _NUMBER = 16, 24  # bits of the latter two
_STEP = _PLACE + _NUMBER
_MOST_TOKENS, _MOST_READ = 1 << 16, 1 << 12  # soft tokens that are kept; pictures whose ids are
_PIXELS = ("pixel_values", "pixel_attention_mask", "image_grid_thw", "image_sizes")
_THREE_AXES = ("qwen2_vl", "qwen2_5_vl")


def picture_of(token: int) -> int:
    """The number of the picture that a soft token is of."""
    return ((token - FIRST) >> _PLACE) & ((1 << _NUMBER) - 1)


def soft_tokens(ids: Sequence[int]) -> int:
    """How many of these tokens are of pictures."""
    return sum(token >= FIRST for token in ids)


def positions(ids: Sequence[int], start: int = 0) -> list[int]:
    """Where every token stands if the first one stands at `start`, and where the next one would."""
    steps = ((token - FIRST) >> _STEP if token >= FIRST else 1 for token in ids)
    return list(accumulate(steps, initial=start))


class _Kept(NamedTuple):
    """Vectors of a picture's soft tokens, and how far each lies from its position in every axis."""

    vectors: Float[Tensor, "tokens width"]
    offsets: Int[Tensor, "tokens axes"]


class PictureEmbedding(nn.Module):
    """The vectors of a base's words, and of the pictures that were read."""

    def __init__(self, words: nn.Module) -> None:
        super().__init__()
        self.words = words
        self.reader: PictureReader | None = None
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def weight(self) -> Float[Tensor, "words width"]:
        weight: Tensor = self.words.weight  # type: ignore[assignment]
        return weight

    def forward(self, ids: Int[Tensor, "*batch length"]) -> Float[Tensor, "*batch length width"]:
        soft = ids >= FIRST
        vectors: Tensor = self.words(ids.masked_fill(soft, 0))
        if soft.any():
            if len(set(ids[soft].tolist())) > _MOST_TOKENS:
                raise Busy(
                    f"pictures may have {_MOST_TOKENS:,} tokens at once and these have more; try again in a moment"
                )
            found = torch.cat([self._of(token).vectors[place] for token, place in _parts(ids[soft])])
            vectors = vectors.masked_scatter(soft[..., None], found.to(vectors))
        return vectors

    def axes(
        self, ids: Int[Tensor, "batch length"], places: Int[Tensor, "batch length"]
    ) -> Int[Tensor, "3 batch length"]:
        """Positions in three axes."""
        soft, offsets = ids >= FIRST, places.new_zeros(*places.shape, 3)
        if soft.any():
            offsets[soft] = torch.cat([self._of(token).offsets[place] for token, place in _parts(ids[soft])]).to(places)
        return (places[..., None] + offsets).permute(2, 0, 1)

    def keep(self, number: int, vectors: Float[Tensor, "tokens width"], offsets: Int[Tensor, "tokens axes"]) -> None:
        with self._lock:
            self._kept[number] = _Kept(vectors, offsets)
            while len(self._kept) > 1 and sum(len(one.vectors) for one in self._kept.values()) > _MOST_TOKENS:
                self._kept.popitem(last=False)

    def _of(self, number: int) -> _Kept:
        kept = self._found(number)
        if kept is None:
            assert self.reader
            self.reader.look_again(number)
            kept = self._found(number)
        if kept is None:
            raise Busy("too many pictures are asked about at once, and one was forgotten; try again in a moment")
        return kept

    def _found(self, number: int) -> _Kept | None:
        """What is kept of a picture, which is forgotten last from now on."""
        with self._lock:
            if number in self._kept:
                self._kept.move_to_end(number)
            return self._kept.get(number)


def _parts(soft: Int[Tensor, " tokens"]) -> list[tuple[int, Int[Tensor, " _"]]]:
    """Ids of soft tokens -> runs of one picture: (its number, the numbers in it)."""
    place, number = (soft - FIRST) & ((1 << _PLACE) - 1), ((soft - FIRST) >> _PLACE) & ((1 << _NUMBER) - 1)
    numbers, counts = torch.unique_consecutive(number, return_counts=True)
    return list(zip(numbers.tolist(), torch.split(place, counts.tolist()), strict=True))


class PictureReader:
    """Reads pictures for one base by the processor that came with it."""

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model, processor
        self.token: int = processor.image_token_id
        self.template: str | None = processor.chat_template or processor.tokenizer.chat_template
        self.embedding = PictureEmbedding(model.get_input_embeddings())
        self.embedding.reader = self
        self._read: OrderedDict[str, tuple[int, list[int]]] = OrderedDict()
        self._asked: WeakValueDictionary[int, Picture] = WeakValueDictionary()  # as long as somebody has them
        self._numbers = count(1)
        self._lock = threading.Lock()
        model.set_input_embeddings(self.embedding)
        if model.config.model_type in _THREE_AXES:
            for part in (model.model, model.get_decoder()):
                part.register_forward_pre_hook(self._in_three_axes, with_kwargs=True)

    def ids(self, picture: Picture) -> list[int]:
        """The tokens of a picture. Raises UsageError if the processor does not take it."""
        with self._lock:
            number, ids = self._read.pop(picture.digest, (0, []))
            if not ids:
                number = next(self._numbers) & ((1 << _NUMBER) - 1)
                ids = self._look(picture, number)
            self._read[picture.digest], self._asked[number] = (number, ids), picture
            if len(self._read) > _MOST_READ:
                self._read.popitem(last=False)
            return ids

    def look_again(self, number: int) -> None:
        """Keep the vectors of a picture anew, if somebody still has it."""
        with self._lock:
            if picture := self._asked.get(number):
                self._look(picture, number)

    @torch.no_grad()
    def _look(self, picture: Picture, number: int) -> list[int]:
        token, model = self.processor.image_token, self.model
        try:
            given = self.processor(
                text=[token], images=[picture.image()], return_tensors="pt", add_special_tokens=False
            )
        except (ValueError, RuntimeError) as error:
            raise UsageError(f"the base's processor does not take {picture.name or 'a picture'}: {error}") from error
        pixels = {name: given[name].to(model.device) for name in _PIXELS if name in given}
        pixels["pixel_values"] = pixels["pixel_values"].to(next(model.parameters()).dtype)
        with torch.inference_mode(False):  # they may be used in training, too
            seen = model.get_image_features(**pixels).pooler_output
            vectors = torch.cat([part.reshape(-1, part.shape[-1]) for part in seen])
        ids: list[int] = given["input_ids"][0].tolist()
        if ids.count(self.token) != len(vectors) or len(vectors) >= 1 << _PLACE:
            raise DamagedFile(
                f"the base makes {len(vectors)} tokens of {picture.name or 'a picture'} and its processor keeps "
                f"{ids.count(self.token)} places for them; fetch its files again"
            )
        offsets = self._offsets(given.get("image_grid_thw"), len(vectors))
        self.embedding.keep(number, vectors, offsets)
        steps = [1] * len(vectors)
        if offsets.shape[1]:
            steps = [0] * (len(vectors) - 1) + [int(offsets.max()) + 1]
        soft = iter(range(len(vectors)))
        return [self._soft(number, next(soft), steps) if one == self.token else one for one in ids]

    @staticmethod
    def _soft(number: int, place: int, steps: Sequence[int]) -> int:
        return FIRST + (steps[place] << _STEP) + (number << _PLACE) + place

    def _offsets(self, grid: Int[Tensor, "pictures axes"] | None, tokens: int) -> Int[Tensor, "tokens axes"]:
        """Time, height and width of all soft tokens of a picture; no axes where positions are counted in one."""
        if grid is None or self.model.config.model_type not in _THREE_AXES:
            return torch.zeros(tokens, 0, dtype=torch.long)
        merged = self.model.config.vision_config.spatial_merge_size
        time, height, width = grid[0].tolist()
        axes = [torch.arange(size) for size in (time, height // merged, width // merged)]
        return torch.cartesian_prod(*axes)

    def _in_three_axes(self, _module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        ids, places = kwargs.get("input_ids"), kwargs.get("position_ids")
        if ids is not None and places is not None and places.dim() == 2:
            kwargs = {**kwargs, "position_ids": self.embedding.axes(ids, places)}
        return args, kwargs


def reader_of(model: Any) -> PictureReader | None:
    """What reads pictures for a loaded base; None if it reads text alone."""
    embedding = model.get_input_embeddings()
    return embedding.reader if isinstance(embedding, PictureEmbedding) else None
