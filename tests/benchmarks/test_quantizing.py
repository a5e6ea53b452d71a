"""Quantizing one weight of 16384 x 3072, Phi-3-mini's largest: natively, by torch's operations, and by bitsandbytes."""

import itertools
from collections.abc import Callable
from typing import Any

import bitsandbytes.functional as bnb
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

from quant import NF4, W8A16, native, quantize_tensor
from quant.schemes import Scheme
from tests.benchmarks.conftest import Medians, times
from tests.strategies import normal

PHI3_WEIGHTS = 3_623_878_656
"""Of the 128 linear layers that the schemes quantize."""


def torch_operations(weight: Tensor, scheme: Scheme) -> object:
    with native.override("torch"):
        return quantize_tensor(weight, scheme)


def bitsandbytes_nf4(weight: Tensor, scheme: Scheme) -> object:
    return bnb.quantize_4bit(weight, blocksize=64, quant_type="nf4", compress_statistics=False)


WAYS: dict[str, Callable[[Tensor, Scheme], object]] = {
    "torch": torch_operations,
    "native": quantize_tensor,
    "bitsandbytes": bitsandbytes_nf4,
}
CASES = [
    (scheme, way)
    for scheme, way in itertools.product((W8A16(), NF4()), WAYS)
    if way != "bitsandbytes" or scheme.name == "nf4"
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("scheme", "way"), CASES, ids=lambda part: getattr(part, "name", part))
def test_quantize(
    scheme: Scheme,
    way: str,
    dtype: torch.dtype,
    benchmark: BenchmarkFixture,
    timed: Callable[..., Any],
    medians: Medians,
) -> None:
    weight = normal((16384, 3072) if times(benchmark) else (64, 128), std=0.02).to(dtype)
    group = f"quantize to {scheme.name} from {str(dtype).removeprefix('torch.')}"
    timed(group, way, WAYS[way], weight, scheme)
    if times(benchmark):
        seconds = medians[group, way]
        benchmark.extra_info["phi3_seconds"] = seconds * PHI3_WEIGHTS / weight.numel()
        if (group, "torch") in medians:
            benchmark.extra_info["vs_torch"] = medians[group, "torch"] / seconds
