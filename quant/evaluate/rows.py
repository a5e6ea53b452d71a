"""Rows of logits in pieces, so that their float64 copies stay small however large the vocabulary and the window are."""

from collections.abc import Callable

import torch
from torch import Tensor

CHUNK_ELEMENTS = 1 << 22
"""Logits converted at a time: 32 MB in float64; 2048 tokens of a vocabulary of 150,000 would take 2.4 GB."""


def by_rows(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """`function`, which maps n rows of each tensor to a value per row ([n]), applied to a few rows at a time.

    tensors: [n, ...], the first [n, vocabulary]. The pieces are of nearly equal length: a single row left over would be
    summed by several threads, in another order than the rest.
    """
    count, vocabulary = tensors[0].shape
    pieces = max(1, -(-count // max(1, CHUNK_ELEMENTS // vocabulary)))
    chunks = zip(*(torch.tensor_split(tensor, pieces) for tensor in tensors), strict=True)
    return torch.cat([function(*chunk) for chunk in chunks])
