"""Operands that do not fit are refused by name before a kernel for GPUs is launched, which would read past the end."""

from typing import Any

import pytest
import torch

from quant import QuantError, kernels
from quant.kernels import cuda
from quant.kernels.cuda import operands as read
from tests.strategies import bits, normal
from tests.unit.native.damaged import FUNCTIONS, OP_CASES, OPS, Damage, K, N

pytestmark = pytest.mark.usefixtures("gpu")
X = {"few rows": normal((2, K)), "many rows": normal((cuda.FEW_ROWS + 1, K)).half()}
MANY = ("blockwise_linear_many_rows", "blockwise_linear_bitsandbytes")


@pytest.mark.parametrize("rows", X)
@pytest.mark.parametrize(("function", "operand", "damage"), OP_CASES)
def test_a_wrong_operand_is_refused_by_name(function: str, operand: str, damage: Damage, rows: str) -> None:
    operands = {**FUNCTIONS[function][1](), "x": X[rows]}
    with pytest.raises(QuantError, match=rf"\b{operand}\b.*: .* got "):
        OPS[function]({**operands, operand: damage(operands[operand])})


@pytest.mark.parametrize("name", MANY)
def test_both_ways_for_many_rows_look_at_them(name: str) -> None:
    operands = FUNCTIONS["linear_blockwise"][1]()
    weight = [operands[key] for key in ("packed", "absmax", "absmax_scales", "absmax_offset")]
    shape = ("nf4", operands["block_size"], N)
    with pytest.raises(QuantError, match=r"^bias: .* got shape \[5\]"):
        getattr(cuda, name)(X["many rows"], *weight, *shape, torch.ones(N - 1))


def test_x_of_another_width_is_refused() -> None:
    operands = FUNCTIONS["linear_int8"][1]()
    with pytest.raises(QuantError, match=r"^x: the kernel needs \[\.\.\., 64\], got \[2, 63\]"):
        OPS["linear_int8"]({**operands, "x": X["few rows"][:, 1:]})


def test_operands_on_another_device_than_x_are_refused() -> None:
    codes, scales = torch.ones(N, K, dtype=torch.int8, device="meta"), torch.ones(N)
    with pytest.raises(QuantError, match=r"^codes: the kernel needs 384 contiguous torch.int8 on cpu, got .*, meta, "):
        read.int8_operands(X["few rows"], codes, scales, None)
    with pytest.raises(QuantError, match=r"^bias: .* on cpu, got .* meta, "):
        read.int8_operands(X["few rows"], codes.new_ones((N, K), device="cpu"), scales, scales.to("meta"))


@pytest.mark.parametrize("function", OPS)
def test_what_torch_negates_lazily_is_read_as_its_values(function: str) -> None:
    """Past torch's dispatcher, which would write the values out."""
    operands: dict[str, Any] = FUNCTIONS[function][1]()
    expected = OPS[function]({**operands, "x": -operands["x"], "bias": -operands["bias"]})
    negated = {name: torch._neg_view(operands[name]) for name in ("x", "bias")}
    with torch.no_grad():
        assert bits(OPS[function]({**operands, **negated}, kernels)) == bits(expected)


@pytest.mark.parametrize("shape", [(0, K), (2, 0)])
def test_x_without_elements_is_left_to_torch(shape: tuple[int, int]) -> None:
    codes = torch.ones(N, shape[1], dtype=torch.int8)
    y = torch.ops.quant.w8a16_linear(torch.ones(shape), codes, torch.ones(N), torch.ones(N))
    assert torch.equal(y, torch.ones(shape[0], N))
