"""Every variant computes the oracle's bits: widths and row counts on both sides of every tile, dtypes, biases, block
sizes.
"""

import functools
import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from quant import native
from quant.schemes import Scheme
from tests import integer_oracle
from tests.strategies import BLOCKWISE_SCHEMES, normal, scheme_id
from tests.unit.native.operands import (
    DTYPES,
    SCHEMES,
    Rows,
    Weight,
    assert_batches,
    assert_rows,
    assert_same_bits,
    few_rows,
    random_weight,
)

WIDTHS = (1, 3, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 256, 257, 320, 528)
FEW, MANY = (1, 2, 3, 7), (16, 33)
"""Rows of x: kernels have one way for few and another for many."""
SIZES = (
    *((FEW[i % 4], WIDTHS[(5 * i + 7) % 16], in_features) for i, in_features in enumerate(WIDTHS)),
    *((MANY[i % 2], WIDTHS[15 - i], in_features) for i, in_features in enumerate(WIDTHS)),
    *((9, 17, 4112), (33, 5, 2048), (2, 5, 5003), (33, 3, 1031)),
)
"""(rows, out, in): every width once as out and once as in for few rows, and so for many; and some longer rows."""
ROW_COUNTS = range(1, 34)
BIASES = ("no bias", "float32 bias", "bias like x")

Case = tuple[Weight, Tensor, Tensor | None, Rows]


@functools.cache
def case(scheme: Scheme, size: tuple[int, int, int], dtype: torch.dtype, bias: str) -> Case:
    """A weight, x, a bias, and what the oracle makes of them; once for all variants, for the oracle is slow."""
    rows, out_features, in_features = size
    weight = random_weight(scheme, out_features, in_features)
    x = normal((rows, in_features), seed=2).to(dtype)
    shift = normal((out_features,), seed=3)
    chosen = {"no bias": None, "float32 bias": shift, "bias like x": shift.to(dtype)}[bias]
    return weight, x, chosen, weight.expected(x, chosen)


def test_the_portable_kernels_are_always_there() -> None:
    assert native.supported() == tuple(name for name in native.VARIANTS if name in native.supported())
    assert "portable" in native.supported()


def test_the_sizes_reach_what_they_are_for() -> None:
    """Groups cut by a block's end, blocks that run over row ends, odd counts of codes; for rows of whole groups too."""
    cut, over, odd = set(), set(), set()
    for (_, out_features, in_features), block_size in itertools.product(SIZES, (32, 64, 128)):
        whole = in_features % 16 == 0
        parts = [part for row in range(out_features) for part in integer_oracle.parts(row, in_features, block_size)]
        if len(parts) > out_features * -(-in_features // 16):
            cut.add(whole)
        if out_features > 1 and in_features % block_size:
            over.add(whole)
        odd.add(out_features * in_features % 2)
    assert (cut, over, odd) == ({False}, {False, True}, {0, 1})


@pytest.mark.parametrize("few", [True, False], ids=["few", "many"])
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_widths_on_both_sides_of_every_tile(scheme: Scheme, few: bool, variant: str) -> None:
    for size in SIZES:
        weight, x, bias, expected = case(scheme, size, torch.float32, "float32 bias")
        with few_rows(few):
            assert_rows(weight.linear(x, bias), expected, size)


@pytest.mark.parametrize("width", [(33, 64), (17, 65), (19, 320), (34, 512), (35, 528)], ids=str)
@pytest.mark.parametrize("few", [True, False], ids=["few", "many"])
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_every_count_of_rows(scheme: Scheme, few: bool, width: tuple[int, int], variant: str) -> None:
    weight, x, bias, expected = case(scheme, (max(ROW_COUNTS), *width), torch.float32, "no bias")
    for rows in ROW_COUNTS:
        with few_rows(few):
            assert_rows(weight.linear(x[:rows], bias), expected[:rows], rows)


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_both_ways_are_taken(scheme: Scheme, variant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[bool] = []

    def spy(name: str) -> None:
        function = getattr(native, name)

        def noted(*operands: Any) -> Any:
            taken.append(operands[-1])
            return function(*operands)

        monkeypatch.setattr(native, name, noted)

    spy("linear_int8")
    spy("linear_blockwise")
    weight, x, bias, expected = case(scheme, (3, 33, 80), torch.float32, "no bias")
    assert_batches(weight, x, bias, expected)
    assert taken == [True] * 5 + [False] * 5


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_every_dtype_and_bias(scheme: Scheme, dtype: torch.dtype, bias: str, variant: str) -> None:
    for size in ((3, 33, 80), (3, 17, 65)):
        weight, x, shift, expected = case(scheme, size, dtype, bias)
        assert_batches(weight, x, shift, expected, size)


@pytest.mark.parametrize("scheme", BLOCKWISE_SCHEMES, ids=scheme_id)
def test_every_block_size(scheme: Scheme, variant: str) -> None:
    """Even a block of 4096 ends inside a row of each weight, and inside a group of the first."""
    for size in ((3, 33, 129), (3, 16, 272), (3, 14, 320)):
        weight, x, bias, expected = case(scheme, size, torch.bfloat16, "float32 bias")
        assert_batches(weight, x, bias, expected, size)


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_leading_dimensions_do_not_matter(scheme: Scheme, variant: str) -> None:
    weight, x, bias, _ = case(scheme, (3, 33, 80), torch.float32, "float32 bias")
    y = weight.linear(x, bias)
    assert_same_bits(weight.linear(x[0], bias), y[0])
    assert_same_bits(weight.linear(x.view(3, 1, 80), bias), y.view(3, 1, 33))
    assert weight.linear(x[:0], bias).shape == (0, 33)
