"""What the kernels are not given: operands of other dtypes, sizes, devices or strides are refused by name, before any
address reaches the extension.
"""

import types

import pytest
import torch
from torch import Tensor

from quant import QuantError
from tests.strategies import bits
from tests.unit.native.damaged import CASES, FUNCTIONS, OP_CASES, OPS, Damage, N, every_second


@pytest.mark.parametrize(("function", "operand", "damage"), CASES)
def test_a_wrong_operand_is_refused_by_name(
    function: str, operand: str, damage: Damage, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, operands = FUNCTIONS[function][0], FUNCTIONS[function][1]()
    run(**operands)
    unreachable = {name: lambda *_: pytest.fail("an address was passed on") for name in FUNCTIONS}
    monkeypatch.setattr("quant.native.calls.kernels", types.SimpleNamespace(**unreachable))
    with pytest.raises(QuantError, match=rf"\b{operand}\b.*: .* got ") as refused:
        run(**{**operands, operand: damage(operands[operand])})
    value = damage(operands[operand])
    if isinstance(value, Tensor):
        assert str(value.device) in str(refused.value) or str(list(value.shape)) in str(refused.value)


@pytest.mark.parametrize("function", ["linear_int8", "linear_blockwise"])
def test_x_without_dimensions_is_refused(function: str) -> None:
    """4-bit codes are flat, so there what does not fit is the codes."""
    run, operands = FUNCTIONS[function]
    with pytest.raises(QuantError, match=r"needs .* got "):
        run(**{**operands(), "x": torch.tensor(1.0)})


@pytest.mark.parametrize(("function", "operand", "damage"), OP_CASES)
def test_the_ops_refuse_it_likewise(function: str, operand: str, damage: Damage) -> None:
    operands = FUNCTIONS[function][1]()
    op = OPS[function]
    assert op(operands).shape == (2, N)
    with pytest.raises(QuantError, match=rf"\b{operand}\b.*: .* got "):
        op({**operands, operand: damage(operands[operand])})


@pytest.mark.parametrize("function", OPS)
def test_the_ops_take_operands_with_strides(function: str) -> None:
    operands = FUNCTIONS[function][1]()
    strided = {
        name: every_second(value) if isinstance(value, Tensor) and value.dim() else value
        for name, value in operands.items()
    }
    assert not strided["bias"].is_contiguous()
    assert bits(OPS[function](strided)) == bits(OPS[function](operands))


@pytest.mark.parametrize("function", OPS)
def test_the_result_lies_where_x_does_whatever_the_default_device(function: str) -> None:
    run, operands = FUNCTIONS[function]
    expected = run(**operands())
    values = operands()
    with torch.device("meta"):
        assert bits(run(**values)) == bits(expected)
