"""Faults of numerics (N1 to N9) in the parts that no other test holds."""

import pytest
import torch
from torch import Tensor

from quant import native
from quant.modules import QuantizedLinear
from quant.schemes import FP4, INT4, NF4, W8A16, Scheme
from tests import integer_oracle, oracle
from tests.models import layer_of
from tests.strategies import bits, normal, scheme_id
from tests.unit.native.operands import Int8Weight, few_rows

SCHEMES: tuple[Scheme, ...] = (W8A16(), NF4(32), NF4(32, double_quant=True), FP4(64), INT4(32))
each_scheme = pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
each_kernel = pytest.mark.parametrize("kernels", ["native", "torch"])
"""The fastest kernels of this CPU, and the way through torch, which every other device takes."""


def forward(layer: QuantizedLinear, x: Tensor, kernels: str) -> Tensor:
    """Of one row and of many the kernels differ, so each row of x counts alone and among 70."""
    with torch.no_grad(), native.override(native.variant() if kernels == "native" else "torch"):
        alone, many = layer(x[:1]), layer(x.repeat(70, 1)[:70])
        return torch.cat([alone, many])


@each_kernel
@pytest.mark.parametrize("zero", [0.0, -0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@each_scheme
def test_n1_rows_of_zeros_add_nothing_to_the_bias(
    scheme: Scheme, dtype: torch.dtype, zero: float, kernels: str
) -> None:
    """Of 64 columns, so that rows are whole blocks: rows 1 and 3 are zeros among others, then all of them are."""
    weight, bias = normal((5, 64)), normal((5,), seed=1)
    weight[1], weight[3] = zero, zero
    x = normal((3, 64), seed=2).to(dtype)
    y = forward(layer_of(weight.to(dtype), scheme, bias.to(dtype)), x, kernels)
    assert y.isfinite().all()
    assert bits(y[:, [1, 3]]) == bits(bias[[1, 3]].to(dtype).expand(len(y), 2))
    y = forward(layer_of(torch.full((5, 64), zero, dtype=dtype), scheme, bias.to(dtype)), x, kernels)
    assert bits(y) == bits(bias.to(dtype).expand(len(y), 5))


@each_kernel
@pytest.mark.parametrize("outlier", [False, True])
@each_scheme
def test_n4_float16_products_beyond_its_range_do_not_overflow(scheme: Scheme, outlier: bool, kernels: str) -> None:
    """The sum of 4096 products of 4 with the codes (of up to 127) is beyond 65504, the outputs are near 200; an
    activation of 60000 alone is near the end of the range.
    """
    x = torch.full((1, 4096), 4.0)
    if outlier:
        x[:, 1:], x[:, 0] = 0, 6e4
    layer = layer_of(torch.full((3, 4096), 0.0127), scheme)
    y = forward(layer, x.half(), kernels)
    weight = layer.quantized_weight.dequantize(torch.float32).tolist()
    level_error = integer_oracle.LEVEL_ERROR[scheme.name] if kernels == "native" else None
    for row in y[[0, -1]].tolist():
        assert oracle.linear_error([row], x.tolist(), weight, None, "float16", level_error) <= 1


@pytest.mark.parametrize("few", [True, False], ids=["few", "many"])
@pytest.mark.parametrize("variant", native.supported())
def test_n6_the_largest_codes_and_activations_give_exact_sums(variant: str, few: bool) -> None:
    """Whole numbers with a row maximum of 32767 are their own fixed point. Also of code -128, which we never write: the
    product of two bytes of that size, and a sum of two, is where instructions for 8 bits saturate.
    """
    codes = torch.tensor([-128, 127, -127], dtype=torch.int8)[:, None].repeat(1, 4096)
    codes[2, ::2] = 127
    x = torch.full((2, 4096), 32767.0)
    x[1] = -32767
    with native.override(variant), few_rows(few):
        y = Int8Weight(codes, torch.ones(3)).linear(x)
    assert torch.equal(y, (x.long() @ codes.long().t()).float())
