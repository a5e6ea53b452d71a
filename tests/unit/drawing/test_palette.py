"""Colours by numbers: contrast as WCAG defines it, and how far apart they are for people who see two primary colours.

Contrast: WCAG 2.2, "relative luminance" and "contrast ratio". Colour blindness: the matrices of Machado, Oliveira and
Fernandes (2009) for complete dichromacy, on linear RGB. Distance: CIE 1976 in L*a*b* under D65, where about 2.3 is just
noticeable.
"""

import itertools

import pytest

from quant.drawing.palette import DARK, DTYPES, FORMATS, LIGHT, LOOKS, OTHER_DTYPE, TEXT
from quant.variants import VARIANTS

BOTH = pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
SIGHT = {
    "normal": ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "tritanopia": ((1.255528, -0.076749, -0.178779), (-0.078411, 0.930809, 0.147602), (0.004733, 0.691367, 0.303900)),
}
XYZ = ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
WHITE = (0.9505, 1.0, 1.089)
APART = 10
"""Four times what is just noticeable."""


def times(matrix: tuple[tuple[float, ...], ...], vector: list[float]) -> list[float]:
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def linear(colour: str) -> list[float]:
    """Linear RGB, 0 to 1, of "#rrggbb"."""
    values = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]


def contrast(a: str, b: str) -> float:
    """From 1 to 21."""
    low, high = sorted(times(XYZ, linear(colour))[1] for colour in (a, b))
    return (high + 0.05) / (low + 0.05)


def lab(colour: str, sight: str) -> list[float]:
    """L*a*b* of what somebody sees."""
    seen = [min(max(v, 0.0), 1.0) for v in times(SIGHT[sight], linear(colour))]
    scaled = [v / w for v, w in zip(times(XYZ, seen), WHITE, strict=True)]
    x, y, z = (v ** (1 / 3) if v > 216 / 24389 else (24389 / 27 * v + 16) / 116 for v in scaled)
    return [116 * y - 16, 500 * (x - y), 200 * (y - z)]


def distance(a: str, b: str, sight: str) -> float:
    return float(sum((p - q) ** 2 for p, q in zip(lab(a, sight), lab(b, sight), strict=True)) ** 0.5)


def test_the_formulas_give_known_values() -> None:
    """Black on white is 21 to 1, and #767676 on white the well-known 4.54; black and white are 100 apart."""
    assert contrast("#000000", "#ffffff") == pytest.approx(21, abs=0.001)
    assert contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.005)
    assert distance("#000000", "#ffffff", "normal") == pytest.approx(100, abs=0.01)
    assert distance("#ff0000", "#00ff00", "normal") > 150 > 100 > distance("#ff0000", "#00ff00", "deuteranopia")


@BOTH
def test_text_and_lines_stand_out_from_what_they_are_on(colours: dict[str, str]) -> None:
    """WCAG AA: 4.5 to 1 for text, 3 to 1 for what is drawn. Grid lines are decoration."""
    for ground in ("page", "panel"):
        for name in TEXT:
            assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)
    for name in (*FORMATS, "muted", "ink"):
        assert contrast(colours[name], colours["page"]) >= 3, name


@BOTH
@pytest.mark.parametrize("sight", SIGHT)
def test_formats_are_told_apart_by_everyone(colours: dict[str, str], sight: str) -> None:
    for a, b in itertools.combinations((*FORMATS, "ink"), 2):
        assert distance(colours[a], colours[b], sight) >= APART, (a, b)
    for a, b in itertools.combinations({colour for colour, _ in (*DTYPES.values(), OTHER_DTYPE)}, 2):
        assert distance(colours[a], colours[b], sight) >= APART, (a, b)


def test_every_scheme_has_a_look_of_its_own_beyond_its_colour() -> None:
    assert tuple(LOOKS) == VARIANTS
    assert len({(look.marker, look.filled) for look in LOOKS.values()}) == len(LOOKS)
    assert {look.colour for look in LOOKS.values()} == {*FORMATS, "ink"}
    assert len(set(DTYPES.values()) | {OTHER_DTYPE}) == len(DTYPES) + 1


@BOTH
def test_a_colour_stands_for_one_thing(colours: dict[str, str]) -> None:
    """Each value becomes a variable of the page by what it is."""
    assert list(colours) == list(LIGHT)
    assert len(set(colours.values())) == len(colours)
