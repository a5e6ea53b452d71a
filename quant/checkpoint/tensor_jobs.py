"""The jobs that quantize or cast one tensor, in chunks whose codes are those of the whole.

W8A16 has one scale per row, so any whole rows can be quantized by themselves. The 4-bit formats have one absmax per
block of the flattened weight, so any whole blocks can. Each chunk goes through `quantize_tensor`, the same codec as in
memory, its codes and scales are written before the next is read, and they are the same bit for bit.

What grows with the largest tensor, and not only with the chunk:

* double quantization subtracts the mean of all absmax values, so those of a tensor wait in memory until its codes are
  written: 4 bytes per block, 1/32 of a bfloat16 weight with blocks of 64;
* GPT-2's `Conv1D` stores its weight transposed: it is read whole, and transposed, at the price of two copies.

A tensor is first cast to the dtype that the model has in memory, because codes depend on it. Refused by the tensor's
name: NaN and Inf in a weight, in parameters that stay float too (one of them makes every output NaN), and values that
the cast would make infinite. Buffers may have them: masks are stored so.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from quant.checkpoint.headers import StoredTensor
from quant.checkpoint.plan import Job, OutputTensor
from quant.checkpoint.reading import CHUNK_ELEMENTS, Inputs
from quant.dtypes import dtype_name
from quant.errors import QuantError
from quant.numerics.double_quantization import absmax_offset, quantize_absmax
from quant.schemes import DOUBLE_QUANT_BLOCK, Blockwise, Scheme
from quant.tensor import empty_stored, quantize_tensor

ABSMAX_CHUNK = 256 * DOUBLE_QUANT_BLOCK
"""Absmax values quantized at a time: whole groups, whose temporaries take 2 MB."""


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
        read = _read_transposed if transposed else _read_cast
        chunks = read(inputs, stored, dtype, _chunk_elements(scheme, shape))
        if not stored.count:
            quantized = iter(quantize_tensor(torch.empty(shape, dtype=dtype), scheme).stored.items())
        elif isinstance(scheme, Blockwise):
            quantized = _quantize_blocks(stored, chunks, scheme)
        else:
            quantized = _quantize_rows(stored, chunks, scheme, shape[1])
        for key, values in quantized:
            yield f"{layer}.{key}", values

    return Job(outputs, produce)


def cast_job(stored: StoredTensor, dtype: torch.dtype, finite: bool = False) -> Job:
    """Copy a tensor, its elements cast to `dtype`. Finite values that would become infinite are refused; NaN and Inf
    as well where `finite` is set, else they are kept.
    """
    output = OutputTensor(stored.path.name, stored.name, dtype, stored.shape)

    def produce(inputs: Inputs) -> Iterator[tuple[str, Tensor]]:
        for chunk in inputs.chunks(stored.name, CHUNK_ELEMENTS):
            values = chunk.to(dtype)
            if finite or chunk.dtype != dtype:
                _check_cast(stored, chunk, values, finite)
            yield stored.name, values

    return Job((output,), produce)


def _check_cast(stored: StoredTensor, before: Tensor, after: Tensor, finite: bool) -> None:
    kept = torch.isfinite(after)
    if bool(kept.all()):
        return
    were = torch.isfinite(before)
    if not torch.equal(kept, were):
        raise QuantError(f"{stored} has values beyond the range of {dtype_name(after.dtype)}: use bfloat16 or float32")
    if finite:
        raise QuantError(f"{stored} has NaN or infinite values, so the model computes NaN: repair the checkpoint")


def _chunk_elements(scheme: Scheme, shape: torch.Size) -> int:
    """Elements to quantize at a time: whole rows, or whole blocks (whose sizes divide `CHUNK_ELEMENTS`)."""
    if isinstance(scheme, Blockwise):
        return max(scheme.block_size, CHUNK_ELEMENTS - CHUNK_ELEMENTS % scheme.block_size)
    return max(1, CHUNK_ELEMENTS // max(1, shape[1])) * shape[1]


def _read_cast(inputs: Inputs, stored: StoredTensor, dtype: torch.dtype, elements: int) -> Iterator[Tensor]:
    for chunk in inputs.chunks(stored.name, elements):
        yield chunk.to(dtype)


def _read_transposed(inputs: Inputs, stored: StoredTensor, dtype: torch.dtype, elements: int) -> Iterator[Tensor]:
    """As `_read_cast`, of the transposed matrix."""
    whole = torch.cat([chunk.to(dtype, copy=True) for chunk in inputs.chunks(stored.name, CHUNK_ELEMENTS)])
    matrix = whole.view(stored.shape).t().contiguous().view(-1)
    del whole
    for start in range(0, stored.count, elements):
        yield matrix[start : start + elements]


def _quantize_rows(
    stored: StoredTensor, chunks: Iterator[Tensor], scheme: Scheme, in_features: int
) -> Iterator[tuple[str, Tensor]]:
    for chunk in chunks:
        yield from _quantize(stored, chunk.view(-1, in_features), scheme).items()


def _quantize_blocks(stored: StoredTensor, chunks: Iterator[Tensor], scheme: Blockwise) -> Iterator[tuple[str, Tensor]]:
    plain = replace(scheme, double_quant=False)
    waiting = torch.empty(-(-stored.count // scheme.block_size) if scheme.double_quant else 0)
    filled = 0
    for chunk in chunks:
        parts = _quantize(stored, chunk, plain)
        yield "weight", parts["weight"]
        absmax = parts["weight_absmax"]
        if scheme.double_quant:
            waiting[filled : filled + absmax.numel()] = absmax
            filled += absmax.numel()
        else:
            yield "weight_absmax", absmax
    if scheme.double_quant:
        yield from _quantize_absmax(waiting)
    yield "weight_format", torch.tensor(scheme.format_tag, dtype=torch.uint8)


def _quantize_absmax(absmax: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Double quantization of all absmax values of a tensor, a few groups at a time."""
    offset = absmax_offset(absmax)
    for start in range(0, absmax.numel(), ABSMAX_CHUNK):
        codes, scales, _ = quantize_absmax(absmax[start : start + ABSMAX_CHUNK], offset)
        yield "weight_absmax", codes
        yield "weight_absmax_scale", scales
    yield "weight_absmax_offset", offset


def _quantize(stored: StoredTensor, values: Tensor, scheme: Scheme) -> Mapping[str, Tensor]:
    try:
        return quantize_tensor(values, scheme).stored
    except QuantError as error:
        if torch.isfinite(values).all():
            raise
        raise QuantError(
            f"{stored} has NaN or infinite values in {dtype_name(values.dtype)}: repair the checkpoint, exclude the "
            "layer, or use another dtype if they come from this one's range"
        ) from error
