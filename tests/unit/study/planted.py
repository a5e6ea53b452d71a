"""A study with made-up records, in which NF4 wins everywhere by a round figure, for tests to turn around."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from quant.evaluate.fingerprint import Fingerprint
from quant.study.distributions import DISTRIBUTIONS
from quant.study.errors import MAGNITUDE_EDGES
from quant.study.formats import AFFINE, FORMATS, PLAIN
from quant.study.levels import cells
from quant.study.records import Code, Entropy, Error, Layer, Magnitude, Model, Speed, Study, Support
from quant.study.settings import QUICK

SIZES = (32, 64)
LAYERS = ("model.layers.0.mlp.down_proj", "model.layers.0.self_attn.qkv_proj")
ENVIRONMENT = Fingerprint(
    "ab" * 32, 640, 32, 32, None, "float32", 8, "cpu", cpu="a CPU", threads=1, versions={"torch": "2.13.0"}
)
SETTINGS = replace(QUICK, block_sizes=SIZES, formats=FORMATS, rounds=8)


def around(value: float, width: float = 0.01) -> tuple[float, float]:
    """An interval of `width` to either side."""
    return value - width, value + width


def error(distribution: str, name: str, size: int) -> Error:
    is_int4, is_plain = name.startswith("int4"), not name.endswith("-mse")
    mse = 0.01 * (1 if name.startswith("nf4") else 2)
    return Error(
        distribution=distribution,
        format=name,
        block_size=size,
        bits=4 + 32 / size,
        derived=mse if name in PLAIN else None,
        relative_mse=mse,
        interval=around(mse, 0.001),
        largest=0.1,
        against_int4=None if is_int4 else 3.0,
        against_int4_interval=None if is_int4 else around(3.0),
        against_absmax=None if is_plain else 0.5,
        against_absmax_interval=None if is_plain else around(0.5),
    )


def model(name: str, size: int) -> Model:
    is_int4 = name.startswith("int4")
    ratio = 1.01 if name.startswith("nf4") else 1.02
    return Model(
        format=name,
        block_size=size,
        bits=4 + 32 / size,
        footprint_bytes=None if name == AFFINE else 1000 + 32000 // size,
        perplexity=30 * ratio,
        ratio=ratio,
        ratio_interval=around(ratio, 0.001),
        against_int4=None if is_int4 else ratio / 1.02,
        against_int4_interval=None if is_int4 else around(ratio / 1.02, 0.001),
        against_absmax=0.99 if name.endswith("-mse") else None,
        against_absmax_interval=around(0.99, 0.001) if name.endswith("-mse") else None,
        kl=(ratio - 1) / 2,
        kl_interval=around((ratio - 1) / 2, 0.0001),
        top1=0.95,
    )


def magnitude(data: str, name: str, low: float, high: float) -> Magnitude:
    rmse = {"nf4": 0.02 if low < 0.5 else 0.07}.get(name, 0.04)
    return Magnitude(data, name, 64, low, high, 1 / 14, rmse, around(rmse, 0.001))


def codes(name: str, size: int) -> list[Code]:
    levels = enumerate(cells(name).levels)
    return [Code(name, size, rank, float(level), 1 / 16, 1 / 16, around(1 / 16), 1 / 16) for rank, level in levels]


def plant() -> Study:
    """All of it."""
    return Study(
        environment=ENVIRONMENT,
        settings=SETTINGS,
        float_perplexity=30.0,
        float_bytes=10000,
        codes=[code for name in PLAIN for size in SIZES for code in codes(name, size)],
        entropies=[Entropy(name, size, 4.0, 4.0, around(4.0)) for name in PLAIN for size in SIZES],
        errors=[error(data, name, size) for data in DISTRIBUTIONS for name in FORMATS for size in SIZES],
        magnitudes=[
            magnitude(data, name, low, high)
            for data in DISTRIBUTIONS
            for name in PLAIN
            for low, high in itertools.pairwise(MAGNITUDE_EDGES)
        ],
        layers=[
            Layer(name, size, 4096, 0.5, dict.fromkeys(FORMATS, 20.0), 1.0, around(1.0))
            for name in LAYERS
            for size in SIZES
        ],
        models=[model(name, size) for size in SIZES for name in FORMATS],
        speeds=[Speed(name, size, 100.0, [1.5] * 8, [1.0] * 8) for size in SIZES for name in ("float", *PLAIN)],
        support=[Support(name, ["portable"], ["aten::int4_mm"] if name == "int4" else [], 1e-8) for name in PLAIN],
    )


def changed(study: Study, part: str, chosen: Callable[[Any], bool], **values: Any) -> Study:
    """`study` with `values` in those records of `part` that are `chosen`."""
    rows = getattr(study, part)
    assert any(map(chosen, rows))
    turned: Any = {part: [replace(row, **values) if chosen(row) else row for row in rows]}
    return replace(study, **turned)
