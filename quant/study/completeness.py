"""Whether a study is whole: its settings say which rows every part has, its formats which fields of them are empty.

The page looks rows up by format, block size and data, and takes extremes, ratios and logarithms of what it finds. So a
file of which a part is missing is told by that part, before anything is made of it, and so are figures of which those
would not exist. Not told: layers that are gone at every block size, as a study of all layers does not say how many
these are, and figures that are wrong but possible.
"""

import itertools
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import asdict
from typing import Any

from quant.schemes import BLOCK_SIZES
from quant.study.distributions import DISTRIBUTIONS
from quant.study.errors import MAGNITUDE_EDGES
from quant.study.formats import AFFINE, FORMATS, PLAIN, absmax_like, int4_like
from quant.study.levels import cells
from quant.study.records import Error, Model, Study
from quant.study.settings import Settings
from quant.study.speeds import FLOAT

POSITIVE = {
    "": ("float_perplexity", "float_bytes"),
    "errors": ("bits", "derived", "relative_mse", "interval"),
    "layers": ("weights",),
    "models": ("footprint_bytes", "perplexity", "ratio", "against_int4", "against_absmax", "kl"),
    "speeds": ("tokens_per_second", "over_float", "over_int4"),
}
"""Part -> fields that are above 0 where they are not null: logarithms and ratios are taken of them."""
LARGEST = 1e15
"""No figure of a study is as large."""
LARGEST_DB = 300.0
"""Of an SQNR, either way: far beyond what float32 can hold."""


def check_whole(study: Study) -> None:
    """Raises ValueError for a study of which something is missing, double or impossible, by its part."""
    _check_settings(study.settings)
    _check_rows(study)
    for part in ("errors", "models"):
        for row in getattr(study, part):
            _check_empty(part, row)
    _check_layers(study)
    _check_shares(study)
    _check_rounds(study)
    _check_figures("", {name: getattr(study, name) for name in POSITIVE[""]})
    for part in ("codes", "entropies", "errors", "magnitudes", "layers", "models", "speeds", "support"):
        for row in getattr(study, part):
            _check_figures(part, asdict(row))


def _check_settings(settings: Settings) -> None:
    sizes, formats = settings.block_sizes, settings.formats
    if not sizes or sorted(set(sizes) & set(BLOCK_SIZES)) != list(sizes):
        raise ValueError(f"settings.block_sizes are {list(sizes)}")
    if settings.block_size not in sizes:
        raise ValueError(f"settings.block_size {settings.block_size} is none of settings.block_sizes")
    compared = {other for name in formats for other in (int4_like(name), absmax_like(name))}
    if len(set(formats)) < len(formats) or not {"nf4", *compared} <= set(formats) <= set(FORMATS):
        raise ValueError(f"settings.formats are {', '.join(formats) or '(none)'}")
    counts = {name: value for name, value in asdict(settings).items() if isinstance(value, int)}
    _check_figures("settings", counts, positive=counts)


def _check_rows(study: Study) -> None:
    """Every part has one row for each of what it is about."""
    sizes, product = study.settings.block_sizes, itertools.product
    levels = [(name, rank) for name in PLAIN for rank in range(len(cells(name).levels))]
    bins = [(round(low, 6), round(high, 6)) for low, high in itertools.pairwise(MAGNITUDE_EDGES)]
    names = dict.fromkeys(row.layer for row in study.layers)
    _check_keys("codes", (((c.format, c.rank), c.block_size) for c in study.codes), product(levels, sizes))
    _check_keys("entropies", ((e.format, e.block_size) for e in study.entropies), product(PLAIN, sizes))
    _check_keys(
        "errors",
        ((e.distribution, e.format, e.block_size) for e in study.errors),
        product(DISTRIBUTIONS, FORMATS, sizes),
    )
    _check_keys(
        "magnitudes",
        ((m.distribution, m.format, m.block_size, (round(m.low, 6), round(m.high, 6))) for m in study.magnitudes),
        product(DISTRIBUTIONS, PLAIN, [study.settings.block_size], bins),
    )
    _check_keys("layers", ((row.layer, row.block_size) for row in study.layers), product(names, sizes))
    _check_keys("models", ((m.format, m.block_size) for m in study.models), product(study.settings.formats, sizes))
    _check_keys("speeds", ((s.format, s.block_size) for s in study.speeds), product((FLOAT, *PLAIN), sizes))
    _check_keys("support", ((s.format,) for s in study.support), product(PLAIN))


