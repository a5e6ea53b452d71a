"""The jobs that quantize or cast one tensor, in chunks whose codes are those of the whole.

W8A16 has one scale per row, so runs of whole rows can be quantized by themselves. The 4-bit formats have one absmax per
block of the flattened weight, so any run of whole blocks can; double quantization needs all absmax values of the tensor
(1/block_size of its elements), so those wait until the codes are written. Each run goes through `quantize_tensor`, the
same codec as in memory, and the codes are the same bit for bit.

A tensor is first cast to the dtype that the model has in memory, because codes depend on it. GPT-2's `Conv1D` stores
its weight transposed: it is read whole and turned round, at the price of two copies of the tensor.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from quant.checkpoint.headers import StoredTensor
from quant.checkpoint.plan import Job, OutputTensor
from quant.checkpoint.reading import CHUNK_ELEMENTS, Inputs
from quant.errors import QuantError
from quant.numerics.double_quantization import quantize_absmax
from quant.schemes import Blockwise, Scheme
from quant.tensor import empty_stored, quantize_tensor


def quantize_job(stored: StoredTensor, layer: str, scheme: Scheme, dtype: torch.dtype, transposed: bool) -> Job:
    """Quantize the weight of a linear layer.

    Args:
        stored: the weight, [out, in], or [in, out] if `transposed`.
        layer: the prefix of the names of what is stored for it: `layer.weight`, `layer.weight_scale`, ...
        dtype: what the weight is cast to before.
    """
    shape = torch.Size(stored.shape[::-1] if transposed else stored.shape)
    parts = empty_stored(scheme, shape, "meta")
    outputs = tuple(
        OutputTensor(stored.path.name, f"{layer}.{key}", part.dtype, tuple(part.shape)) for key, part in parts.items()
    )

    def produce(inputs: Inputs) -> Iterator[tuple[str, Tensor]]:
        read = _read_turned if transposed else _read_cast
        chunks = read(inputs, stored, dtype, _run_elements(scheme, shape))
        if not stored.count:
            quantized = iter(quantize_tensor(torch.empty(shape, dtype=dtype), scheme).stored.items())
        elif isinstance(scheme, Blockwise):
            quantized = _quantize_blocks(stored, chunks, scheme)
        else:
            quantized = _quantize_rows(stored, chunks, scheme, shape[1])
        for key, values in quantized:
            yield f"{layer}.{key}", values

    return Job(outputs, produce)


def cast_job(stored: StoredTensor, dtype: torch.dtype) -> Job:
    """Copy a tensor, its elements cast to `dtype`. Finite values that would become infinite are refused."""
    output = OutputTensor(stored.path.name, stored.name, dtype, stored.shape)

    def produce(inputs: Inputs) -> Iterator[tuple[str, Tensor]]:
        for chunk in inputs.chunks(stored.name, CHUNK_ELEMENTS):
            values = chunk.to(dtype)
            if chunk.dtype != dtype and not torch.equal(torch.isfinite(values), torch.isfinite(chunk)):
                raise QuantError(f"{stored} has values beyond the range of {_short(dtype)}: use bfloat16 or float32")
            yield stored.name, values

    return Job((output,), produce)


def _run_elements(scheme: Scheme, shape: torch.Size) -> int:
    """Elements to quantize at a time: whole rows, or whole blocks (whose sizes divide `CHUNK_ELEMENTS`)."""
    if isinstance(scheme, Blockwise):
        return max(scheme.block_size, CHUNK_ELEMENTS - CHUNK_ELEMENTS % scheme.block_size)
    return max(1, CHUNK_ELEMENTS // max(1, shape[1])) * shape[1]


def _read_cast(inputs: Inputs, stored: StoredTensor, dtype: torch.dtype, run: int) -> Iterator[Tensor]:
    for chunk in inputs.chunks(stored.name, run):
        yield chunk.to(dtype)


def _read_turned(inputs: Inputs, stored: StoredTensor, dtype: torch.dtype, run: int) -> Iterator[Tensor]:
    """As `_read_cast`, of the transposed matrix."""
    whole = torch.cat([chunk.to(dtype, copy=True) for chunk in inputs.chunks(stored.name, CHUNK_ELEMENTS)])
    matrix = whole.view(stored.shape).t().contiguous().view(-1)
    for start in range(0, stored.count, run):
        yield matrix[start : start + run]


def _quantize_rows(
    stored: StoredTensor, chunks: Iterator[Tensor], scheme: Scheme, in_features: int
) -> Iterator[tuple[str, Tensor]]:
    scales = []
    for chunk in chunks:
        parts = _quantize(stored, chunk.view(-1, in_features), scheme)
        yield "weight", parts["weight"]
        scales.append(parts["weight_scale"])
    yield "weight_scale", torch.cat(scales)


def _quantize_blocks(stored: StoredTensor, chunks: Iterator[Tensor], scheme: Blockwise) -> Iterator[tuple[str, Tensor]]:
    absmax = []
    for chunk in chunks:
        parts = _quantize(stored, chunk, replace(scheme, double_quant=False))
        yield "weight", parts["weight"]
        absmax.append(parts["weight_absmax"])
    if scheme.double_quant:
        names = ("weight_absmax", "weight_absmax_scale", "weight_absmax_offset")
        yield from zip(names, quantize_absmax(torch.cat(absmax)), strict=True)
    else:
        yield "weight_absmax", torch.cat(absmax)
    yield "weight_format", torch.tensor(scheme.format_tag, dtype=torch.uint8)


def _quantize(stored: StoredTensor, values: Tensor, scheme: Scheme) -> Mapping[str, Tensor]:
    try:
        return quantize_tensor(values, scheme).stored
    except QuantError as error:
        if torch.isfinite(values).all():
            raise
        raise QuantError(
            f"{stored} has NaN or infinite values in {_short(values.dtype)}: repair the checkpoint, exclude the layer, "
            "or use another dtype if they come from this one's range"
        ) from error


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
