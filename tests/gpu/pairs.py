"""Which times on a GPU are held to each other, in one run: what is quantized to what it replaces, and to bitsandbytes.

No GPU has run them, so none has a portable limit: a limit comes from runs on one GPU (docs/benchmarks.md), and until a
machine has its own, runs are compared with earlier ones of that machine only.
"""

import itertools

from quant.variants import BASELINE
from tests.benchmarks.gating.ratios import Pair
from tests.benchmarks.test_linear import SHAPES
from tests.gpu.measuring import SCHEMES

ROWS = (1, 4, 16, 128, 512)
LAYERS = (
    *(("w8a16", "linear-bf16"), ("w8a16-fp16", "linear-fp16"), ("w8a16", "bnb-int8")),
    *(("nf4", "linear-bf16"), ("nf4-fp16", "linear-fp16"), ("nf4", "bnb-nf4")),
    *(("nf4-dq", "linear-bf16"), ("int4", "linear-bf16")),
)
MODELS = (*((scheme, BASELINE) for scheme in SCHEMES), ("w8a16", "bnb-int8"), ("nf4", "bnb-nf4"))


def gpu_pairs() -> list[Pair]:
    """Every pair of the benchmarks in this folder."""
    prefix = "tests/gpu/test_speed.py::test"
    layers = [
        Pair(
            f"on the GPU, {layer}, {rows} rows: {ours} / {other}",
            f"{prefix}_layer[{layer}-{rows}-{ours}]",
            f"{prefix}_layer[{layer}-{rows}-{other}]",
            f"on the GPU, {rows} rows",
        )
        for layer, rows, (ours, other) in itertools.product(SHAPES, ROWS, LAYERS)
    ]
    models = [
        Pair(
            f"on the GPU, generating: {name} / {other}",
            f"{prefix}_generation[{name}]",
            f"{prefix}_generation[{other}]",
            "on the GPU, generating",
        )
        for name, other in MODELS
    ]
    return [*layers, *models]
