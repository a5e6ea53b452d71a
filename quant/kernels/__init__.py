"""The operators that quantized layers call, as torch.library ops with fake kernels and gradients.

    quant::w8a16_linear(x, codes, scales, bias) -> y
    quant::blockwise_linear(x, packed, absmax, absmax_scale, absmax_offset, codebook, block_size, out_features, bias)

x is [..., in] of any float dtype, y is [..., out] of the same dtype. Weights are frozen: gradients go to x (through
`quant::w8a16_grad_input` and `quant::blockwise_grad_input`, which have gradients too) and to the bias. Being ops they
are opaque to `torch.compile` and `torch.export`, and keep only the codes for backward, no float copy of the weight.

Which code computes a product is decided by `IMPLEMENTATIONS`, and by nothing else. `quant.kernels.dispatch` of an op
answers for given operands without running anything.

A call that nothing observes (no gradient, tracing, mode or profiler) goes to the implementation past the dispatcher,
which with its autograd wrapper takes 10 us of the 25 us of a layer of 256 x 256. For the same reason the ops are
defined with `torch.library.Library`: the wrapper of `torch.library.custom_op` takes 8 us more.
"""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from quant.kernels import cpu, cuda, reference

_library: Any = torch.library.Library("quant", "DEF")  # type: ignore[no-untyped-call]
_BLOCKWISE = "Tensor packed, Tensor absmax, Tensor? absmax_scale, Tensor? absmax_offset, str codebook, int block_size"

Takes = Callable[..., bool]
"""(x, its number of rows, the op's other operands) -> whether the implementation computes with them."""
Implementation = Callable[..., Tensor]

IMPLEMENTATIONS: dict[str, tuple[tuple[Takes, Implementation], ...]] = {
    "w8a16_linear": (
        (cpu.takes_few_int8, cpu.w8a16_linear_few_rows),
        (cpu.takes, cpu.w8a16_linear_many_rows),
        (cuda.takes_int8, cuda.w8a16_linear),
        (reference.takes, reference.w8a16_linear),
    ),
    "blockwise_linear": (
        (cpu.takes_few_blockwise, cpu.blockwise_linear_few_rows),
        (cpu.takes, cpu.blockwise_linear_many_rows),
        (cuda.takes_few_blockwise, cuda.blockwise_linear_few_rows),
        (cuda.takes_bitsandbytes, cuda.blockwise_linear_bitsandbytes),
        (cuda.takes_many_blockwise, cuda.blockwise_linear_many_rows),
        (reference.takes, reference.blockwise_linear),
    ),
    "w8a16_grad_input": ((reference.takes, reference.w8a16_grad_input),),
    "blockwise_grad_input": ((reference.takes, reference.blockwise_grad_input),),
}
"""Op -> (predicate, implementation) in order of preference; the last one takes everything."""


def dispatch(op: str, x: Tensor, *operands: Any) -> Implementation:
    """The implementation of `op` (a key of `IMPLEMENTATIONS`) for x [..., in], or for the gradient it is given, and the
    op's other operands.
    """
    rows = x.numel() // x.shape[-1] if x.dim() and x.shape[-1] else 0
    for takes, implementation in IMPLEMENTATIONS[op]:
        if takes(x, rows, *operands):
            return implementation
    raise AssertionError(f"no implementation of {op} takes {x.dtype} on {x.device}")


_PLAIN = frozenset((Tensor, torch.nn.Parameter, str, int, type(None)))


def _unobserved(operands: tuple[Any, ...]) -> bool:
    """Whether nothing stands between the caller and an implementation: no subclass of Tensor among `operands`, no
    gradient, mode, transform, trace or profiler.

    What torch interposes in its dispatcher shows in the set of dispatch keys that this thread includes: where a version
    of torch has no way to read it, every call takes the dispatcher. An `ExecutionTraceObserver` shows nowhere, and sees
    these calls only beside a profiler; nor does a kernel that someone else registers for the op.
    """
    return (
        not torch.is_grad_enabled()
        and _PLAIN.issuperset(map(type, operands))
        and not torch.compiler.is_compiling()
        and not torch.autograd.profiler._is_profiler_enabled
        and not torch._C._is_torch_function_mode_enabled()
        and _included_keys() in _plain_keys()
    )


def _included_keys() -> int | None:
    keys = getattr(torch._C, "_dispatch_tls_local_include_set", None)
    return None if keys is None else int(keys().raw_repr())


