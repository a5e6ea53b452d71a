"""The style leaves nothing behind, schemes are told apart, and error bars reach where their intervals end."""

import contextlib
import logging
import math

import matplotlib as mpl
import pytest

from quant.drawing.palette import LIGHT, LOOKS
from quant.drawing.style import drawable, drawing, error_bars, look


def test_settings_are_those_of_the_style_inside_and_the_users_afterwards() -> None:
    logger = logging.getLogger("matplotlib")
    with mpl.rc_context({"font.size": 3.5, "axes.grid": False, "lines.linewidth": 7.0}):
        before, level = dict(mpl.rcParams), logger.level
        with contextlib.suppress(ZeroDivisionError), drawing(lines__linewidth=1.25):
            assert (mpl.rcParams["font.size"], mpl.rcParams["axes.grid"]) == (10, True)
            assert mpl.rcParams["lines.linewidth"] == 1.25
            assert mpl.rcParams["text.color"] == LIGHT["ink"]
            raise ZeroDivisionError
        assert dict(mpl.rcParams) == before
        assert logger.level == level


def test_no_two_schemes_look_the_same() -> None:
    looks = [tuple(look(scheme, 5)[key] for key in ("color", "marker", "markerfacecolor")) for scheme in LOOKS]
    assert len(set(looks)) == len(LOOKS)


def test_error_bars_are_distances_to_the_ends_of_the_intervals() -> None:
    assert error_bars([1.0, 2.0], [(0.75, 1.5), [1.5, 2.25]]) == [[0.25, 0.5], [0.5, 0.25]]


@pytest.mark.parametrize("interval", [None, (math.nan, math.nan), (0.5, math.inf)])
def test_there_is_no_bar_without_a_finite_interval(interval: tuple[float, float] | None) -> None:
    assert error_bars([1.0], [interval]) == [[0.0], [0.0]]


def test_a_bar_is_never_of_negative_length() -> None:
    """The interval of a skewed bootstrap need not hold its value."""
    assert error_bars([1.0, 1.0], [(1.25, 1.5), (0.5, 0.75)]) == [[0.0, 0.5], [0.5, 0.0]]


def test_only_characters_of_every_font_are_drawn() -> None:
    assert drawable("layers.3 mlp_\u4e2d\x07\n~") == "layers.3 mlp_???~"
