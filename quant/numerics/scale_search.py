"""The scale of least squared error, searched for each row or block: `scale="mse"` of the schemes.

A scale from the largest magnitude spends its levels on one weight. A smaller one clips that weight and is finer for the
others, a larger one may fit them better. The squared error of the dequantized weights decides, as in the MSE range
setting of Nagel et al. 2021, "A White Paper on Neural Network Quantization" (https://arxiv.org/abs/2106.08295), section
3.1. The scheme's factors times the plain scale are tried first. The best of them is then refined twice: for given
levels l the scale of least error is <w, l> / <l, l> (as in llama.cpp's `make_qx_quants`), and with it each weight takes
the level that is nearest now.

The same bits everywhere: all is float32, and each operation is rounded by itself. The sums, over the weights of one row
or block, fold it in half: element i of the second half is added to element i of the first, until one is left (of an odd
number the middle one waits). So they depend on the number of weights and on nothing else: neither on vectors, threads
and chunks nor on the rows beside, and a bfloat16 weight gets the scale of its float32 copy. Rows are multiplied by a
power of two first, exactly, so that squares neither under- nor overflow; rows whose plain scale is not within
`SEARCHED`, which no model has, keep it.

Never worse than the plain scale, in exact arithmetic on the dequantized float32 weights: another is taken only where
the computed error is less by more than the roundings of both, see `MARGIN`. Double quantization rounds what was found
and promises neither.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Nearest = Callable[[Tensor, Tensor], Tensor]
"""nearest(weights, scales): float32 [n, rows] of the levels nearest to `weights` (float32 [n, rows], a row in each
column) over `scales` (float32 [rows]).
"""

SEARCHED = (2.0**-115, 2.0**115)
"""Plain scales whose rows are searched: neither they nor their reciprocals come near subnormals, which CPUs may flush.
"""
REFINEMENTS = 2
MARGIN = 2.0**-18
"""What the error has to be less by, as a fraction. The difference w - level * scale, its square and the sum of 2^d
squares are rounded (3 + d) times, so two errors are known up to 2 * (3 + d) * 2^-24 of themselves: less, up to d = 28.
"""
GROUP_ELEMENTS = 1 << 16
"""Rows are searched so many elements at a time, which stay in a core's cache."""
LEAST_GROUP = 16
"""Rows at least, so that vectors are filled."""


def search_scales(rows: Tensor, plain: Tensor, nearest: Nearest, factors: Sequence[float]) -> Tensor:
    """float32 [rows]: for each of `rows` the scale of least squared error.

    Args:
        rows: float32 [rows, n], finite; not changed.
        plain: float32 [rows], the scale without a search.
        nearest: the rounding of the format.
        factors: multiples of `plain` to try, ascending; what is found lies between `plain` times the first and the
            last of them, or is `plain`.
    """
    if rows.numel() == 0:
        return plain
    found = torch.empty_like(plain)
    group = max(LEAST_GROUP, GROUP_ELEMENTS // rows.shape[1])
    for start in range(0, len(rows), group):
        part = slice(start, start + group)
        found[part] = _search_group(rows[part], plain[part], nearest, factors)
    return found


def _search_group(rows: Tensor, plain: Tensor, nearest: Nearest, factors: Sequence[float]) -> Tensor:
    low, high = SEARCHED
    searched = (plain >= low) & (plain <= high)
    # The power of two at or below the scale, by its bits: 2^e and 2^-e have the exponents 127 + e and 127 - e.
    exponent = torch.where(searched, plain, 1.0).view(torch.int32) >> 23
    power, reciprocal = ((bits << 23).view(torch.float32) for bits in (exponent, 254 - exponent))
    weights = (torch.where(searched[:, None], rows, 0.0) * reciprocal[:, None]).t().contiguous()
    unit = torch.where(searched, plain * reciprocal, 1.0)
    best = _least_error(weights, unit, nearest, factors)
    return torch.where(searched, best * power, plain)


def _least_error(weights: Tensor, plain: Tensor, nearest: Nearest, factors: Sequence[float]) -> Tensor:
    """`search_scales` for weights [n, rows] whose scales are near 1."""
    plain_error = _error(weights, nearest(weights, plain), plain)
    best, least = plain, plain_error

    def consider(scale: Tensor) -> None:
        nonlocal best, least
        error = _error(weights, nearest(weights, scale), scale)
        less = error < least
        best, least = torch.where(less, scale, best), torch.where(less, error, least)

    for factor in factors:
        if factor != 1:
            consider(plain * factor)
    for _ in range(REFINEMENTS):
        levels = nearest(weights, best)
        refined = _fold(weights * levels) / _fold(levels * levels)
        consider(refined.clamp(plain * factors[0], plain * factors[-1]))
    return torch.where(least < plain_error * (1 - MARGIN), best, plain)


def _error(weights: Tensor, levels: Tensor, scale: Tensor) -> Tensor:
    """float32 [rows]: the squared error of levels * scale."""
    difference = weights - levels * scale
    return _fold(difference * difference)


def _fold(terms: Tensor) -> Tensor:
    """float32 [rows]: the sums of the columns of `terms` (float32 [n, rows]), which is overwritten, in one order."""
    count = len(terms)
    while count > 1:
        half = (count + 1) // 2
        terms[: count - half] += terms[half:count]
        count = half
    return terms[0]
