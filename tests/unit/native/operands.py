"""Quantized weights with what the kernels and the oracle each make of them, and how to compare the two."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import pytest
import torch
from torch import Tensor

from quant import kernels, native
from quant.codebooks import DYNAMIC8_LEVELS
from quant.kernels import cpu
from quant.schemes import FP4, INT4, NF4, W8A16, Blockwise, Scheme
from quant.tensor import QuantizedTensor
from tests import integer_oracle, oracle
from tests.strategies import generator, normal

SCHEMES: tuple[Scheme, ...] = (W8A16(), NF4(32), NF4(64, double_quant=True), FP4(128), INT4(64))
"""Every codebook, with and without double quantization."""
BLOCKWISE = tuple(scheme for scheme in SCHEMES if isinstance(scheme, Blockwise))
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
ZERO_AND_ONE = {"nf4": (7, 15), "fp4": (0, 3), "int4": (8, 15)}
"""The codes of the levels 0 and 1."""
Rows = list[list[float]]


@contextmanager
def few_rows(always: bool) -> Iterator[None]:
    """Kernels have one way for few rows of x and another for many; whatever the number, the former is taken or not."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("FEW_INT8", "FEW_BLOCKWISE"):
            patch.setattr(cpu, name, dict.fromkeys(native.VARIANTS, 2**62 if always else -1))
        yield


class Weight(Protocol):
    """A weight [out, in] as the operators take it."""

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """What the operator returns for x [..., in]."""

    def expected(self, x: Tensor, bias: Tensor | None = None) -> Rows:
        """What the oracle says for x [rows, in]."""


def dtype_name(tensor: Tensor) -> str:
    """As the oracle calls it."""
    return str(tensor.dtype).removeprefix("torch.")


@dataclass(frozen=True, eq=False)
class Int8Weight:
    """codes: int8 [out, in]; scales: float32 [out]."""

    codes: Tensor
    scales: Tensor

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        y: Tensor = kernels.w8a16_linear(x, self.codes, self.scales, bias)
        return y

    def expected(self, x: Tensor, bias: Tensor | None = None) -> Rows:
        operands = (self.codes.tolist(), self.scales.tolist(), None if bias is None else bias.tolist(), dtype_name(x))
        return [integer_oracle.w8a16_linear(row, *operands) for row in x.tolist()]


@dataclass(frozen=True, eq=False)
class BlockWeight:
    """packed: uint8; absmax: float32 [blocks], or uint8 with absmax_scale [groups] and absmax_offset []."""

    scheme: Blockwise
    out_features: int
    packed: Tensor
    absmax: Tensor
    absmax_scale: Tensor | None = None
    absmax_offset: Tensor | None = None

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        y: Tensor = kernels.blockwise_linear(
            x,
            self.packed,
            self.absmax,
            self.absmax_scale,
            self.absmax_offset,
            self.scheme.codebook,
            self.scheme.block_size,
            self.out_features,
            bias,
        )
        return y

    def expected(self, x: Tensor, bias: Tensor | None = None) -> Rows:
        absmax = self.absmax.tolist()
        if self.absmax_scale is not None and self.absmax_offset is not None:
            absmax = oracle.dequantize_absmax(
                absmax, self.absmax_scale.tolist(), self.absmax_offset.item(), DYNAMIC8_LEVELS
            )
        codes = oracle.unpack(self.packed.tolist(), self.out_features * x.shape[1])
        operands = (codes, absmax, self.scheme.codebook, self.scheme.block_size)
        shift = None if bias is None else bias.tolist()
        return [integer_oracle.blockwise_linear(row, *operands, shift, dtype_name(x)) for row in x.tolist()]