@functools.cache
def _plain_keys() -> frozenset[int | None]:
    """What a new thread includes, with and without inference mode."""

    def plain() -> set[int | None]:
        keys = {_included_keys()}
        with torch.inference_mode():
            return keys | {_included_keys()}

    with ThreadPoolExecutor(1) as thread:
        return frozenset(thread.submit(plain).result()) - {None}


def _define(name: str, arguments: str, fake: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Define quant::`name`, computed by `dispatch`; `fake` gives the shape of the result."""

    def compute(x: Tensor, *operands: Any) -> Tensor:
        return dispatch(name, x, *operands)(x, *operands)

    _library.define(f"{name}({arguments}) -> Tensor")
    _library.impl(name, compute, "CompositeExplicitAutograd")
    torch.library.register_fake(f"quant::{name}", fake, lib=_library)
    op = getattr(torch.ops.quant, name).default

    def call(*operands: Any) -> Tensor:
        if _unobserved(operands):
            return compute(*operands)
        result: Tensor = op(*operands)
        return result

    return call


w8a16_linear = _define(
    "w8a16_linear",
    "Tensor x, Tensor codes, Tensor scales, Tensor? bias",
    lambda x, codes, scales, bias: x.new_empty(*x.shape[:-1], codes.shape[0]),
)
"""See `quant.kernels.reference.w8a16_linear` and `quant.kernels.cpu`."""

w8a16_grad_input = _define(
    "w8a16_grad_input",
    "Tensor grad, Tensor codes, Tensor scales",
    lambda grad, codes, scales: grad.new_empty(*grad.shape[:-1], codes.shape[1]),
)
"""See `quant.kernels.reference.w8a16_grad_input`."""

blockwise_linear = _define(
    "blockwise_linear",
    f"Tensor x, {_BLOCKWISE}, int out_features, Tensor? bias",
    lambda x, *weight_and_bias: x.new_empty(*x.shape[:-1], weight_and_bias[-2]),
)
"""See `quant.kernels.reference.blockwise_linear` and `quant.kernels.cpu`."""

blockwise_grad_input = _define(
    "blockwise_grad_input",
    f"Tensor grad, {_BLOCKWISE}, int in_features",
    lambda grad, *weight: grad.new_empty(*grad.shape[:-1], weight[-1]),
)
"""See `quant.kernels.reference.blockwise_grad_input`."""


def _grad_bias(grad: Tensor, bias_dtype: torch.dtype) -> Tensor:
    compute = torch.promote_types(grad.dtype, torch.float32)
    return grad.reshape(-1, grad.shape[-1]).to(compute).sum(0).to(bias_dtype)


def _w8a16_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, codes, scales, bias = inputs
    ctx.save_for_backward(codes, scales)
    ctx.bias_dtype = None if bias is None else bias.dtype


def _w8a16_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_x = w8a16_grad_input(grad, *ctx.saved_tensors) if ctx.needs_input_grad[0] else None
    grad_bias = _grad_bias(grad, ctx.bias_dtype) if ctx.needs_input_grad[3] else None
    return grad_x, None, None, grad_bias


def _w8a16_grad_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[1:])


def _w8a16_grad_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return w8a16_linear(grad, *ctx.saved_tensors, None), None, None


def _blockwise_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, *weight, codebook, block_size, _, bias = inputs
    ctx.save_for_backward(*weight)
    ctx.format, ctx.in_features = (codebook, block_size), x.shape[-1]
    ctx.bias_dtype = None if bias is None else bias.dtype


def _blockwise_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_x = None
    if ctx.needs_input_grad[0]:
        grad_x = blockwise_grad_input(grad, *ctx.saved_tensors, *ctx.format, ctx.in_features)
    grad_bias = _grad_bias(grad, ctx.bias_dtype) if ctx.needs_input_grad[8] else None
    return (grad_x, *[None] * 7, grad_bias)


def _blockwise_grad_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, *weight, codebook, block_size, _ = inputs
    ctx.save_for_backward(*weight)
    ctx.format, ctx.out_features = (codebook, block_size), grad.shape[-1]


def _blockwise_grad_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_grad = blockwise_linear(grad, *ctx.saved_tensors, *ctx.format, ctx.out_features, None)
    return (grad_grad, *[None] * 7)


for _name, _backward, _context in (
    ("w8a16_linear", _w8a16_backward, _w8a16_context),
    ("w8a16_grad_input", _w8a16_grad_backward, _w8a16_grad_context),
    ("blockwise_linear", _blockwise_backward, _blockwise_context),
    ("blockwise_grad_input", _blockwise_grad_backward, _blockwise_grad_context),
):
    torch.library.register_autograd(f"quant::{_name}", _backward, setup_context=_context, lib=_library)
