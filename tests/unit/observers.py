"""Ways to watch, trace and transform a layer's forward, each with the names of the ops that it saw."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from quant import W8A16
from quant.modules import QuantizedLinear
from tests.strategies import normal

X = normal((3, 64))


def op_of(layer: QuantizedLinear) -> str:
    """The name of the op that the layer calls."""
    return "w8a16_linear" if layer.scheme == W8A16() else "blockwise_linear"


class Log(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The names of the ops under this mode."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
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
    """A tensor without memory of its own that logs the ops it meets; distributed tensors are of this kind."""

    held: Tensor
    met: list[str]

    @staticmethod
    def __new__(cls, held: Tensor, met: list[str]) -> "Wrapped":
        wrapped: Wrapped = Tensor._make_wrapper_subclass(cls, held.shape, dtype=held.dtype, device=held.device)
        wrapped.held, wrapped.met = held, met
        return wrapped

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        wrapped = [argument for argument in args if isinstance(argument, Wrapped)]
        for argument in wrapped:
            argument.met.append(str(func))
        result = func(*(argument.held if isinstance(argument, Wrapped) else argument for argument in args))
        return Wrapped(result, wrapped[0].met) if func is torch.ops.aten.view.default else result


def seen_by_dispatch_mode(layer: QuantizedLinear) -> list[str]:
    log = Log()
    with log:
        layer(X)
    return log.names


def seen_by_function_mode(layer: QuantizedLinear) -> list[str]:
    log = FunctionLog()
    with log:
        layer(X)
    return log.names


def seen_by_flop_counter(layer: QuantizedLinear) -> list[str]:
    op = getattr(torch.ops.quant, op_of(layer))
    with FlopCounterMode(display=False, custom_mapping={op: lambda x, *_, out_shape, **__: 7}) as counter:
        layer(X)
    return [str(name) for name, flops in counter.get_flop_counts()["Global"].items() if flops == 7]


def seen_by_fake_tensors(layer: QuantizedLinear) -> list[str]:
    log = Log()
    with FakeTensorMode(allow_non_fake_inputs=True), log:
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
    log = Log()
    with log:
        torch.func.functionalize(layer)(X)
    return log.names


def seen_by_subclass_of_x(layer: QuantizedLinear) -> list[str]:
    x = Wrapped(X, [])
    layer(x)
    return x.met


def seen_by_subclass_of_the_weight(layer: QuantizedLinear) -> list[str]:
    layer.weight = codes = Wrapped(layer.get_buffer("weight"), [])
    layer(X)
    return codes.met


OBSERVERS = {
    name.removeprefix("seen_by_"): function for name, function in globals().items() if name.startswith("seen_by_")
}
"""Name -> function of a layer."""
