"""The conclusion follows the records: each of its sentences changes where they do, and says so where nothing is known.

In the planted records NF4 has half of int4's and of affine's KL divergence, with searched scales its own, as many bytes
as int4 and the same speed, in blocks of 32 and 64.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from quant.study.records import Model, Study
from quant.study.summary import beside_affine, beside_int4, in_short, with_searched_scales
from tests.unit.study.planted import around, changed, plant

AS_PLANTED = (
    "In blocks of 32 to 64 weights NF4's KL divergence from the float model is 0.50 times that of `int4`, whose levels "
    "are evenly spaced (lower at every block size), its footprint is equal to the byte at every block size, and it "
    "decodes at 1.00 times the speed (median, 95 % interval 1.00 to 1.00).",
    "`affine`, int4 with a zero point, has a lower KL divergence than NF4 at no block size (higher at every block "
    "size).",
    'With `scale="mse"` NF4\'s KL divergence is 1.00 times that with absmax scales (left open at every block size).',
)


def of(name: str, *sizes: int) -> Callable[[Any], bool]:
    """Chooses the records of a format, at these block sizes or at all."""
    return lambda row: row.format == name and (not sizes or row.block_size in sizes)


def kl(value: float) -> dict[str, Any]:
    return {"kl": value, "kl_interval": around(value, 0.0001)}


def without(study: Study, gone: Callable[[Model], bool]) -> Study:
    return replace(study, models=[model for model in study.models if not gone(model)])


def test_the_conclusion_of_the_planted_records() -> None:
    assert in_short(plant()) == AS_PLANTED


BESIDE_INT4: list[tuple[str, Callable[[Any], bool], dict[str, Any], str]] = [
    (
        "models",
        of("nf4", 64),
        kl(0.0125),
        "is 0.50 to 1.25 times that of `int4`, whose levels are evenly spaced (lower in blocks of 32 and higher in "
        "blocks of 64)",
    ),
    ("models", of("nf4"), kl(0.02), "is 2.00 times that of `int4`, whose levels are evenly spaced (higher at every"),
    ("models", of("nf4", 32), {"kl_interval": (0.001, 0.01)}, "(lower in blocks of 64 and left open in blocks of 32)"),
    ("models", of("int4"), {"kl_interval": None}, "(left open at every block size)"),
    (
        "models",
        of("nf4", 64),
        {"footprint_bytes": 1501},
        "its footprint is larger in blocks of 64 and equal to the byte in blocks of 32,",
    ),
    ("models", of("int4"), {"footprint_bytes": 9999}, "its footprint is smaller at every block size,"),
    (
        "speeds",
        of("nf4"),
        {"over_int4": [0.5, 0.7, 0.8, 0.9] * 2},
        "decodes at 0.75 times the speed (median, 95 % interval 0.50 to 0.90)",
    ),
    ("speeds", of("nf4"), {"over_int4": [0.5, 0.7]}, "0.60 times the speed (median, too few rounds for an interval)"),
]


@pytest.mark.parametrize(("part", "chosen", "values", "expected"), BESIDE_INT4, ids=[row[3] for row in BESIDE_INT4])
def test_the_sentence_on_int4(part: str, chosen: Callable[[Any], bool], values: dict[str, Any], expected: str) -> None:
    """The interval of 16 rounds is that from the 4th to the 13th: 4 of each speed, so from the least to the largest."""
    study = changed(plant(), part, chosen, **values)
    assert expected in beside_int4(study)
    assert in_short(study)[0] == beside_int4(study)


AFFINE = "`affine`, int4 with a zero point, has a lower KL divergence than NF4"


@pytest.mark.parametrize(
    ("chosen", "values", "expected"),
    [
        (
            of("affine", 32),
            kl(0.001) | {"bits": 6.0},
            f"{AFFINE} in blocks of 32, where it stores 6.00 bits for a weight and NF4 5.00 (higher in blocks of 64).",
        ),
        (
            of("affine"),
            kl(0.001),
            f"{AFFINE} at every block size, where it stores 5.00 to 4.50 bits for a weight and NF4 5.00 to 4.50.",
        ),
        (
            of("affine", 64),
            {"kl_interval": (0.001, 0.02)},
            f"{AFFINE} at no block size (higher in blocks of 32 and left open in blocks of 64).",
        ),
        (of("affine"), {"kl_interval": None}, f"{AFFINE} at no block size (left open at every block size)."),
    ],
    ids=["at one", "at all", "at none, one open", "at none, all open"],
)
def test_the_sentence_on_affine(chosen: Callable[[Any], bool], values: dict[str, Any], expected: str) -> None:
    study = changed(plant(), "models", chosen, **values)
    assert in_short(study) == (AS_PLANTED[0], expected, AS_PLANTED[2])


@pytest.mark.parametrize(
    ("chosen", "value", "expected"),
    [
        (
            of("nf4-mse", 32),
            0.004,
            "is 0.80 to 1.00 times that with absmax scales (lower in blocks of 32 and left open",
        ),
        (
            of("nf4-mse", 64),
            0.006,
            "is 1.00 to 1.20 times that with absmax scales (higher in blocks of 64 and left open",
        ),
        (of("nf4-mse"), 0.004, "is 0.80 times that with absmax scales (lower at every block size)."),
    ],
    ids=["lower at one", "higher at one", "lower at all"],
)
def test_the_sentence_on_scales(chosen: Callable[[Any], bool], value: float, expected: str) -> None:
    study = changed(plant(), "models", chosen, **kl(value))
    assert expected in with_searched_scales(study)
    assert in_short(study)[:2] == AS_PLANTED[:2]


def test_what_a_shortened_run_did_not_measure_is_said() -> None:
    """As `QUICK`: int4 and nf4 alone, in blocks of one size, which is named."""
    study = without(plant(), lambda model: model.format not in ("int4", "nf4") or model.block_size == 32)
    assert beside_affine(study) == "`affine`, int4 with a zero point, was not measured on the model."
    assert with_searched_scales(study) == '`scale="mse"` was not measured on the model.'
    assert beside_int4(study).startswith("In blocks of 64 weights NF4's KL")
    assert "(lower in blocks of 64), its footprint is equal to the byte in blocks of 64," in beside_int4(study)


def test_the_order_of_the_records_changes_nothing() -> None:
    study = changed(plant(), "models", of("affine"), **kl(0.001))
    assert in_short(replace(study, models=study.models[::-1], speeds=study.speeds[::-1])) == in_short(study)
