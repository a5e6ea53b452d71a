"""The interpreter's arithmetic is the hardware's where the tests here replace it."""

import math

import numpy as np
import pytest
import torch

from quant.kernels import cuda
from tests import integer_oracle
from tests.strategies import normal
from tests.unit.cuda.interpreter import from_bfloat16, fused, interpreted_kernels, to_bfloat16


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_fused_multiply_add_rounds_once(dtype: str) -> None:
    # Significands of more bits than a product of two keeps, in either dtype.
    values = (normal((3, 500), seed=1).double() + normal((3, 500), seed=2).double() * 2.0**-28).numpy().astype(dtype)
    # Where a sum nearly cancels, rounding the product first loses most of it.
    values[2, ::2] = -values[0, ::2] * values[1, ::2]
    expected = [integer_oracle.fma(float(a), float(b), float(c), dtype) for a, b, c in values.T]
    assert fused(*values).tolist() == expected
    assert (values[0] * values[1] + values[2]).tolist() != expected


def test_bfloat16_is_rounded_half_to_even() -> None:
    values = np.array([1.0, 1 + 2**-9, 1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8 - 2**-20, 3.4e38, math.inf], np.float32)
    rounded = from_bfloat16(to_bfloat16(values)).tolist()
    assert rounded == torch.from_numpy(values).bfloat16().float().tolist()
    assert to_bfloat16(np.array([math.nan], np.float32)).tolist() == [0x7FFF]


def test_modules_are_put_back() -> None:
    before = {name: getattr(cuda, name, None) for name in ("w8a16", "blockwise")}
    with interpreted_kernels():
        assert cuda.w8a16 is not before["w8a16"]
    assert {name: getattr(cuda, name, None) for name in before} == before