def random_weight(scheme: Scheme, out_features: int, in_features: int, seed: int = 0) -> Weight:
    """Every code the format has, with normal scales; double quantization may make a few of them negative."""
    source = generator(seed)
    if not isinstance(scheme, Blockwise):
        codes = torch.randint(-127, 128, (out_features, in_features), generator=source, dtype=torch.int8)
        return Int8Weight(codes, normal((out_features,), seed + 1).abs() / 127)
    count = out_features * in_features
    blocks = -(-count // scheme.block_size)
    packed = torch.randint(0, 256, (-(-count // 2),), generator=source, dtype=torch.uint8)
    if not scheme.double_quant:
        return BlockWeight(scheme, out_features, packed, normal((blocks,), seed + 1).abs())
    absmax = torch.randint(0, 256, (blocks,), generator=source, dtype=torch.uint8)
    scale = normal((-(-blocks // 256),), seed + 1).abs()
    return BlockWeight(scheme, out_features, packed, absmax, scale, torch.tensor(0.75))


def identity(scheme: Scheme, width: int, scale: float = 1.0) -> Weight:
    """y = scale * x, so that an output shows one q; `scale` is a power of two."""
    if not isinstance(scheme, Blockwise):
        return Int8Weight(torch.eye(width, dtype=torch.int8), torch.full((width,), scale))
    zero, one = ZERO_AND_ONE[scheme.codebook]
    codes = torch.eye(width).flatten().where(torch.eye(width).flatten() == 1, torch.tensor(float(zero)))
    codes[codes == 1] = one
    packed = torch.tensor(oracle.pack(codes.int().tolist(), zero), dtype=torch.uint8)
    blocks = -(-width * width // scheme.block_size)
    if not scheme.double_quant:
        return BlockWeight(scheme, width, packed, torch.full((blocks,), scale))
    groups = -(-blocks // 256)
    absmax = torch.full((blocks,), 255, dtype=torch.uint8)  # level 1
    return BlockWeight(scheme, width, packed, absmax, torch.full((groups,), scale / 4), torch.tensor(scale * 0.75))


def stored_weight(quantized: QuantizedTensor) -> Weight:
    """What `quantize_tensor` made of a weight [out, in]."""
    stored = quantized.stored
    if not isinstance(quantized.scheme, Blockwise):
        return Int8Weight(quantized.codes, quantized.scales)
    return BlockWeight(
        quantized.scheme,
        quantized.shape[0],
        stored["weight"],
        stored["weight_absmax"],
        stored.get("weight_absmax_scale"),
        stored.get("weight_absmax_offset"),
    )


def patterns(tensor: Tensor) -> Tensor:
    """The bits of every element as an integer; every NaN has the same."""
    canonical = torch.where(tensor.isnan(), torch.nan, tensor)
    return canonical.view(torch.int32 if tensor.element_size() == 4 else torch.int16)


def assert_same_bits(actual: Tensor, expected: Tensor, about: object = "") -> None:
    """Fails with the first few elements whose bits differ."""
    assert (actual.shape, actual.dtype) == (expected.shape, expected.dtype), about
    differ = (patterns(actual) != patterns(expected)).nonzero()
    if len(differ):
        shown = [
            f"at {index}: {actual[tuple(index)].item()!r}, expected {expected[tuple(index)].item()!r}"
            for index in differ[:4].tolist()
        ]
        pytest.fail(f"{about} {len(differ)} of {actual.numel()} elements differ: {'; '.join(shown)}")


def assert_rows(actual: Tensor, expected: Rows, about: object = "") -> None:
    """`assert_same_bits` with the oracle's rows."""
    assert_same_bits(actual, torch.tensor(expected, dtype=torch.float64).to(actual.dtype), about)


def assert_batches(weight: Weight, x: Tensor, bias: Tensor | None, expected: Rows, about: object = "") -> None:
    """Each row of x alone, all together, and repeated to at least 36 rows, in both ways that kernels have."""
    for few in (True, False):
        with few_rows(few):
            for row in range(len(x)):
                assert_rows(weight.linear(x[row : row + 1], bias), expected[row : row + 1], (about, few, "row", row))
            for times in {1, -(-36 // len(x))}:
                y = weight.linear(x.repeat(times, 1), bias)
                assert_rows(y, expected * times, (about, few, len(x) * times, "rows"))
