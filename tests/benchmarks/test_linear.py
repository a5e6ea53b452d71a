"""One layer: ours beside nn.Linear and other quantized layers, for Phi-3-mini's four shapes and from one row to 512.

Each competitor cycles over copies that together are larger than the cache, as decoding does, which reads every weight
once per token. `vs_bf16` is how many times faster than nn.Linear in bfloat16 the median is, in the same group of the
same run; `read_share` the speed at which a layer gets through its bytes, as a share of the speed of summing them up.
"""

import copy
import importlib.util
import itertools
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from quant import NF4, W8A16, quantize_tensor
from tests.benchmarks.competitors import BASELINE, COMPETITORS, READS
from tests.benchmarks.conftest import Medians, times
from tests.strategies import normal

SHAPES = {"qkv": (9216, 3072), "o": (3072, 3072), "gate_up": (16384, 3072), "down": (3072, 8192)}
"""[out, in] of Phi-3-mini's layers."""
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 512)
CHECKED = {"small": (192, 256)}
"""Where nothing is timed."""
CACHE_BYTES = 160 * 2**20
"""Five times the last-level cache of the CPU that the figures in the documentation were measured on."""

Copies = Iterator[nn.Module]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Shapes outermost, so that the copies of one shape at a time are in memory."""
    timing = not metafunc.config.getoption("benchmark_disable")
    shapes, rows = (SHAPES, ROWS) if timing else (CHECKED, (1, 40))
    cases = [
        (layer, count, name)
        for layer, count, name in itertools.product(shapes, rows, COMPETITORS)
        if COMPETITORS[name].product or count == 1
    ]
    metafunc.parametrize(("layer", "rows", "name"), cases)


def stored_bytes(layer: nn.Module) -> int:
    return sum(part.nbytes for part in itertools.chain(layer.parameters(), layer.buffers()))


@pytest.fixture(scope="module")
def competitor() -> Callable[[str, str], tuple[int, Copies]]:
    """A function of (layer, name) to (bytes of one copy, copies in turn, for ever); one shape is kept at a time."""
    kept: dict[str, tuple[int, Copies]] = {}
    shape = ""

    @cache
    def weight(layer: str) -> Tensor:
        return normal({**SHAPES, **CHECKED}[layer], std=0.02)

    def get(layer: str, name: str) -> tuple[int, Copies]:
        nonlocal shape
        if layer != shape:
            kept.clear()
            weight.cache_clear()
            shape = layer
        if name not in kept:
            first = COMPETITORS[name].build(weight(layer))
            size = stored_bytes(first)
            count = max(2, -(-CACHE_BYTES // size)) if layer in SHAPES else 1
            copies = [first, *(copy.deepcopy(first) for _ in range(count - 1))]
            x = torch.ones(1, weight(layer).shape[1], dtype=COMPETITORS[name].dtype)
            with torch.inference_mode():
                for each in copies:
                    each(x)  # bitsandbytes packs its codes anew in the first call
            kept[name] = size, itertools.cycle(copies)
        return kept[name]

    return get


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torchao's compiled layers use what torch deprecates
def test_linear(
    layer: str,
    rows: int,
    name: str,
    benchmark: BenchmarkFixture,
    timed: Callable[..., Any],
    medians: Medians,
    competitor: Callable[[str, str], tuple[int, Copies]],
) -> None:
    if name == "torchao-int8" and importlib.util.find_spec("torchao") is None:
        pytest.skip("torchao is not installed")
    size, copies = competitor(layer, name)
    out_features, in_features = {**SHAPES, **CHECKED}[layer]
    x = normal((rows, in_features), seed=1).to(COMPETITORS[name].dtype)
    group = f"{layer} {out_features}x{in_features}, {rows} rows"
    y = timed(group, name, lambda: next(copies)(x))
    if not times(benchmark):
        check_product(name, x, y, out_features)
        return
    benchmark.extra_info.update({"layer": layer, "rows": rows, "bytes": size})
    if (group, BASELINE) in medians:
        benchmark.extra_info["vs_bf16"] = medians[group, BASELINE] / medians[group, name]
    if (group, READS.get(name, "")) in medians:
        benchmark.extra_info["read_share"] = medians[group, READS[name]] / medians[group, name]


def check_product(name: str, x: Tensor, y: Tensor, out_features: int) -> None:
    """Formats of 4 bits err by a tenth on normal data; a product with another matrix by 1 or more. What only reads has
    read every byte of the codes and scales.
    """
    weight = normal((out_features, x.shape[1]), std=0.02)
    if COMPETITORS[name].product:
        expected = x.double() @ weight.double().t()
        assert y.dtype == x.dtype
        assert torch.linalg.norm(y.double() - expected) < 0.25 * torch.linalg.norm(expected)
    else:
        stored = quantize_tensor(weight, {"read-int8": W8A16(), "read-nf4": NF4()}[name]).stored.values()
        parts = [part.numpy().view("int64") for part in (part.flatten() for part in stored) if part.nbytes > 8]
        assert y.tolist() == [part.sum().item() for part in parts]
        assert len(parts) == 2
