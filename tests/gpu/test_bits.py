"""The integer products on the device have the oracle's bits at the edges of their formats, and those of the CPU's
kernels at the size of Phi-3's layers.

Under Triton's interpreter `tests/unit/cuda` holds them to the oracle in many more shapes; what only a GPU shows is what
its compiler makes of them.
"""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from quant import W8A16
from quant.kernels.cuda import FEW_ROWS
from quant.schemes import Scheme
from tests.benchmarks.test_linear import CHECKED, SHAPES
from tests.strategies import normal, scheme_id
from tests.unit.native.edges import edge_rows, edge_weight
from tests.unit.native.operands import DTYPES, SCHEMES, BlockWeight, assert_rows, assert_same_bits, random_weight

pytestmark = pytest.mark.gpu
FEW = [(scheme, rows) for scheme in SCHEMES for rows in (1, 3, FEW_ROWS)]


def on(device: torch.device, weight: Any) -> Any:
    """`weight` with its tensors there."""
    parts = {field.name: getattr(weight, field.name) for field in fields(weight)}
    return replace(weight, **{name: part.to(device) for name, part in parts.items() if isinstance(part, Tensor)})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_edge_rows_and_scales(scheme: Scheme, dtype: torch.dtype, device: torch.device) -> None:
    """Zeros, subnormals, the ends of float32, NaN and infinities, and scales so large that float32 lanes overflow."""
    x, weight = edge_rows(80, dtype), edge_weight(scheme, 11, 80)
    expected, moved = weight.expected(x), on(device, weight)
    for rows in (slice(0, 4), slice(4, 12), slice(11, 12)):
        assert_rows(moved.linear(x[rows].to(device)).cpu(), expected[rows], rows)


@pytest.mark.parametrize(("scheme", "rows"), [*FEW, *((W8A16(), rows) for rows in (17, 65, 200))], ids=str)
def test_phi_3_s_layers(scheme: Scheme, rows: int, device: torch.device) -> None:
    """All tiles and the tails of them, in bfloat16, with a bias."""
    for out_features, in_features in (SHAPES if device.type == "cuda" else CHECKED).values():
        # One more output than tiles hold.
        weight = random_weight(scheme, out_features + 1, in_features)
        x, bias = normal((rows, in_features), seed=2).bfloat16(), normal((out_features + 1,), seed=3)
        y = on(device, weight).linear(x.to(device), bias.to(device)).cpu()
        assert_same_bits(y, weight.linear(x, bias), (out_features, in_features))


def test_codes_that_begin_anywhere(device: torch.device) -> None:
    weight = random_weight(SCHEMES[1], 5, 64)
    assert isinstance(weight, BlockWeight)
    x = normal((2, 64), seed=2)
    shifted = torch.cat([weight.packed[:3], weight.packed]).to(device)[3:]
    assert shifted.data_ptr() % 8
    moved = replace(on(device, weight), packed=shifted)
    assert_same_bits(moved.linear(x.to(device)).cpu(), weight.linear(x))
