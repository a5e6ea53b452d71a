"""What hypothesis draws: weights with edge rows, odd shapes, dtypes, memory layouts and schemes; and how to compare
their bits.

A weight is drawn row by row: zeros, -0.0, subnormals, tiny and huge magnitudes, one outlier, all equal, a ramp, normal
noise, or a short list of arbitrary floats. Magnitudes stay within the dtype's finite range.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from quant.schemes import BLOCK_SIZES, FP4, INT4, NF4, W8A16, Blockwise, Scheme
from quant.schemes import SCHEMES as REGISTERED

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
SHAPES = ((1, 1), (1, 2), (3, 1), (2, 3), (4, 13), (3, 32), (1, 63), (2, 64), (3, 65), (4, 33), (2, 96), (2, 129))
BLOCKWISE_KINDS: tuple[type[Blockwise], ...] = tuple(
    dict.fromkeys(type(scheme) for scheme in REGISTERED.values() if isinstance(scheme, Blockwise))
)
"""By being registered, a codebook has every test that is parametrized by these."""
CODEBOOKS = tuple(kind.name for kind in BLOCKWISE_KINDS)
BLOCKWISE_SCHEMES: tuple[Blockwise, ...] = tuple(
    kind(block_size, double_quant)
    for kind in BLOCKWISE_KINDS
    for block_size in BLOCK_SIZES
    for double_quant in (False, True)
)
ALL_SCHEMES: tuple[Scheme, ...] = tuple(dict.fromkeys((W8A16(), *BLOCKWISE_SCHEMES, *REGISTERED.values())))


def _kind(scheme: Scheme) -> Scheme:
    return replace(scheme, block_size=BLOCK_SIZES[0]) if isinstance(scheme, Blockwise) else scheme


_CHOSEN: tuple[Scheme, ...] = (W8A16(), NF4(32), NF4(32, True), FP4(64), INT4(4096))
SCHEMES: tuple[Scheme, ...] = tuple({_kind(scheme): scheme for scheme in (*REGISTERED.values(), *_CHOSEN)}.values())
"""One of each registered kind, for tests in which the block size does not matter."""
SMALL_BLOCKS = tuple(scheme for scheme in BLOCKWISE_SCHEMES if scheme.block_size <= 64)
FLOAT32_MAX = torch.finfo(torch.float32).max
HUGE = 3.4e38
"""Magnitudes are drawn up to here; the largest float32 has a test of its own."""

Row = list[float]


def scheme_id(scheme: Scheme) -> str:
    """A short readable test id, as in nf4-64-dq."""
    if not isinstance(scheme, Blockwise):
        return scheme.name
    return f"{scheme.name}-{scheme.block_size}{'-dq' if scheme.double_quant else ''}"


def bits(tensor: Tensor) -> list[int]:
    """The bytes of `tensor` in logical order: equal only for the same bits, signs of zeros and NaNs included."""
    data: list[int] = tensor.detach().contiguous().reshape(-1).view(torch.uint8).tolist()
    return data


def generator(seed: int) -> torch.Generator:
    """A random stream of its own, so that a test does not depend on the tests before it."""
    return torch.Generator().manual_seed(seed)


def normal(shape: Sequence[int], seed: int = 0, std: float = 1.0) -> Tensor:
    """float32 normal noise from its own stream, the same on every CPU.

    torch draws float32 normals with the CPU's vectors, and other vectors give other last bits. In float64 at most the
    C library's logarithm and cosine differ, by one last bit in 0.07 % of the draws, and rounding to float32 removes
    that: none of 10^7 draws kept it (glibc with and without FMA).
    """
    return (torch.randn(*shape, generator=generator(seed), dtype=torch.float64) * std).float()


def _signed(magnitudes: st.SearchStrategy[float]) -> st.SearchStrategy[float]:
    return st.builds(math.copysign, magnitudes, st.sampled_from((-1.0, 1.0)))


def _values(length: int, low: float, high: float) -> st.SearchStrategy[Row]:
    """A few values between `low` and `high` in magnitude, repeated to fill the row."""
    few = st.lists(_signed(st.floats(low, high)), min_size=1, max_size=6)
    return few.map(lambda values: [values[index % len(values)] for index in range(length)])


def _noise(length: int) -> st.SearchStrategy[Row]:
    def row(seed: int, exponent: int) -> Row:
        values: Row = normal((length,), seed, 10.0**exponent).tolist()
        return values

    return st.builds(row, st.integers(0, 2**32 - 1), st.integers(-4, 2))


def _outlier(length: int) -> st.SearchStrategy[Row]:
    def row(index: int, small: float, large: float) -> Row:
        return [small] * index + [large] + [small] * (length - index - 1)

    return st.builds(row, st.integers(0, length - 1), _signed(st.floats(0, 1e-3)), _signed(st.floats(1, 1e3)))


@functools.cache
def rows(length: int) -> st.SearchStrategy[Row]:
    """One row of any kind; cached, because building a strategy costs more than drawing from it."""
    return st.one_of(
        st.just([0.0] * length),
        st.just([-0.0] * length),
        _values(length, 0.0, 2.0**-126),
        _values(length, 1e-40, 1e-30),
        _values(length, 1e30, HUGE),
        _values(length, 0.0, 10.0),
        st.floats(-100, 100).map(lambda value: [value] * length),
        st.floats(1e-6, 1e6).map(lambda step: [step * (index - length // 2) for index in range(length)]),
        _outlier(length),
        _noise(length),
    )


def cast(values: Sequence[Row], dtype: torch.dtype) -> Tensor:
    """A matrix of `dtype`, each value clamped to the finite range of `dtype` and to `HUGE`."""
    limit = min(torch.finfo(dtype).max, HUGE)
    return torch.tensor(values, dtype=torch.float64).clamp(-limit, limit).to(dtype)


@st.composite
def weights(draw: st.DrawFn, dtypes: Sequence[torch.dtype] = (torch.float32,), min_rows: int = 1) -> Tensor:
    """A matrix [out, in] of any kind of rows."""
    out_features, in_features = draw(st.sampled_from([shape for shape in SHAPES if shape[0] >= min_rows]))
    values = [draw(rows(in_features)) for _ in range(out_features)]
    return cast(values, draw(st.sampled_from(dtypes)))


@st.composite
def tame_weights(draw: st.DrawFn) -> Tensor:
    """A float32 matrix whose values are 0 or between 1e-12 and 1e12 in magnitude: no float32 operation under- or
    overflows.
    """
    weight = draw(weights())
    magnitude = weight.abs().clamp(1e-12, 1e12).copysign(weight)
    return torch.where(weight.abs() < 1e-30, 0.0, magnitude)


def _half_small(group: Sequence[Scheme]) -> st.SearchStrategy[Scheme]:
    """One of `group`, half of the time one with small blocks, of which a drawn weight has several."""
    small = [scheme for scheme in group if isinstance(scheme, Blockwise) and scheme.block_size <= 64]
    return st.one_of(st.sampled_from(small), st.sampled_from(group)) if small else st.sampled_from(group)


def per_kind(schemes: Sequence[Scheme]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Runs a test for each kind among `schemes`, with `alike`, the strategy that draws one of it:
    `scheme = data.draw(alike)`.

    Each kind has examples of its own, in all three times as many as the profile's. Drawn from all of them, beside a
    weight that takes most of what hypothesis varies, some kinds had none.
    """
    groups: dict[str, list[Scheme]] = {}
    for scheme in schemes:
        suffix = "-dq" if isinstance(scheme, Blockwise) and scheme.double_quant else ""
        groups.setdefault(f"{scheme.name}{suffix}", []).append(scheme)
    examples = settings(max_examples=3 * settings().max_examples // len(groups))
    parametrize = pytest.mark.parametrize("alike", [*map(_half_small, groups.values())], ids=groups)

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        decorated: Callable[..., None] = parametrize(examples(test))
        return decorated

    return decorate


def _holder(tensor: Tensor, *shape: int) -> Tensor:
    """Memory full of NaN, so that reading outside the view shows."""
    return torch.full(shape, math.nan, dtype=tensor.dtype)


def _every_second_row(tensor: Tensor) -> Tensor:
    holder = _holder(tensor, 2 * tensor.shape[0], tensor.shape[1])
    holder[::2] = tensor
    return holder[::2]


def _every_second_column(tensor: Tensor) -> Tensor:
    holder = _holder(tensor, tensor.shape[0], 2 * tensor.shape[1])
    holder[:, ::2] = tensor
    return holder[:, ::2]


def _offset(tensor: Tensor) -> Tensor:
    holder = _holder(tensor, tensor.numel() + 7)
    holder[3 : 3 + tensor.numel()] = tensor.reshape(-1)
    return holder[3 : 3 + tensor.numel()].view(tensor.shape)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "transposed": lambda tensor: tensor.t().contiguous().t(),
    "every second row": _every_second_row,
    "every second column": _every_second_column,
    "offset": _offset,
    "expanded": lambda tensor: tensor[:1].expand(tensor.shape),
}
"""Ways to lay a matrix out in memory: the same values with other strides ("expanded" repeats the first row)."""
