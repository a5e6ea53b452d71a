"""Layers call their implementation past the dispatcher only where nothing looks: everything that torch offers to watch,
trace or transform a program sees the ops.
"""

import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quant import NF4, W8A16, kernels
from quant.modules import QuantizedLinear, quantized_linear
from quant.schemes import Scheme
from tests.models import seeded
from tests.strategies import bits, scheme_id
from tests.unit.observers import OBSERVERS, Log, X, op_of

SCHEMES: tuple[Scheme, ...] = (W8A16(), NF4(), NF4(double_quant=True))


@pytest.fixture(params=SCHEMES, ids=scheme_id)
def layer(request: pytest.FixtureRequest) -> QuantizedLinear:
    return quantized_linear(seeded(lambda: nn.Linear(64, 20)), request.param)


@pytest.fixture
def dispatched(layer: QuantizedLinear, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each run of the layer's implementation, whether torch's dispatcher called it."""
    calls: list[bool] = []

    def recorded(implementation: kernels.Implementation) -> kernels.Implementation:
        def run(*operands: Any) -> Tensor:
            frames = traceback.extract_stack()
            calls.append(any(frame.filename.endswith("_ops.py") for frame in frames))
            return implementation(*operands)

        return run

    op = op_of(layer)
    rules = tuple((takes, recorded(implementation)) for takes, implementation in kernels.IMPLEMENTATIONS[op])
    monkeypatch.setitem(kernels.IMPLEMENTATIONS, op, rules)
    return calls


@pytest.fixture
def fresh_plain_keys() -> Iterator[None]:
    """What a thread includes is found out again in the test, and after it."""
    kernels._plain_keys.cache_clear()
    yield
    kernels._plain_keys.cache_clear()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_call_that_nothing_observes_goes_past_the_dispatcher(
    mode: Callable[[], Any], layer: QuantizedLinear, dispatched: list[bool]
) -> None:
    expected = layer(X)
    with mode():
        y = layer(X)
        layer(nn.Parameter(X))
    assert dispatched == [True, False, False]
    assert bits(y) == bits(expected)


def test_where_gradients_are_on_the_dispatcher_is_taken(layer: QuantizedLinear, dispatched: list[bool]) -> None:
    assert layer(X.clone().requires_grad_()).grad_fn is not None
    layer.requires_grad_(False)(X)
    assert dispatched == [True, True]


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")  # from torch 2.14 on
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("observer", OBSERVERS)
def test_observers_see_the_op(observer: str, layer: QuantizedLinear) -> None:
    with torch.no_grad():
        names = [name.split(".default")[0] for name in OBSERVERS[observer](layer)]
    assert f"quant.{op_of(layer)}" in names


def test_vmap_gives_each_example_its_own_call(layer: QuantizedLinear, dispatched: list[bool]) -> None:
    with torch.no_grad():
        expected = layer(X)
        y = torch.func.vmap(layer)(X)
    assert dispatched == [False, *[True] * len(X)]
    assert bits(y) == bits(expected)


def test_autocast_casts_x_and_takes_either_way(layer: QuantizedLinear) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        observed = layer(X)
        with torch.no_grad():
            assert bits(layer(X)) == bits(observed)
    assert bits(observed) == bits(layer(X.bfloat16()))


def test_observers_are_those_of_the_calling_thread(
    layer: QuantizedLinear, dispatched: list[bool], fresh_plain_keys: None
) -> None:
    """What is plain is first asked for under a mode here, and again in a thread without one."""
    with ThreadPoolExecutor(1) as thread, torch.no_grad(), Log():
        layer(X)
        thread.submit(torch.no_grad()(layer), X).result()
    assert dispatched == [True, False]


def test_without_a_view_of_the_dispatch_keys_the_dispatcher_is_taken(
    layer: QuantizedLinear, dispatched: list[bool], fresh_plain_keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch._C, "_dispatch_tls_local_include_set")
    with torch.no_grad():
        layer(X)
    assert dispatched == [True]
