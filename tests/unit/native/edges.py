"""Rows of activations and scales of weights at the edges of their formats."""

import math

import torch
from torch import Tensor

from quant.schemes import Scheme
from tests.strategies import cast, normal
from tests.unit.native.operands import BlockWeight, Int8Weight, Weight, random_weight

SCALES = (0.0, 2.0**-149, 1e-38, 1e-3, 1.0, 1e30, 3e38)


def edge_rows(in_features: int, dtype: torch.dtype) -> Tensor:
    """Rows [12, in] of every kind that fixed point must survive; the last three hold a NaN or an infinity."""
    noise = normal((in_features,), seed=5).tolist()
    finite = [
        noise,
        [0.0] * in_features,
        [-0.0] * in_features,
        [value * 2.0**-140 for value in noise],  # subnormals in float32 and bfloat16, zeros in float16
        [value * 2.0**-22 for value in noise],  # subnormals in float16
        [2.0**-149, *([0.0] * (in_features - 1))],
        [math.copysign(3e38, value) for value in noise],
        [*noise[1:], 1e4],  # an outlier: most others become a few steps
        [*([0.0] * (in_features - 1)), -1.0],
    ]
    x = cast([*finite, noise, noise, noise], dtype)
    x[-3, -1], x[-2, 0], x[-1, in_features // 2] = math.nan, math.inf, -math.inf
    return x


def edge_weight(scheme: Scheme, out_features: int, in_features: int) -> Weight:
    """`random_weight` with scales from zero to the end of float32."""
    weight = random_weight(scheme, out_features, in_features)
    if isinstance(weight, Int8Weight):
        scales = torch.tensor([SCALES[row % len(SCALES)] for row in range(out_features)])
        return Int8Weight(weight.codes, scales)
    assert isinstance(weight, BlockWeight)
    if weight.absmax_scale is not None:
        return BlockWeight(
            weight.scheme,
            out_features,
            weight.packed,
            weight.absmax,
            torch.full_like(weight.absmax_scale, 1e38),
            torch.tensor(2e38),
        )
    blocks = weight.absmax.numel()
    # Runs of one size, so that some rows hold only moderate ones; and single huge ones in between.
    absmax = torch.tensor([SCALES[block // 5 % len(SCALES)] for block in range(blocks)])
    return BlockWeight(weight.scheme, out_features, weight.packed, absmax)
