"""The two operators: y = x W^T + b within what float32 explains for every shape, dtype and layout, and their
registration.
"""

import functools
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from quant import kernels
from quant.kernels import reference
from quant.numerics.blockwise import dequantize_blocks
from quant.numerics.int8 import dequantize_rows
from tests import integer_oracle, oracle
from tests.strategies import CODEBOOKS, DTYPES, LAYOUTS, bits, generator, normal

WIDTHS = (1, 3, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129)
"""On both sides of the tiles that kernels use."""
BLOCK = 32

Operator = Callable[[Tensor], Tensor]
Case = Callable[[int, int, Tensor | None, bool], tuple[Operator, Tensor]]


def int8_operands(out_features: int, in_features: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random codes -127..127 and scales."""
    codes = torch.randint(-127, 128, (out_features, in_features), generator=generator(seed), dtype=torch.int8)
    return codes, normal((out_features,), seed + 1).abs() / 127


def block_operands(out_features: int, in_features: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random packed codes and absmax."""
    count = out_features * in_features
    packed = torch.randint(0, 256, (-(-count // 2),), generator=generator(seed), dtype=torch.uint8)
    return packed, normal((-(-count // BLOCK),), seed + 1).abs()


def int8_case(out_features: int, in_features: int, bias: Tensor | None, fast: bool) -> tuple[Operator, Tensor]:
    """The operator on fixed operands, and the float32 weight that they stand for."""
    codes, scales = int8_operands(out_features, in_features)
    run = kernels.w8a16_linear if fast else reference.w8a16_linear
    return lambda x: run(x, codes, scales, bias), dequantize_rows(codes, scales)


def block_case(
    codebook: str, out_features: int, in_features: int, bias: Tensor | None, fast: bool
) -> tuple[Operator, Tensor]:
    packed, absmax = block_operands(out_features, in_features)
    run = kernels.blockwise_linear if fast else reference.blockwise_linear
    weight = dequantize_blocks(packed, absmax, codebook, BLOCK, out_features * in_features).view(
        out_features, in_features
    )
    return lambda x: run(x, packed, absmax, None, None, codebook, BLOCK, out_features, bias), weight


CASES: dict[str, Case] = {
    "w8a16": int8_case,
    **{codebook: functools.partial(block_case, codebook) for codebook in CODEBOOKS},
}


def error(y: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None = None, case: str | None = None) -> float:
    """Largest error of `y` [..., out] in units of what arithmetic explains: integers of `case`, or floats."""
    dtype = str(y.dtype).removeprefix("torch.")
    shift = None if bias is None else bias.tolist()
    level_error = None if case is None else integer_oracle.LEVEL_ERROR[case]
    rows = x.reshape(-1, x.shape[-1]).tolist()
    return oracle.linear_error(y.reshape(-1, y.shape[-1]).tolist(), rows, weight.tolist(), shift, dtype, level_error)


@pytest.mark.parametrize("fast", [True, False], ids=["operator", "reference"])
@pytest.mark.parametrize("case", CASES)
def test_widths_on_both_sides_of_every_tile(case: str, fast: bool) -> None:
    for out_features, in_features in itertools.product(WIDTHS[::2], WIDTHS[1::2]):
        bias = normal((out_features,), seed=2)
        run, weight = CASES[case](out_features, in_features, bias, fast)
        x = normal((2, in_features), seed=3)
        assert error(run(x), x, weight, bias, case if fast else None) <= 1, (out_features, in_features)


@pytest.mark.parametrize("fast", [True, False], ids=["operator", "reference"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("size", [(1, 64), (16, 64), (65, 33), (33, 129)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_of_x_with_few_and_many_rows(
    dtype: torch.dtype, size: tuple[int, int], case: str, fast: bool
) -> None:
    rows, in_features = size
    bias = normal((9,), seed=2).to(dtype)
    run, weight = CASES[case](9, in_features, bias, fast)
    x = normal((rows, in_features), seed=3).to(dtype)
    y = run(x)
    assert (y.dtype, y.shape) == (dtype, (rows, 9))
    assert error(y, x, weight, bias, case if fast else None) <= 1


@pytest.mark.parametrize("fast", [True, False], ids=["operator", "reference"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", [(33,), (1, 33), (2, 1, 33), (1, 7, 33), (2, 3, 1, 33)], ids=str)
def test_leading_dimensions_are_kept(shape: tuple[int, ...], case: str, fast: bool) -> None:
    run, weight = CASES[case](5, 33, None, fast)
    x = normal(shape, seed=3)
    assert run(x).shape == (*shape[:-1], 5)
    assert error(run(x), x, weight, case=case if fast else None) <= 1


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shape", [(0, 33), (2, 0, 33)], ids=str)
def test_no_rows_give_no_rows(shape: tuple[int, ...], case: str) -> None:
    run, _ = CASES[case](5, 33, normal((5,)), True)
    assert run(torch.empty(shape)).shape == (*shape[:-1], 5)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_strides_of_x_do_not_matter(layout: str, case: str) -> None:
    run, weight = CASES[case](5, 33, None, True)
    x = LAYOUTS[layout](normal((4, 33), seed=3))
    assert error(run(x), x, weight, case=case) <= 1
    hidden = normal((2, 3, 33), seed=4)
    assert error(run(hidden[:, -1:, :]), hidden[:, -1:, :], weight, case=case) <= 1


@pytest.mark.parametrize("case", CASES)
def test_square_weights_are_not_transposed(case: str) -> None:
    run, weight = CASES[case](33, 33, None, True)
    assert error(run(torch.eye(33)), torch.eye(33), weight, case=case) <= 1
    assert error(run(torch.eye(33)), torch.eye(33), weight.t(), case=case) > 1000


@pytest.mark.parametrize("rows", [1, 65])
def test_float16_does_not_overflow_where_the_result_fits(rows: int) -> None:
    """Sums of codes reach 4096 * 4 * 127, thirty times the largest float16, before the scale makes them 208."""
    codes, scales = torch.full((3, 4096), 127, dtype=torch.int8), torch.full((3,), 1e-4)
    x = torch.full((rows, 4096), 4.0, dtype=torch.float16)
    weight = dequantize_rows(codes, scales)
    assert error(kernels.w8a16_linear(x, codes, scales, None)[:1], x[:1], weight, case="w8a16") <= 1
    x[:, 1:], x[:, 0] = 0, 6e4
    assert error(kernels.w8a16_linear(x, codes, scales, None)[:1], x[:1], weight, case="w8a16") <= 1


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("rows", [1, 5])
def test_the_bias_is_added_exactly_once(rows: int, case: str) -> None:
    """It is a thousand times the products, so no tolerance can hide it."""
    x = normal((rows, 33), seed=3)
    for bias in (torch.zeros(5), torch.full((5,), 1000.0), torch.arange(5.0) * 1000):
        run, weight = CASES[case](5, 33, bias, True)
        assert error(run(x), x, weight, bias, case) <= 1
    run, weight = CASES[case](5, 33, None, True)
    assert error(run(x), x, weight, case=case) <= 1


@pytest.mark.parametrize("case", CASES)
def test_autocast_does_not_round_the_weight_of_the_reference(case: str) -> None:
    run, _ = CASES[case](5, 33, None, False)
    x = normal((3, 33), seed=5)
    expected = bits(run(x))
    with torch.autocast("cpu", torch.bfloat16):
        assert bits(run(x)) == expected


@pytest.mark.parametrize("case", CASES)
def test_operands_are_unchanged_and_the_result_repeats(case: str) -> None:
    bias = normal((5,), seed=2)
    run, _ = CASES[case](5, 33, bias, True)
    x = normal((4, 33), seed=3)
    before = bits(x), bits(bias)
    assert bits(run(x)) == bits(run(x))
    assert (bits(x), bits(bias)) == before


# torch 2.14 hides it when it is shown, which is too late where warnings are errors.
OPCHECK_WARNS = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")


@OPCHECK_WARNS
@pytest.mark.parametrize("requires_grad", [False, True], ids=["frozen", "training"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_w8a16_is_registered_with_schema_fake_kernel_and_gradient(dtype: torch.dtype, requires_grad: bool) -> None:
    x = normal((2, 3, 33)).to(dtype).requires_grad_(requires_grad)
    bias = normal((5,)).to(dtype).requires_grad_(requires_grad)
    for shift in (bias, None):
        torch.library.opcheck(torch.ops.quant.w8a16_linear.default, (x, *int8_operands(5, 33), shift))


@OPCHECK_WARNS
@pytest.mark.parametrize("requires_grad", [False, True], ids=["frozen", "training"])
@pytest.mark.parametrize("codebook", CODEBOOKS)
def test_blockwise_is_registered_with_schema_fake_kernel_and_gradient(codebook: str, requires_grad: bool) -> None:
    run, _ = CASES[codebook](5, 33, None, True)
    run(normal((1, 33)))
    x = normal((2, 3, 33)).requires_grad_(requires_grad)
    bias = normal((5,)).requires_grad_(requires_grad)
    operands = block_operands(5, 33)
    for shift in (bias, None):
        torch.library.opcheck(
            torch.ops.quant.blockwise_linear.default, (x, *operands, None, None, codebook, BLOCK, 5, shift)
        )
