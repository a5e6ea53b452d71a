"""Schemes: what they accept, what they are equal to, and their analytic facts against sums done by hand."""

import dataclasses
import itertools
import math
from fractions import Fraction

import pytest

from quant.errors import QuantError
from quant.schemes import BLOCK_SIZES, FP4, INT4, NF4, SCHEMES, W8A16, Blockwise, Scheme
from tests import oracle
from tests.strategies import ALL_SCHEMES, BLOCKWISE_SCHEMES, scheme_id

KINDS = (NF4, FP4, INT4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("block_size", [0, 1, 16, 48, 63, 65, 8192, -1, -64, True, None, "64", 64.0, 64.5])
def test_block_size_outside_the_list_is_refused_with_the_list(kind: type[Blockwise], block_size: object) -> None:
    with pytest.raises(QuantError, match=rf"{kind.__name__}: block_size .* use one of 32, 64, .*, 4096"):
        kind(block_size)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("double_quant", [1, 0, None, "yes"])
def test_double_quant_must_be_a_bool(kind: type[Blockwise], double_quant: object) -> None:
    with pytest.raises(QuantError, match=f"{kind.__name__}: double_quant must be True or False"):
        kind(64, double_quant)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [W8A16, *KINDS])
@pytest.mark.parametrize("scale", ["MSE", "max", "", None, True, ["mse"]])
def test_another_scale_is_refused_with_the_two_that_there_are(kind: type[Scheme], scale: object) -> None:
    with pytest.raises(QuantError, match=rf'^{kind.__name__}: scale must be "absmax" or "mse", got '):
        kind(scale=scale)  # type: ignore[arg-type]


def test_a_scheme_is_shown_as_before_there_were_scales_unless_its_are_searched() -> None:
    """Golden files have it so, and what an interrupted run of an older version left is taken up by it."""
    assert repr(NF4(128, True)) == "NF4(block_size=128, double_quant=True)"
    assert repr(W8A16()) == "W8A16()"
    assert repr(INT4(scale="mse")) == "INT4(block_size=64, double_quant=False, scale='mse')"
    assert repr(W8A16(scale="mse")) == "W8A16(scale='mse')"


def test_the_block_sizes_are_the_eight_of_bitsandbytes() -> None:
    assert tuple(2**exponent for exponent in range(5, 13)) == BLOCK_SIZES


def test_defaults_are_block_64_without_double_quantization() -> None:
    assert [(kind().block_size, kind().double_quant) for kind in KINDS] == [(64, False)] * 3


def test_equal_options_make_equal_schemes_and_nothing_else_does() -> None:
    assert len(set(ALL_SCHEMES)) == len(ALL_SCHEMES) == 49
    assert NF4(64) == NF4()
    assert hash(INT4(128, True)) == hash(INT4(128, True))


@pytest.mark.parametrize("scheme", ALL_SCHEMES, ids=scheme_id)
def test_a_scheme_cannot_be_changed(scheme: Scheme) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        scheme.bits = 3  # type: ignore[misc]


def test_every_option_but_the_scale_changes_the_format_tag_and_the_bytes() -> None:
    """An option that is added without a line here fails the first assertion."""
    other = {"block_size": 128, "double_quant": True}
    for kind in KINDS:
        assert {field.name for field in dataclasses.fields(kind)} == {*other, "scale"}
        for option, value in other.items():
            changed = kind(**{option: value})  # type: ignore[arg-type]
            assert changed.format_tag != kind().format_tag
            assert changed.storage_bytes(512, 512) < kind().storage_bytes(512, 512)
        searched = kind(scale="mse")
        assert (searched.format_tag, searched.storage_bytes(5, 77)) == (kind().format_tag, kind().storage_bytes(5, 77))
    assert {field.name for field in dataclasses.fields(W8A16)} == {"scale"}
    assert W8A16(scale="mse").storage_bytes(5, 77) == W8A16().storage_bytes(5, 77)


def test_format_tags_are_bytes_and_tell_every_scheme_from_every_other() -> None:
    tags = {scheme.format_tag for scheme in BLOCKWISE_SCHEMES}
    assert len(tags) == len(BLOCKWISE_SCHEMES)
    assert all(0 <= entry <= 255 for tag in tags for entry in tag)


@pytest.mark.parametrize(
    ("scheme", "tag"),
    [(NF4(64), (1, 0, 6, 0)), (FP4(32, True), (1, 1, 5, 1)), (INT4(4096), (1, 2, 12, 0))],
    ids=["nf4", "fp4", "int4"],
)
def test_format_tags_are_the_ones_in_existing_files(scheme: Blockwise, tag: tuple[int, ...]) -> None:
    assert scheme.format_tag == tag


@pytest.mark.parametrize(
    ("scheme", "shape", "expected"),
    [
        (W8A16(), (3, 5), 15 + 12),
        (NF4(64), (4, 64), 128 + 4 * 4 + 4),
        (NF4(64), (1, 65), 33 + 2 * 4 + 4),
        (NF4(64, True), (1, 65), 33 + 2 + 4 + 4 + 4),
        (FP4(32, True), (257, 32), 257 * 16 + 257 + 2 * 4 + 4 + 4),
        (INT4(4096), (1, 1), 1 + 4 + 4),
    ],
    ids=["rows", "full blocks", "tail and odd", "double quantization", "second group", "one weight"],
)
def test_storage_bytes_by_hand(scheme: Scheme, shape: tuple[int, int], expected: int) -> None:
    assert scheme.storage_bytes(*shape) == expected
    assert scheme.bits_per_weight(*shape) == 8 * expected / math.prod(shape)


@pytest.mark.parametrize("scheme", BLOCKWISE_SCHEMES, ids=scheme_id)
def test_worst_case_error_is_half_the_widest_gap_of_the_levels_in_use(scheme: Blockwise) -> None:
    levels = sorted({Fraction(level) for level in oracle.LEVELS[scheme.name] if abs(level) <= 1})
    widest = max(high - low for low, high in itertools.pairwise(levels))
    assert scheme.worst_case_error == widest / 2


def test_worst_case_error_of_int8_is_half_a_step_of_127() -> None:
    assert W8A16().worst_case_error == 0.5 / 127


def test_named_schemes_are_the_documented_ones() -> None:
    documented = {"w8a16": W8A16(), "nf4": NF4(), "nf4-dq": NF4(double_quant=True), "fp4": FP4(), "int4": INT4()}
    assert documented == SCHEMES
