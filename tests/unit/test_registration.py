"""What torch checks of an op (schema, fake kernel, gradient, dynamic shapes), for the ops that compute gradients, which
have gradients themselves, and for double quantization.
"""

import pytest
import torch

from tests.strategies import generator, normal

# torch 2.14 hides this warning of its own checks when it is shown, which is too late where warnings are errors.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
OUT, IN, BLOCK = 5, 33, 32
BLOCKS = -(-OUT * IN // BLOCK)
TRAINING = pytest.mark.parametrize("requires_grad", [False, True], ids=["frozen", "training"])


def random_codes(count: int) -> torch.Tensor:
    return torch.randint(0, 256, (count,), generator=generator(0), dtype=torch.uint8)


PACKED = random_codes(-(-OUT * IN // 2))
PLAIN = (PACKED, normal((BLOCKS,)).abs(), None, None)
DOUBLE = (PACKED, random_codes(BLOCKS), normal((1,)).abs(), torch.tensor(0.5))
WEIGHTS = pytest.mark.parametrize("weight", [PLAIN, DOUBLE], ids=["plain", "double quantization"])
Weight = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]


@TRAINING
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_w8a16_grad_input(dtype: torch.dtype, requires_grad: bool) -> None:
    grad = normal((2, 3, OUT)).to(dtype).requires_grad_(requires_grad)
    codes = torch.randint(-127, 128, (OUT, IN), generator=generator(0), dtype=torch.int8)
    operands = (grad, codes, normal((OUT,)).abs())
    assert torch.ops.quant.w8a16_grad_input(*operands).shape == (2, 3, IN)
    torch.library.opcheck(torch.ops.quant.w8a16_grad_input.default, operands)


@TRAINING
@WEIGHTS
def test_blockwise_grad_input(weight: Weight, requires_grad: bool) -> None:
    grad = normal((2, 3, OUT)).requires_grad_(requires_grad)
    operands = (grad, *weight, "nf4", BLOCK, IN)
    assert torch.ops.quant.blockwise_grad_input(*operands).shape == (2, 3, IN)
    torch.library.opcheck(torch.ops.quant.blockwise_grad_input.default, operands)


@TRAINING
@pytest.mark.parametrize("codebook", ["nf4", "fp4", "int4"])
def test_blockwise_linear_with_double_quantization(codebook: str, requires_grad: bool) -> None:
    x = normal((2, 3, IN)).requires_grad_(requires_grad)
    for bias in (None, normal((OUT,)).requires_grad_(requires_grad)):
        operands = (x, *DOUBLE, codebook, BLOCK, OUT, bias)
        torch.library.opcheck(torch.ops.quant.blockwise_linear.default, operands)
