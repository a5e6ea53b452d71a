"""Every variant rounds where the oracle rounds, and as it does, shown where another order would give another result.

Random operands hardly tell: a step taken in float64 in another order changes a float32 result once in 2^28 times. Here
activations lie on ties, and a bias cancels what float32 can hold, so that the last bits of float64 are the result.
"""

import functools

import pytest
import torch
from torch import Tensor

from quant.schemes import Blockwise, Scheme
from tests import integer_oracle, oracle
from tests.strategies import generator, normal, scheme_id
from tests.unit.native.operands import (
    BLOCKWISE,
    SCHEMES,
    BlockWeight,
    Rows,
    Weight,
    assert_batches,
    identity,
    random_weight,
)

TIES = 64
HIGHEST = {"nf4": (14, 15), "fp4": (2, 3), "int4": (14, 15)}
"""The codes of the two highest levels."""
SINGLE_SCALES = [scheme for scheme in BLOCKWISE if not scheme.double_quant]

Cancelling = tuple[Weight, Tensor, Tensor, Rows]


def cancelling(weight: Weight, x: Tensor) -> Cancelling:
    """A row, the bias that takes away its float32 result, and what is left: what float32 could not hold."""
    bias = -torch.tensor(weight.expected(x)[0], dtype=torch.float32)
    return weight, x, bias, weight.expected(x, bias)


@functools.cache
def ties_case(scheme: Scheme) -> tuple[Weight, Tensor, Rows]:
    """Rows whose exact quotients 32767 x / a are n + 1/2, for a = 32767 m.

    For m = 1 the product is exact, so n + 1/2 goes to the even neighbour. For others 1 / m is rounded first, so the
    product is n + 1/2 or one float64 beside it: dividing by a instead of multiplying by its inverse gives another q,
    and so does float32.
    """
    halves = torch.arange(TIES) - TIES // 2 + 0.5
    rows = [torch.cat([torch.tensor([32767.0]), halves]) * m for m in (1, 3, 5, 11, 25, 41, 49, 107, 187)]
    x = torch.stack(rows)
    weight = identity(scheme, TIES + 1)
    return weight, x, weight.expected(x)


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_activations_on_ties(scheme: Scheme, variant: str) -> None:
    weight, x, expected = ties_case(scheme)
    assert_batches(weight, x, None, expected)


def test_the_ties_tell_the_ways_to_round_apart() -> None:
    _, x, expected = ties_case(SCHEMES[0])
    assert expected[0][1:] == [float(round(value)) for value in x[0, 1:].tolist()]
    assert expected[0][-4:] == [28.0, 30.0, 30.0, 32.0]
    divided = [[round(value * 32767 / row[0]) for value in row] for row in x.tolist()]
    multiplied = [integer_oracle.fixed_point(row)[0] for row in x.tolist()]
    assert sum(a != b for pair in zip(divided, multiplied, strict=True) for a, b in zip(*pair, strict=True)) >= 20


@functools.cache
def cancelling_cases(scheme: Scheme) -> list[Cancelling]:
    """Ordinary weights with six rows of other sizes."""
    weight = random_weight(scheme, 128, 48)
    return [cancelling(weight, normal((1, 48), seed=seed)) for seed in range(9, 15)]


@functools.cache
def wide_cancelling_cases(scheme: Blockwise) -> list[Cancelling]:
    """Sums beyond float32, of integers that fill 31 bits, with several parts in a lane; whole groups and cut ones."""
    cases = []
    for out_features, in_features in ((32, 784), (128, 65)):
        count = out_features * in_features
        codes = torch.tensor(HIGHEST[scheme.codebook])[torch.randint(0, 2, (count,), generator=generator(9))]
        packed = torch.tensor(oracle.pack(codes.tolist(), 0), dtype=torch.uint8)
        absmax = (0.5 + torch.rand(-(-count // scheme.block_size), generator=generator(10))) * 1e38
        x = (1 + torch.rand(1, in_features, generator=generator(11))) * 1e-3
        cases.append(cancelling(BlockWeight(scheme, out_features, packed, absmax), x))
    return cases


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_steps_in_float64_have_their_order(scheme: Scheme, variant: str) -> None:
    for weight, x, bias, expected in cancelling_cases(scheme):
        assert_batches(weight, x, bias, expected)
        assert sum(value != 0 for value in expected[0]) > 120


@pytest.mark.parametrize("scheme", SINGLE_SCALES, ids=scheme_id)
def test_lanes_in_float64_have_their_order(scheme: Blockwise, variant: str) -> None:
    for weight, x, bias, expected in wide_cancelling_cases(scheme):
        assert_batches(weight, x, bias, expected)
        assert sum(value != 0 for value in expected[0]) > 0.9 * len(bias)


@pytest.mark.parametrize(("dtype", "step"), [(torch.bfloat16, 2.0**-7), (torch.float16, 2.0**-10)], ids=str)
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_outputs_are_rounded_to_float32_first(scheme: Scheme, dtype: torch.dtype, step: float, variant: str) -> None:
    """1 + step/2 + 2^-30 and 1 + 3 step/2 - 2^-30 become ties in float32, and these go to the even neighbour."""
    weight = identity(scheme, 2, 2.0**-16)
    x = torch.tensor([[2.0**-14, -(2.0**-14)]], dtype=dtype)
    bias = torch.tensor([1 + step / 2, 1 + 3 * step / 2])
    expected = [[1.0, 1 + 2 * step]]
    assert weight.expected(x, bias) == expected
    assert_batches(weight, x, bias, expected)
