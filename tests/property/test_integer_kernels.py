"""Every weight that can be quantized, times every activation: each variant of the native kernels computes the oracle's
bits.
"""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from quant import native
from quant.schemes import W8A16, Scheme
from quant.tensor import quantize_tensor
from tests.strategies import BLOCKWISE_SCHEMES, cast, per_kind, rows, weights
from tests.unit.native.operands import DTYPES, Int8Weight, assert_batches, few_rows, stored_weight


def check(weight: Tensor, scheme: Scheme, data: st.DataObject) -> None:
    """Draws x and a bias to match, and compares."""
    out_features, in_features = weight.shape
    dtype = data.draw(st.sampled_from(DTYPES))
    x = cast([data.draw(rows(in_features)) for _ in range(data.draw(st.integers(1, 3)))], dtype)
    bias = data.draw(st.one_of(st.none(), rows(out_features).map(lambda row: cast([row], dtype)[0])))
    operand = stored_weight(quantize_tensor(weight, scheme))
    expected = operand.expected(x, bias)
    for name in native.supported():
        with native.override(name):
            assert_batches(operand, x, bias, expected, name)


@given(weights(), st.data())
def test_w8a16(weight: Tensor, data: st.DataObject) -> None:
    check(weight, W8A16(), data)


@per_kind(BLOCKWISE_SCHEMES)
@given(weight=weights(), data=st.data())
def test_blockwise(alike: st.SearchStrategy[Scheme], weight: Tensor, data: st.DataObject) -> None:
    check(weight, data.draw(alike), data)


@pytest.mark.parametrize("name", native.supported())
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 200), st.integers(1, 40))
def test_w8a16_equals_integer_arithmetic_of_torch(
    name: str, seed: int, out_features: int, in_features: int, count: int
) -> None:
    """Whole numbers with a row maximum of 32767 are their own fixed point, and int64 gives the outputs exactly."""
    source = torch.Generator().manual_seed(seed)
    x = torch.randint(-32767, 32768, (count, in_features), generator=source)
    x[:, 0] = 32767
    codes = torch.randint(-127, 128, (out_features, in_features), generator=source, dtype=torch.int8)
    for few in (True, False):
        with native.override(name), few_rows(few):
            y = Int8Weight(codes, torch.ones(out_features)).linear(x.float())
        assert torch.equal(y, (x @ codes.long().t()).float()), few