def _check_keys(part: str, found: Iterable[Hashable], promised: Iterable[Hashable]) -> None:
    rows, expected = Counter(found), Counter(promised)
    for problem, keys in (("lacks the row of", expected - rows), ("has one row too many of", rows - expected)):
        if keys:
            raise ValueError(f"{part} {problem} {next(iter(keys))}")


def _check_empty(part: str, row: Error | Model) -> None:
    """A format is not measured against itself; what is only simulated has no footprint, what is not derived no error.
    The intervals of a model are empty where its windows are too few.
    """
    where = f"{part}, {row.format} in blocks of {row.block_size}"
    empty = {
        "against_int4": int4_like(row.format) == row.format,
        "against_absmax": absmax_like(row.format) == row.format,
    }
    if isinstance(row, Error):
        empty |= {f"{name}_interval": is_empty for name, is_empty in empty.items()}
        empty["derived"] = row.format not in PLAIN
    else:
        empty["footprint_bytes"] = row.format == AFFINE
    for name, is_empty in empty.items():
        if (getattr(row, name) is None) is not is_empty:
            raise ValueError(f"{where}: {name} is {'not ' if is_empty else ''}null")


def _check_layers(study: Study) -> None:
    names = {row.layer for row in study.layers}
    if not names or (study.settings.layers is not None and len(names) > study.settings.layers):
        raise ValueError(f"layers are of {len(names)} layers")
    for row in study.layers:
        if set(row.sqnr) != set(FORMATS):
            raise ValueError(f"layers, {row.layer} in blocks of {row.block_size}: sqnr is not of all formats")
        if not all(abs(value) <= LARGEST_DB for value in row.sqnr.values()):
            raise ValueError(f"layers, {row.layer} in blocks of {row.block_size}: sqnr is beyond {LARGEST_DB:g} dB")


def _check_shares(study: Study) -> None:
    shares: dict[tuple[str, str], float] = {}
    for row in study.magnitudes:
        if row.share < 0:
            raise ValueError(f"magnitudes, {row.format} on {row.distribution} data: a share is {row.share:g}")
        key = row.distribution, row.format
        shares[key] = shares.get(key, 0.0) + row.share
    for (distribution, name), total in shares.items():
        if abs(total - 1) > 1e-6:  # of 14, each to 8 digits
            raise ValueError(f"magnitudes, {name} on {distribution} data: the shares add up to {total:g}")


def _check_rounds(study: Study) -> None:
    for row in study.speeds:
        for name in ("over_float", "over_int4"):
            count = len(getattr(row, name))
            if count != study.settings.rounds:
                raise ValueError(
                    f"speeds, {row.format} in blocks of {row.block_size}: {name} is of {count} rounds, "
                    f"not {study.settings.rounds}"
                )


def _check_figures(part: str, row: dict[str, Any], positive: Iterable[str] | None = None) -> None:
    """Every number of a row is a possible one, those of intervals and rounds included, and intervals ascend."""
    above = set(POSITIVE.get(part, ()) if positive is None else positive)
    for name, value in row.items():
        values: Sequence[Any] = value if isinstance(value, tuple) else (value,)
        if name.endswith("interval") and len(values) == 2 and values[0] > values[1]:
            raise ValueError(f"{part}, {name} is {list(values)}")
        for number in values:
            if isinstance(number, int | float) and not (-LARGEST if name not in above else 0) < number < LARGEST:
                raise ValueError(f"{part + ', ' if part else ''}{name} is {str(number)[:40]}")
