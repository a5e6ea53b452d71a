"""The integer products for GPUs compute the oracle's bits, under Triton's interpreter: widths and row counts on both
sides of every tile, dtypes, biases, strides, edge rows and edge scales.
"""

from dataclasses import replace

import pytest
import torch

from quant import kernels
from quant.kernels import cuda
from quant.schemes import W8A16, Scheme
from tests.strategies import normal, scheme_id
from tests.unit.native.edges import edge_rows, edge_weight
from tests.unit.native.operands import (
    DTYPES,
    SCHEMES,
    BlockWeight,
    Int8Weight,
    assert_rows,
    assert_same_bits,
    random_weight,
)

pytestmark = pytest.mark.usefixtures("gpu")
WIDTHS = (16, 32, 48, 240, 256, 272)
"""Inputs on both sides of the 256 that a step of 4-bit weights takes; whole groups of 16."""
ODD_WIDTHS = (1, 3, 63, 65, 127, 129, 511, 513)
"""Inputs that only int8 weights have kernels for, on both sides of their tiles."""


def name_of(scheme: Scheme, x: torch.Tensor, *operands: object) -> str:
    op = "w8a16_linear" if scheme == W8A16() else "blockwise_linear"
    implementation = kernels.dispatch(op, x, *operands)
    return f"{implementation.__module__}.{implementation.__name__}"


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_few_rows_of_every_dtype(scheme: Scheme) -> None:
    """One row, and as many as are multiplied at once, one more than that, and the most; each dtype, with and without a
    bias of its own dtype or another.
    """
    for index, rows in enumerate((1, 2, 4, 5, cuda.FEW_ROWS)):
        out_features, in_features, dtype = (1, 7, 8, 9, 17)[index], WIDTHS[index], DTYPES[index % 3]
        weight = random_weight(scheme, out_features, in_features)
        x = normal((rows, in_features), seed=2).to(dtype)
        bias = (None, normal((out_features,), seed=3), normal((out_features,), seed=3).to(dtype))[index // 2]
        assert_rows(weight.linear(x, bias), weight.expected(x, bias), (rows, out_features, in_features))


@pytest.mark.parametrize("rows", [1, 2, 16, 17, 64, 65, 128, 129])
def test_int8_tiles_of_every_size(rows: int) -> None:
    sizes = list(zip((1, 3, 63, 64, 65, 127, 2, 5), ODD_WIDTHS, strict=True))
    for out_features, in_features in sizes if rows < 64 else sizes[-1:]:
        weight = random_weight(W8A16(), out_features, in_features)
        x = normal((min(rows, 3), in_features), seed=2)
        expected = weight.expected(x)
        y = weight.linear(x.repeat(-(-rows // len(x)), 1)[:rows])
        assert_rows(y, (expected * rows)[:rows], (rows, out_features, in_features))


@pytest.mark.parametrize(("rows", "out_features"), [(17, 129), (129, 65)])
def test_int8_tiles_beside_each_other(rows: int, out_features: int) -> None:
    """One output more than the larger tiles have."""
    weight, x = random_weight(W8A16(), out_features, 17), normal((3, 17), seed=2)
    expected = weight.expected(x)
    y = weight.linear(x.repeat(-(-rows // 3), 1)[:rows])
    assert_rows(y, (expected * rows)[:rows])


@pytest.mark.parametrize(
    ("scheme", "dtype"),
    # The dtype of x matters for its own edges, whatever the codes.
    [
        *((scheme, torch.float32) for scheme in SCHEMES),
        *((scheme, dtype) for scheme in SCHEMES[:2] for dtype in DTYPES[1:]),
    ],
    ids=str,
)
def test_edge_rows_and_scales(scheme: Scheme, dtype: torch.dtype) -> None:
    """Zeros, subnormals, the ends of float32, NaN and infinities, and scales so large that float32 lanes overflow."""
    x = edge_rows(80, dtype)
    weight = edge_weight(scheme, 8, 80)
    expected = weight.expected(x)
    # Those of NaN and infinities among others, and one of them alone.
    for rows in (slice(0, 4), slice(4, 12), slice(11, 12)):
        assert_rows(weight.linear(x[rows]), expected[rows], rows)


def test_the_largest_sums_of_int8_products_fit() -> None:
    """Both digits at their ends: q = 32767 is (127, 127), q = -32767 is (-128, -127), and codes are of one sign."""
    k = cuda.LARGEST_K
    weight = Int8Weight(torch.tensor([[127], [-127]], dtype=torch.int8).repeat(1, k), torch.ones(2))
    x = torch.tensor([[1.0], [-1.0]]).repeat(1, k)
    # The sum is 127 * 32767 * k, which float64 holds exactly, and the unit is 1 / 32767.
    exact = 127.0 * k
    assert weight.linear(x).tolist() == [[exact, -exact], [-exact, exact]]
    assert weight.linear(x[:1]).tolist() == [[exact, -exact]]


def test_more_inputs_than_sums_hold_are_left_to_torch() -> None:
    assert "cuda" in name_of(W8A16(), torch.empty(1, cuda.LARGEST_K, device="meta"))
    assert "reference" in name_of(W8A16(), torch.empty(1, cuda.LARGEST_K + 1, device="meta"))


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_strides_and_leading_dimensions(scheme: Scheme) -> None:
    weight = random_weight(scheme, 7, 64)
    x = normal((2, 2, 64), seed=2)
    expected = weight.expected(x.view(-1, 64))
    assert_rows(weight.linear(x).view(-1, 7), expected)
    wide = torch.zeros(2, 2, 128)
    wide[..., ::2] = x
    assert_rows(weight.linear(wide[..., ::2]).view(-1, 7), expected)
    assert weight.linear(x[:0]).shape == (0, 2, 7)
    assert_rows(weight.linear(x[0, 0])[None], expected[:1])


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_a_bias_of_any_strides(scheme: Scheme, rows: int) -> None:
    weight, x = random_weight(scheme, 7, 64), normal((rows, 64), seed=2)
    wide = normal((14,), seed=3)
    assert_rows(weight.linear(x, wide[::2]), weight.expected(x, wide[::2].contiguous()))
    assert_rows(weight.linear(x, wide[:1].expand(7)), weight.expected(x, wide[:1].repeat(7)))


def test_int8_codes_of_any_strides() -> None:
    weight = random_weight(W8A16(), 9, 64)
    assert isinstance(weight, Int8Weight)
    x = normal((2, 64), seed=2)
    turned = Int8Weight(weight.codes.t().contiguous().t(), weight.scales)
    assert_same_bits(turned.linear(x), weight.linear(x))


@pytest.mark.parametrize("scheme", [W8A16(), SCHEMES[1]], ids=scheme_id)
def test_rows_of_several_chunks(scheme: Scheme) -> None:
    """The largest activation is in the last of the pieces that a row is read in."""
    width = 2 * cuda.activations.CHUNK + 32
    weight, x = random_weight(scheme, 3, width), normal((2, width), seed=2)
    x[:, -1] = 9.0
    assert_rows(weight.linear(x), weight.expected(x))
    assert_rows(weight.linear(x[:1]), weight.expected(x[:1]))


def test_codes_that_begin_anywhere() -> None:
    weight = random_weight(SCHEMES[1], 5, 64)
    assert isinstance(weight, BlockWeight)
    x = normal((2, 64), seed=2)
    shifted = torch.cat([weight.packed[:3], weight.packed])[3:]
    assert shifted.data_ptr() % 8
    assert_same_bits(replace(weight, packed=shifted).linear(x), weight.linear(x))
    # As a tensor that was loaded from a file begins anywhere, without an offset of its own.
    memory = bytearray(8 + len(shifted))
    memory[3 : 3 + len(shifted)] = bytes(shifted.tolist())
    loaded = torch.frombuffer(memory, dtype=torch.uint8, count=len(shifted), offset=3)
    assert loaded.data_ptr() % 8
    assert loaded.storage_offset() == 0
    assert_same_bits(replace(weight, packed=loaded).linear(x), weight.linear(x))
    # The CPU reads words from anywhere, a GPU does not.
    assert cuda.blockwise._words(loaded).data_ptr() % 8 == 0
