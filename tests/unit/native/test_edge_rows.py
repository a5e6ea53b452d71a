"""Every variant computes the oracle's bits at the edges: rows of zeros, NaN, Inf, subnormals and huge values, scales to
match, sums that leave int32, and lanes that leave float32.
"""

import functools
import math

import pytest
import torch
from torch import Tensor

from quant.schemes import Blockwise, Scheme
from tests import integer_oracle, oracle
from tests.strategies import normal, scheme_id
from tests.unit.native.edges import edge_rows, edge_weight
from tests.unit.native.operands import (
    BLOCKWISE,
    DTYPES,
    SCHEMES,
    BlockWeight,
    Int8Weight,
    Rows,
    Weight,
    assert_batches,
    assert_rows,
    few_rows,
    random_weight,
)

LONG = (512, 513, 517, 4096, 4129, 8224, 8257, 20000, 20001, 70001)
"""Around the lengths at which a sum of int8 products leaves int32: 516 times the accumulators (up to
128)."""
OUTERMOST = {"nf4": (0, 15), "fp4": (11, 3), "int4": (0, 15)}
"""The codes of the lowest and the highest level."""

Case = tuple[Weight, Tensor, Rows]


@functools.cache
def edge_case(scheme: Scheme, in_features: int, dtype: torch.dtype, with_bias: bool) -> tuple[Case, Tensor | None]:
    weight = edge_weight(scheme, 37, in_features)
    x = edge_rows(in_features, dtype)
    bias = normal((37,), seed=6) if with_bias else None
    return (weight, x, weight.expected(x, bias)), bias


@pytest.mark.parametrize("with_bias", [False, True], ids=["no bias", "bias"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_edge_rows_together_and_alone(scheme: Scheme, dtype: torch.dtype, with_bias: bool, variant: str) -> None:
    for in_features in (80, 65):
        (weight, x, expected), bias = edge_case(scheme, in_features, dtype, with_bias)
        assert_batches(weight, x, bias, expected, in_features)
        assert all(map(math.isnan, [value for row in expected[-3:] for value in row]))
        assert not any(map(math.isnan, [value for row in expected[:-3] for value in row]))


@functools.cache
def extreme_case(scheme: Scheme, in_features: int) -> Case:
    """Three rows of weights and two of x that are all +-1 times the outermost level, and what they give."""
    x = torch.ones(2, in_features)
    x[1] = -1
    if not isinstance(scheme, Blockwise):
        codes = torch.full((3, in_features), 127, dtype=torch.int8)
        codes[1] = -127
        weight: Weight = Int8Weight(codes, torch.tensor([1.0, 1.0, 1 / 127]))
        return weight, x, weight.expected(x)
    low, high = OUTERMOST[scheme.codebook]
    packed = torch.tensor(oracle.pack([*[low] * in_features, *[high] * in_features, *[low] * in_features], 0))
    blocks = -(-3 * in_features // scheme.block_size)
    weight = BlockWeight(scheme, 3, packed.to(torch.uint8), torch.linspace(0.5, 1.5, blocks))
    return weight, x, weight.expected(x)


@pytest.mark.parametrize("few", [True, False], ids=["few", "many"])
@pytest.mark.parametrize("in_features", LONG)
@pytest.mark.parametrize("scheme", [scheme for scheme in SCHEMES if scheme_id(scheme) != "nf4-64-dq"], ids=scheme_id)
def test_sums_that_leave_int32(scheme: Scheme, in_features: int, few: bool, variant: str) -> None:
    weight, x, expected = extreme_case(scheme, in_features)
    for rows in (1, 2, 9, 33):
        with few_rows(few):
            assert_rows(weight.linear(x.repeat(17, 1)[:rows]), (expected * 17)[:rows], rows)


@pytest.mark.parametrize("few", [True, False], ids=["few", "many"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_nan_is_the_positive_quiet_one(scheme: Scheme, dtype: torch.dtype, few: bool, variant: str) -> None:
    """Whichever NaN, or Inf, the row of x or the bias holds."""
    x = normal((4, 80), seed=9).to(dtype)
    bits = torch.int32 if dtype == torch.float32 else torch.int16
    x[0, 3], x[1, 7], x[2, 5] = torch.nan, -torch.nan, -torch.inf
    x.view(bits)[3, 70] = -1  # a NaN with every bit set
    quiet = {torch.float32: 0x7FC00000, torch.bfloat16: 0x7FC0, torch.float16: 0x7E00}[dtype]
    weight = random_weight(scheme, 37, 80)
    with few_rows(few):
        assert set(weight.linear(x).view(bits).flatten().tolist()) == {quiet}
        from_bias = weight.linear(torch.ones(1, 80, dtype=dtype), torch.full((37,), -torch.nan))
        assert set(from_bias.view(bits).flatten().tolist()) == {quiet}


def test_the_extreme_rows_do_leave_int32() -> None:
    assert 16 * 32767 * 4088 < 2**31 < 17 * 32767 * 4088  # the largest level of all: a group fits, one more does not
    assert max(max(map(abs, levels)) for levels in integer_oracle.INTEGER_LEVELS.values()) == 4088
    assert 512 * 32767 * 127 < 2**31 < 517 * 32767 * 127
    assert all(
        oracle.LEVELS[name][low] <= -1 and oracle.LEVELS[name][high] == 1 for name, (low, high) in OUTERMOST.items()
    )


@functools.cache
def overflowing_case(scheme: Blockwise, in_features: int) -> Case:
    """Sums beyond float32 whose outputs are within it."""
    count = 21 * in_features
    weight = random_weight(scheme, 21, in_features)
    assert isinstance(weight, BlockWeight)
    absmax = normal((-(-count // scheme.block_size),), seed=7).abs().clamp(max=3) * 1e38
    weight = BlockWeight(scheme, 21, weight.packed, absmax)
    x = normal((12, in_features), seed=8) * 1e-3
    return weight, x, weight.expected(x)


@pytest.mark.parametrize("in_features", [80, 65])
@pytest.mark.parametrize("scheme", [scheme for scheme in BLOCKWISE if not scheme.double_quant], ids=scheme_id)
def test_lanes_that_leave_float32_are_summed_in_float64(scheme: Blockwise, in_features: int, variant: str) -> None:
    weight, x, expected = overflowing_case(scheme, in_features)
    assert_batches(weight, x, None, expected)
    assert all(math.isfinite(value) for row in expected for value in row)
    units = (x.abs().amax(dim=1).double() / (32767 * integer_oracle.MULTIPLIER[scheme.codebook])).tolist()
    totals = [abs(value) / unit for row, unit in zip(expected, units, strict=True) for value in row]
    assert sum(total > 3.41e38 for total in totals) > 0.9 * len(totals)
