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
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from quant import NF4, W8A16, kernels
from quant.modules import QuantizedLinear, quantized_linear
from quant.schemes import Scheme
from tests.models import seeded
from tests.strategies import bits, normal, scheme_id

SCHEMES: tuple[Scheme, ...] = (W8A16(), NF4(), NF4(double_quant=True))


def op_of(layer: QuantizedLinear) -> str:
    return "w8a16_linear" if layer.scheme == W8A16() else "blockwise_linear"


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


X = normal((3, 64))


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


class Log(TorchDispatchMode):
    """The names of the ops under this mode."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


class FunctionLog(TorchFunctionMode):
    """The names of the functions under this mode."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


class Wrapped(Tensor):
    """A tensor without memory of its own that logs the ops it meets, as those of distributed tensors are."""

    names: list[str]
    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "Wrapped":
        wrapped: Wrapped = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, inner.shape, dtype=inner.dtype, device=inner.device
        )
        wrapped.inner, wrapped.names = inner, []
        return wrapped

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for argument in args:
            if isinstance(argument, Wrapped):
                argument.names.append(str(func))
        return func(*(argument.inner if isinstance(argument, Wrapped) else argument for argument in args))


def seen_by_dispatch_mode(layer: QuantizedLinear) -> list[str]:
    with Log() as log:
        layer(X)
    return log.names


def seen_by_function_mode(layer: QuantizedLinear) -> list[str]:
    with FunctionLog() as log:
        layer(X)
    return log.names


def seen_by_flop_counter(layer: QuantizedLinear) -> list[str]:
    op = getattr(torch.ops.quant, op_of(layer))
    with FlopCounterMode(display=False, custom_mapping={op: lambda x, *_, out_shape, **__: 7}) as counter:
        layer(X)
    return [str(name) for name, flops in counter.get_flop_counts()["Global"].items() if flops == 7]


def seen_by_fake_tensors(layer: QuantizedLinear) -> list[str]:
    with FakeTensorMode(allow_non_fake_inputs=True), Log() as log:
        assert type(layer(X)) is FakeTensor
    return log.names


def seen_by_profiler(layer: QuantizedLinear) -> list[str]:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        layer(X)
    return [event.key.replace("::", ".") for event in profile.key_averages()]


def seen_by_autograd_profiler(layer: QuantizedLinear) -> list[str]:
    with torch.autograd.profiler.profile(use_kineto=False) as profile:
        layer(X)
    return [event.key.replace("::", ".") for event in profile.key_averages()]


def seen_by_make_fx(layer: QuantizedLinear) -> list[str]:
    return [str(node.target) for node in make_fx(layer)(X).graph.nodes]


def seen_by_compile(layer: QuantizedLinear) -> list[str]:
    names: list[str] = []

    def backend(module: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        names.extend(str(node.target) for node in module.graph.nodes)
        return module.forward

    torch.compiler.reset()
    torch.compile(layer, backend=backend, fullgraph=True)(X)
    torch.compiler.reset()
    return names


def seen_by_export(layer: QuantizedLinear) -> list[str]:
    return [str(node.target) for node in torch.export.export(layer, (X,)).graph.nodes]


def seen_by_jit_trace(layer: QuantizedLinear) -> list[str]:
    traced = torch.jit.trace(layer, X)  # type: ignore[no-untyped-call]
    return [node.kind().replace("::", ".") for node in traced.inlined_graph.nodes()]


def seen_by_functionalize(layer: QuantizedLinear) -> list[str]:
    with Log() as log:
        torch.func.functionalize(layer)(X)
    return log.names


def seen_by_subclass_of_x(layer: QuantizedLinear) -> list[str]:
    x = Wrapped(X)
    layer(x)
    return x.names


def seen_by_subclass_of_the_weight(layer: QuantizedLinear) -> list[str]:
    layer.weight = codes = Wrapped(layer.get_buffer("weight"))
    layer(X)
    return codes.names


OBSERVERS = {
    name.removeprefix("seen_by_"): function for name, function in globals().items() if name.startswith("seen_by_")
}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
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
