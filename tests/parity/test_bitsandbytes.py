"""NF4 and FP4 against bitsandbytes on the CPU: tables, codes, packed bytes, absmax, double quantization, dequantized
values.

Everything is compared bit for bit. bitsandbytes compiles a part of its fallback with torch.compile, once per shape;
here it runs eagerly, which gives the same bits in a tenth of the time.
"""

from typing import Any

import bitsandbytes.functional as bnb
import pytest
import torch
from torch import Tensor

from quant import FP4, NF4, QuantizedTensor, quantize_tensor
from quant.codebooks import DYNAMIC8_LEVELS, LEVELS
from quant.schemes import BLOCK_SIZES, Blockwise
from tests.strategies import bits, normal

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
KINDS: dict[str, type[Blockwise]] = {"nf4": NF4, "fp4": FP4}


def theirs(weight: Tensor, scheme: Blockwise) -> tuple[Tensor, Any]:
    packed, state = bnb.quantize_4bit(
        weight, blocksize=scheme.block_size, quant_type=scheme.name, compress_statistics=scheme.double_quant
    )
    return packed, state


def assert_same_codes(ours: QuantizedTensor, packed: Tensor, state: Any, context: object) -> None:
    """Packed bytes and everything that is stored for the absmax."""
    assert bits(ours.codes) == bits(packed), context
    assert bits(ours.stored["weight_absmax"]) == bits(state.absmax), context
    if state.nested:
        assert bits(ours.stored["weight_absmax_scale"]) == bits(state.state2.absmax), context
        assert bits(ours.stored["weight_absmax_offset"]) == bits(state.offset), context


def shapes(block_size: int) -> list[tuple[int, ...]]:
    """Single weights, odd counts, tails, whole blocks, rows that blocks run over, more than 256 blocks."""
    sizes = (1, 2, 3, block_size - 1, block_size, block_size + 1, 2 * block_size - 1, 3 * block_size + 5)
    matrices = [(13, 67), (67, 1), (2, block_size)]
    return [*((size,) for size in sizes), *matrices, *([(300, block_size)] if block_size <= 128 else [])]


def edge_weights(block_size: int) -> dict[str, Tensor]:
    """Two blocks and a tail: values on midpoints, zeros, subnormals, tiny and huge magnitudes, outliers, zero tails."""
    count = 2 * block_size + 7
    plain = normal((count,), seed=1)
    zero_block, zero_tail, outlier = plain.clone(), plain.clone(), plain.clone()
    zero_block[:block_size] = 0
    zero_tail[2 * block_size :] = 0
    outlier[block_size + 3] = 3e4
    return {
        "zeros": torch.zeros(count),
        "negative zeros": -torch.zeros(count),
        "zero block": zero_block,
        "zero tail": zero_tail,
        "outlier": outlier,
        "integers": torch.arange(count).remainder(15).float() - 7,
        "equal": torch.full((count,), -0.3),
        "tiny": plain * 1e-37,
        "subnormal": plain * 1e-40,
        "huge": plain.clamp(-3, 3) * 1e37,
    }


def test_the_dynamic_map_is_theirs() -> None:
    assert bits(torch.tensor(DYNAMIC8_LEVELS)) == bits(bnb.create_dynamic_map())


@pytest.mark.parametrize("name", KINDS)
def test_the_levels_are_theirs(name: str) -> None:
    assert bits(torch.tensor(LEVELS[name])) == bits(bnb.get_4bit_type(name, device="cpu"))


@pytest.mark.parametrize("double_quant", [False, True], ids=["plain", "double"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("block_size", BLOCK_SIZES)
@pytest.mark.parametrize("name", KINDS)
def test_codes_absmax_and_values_are_theirs(name: str, block_size: int, dtype: torch.dtype, double_quant: bool) -> None:
    scheme = KINDS[name](block_size, double_quant)
    for shape in shapes(block_size):
        weight = normal(shape, seed=block_size, std=0.02).to(dtype)
        packed, state = theirs(weight, scheme)
        ours = quantize_tensor(weight, scheme)
        assert_same_codes(ours, packed, state, shape)
        back = bnb.dequantize_4bit(packed, state).reshape(shape)
        assert back.dtype == dtype
        assert torch.equal(ours.dequantize(), back), shape


@pytest.mark.parametrize("double_quant", [False, True], ids=["plain", "double"])
@pytest.mark.parametrize("block_size", BLOCK_SIZES)
@pytest.mark.parametrize("name", KINDS)
def test_edge_weights_get_their_codes(name: str, block_size: int, double_quant: bool) -> None:
    scheme = KINDS[name](block_size, double_quant)
    for kind, weight in edge_weights(block_size).items():
        packed, state = theirs(weight, scheme)
        ours = quantize_tensor(weight, scheme)
        assert_same_codes(ours, packed, state, kind)
        assert torch.equal(ours.dequantize(), bnb.dequantize_4bit(packed, state)), kind


@pytest.mark.parametrize("name", KINDS)
def test_values_are_theirs_down_to_the_sign_of_zero(name: str) -> None:
    weight = normal((3, 65), seed=2)
    weight[0, :3] = torch.tensor([1e-4, -1e-4, 0.0])
    packed, state = theirs(weight, KINDS[name]())
    assert bits(quantize_tensor(weight, KINDS[name]()).dequantize()) == bits(bnb.dequantize_4bit(packed, state))


@pytest.mark.parametrize("name", KINDS)
def test_strided_weights_get_their_codes(name: str) -> None:
    """They quantize a contiguous copy here: their strided path is not what is compared."""
    weight = normal((34, 26), seed=3).t()[::2]
    packed, state = theirs(weight.contiguous(), KINDS[name](32))
    assert_same_codes(quantize_tensor(weight, KINDS[name](32)), packed, state, weight.shape)
