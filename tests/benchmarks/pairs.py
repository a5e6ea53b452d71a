"""Which benchmarks are held to each other: what is quantized to what it replaces, and to who else does the same.

One row decodes, 16 rows are a small batch, 512 a prompt. A portable limit of 1 says "not slower than what it replaces".
It is claimed only where less memory is read for the same work or torch's operations do the same work in more passes:
one row in the same dtype, and quantizing natively beside torch's own operations. And only with the kernels for AVX-512:
there docs/benchmarks.md has ratios of 0.2 to 0.6 for one row, and for the others nobody has measured enough.
"""

import itertools

from quant import native
from quant.variants import BASELINE, VARIANTS
from tests.benchmarks import test_linear, test_quantizing
from tests.benchmarks.gating.ratios import Pair

ROWS = (1, 16, 512)
FLOAT_LAYERS = {
    "w8a16": "linear-bf16",
    "nf4": "linear-bf16",
    "nf4-dq": "linear-bf16",
    "int4": "linear-bf16",
    "w8a16-fp32": "linear-fp32",
    "nf4-fp32": "linear-fp32",
}
OTHER_LAYERS = {"w8a16": "bnb-int8", "nf4": "bnb-nf4"}
OTHER_MODELS = {"w8a16": "bnb-int8", "nf4": "bnb-nf4", "fp4": "bnb-fp4"}


def all_pairs() -> list[Pair]:
    """Every pair of the benchmarks in this folder."""
    return [*linear_pairs(), *generation_pairs(), *quantizing_pairs()]


def linear_pairs() -> list[Pair]:
    prefix = "tests/benchmarks/test_linear.py::test_linear"
    beside = [*FLOAT_LAYERS.items(), *OTHER_LAYERS.items()]
    return [
        Pair(
            f"{layer}, {rows} rows: {ours} / {other}",
            f"{prefix}[{layer}-{rows}-{ours}]",
            f"{prefix}[{layer}-{rows}-{other}]",
            f"{rows} rows",
            portable=1.0 if rows == 1 and other in FLOAT_LAYERS.values() and fast_kernels() else None,
        )
        for layer, rows, (ours, other) in itertools.product(test_linear.SHAPES, ROWS, beside)
    ]


def generation_pairs() -> list[Pair]:
    prefix = "tests/benchmarks/test_generation.py::test_generate"
    ours = [name for name in VARIANTS if name != BASELINE and not name.startswith("bnb-")]
    beside = [*((name, BASELINE) for name in ours), *OTHER_MODELS.items()]
    return [
        Pair(f"generating: {name} / {other}", f"{prefix}[{name}]", f"{prefix}[{other}]", "generating")
        for name, other in beside
    ]


def quantizing_pairs() -> list[Pair]:
    prefix = "tests/benchmarks/test_quantizing.py::test_quantize"
    return [
        Pair(
            f"quantizing to {scheme.name} from {dtype}: native / {way}",
            f"{prefix}[{scheme.name}-native-torch.{dtype}]",
            f"{prefix}[{scheme.name}-{way}-torch.{dtype}]",
            "quantizing",
            portable=1.0 if way == "torch" and fast_kernels() else None,
        )
        for (scheme, way), dtype in itertools.product(test_quantizing.CASES, ("float32", "bfloat16"))
        if way != "native"
    ]


def fast_kernels() -> bool:
    return native.variant() == "avx512"
