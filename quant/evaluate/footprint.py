"""Bytes that a model's tensors take, over unique storages, by dtype, parameters and buffers apart.

A storage that several tensors share (tied weights) counts once. The tensors of quantized layers count as parameters,
although they are buffers to torch: they are what became of the weights. Tensors that hang on parameters as attributes
count too (bitsandbytes keeps its absmax and code tables there), which `get_memory_footprint()` of transformers leaves
out.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from quant.dtypes import dtype_name
from quant.modules import QuantizedLinear


@dataclass(frozen=True)
class Footprint:
    """parameter_bytes, buffer_bytes: as in the module docstring; by_dtype: dtype name -> bytes of both, largest
    first.
    """

    parameter_bytes: int
    buffer_bytes: int
    by_dtype: dict[str, int]

    @property
    def total_bytes(self) -> int:
        """Parameters and buffers."""
        return self.parameter_bytes + self.buffer_bytes


def footprint(model: nn.Module) -> Footprint:
    """Measure `model`; works on the meta device, where it sizes a model that was never loaded."""
    seen: set[int] = set()
    by_dtype: dict[str, int] = {}

    def count(tensors: Iterator[Tensor]) -> int:
        total = 0
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage._cdata not in seen:
                seen.add(storage._cdata)
                total += storage.nbytes()
                dtype = dtype_name(tensor.dtype)
                by_dtype[dtype] = by_dtype.get(dtype, 0) + storage.nbytes()
        return total

    parameters = count(_parameters(model))
    buffers = count(model.buffers())
    ranked = sorted(by_dtype.items(), key=lambda item: -item[1])
    return Footprint(parameters, buffers, {dtype: size for dtype, size in ranked if size})


def tensors_of(model: nn.Module) -> Iterator[Tensor]:
    """Every tensor that counts, also those that share a storage."""
    yield from _parameters(model)
    yield from model.buffers()


def _parameters(model: nn.Module) -> Iterator[Tensor]:
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            yield parameter
            yield from _attached(vars(parameter), depth=3)
        if isinstance(module, QuantizedLinear):
            yield from module.stored.values()


def _attached(attributes: dict[str, Any], depth: int) -> Iterator[Tensor]:
    """Tensors in `attributes`, or in the attributes of plain objects there."""
    for value in attributes.values():
        if isinstance(value, Tensor):
            yield value
        elif depth and hasattr(value, "__dict__") and not isinstance(value, type | nn.Module):
            yield from _attached(vars(value), depth - 1)
