"""Quantizing one weight of 1024 x 3072: natively, by torch's operations, and by bitsandbytes.

No call may take its memory fresh from the system: a page fault per 4 KiB would be most of the time, and come or not by
what ran before. The codes of Phi-3-mini's largest weight, 16384 x 3072, are 48 MiB: w8a16 took 32 ms with 12,289 faults
in every call, or 8 ms where the heap had a free block of that size. glibc takes blocks above its mmap threshold fresh,
and gives memory at the heap's end back above twice the threshold. The threshold follows the largest such block that was
freed, up to 32 MiB. So the weight is small (its largest temporary, of int64, has 24 MiB), and a block of 31 MiB is
freed first. The median call then has no fault, whatever the scheme, way and dtype; without that, torch's NF4 has 9,184.

What still moves is how many cores are free: in seven sessions beside another job on two cores, the medians of w8a16
from float32 were 0.28 ms in one and 0.51 to 0.60 ms in the others.

`phi3_seconds` is thus arithmetic on memory that is there: fresh pages for what is stored come on top.
"""

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

FREED_BYTES = 31 * 2**20
"""Below 32 MiB, above which glibc's threshold does not follow."""


@pytest.fixture(autouse=True, scope="module")
def high_mmap_threshold() -> None:
    """Frees a block, so that malloc keeps the memory of smaller ones from call to call."""
    torch.empty(FREED_BYTES, dtype=torch.uint8)


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
    weight = normal((1024, 3072) if times(benchmark) else (64, 128), std=0.02).to(dtype)
    group = f"quantize to {scheme.name} from {str(dtype).removeprefix('torch.')}"
    timed(group, way, WAYS[way], weight, scheme)
    if times(benchmark):
        seconds = medians[group, way]
        benchmark.extra_info["phi3_seconds"] = seconds * PHI3_WEIGHTS / weight.numel()
        if (group, "torch") in medians:
            benchmark.extra_info["vs_torch"] = medians[group, "torch"] / seconds
