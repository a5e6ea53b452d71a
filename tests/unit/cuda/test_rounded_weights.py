"""Many rows of 4-bit weights on a GPU: weights are rounded to the dtype of x, and nothing else is lost but what a float
sum loses.
"""

import itertools

import pytest
import torch
from torch import Tensor

from quant import kernels
from quant.kernels import cuda
from quant.schemes import Blockwise
from quant.tensor import quantize_tensor
from tests import oracle
from tests.strategies import normal, scheme_id
from tests.unit.native.operands import BLOCKWISE, stored_weight

pytestmark = pytest.mark.usefixtures("gpu")
ROWS = (cuda.FEW_ROWS + 1, 65)
SHAPES = ((63, 160), (5, 32), (65, 64))
"""[out, in] on both sides of a tile of 64 by 64."""
DTYPES = (torch.float16, torch.bfloat16)


def check(scheme: Blockwise, dtype: torch.dtype, rows: int, shape: tuple[int, int], bias: Tensor | None) -> None:
    quantized = quantize_tensor(normal(shape, std=0.05), scheme)
    x = normal((rows, shape[1]), seed=2).to(dtype)
    weight = quantized.dequantize(torch.float32)
    # The weight that a float layer of x's dtype holds.
    rounded = weight.to(dtype).double().tolist()
    exact = x.double().tolist(), rounded, None if bias is None else bias.double().tolist()
    y = stored_weight(quantized).linear(x, bias)
    assert (y.dtype, y.shape) == (dtype, (rows, shape[0]))
    assert oracle.linear_error(y.double().tolist(), *exact, str(dtype).removeprefix("torch.")) <= 1


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scheme", BLOCKWISE, ids=scheme_id)
def test_tiles_that_are_dequantized(scheme: Blockwise, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda.bitsandbytes_op, "gemm", lambda: None)
    for rows, shape in zip(ROWS + ROWS[:1], SHAPES, strict=True):
        check(scheme, dtype, rows, shape, None if shape[0] == 5 else normal((shape[0],), seed=3))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("scheme", [each for each in BLOCKWISE if each.codebook != "int4"], ids=scheme_id)
def test_bitsandbytes_op_on_our_tensors(scheme: Blockwise, dtype: torch.dtype) -> None:
    """Here by its implementation for the CPU, which takes the same tensors as that for CUDA."""
    if cuda.bitsandbytes_op.gemm() is None:
        pytest.skip("bitsandbytes with gemm_4bit (0.50) is not installed")
    shape = (8, scheme.block_size)
    for rows, bias in ((9, None), (10, normal((8,), seed=3))):
        check(scheme, dtype, rows, shape, None if bias is None else bias.to(dtype))


def implementation(codebook: str, block_size: int, width: int, dtype: torch.dtype, rows: int) -> str:
    x = torch.empty(rows, width, dtype=dtype)
    operands = (*[torch.empty(0)] * 2, None, None, codebook, block_size, 3, None)
    found = kernels.dispatch("blockwise_linear", x, *operands)
    return f"{found.__module__.removeprefix('quant.kernels.')}.{found.__name__}"


def test_the_table_for_4_bits_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = "cuda.blockwise_linear_few_rows", "cuda.blockwise_linear_many_rows"
    library, torch_s = "cuda.blockwise_linear_bitsandbytes", "reference.blockwise_linear"
    monkeypatch.setattr(cuda.bitsandbytes_op, "gemm", lambda: len)
    half, single = torch.float16, torch.float32
    for rows, dtype in itertools.product((1, cuda.FEW_ROWS), (half, single, torch.bfloat16)):
        assert implementation("nf4", 64, 128, dtype, rows) == few
        assert implementation("int4", 64, 136, dtype, rows) == torch_s
    rows = cuda.FEW_ROWS + 1
    for dtype in (half, torch.bfloat16):
        assert implementation("nf4", 64, 128, dtype, rows) == library
        assert implementation("fp4", 128, 128, dtype, rows) == library
        assert implementation("nf4", 256, 128, dtype, rows) == many
        assert implementation("int4", 64, 128, dtype, rows) == many
        assert implementation("nf4", 64, 136, dtype, rows) == torch_s
    assert implementation("nf4", 64, 128, single, rows) == torch_s
    assert implementation("nf4", 64, 128, torch.float64, 1) == torch_s
    monkeypatch.setattr(cuda.bitsandbytes_op, "has_cuda", lambda: False)
    assert implementation("nf4", 64, 128, half, rows) == many
    monkeypatch.setattr(cuda.bitsandbytes_op, "has_cuda", lambda: True)
    monkeypatch.setattr(cuda.bitsandbytes_op, "gemm", lambda: None)
    assert implementation("nf4", 64, 128, half, rows) == many
