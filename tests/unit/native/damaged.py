"""What products and quantizers are given, and every way in which an operand does not fit."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from quant import native
from quant.codebooks import DYNAMIC8_LEVELS, FIXED_POINT, fixed_point_levels
from tests.strategies import normal

N, K = 6, 64
BLOCKS = N * K // 32
Operands = dict[str, Any]


def int8_operands() -> Operands:
    """What `native.linear_int8` takes."""
    codes = torch.ones(N, K, dtype=torch.int8)
    return {"x": normal((2, K)), "codes": codes, "scales": torch.ones(N), "bias": torch.ones(N), "few": True}


def blockwise_operands() -> Operands:
    """What `native.linear_blockwise` takes, with double quantization."""
    return {
        "x": normal((2, K)),
        "packed": torch.zeros(N * K // 2, dtype=torch.uint8),
        "absmax": torch.zeros(BLOCKS, dtype=torch.uint8),
        "absmax_scales": torch.ones(1),
        "absmax_offset": torch.tensor(1.0),
        "block_size": 32,
        "out_features": N,
        "levels": fixed_point_levels("nf4"),
        "divisor": FIXED_POINT["nf4"],
        "level8": DYNAMIC8_LEVELS,
        "bias": torch.ones(N),
        "few": True,
    }


def quantize_int8_operands() -> Operands:
    return {"weight": normal((N, K))}


def quantize_blocks_operands() -> Operands:
    return {"weight": normal((N, K)), "block_size": 32, "midpoints": range(15), "order": range(16)}


FUNCTIONS: dict[str, tuple[Callable[..., Any], Callable[[], Operands]]] = {
    "linear_int8": (native.linear_int8, int8_operands),
    "linear_blockwise": (native.linear_blockwise, blockwise_operands),
    "quantize_int8": (native.quantize_int8, quantize_int8_operands),
    "quantize_blocks": (native.quantize_blocks, quantize_blocks_operands),
}

Damage = Callable[[Any], Any]


def every_second(tensor: Tensor) -> Tensor:
    """The same values with strides."""
    return tensor.repeat_interleave(2, dim=-1)[..., ::2]


TENSOR: dict[str, Damage] = {
    "meta": lambda tensor: tensor.to("meta"),
    "complex": lambda tensor: tensor.to(torch.complex64),
}
FROZEN: dict[str, Damage] = {
    **TENSOR,
    "float64": lambda tensor: tensor.double(),
    "too short": lambda tensor: tensor[:-1],
    "too long": lambda tensor: torch.cat([tensor, tensor]),
    "empty": lambda tensor: tensor[:0],
}
STRIDED: dict[str, Damage] = {**FROZEN, "strided": every_second}
CODES: dict[str, Damage] = {**TENSOR, "uint8": lambda codes: codes.to(torch.uint8), "strided": every_second}
"""Their shape is what the other operands must fit."""
X: dict[str, Damage] = {
    **TENSOR,
    "float64": lambda x: x.double(),
    "integers": lambda x: x.int(),
    "narrow": lambda x: x[:, :-1],
    "wide": lambda x: torch.cat([x, x], dim=1),
    "no dimensions": lambda x: x[0, 0],
}
BIAS: dict[str, Damage] = {
    "meta": lambda bias: bias.to("meta"),
    "too short": lambda bias: bias[:-1],
    "too long": lambda bias: torch.cat([bias, bias]),
    "a scalar": lambda bias: bias[0],
}
BLOCK_SIZE: dict[str, Damage] = {
    str(size): lambda _, size=size: size  # type: ignore[misc]
    for size in (0, 1, 16, 31, 33, 48, -32)
}
LENGTH: dict[str, Damage] = {
    "one fewer": lambda values: tuple(values)[:-1],
    "one more": lambda values: (*values, 1),
    "none": lambda _: (),
}
WEIGHT: dict[str, Damage] = {**TENSOR, "float64": lambda w: w.double(), "integers": lambda w: w.int()}
OFFSET: dict[str, Damage] = {**TENSOR, "float64": lambda t: t.double(), "two": lambda t: t.repeat(2)}
DAMAGES: dict[str, dict[str, dict[str, Damage]]] = {
    "linear_int8": {
        "x": {name: damage for name, damage in X.items() if name != "no dimensions"},
        "codes": {**CODES, "one row": lambda codes: codes[0], "flat": lambda codes: codes.flatten()},
        "scales": {**STRIDED, "negated": torch._neg_view},
        "bias": BIAS,
    },
    "linear_blockwise": {
        "x": {name: damage for name, damage in X.items() if name not in ("narrow", "wide", "no dimensions")},
        "packed": {**STRIDED, "int8": lambda packed: packed.view(torch.int8)},
        "absmax": {**STRIDED, "float32": lambda absmax: absmax.float()},
        "absmax_scales": {**FROZEN, "none": lambda _: None, "negated": torch._neg_view},
        "absmax_offset": {**OFFSET, "none": lambda _: None},
        "block_size": BLOCK_SIZE,
        "out_features": {"negative": lambda _: -1},
        "levels": {**LENGTH, "too large": lambda levels: (*tuple(levels)[:-1], -4096)},
        "level8": LENGTH,
        "bias": BIAS,
    },
    "quantize_int8": {"weight": {**WEIGHT, "one row": lambda w: w[0], "three dimensions": lambda w: w[None]}},
    "quantize_blocks": {"weight": WEIGHT, "block_size": BLOCK_SIZE, "midpoints": LENGTH, "order": LENGTH},
}
CASES = [
    pytest.param(function, operand, damage, id=f"{function}-{operand}-{name}")
    for function, operands in DAMAGES.items()
    for operand, damages in operands.items()
    for name, damage in damages.items()
]


def int8_op(operands: Operands, ops: Any = torch.ops.quant) -> Tensor:
    y: Tensor = ops.w8a16_linear(*(operands[name] for name in ("x", "codes", "scales", "bias")))
    return y


def blockwise_op(operands: Operands, ops: Any = torch.ops.quant) -> Tensor:
    weight = (operands[name] for name in ("packed", "absmax", "absmax_scales", "absmax_offset"))
    shape = operands["block_size"], operands["out_features"]
    y: Tensor = ops.blockwise_linear(operands["x"], *weight, "nf4", *shape, operands["bias"])
    return y


OPS: dict[str, Callable[..., Tensor]] = {"linear_int8": int8_op, "linear_blockwise": blockwise_op}
"""The products as ops that torch dispatches, or as the functions of `quant.kernels`, which need not be."""

OP_CASES = [
    pytest.param(function, operand, damage, id=f"{function}-{operand}-{name}")
    for function, operands in DAMAGES.items()
    for operand, damages in operands.items()
    for name, damage in damages.items()
    if function in OPS and operand not in ("x", "levels", "level8") and name not in ("meta", "strided", "negated")
]
"""What the ops have a parameter for, and neither leave to torch nor put right."""
