"""One small quantized layer of any scheme, the bits and all tensors that it holds, and the ways to move it."""

import types
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from quant import BlockwiseLinear, W8A16Linear
from quant.modules import QuantizedLinear, quantized_linear
from quant.schemes import Blockwise, Scheme
from tests.models import seeded
from tests.strategies import bits

OUT, IN = 7, 33
"""Odd, so that blocks run over the ends of rows and the last one is short."""
Bits = dict[str, list[int]]

TO_META: dict[str, Callable[[nn.Module], nn.Module]] = {
    "string": lambda module: module.to("meta"),
    "device": lambda module: module.to(torch.device("meta")),
    "keyword": lambda module: module.to(device="meta"),
    "tensor": lambda module: module.to(torch.empty(0, device="meta")),
    "device and dtype": lambda module: module.to("meta", torch.bfloat16),
    "non_blocking": lambda module: module.to("meta", non_blocking=True),
    "to_empty": lambda module: module.to_empty(device="meta"),
}
"""The spellings of a move to another device, for which the meta device stands."""


def quantized(scheme: Scheme, seed: int = 0, dtype: torch.dtype = torch.float32) -> QuantizedLinear:
    """A layer [7, 33] with a bias."""
    return quantized_linear(seeded(lambda: nn.Linear(IN, OUT, dtype=dtype), seed), scheme)


def empty(scheme: Scheme) -> QuantizedLinear:
    """A layer of undefined codes, to be loaded into."""
    return BlockwiseLinear(IN, OUT, scheme) if isinstance(scheme, Blockwise) else W8A16Linear(IN, OUT, scheme)


def stored_bits(layer: QuantizedLinear) -> Bits:
    """Of the quantized weight."""
    return {name: bits(tensor.reshape(-1)) for name, tensor in layer.stored.items()}


def state_bits(module: nn.Module) -> Bits:
    """Of everything in the `state_dict()`."""
    return {name: bits(tensor.reshape(-1)) for name, tensor in module.state_dict().items()}


def held_tensors(root: object) -> list[Tensor]:
    """Every tensor that can be reached from `root`, each once: through containers, attributes and slots, those of
    tensors included. So a tensor that a state object holds counts, wherever that object hangs.

    Not followed: classes, Python modules and functions.
    """
    reached: dict[int, object] = {}
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if id(value) not in reached and not isinstance(value, type | types.ModuleType | types.FunctionType):
            reached[id(value)] = value
            waiting += _parts(value)
    return [value for value in reached.values() if isinstance(value, Tensor)]


def _parts(value: object) -> Iterator[object]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from value
    yield from getattr(value, "__dict__", {}).values()
    for kind in type(value).__mro__:
        for name, member in vars(kind).items():
            if isinstance(member, types.MemberDescriptorType) and hasattr(value, name):
                yield getattr(value, name)
