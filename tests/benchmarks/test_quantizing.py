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

from quant import NF4, W8A16, QuantizedTensor, native, quantize_tensor
from quant.schemes import Scheme
from tests.benchmarks.conftest import Medians, times
from tests.strategies import bits, normal

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


@pytest.fixture
def native_calls(benchmark: BenchmarkFixture, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the native functions that quantize, as they are called; nothing is put between where it is timed."""
    calls: list[str] = []

    def recorded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            calls.append(name)
            return function(*arguments)

        return call

    if not times(benchmark):
        for name in ("quantize_int8", "quantize_blocks"):
            monkeypatch.setattr(native, name, recorded(name, getattr(native, name)))
    return calls


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("scheme", "way"), CASES, ids=lambda part: getattr(part, "name", part))
def test_quantize(
    scheme: Scheme,
    way: str,
    dtype: torch.dtype,
    benchmark: BenchmarkFixture,
    timed: Callable[..., Any],
    medians: Medians,
    native_calls: list[str],
) -> None:
    weight = normal((1024, 3072) if times(benchmark) else (64, 128), std=0.02).to(dtype)
    group = f"quantize to {scheme.name} from {str(dtype).removeprefix('torch.')}"
    result = timed(group, way, WAYS[way], weight, scheme)
    if not times(benchmark):
        assert bool(native_calls) is (way == "native" and native.variant() != "torch")
        check_stored(result, weight, scheme)
        return
    seconds = medians[group, way]
    benchmark.extra_info["phi3_seconds"] = seconds * PHI3_WEIGHTS / weight.numel()
    if (group, "torch") in medians:
        benchmark.extra_info["vs_torch"] = medians[group, "torch"] / seconds


def check_stored(result: Any, weight: Tensor, scheme: Scheme) -> None:
    """All ways do the same work: the bits that they store are those of torch's operations."""
    with native.override("torch"):
        expected = dict(quantize_tensor(weight, scheme).stored)
    if isinstance(result, QuantizedTensor):
        found = dict(result.stored)
    else:
        packed, state = result
        found = {"weight": packed.flatten(), "weight_absmax": state.absmax}
        del expected["weight_format"]
    assert {name: bits(part) for name, part in found.items()} == {name: bits(part) for name, part in expected.items()}
