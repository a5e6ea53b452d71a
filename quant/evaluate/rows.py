"""Rows of logits in pieces, so that their float64 copies stay small however large the vocabulary and the window are."""

from collections.abc import Callable

import torch
from torch import Tensor

CHUNK_ELEMENTS = 1 << 19
"""Logits converted at a time, about: 4 MB in float64, which stay in the caches. With eight times as many, divergences
took three times as long (vocabulary of 4096, one core)."""


def by_rows(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """`function`, which maps n rows of each tensor to a value per row ([n]), applied to a few rows at a time.

    tensors: [n, ...], the first [n, vocabulary]. A piece has between one and two times the rows of a chunk, and never a
    single one of several: that would be summed by several threads, in another order than the rest.
    """
    count, vocabulary = tensors[0].shape
    pieces = max(1, count // max(2, CHUNK_ELEMENTS // vocabulary))
    chunks = zip(*(torch.tensor_split(tensor, pieces) for tensor in tensors), strict=True)
    return torch.cat([function(*chunk) for chunk in chunks])
