"""What adapters add to a module's output, compiled for the processor: every token has the adapter of its own sequence.

In: what goes into a module and what comes out of it, and whose adapter is for which token. The output is changed in
place. Each number of an adapter is read once, in the dtype it is kept in, and sums are in float32; on GPUs this is
called BGMV (Punica, arXiv 2310.18547). Memory is what it waits for, so the next token's adapter is on its way while one
is multiplied. It knows neither modules nor sequences.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from torch import Tensor

try:  # the only way to more threads at once that several callers may share
    import numba.np.ufunc.omppool

    numba.config.THREADING_LAYER, _PARALLEL = "omp", True
except ImportError:  # no OpenMP on this machine
    _PARALLEL = False

_STORED = {torch.float32: (torch.float32, types.float32), torch.bfloat16: (torch.uint16, types.uint16)}


def compiles(parameter: Float[Tensor, "*sizes"]) -> bool:
    """Whether there is a kernel for the device and dtype of this one."""
    return parameter.device.type == "cpu" and parameter.dtype in _STORED


class Kernel:
    """For tokens and adapters of one dtype, float32 or bfloat16. The first one on a machine takes some seconds."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype, (self._stored, number) = dtype, _STORED[dtype]
        rows, index = number[:, ::1], types.int64
        _add.compile(types.void(rows, index[::1], rows, index, index, index, rows))

    def numbers(self, tensor: Float[Tensor, "*sizes"]) -> Any:
        """The same memory for `add`; NumPy has no bfloat16. Raises TypeError for numbers of another dtype."""
        if tensor.dtype != self.dtype:
            raise TypeError(f"the kernel is for {self.dtype}, not for {tensor.dtype}")
        return tensor.view(self._stored).numpy()

    def add(
        self,
        given: Float[Tensor, "tokens width"],
        places: Any,
        grids: Any,
        a: int,
        b: int,
        rank: int,
        output: Float[Tensor, "tokens out"],
    ) -> None:
        """Add to the first tokens of `output` what the adapter at the place of each makes of `given`; below 0, nothing.

        In a row of `grids` (places, numbers) the matrix A (rank, width) begins at `a`, and B, transposed, at `b`.
        """
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
        _add(self.numbers(given.contiguous()), places, grids, a, b, rank, self.numbers(output))


@intrinsic
def _float_of(_context: Any, _bits: Any) -> Any:
    return types.float32(types.uint32), lambda _, builder, __, given: builder.bitcast(given[0], ir.FloatType())


@intrinsic
def _bits_of(_context: Any, number: Any) -> Any:
    return types.uint32(types.float32), lambda _, builder, __, given: builder.bitcast(given[0], ir.IntType(32))


@intrinsic
def _fetch(_context: Any, _address: Any) -> Any:
    """Have the memory at an address on its way to the caches."""

    def built(context: Any, builder: Any, _: Any, given: Any) -> Any:
        pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [pointer, number, number, number]), "llvm.prefetch.p0"
        )
        to_read, keep_longer, data = (number(value) for value in (0, 2, 1))
        builder.call(function, [builder.inttoptr(given[0], pointer), to_read, keep_longer, data])
        return context.get_dummy_value()

    return types.none(types.intp), built


@numba.njit(inline="always")
def _fetch_all(address: Any, size: Any) -> Any:
    for line in range(address, address + size, 64):
        _fetch(line)


def _read(number: Any) -> Any:
    """A stored number in float32."""


def _written(number: Any, like: Any) -> Any:
    """A float32 as it is stored: the nearest bfloat16; of two as near the even one."""


@overload(_read)
def _reading(number):
    if number == types.float32:
        return lambda number: number
    return lambda number: _float_of(np.uint32(number) << np.uint32(16))


@overload(_written)
def _writing(number, like):
    if like == types.float32:
        return lambda number, like: number

    def rounded(number, like):
        bits = _bits_of(number)
        return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))

    return rounded


@numba.njit(parallel=_PARALLEL, nogil=True, fastmath={"reassoc", "contract"})
def _add(given: Any, places: Any, grids: Any, a: Any, b: Any, rank: Any, output: Any) -> Any:
    width, out, size = given.shape[1], output.shape[1], grids.itemsize
    for token in numba.prange(len(places)):
        if places[token] >= 0:
            grid, into = grids[places[token]], output[token]
            following = grids[max(places[min(token + 1, len(places) - 1)], 0)].ctypes.data
            wide, total = np.empty(width, np.float32), np.empty(out, np.float32)
            for k in range(width):
                wide[k] = _read(given[token, k])
            for k in range(out):
                total[k] = _read(into[k])
            for r in range(rank):
                down, up = grid[a + r * width :][:width], grid[b + r * out :][:out]
                _fetch_all(following + size * (a + r * width), size * width)
                inner = np.float32(0)
                for k in range(width):
                    inner += _read(down[k]) * wide[k]
                _fetch_all(following + size * (b + r * out), size * out)
                for k in range(out):
                    total[k] += inner * _read(up[k])
            for k in range(out):
                into[k] = _written(total[k], into[k])


with suppress(RuntimeError):  # there is no folder that it could be kept in
    _add.enable_caching()
