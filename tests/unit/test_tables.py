"""Cached tables hold values whoever asked for them first: a fake, a trace or a real call."""

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

import quant
from quant.numerics import blockwise, double_quantization
from quant.numerics.tables import cached_table
from quant.schemes import Scheme
from tests.strategies import SCHEMES, bits, normal, scheme_id

TABLES = {
    blockwise: ("_boundary_tensors", "_levels_of_byte", "_ascending_levels"),
    double_quantization: ("dynamic_levels", "_code_of_grid_point"),
}


Forget = Callable[[], None]


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Forget:
    """Afterwards it is as in a new process: no table has been made."""

    def empty_caches() -> None:
        for module, names in TABLES.items():
            for name in names:
                monkeypatch.setattr(module, name, cached_table(getattr(module, name).__wrapped__))

    return empty_caches


def test_the_tables_are_found() -> None:
    for module, names in TABLES.items():
        source = inspect.getsource(module)
        assert names == tuple(re.findall(r"@cached_table\ndef (\w+)", source))


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_a_call_under_fake_tensors_does_not_poison_the_next_one(scheme: Scheme, forget: Forget) -> None:
    quantized = quant.quantize_tensor(normal((4, 96)), scheme)
    expected = bits(quantized.dequantize())
    forget()
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert quantized.dequantize().shape == (4, 96)
    assert bits(quantized.dequantize()) == expected
    assert bits(quant.quantize_tensor(normal((4, 96)), scheme).dequantize()) == expected


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_a_traced_call_before_and_after_an_eager_one_gives_its_bits(scheme: Scheme, forget: Forget) -> None:
    quantized = quant.quantize_tensor(normal((4, 96)), scheme)
    forget()
    torch.compiler.reset()
    compiled = torch.compile(quantized.dequantize, backend="aot_eager")
    first = bits(compiled())
    assert bits(quantized.dequantize()) == first == bits(compiled())
    torch.compiler.reset()


def test_a_fake_table_is_not_kept_and_a_kept_one_is_not_given_to_fakes() -> None:
    calls: list[int] = []

    @cached_table
    def table(size: int) -> Tensor:
        calls.append(size)
        return torch.ones(size)

    with FakeTensorMode():
        assert type(table(3)) is not Tensor
    assert table(3) is table(3)
    with FakeTensorMode():
        assert type(table(3)) is not Tensor
    assert calls == [3, 3, 3]


class Seen(TorchFunctionMode):
    """What the thread that is in this mode calls of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.functions: list[Any] = []

    def __torch_function__(
        self, function: Any, types: Any, arguments: Any = (), options: dict[str, Any] | None = None
    ) -> Any:
        self.functions.append(function)
        return function(*arguments, **(options or {}))


def test_constants_are_made_in_a_thread_of_their_own() -> None:
    """Where no CUDA graph is recorded and no mode of the caller holds, nor its default device."""
    table = cached_table(lambda: torch.tensor([0.25, -3.0]))
    with torch.inference_mode(), torch.device("meta"), Seen() as seen:
        torch.tensor([1.0])
        first = table()
        assert seen.functions.count(torch.tensor) == 1
    assert first.tolist() == [0.25, -3.0]
    assert not first.is_inference()
    assert table() is first
