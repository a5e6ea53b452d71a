"""Ratios within one run, and the limits that repeated runs give."""

import math

import numpy as np
import pytest

from tests.benchmarks.gating.ratios import Measured, Pair, Series, limits, measured_ratios, scatters, times_of
from tests.unit.benchmarks.runs import run

PAIR = Pair("a / b", "a", "b", "all")
STEPS = np.array([-2, -1, 0, 1, 2] * 2)
"""Ten values with a variance of 20 / 9."""


def series(logarithms: np.ndarray, group: str = "all", denominator: str = "b") -> Series:
    return Series(tuple(np.exp(logarithms).tolist()), group, denominator)


def test_a_ratio_is_of_first_quartiles_and_needs_both_sides() -> None:
    stats = {"a": {"min": 1.0, "q1": 3.0, "median": 9.0}, "b": {"min": 3.0, "q1": 4.0, "median": 5.0}}
    both = {"benchmarks": [{"fullname": name, "stats": each} for name, each in stats.items()]}
    assert measured_ratios(times_of(both), [PAIR]) == {"a / b": 0.75}
    for alone in ("a", "b"):
        assert measured_ratios(times_of(run({alone: 3.0})), [PAIR]) == {}


@pytest.mark.parametrize(("denominator", "quantile"), [("b", 4.2968), ("d", 3.6105)])
def test_bounds_are_students_prediction_bound_with_what_a_class_tells(denominator: str, quantile: float) -> None:
    """t(9, 1 - 0.001) = 4.2968 and t(18, 1 - 0.001) = 3.6105 from a printed table, for one denominator and two.

    Variances of 0.2 / 9 and 0.8 / 9 in one class: 0.5 / 9 is pooled, which the second exceeds. The third is alone.
    """
    measured = {
        "a / b": series(0.1 * STEPS),
        "c / d": series(1 + 0.2 * STEPS, denominator=denominator),
        "e / f": series(0.05 * STEPS, "other", "f"),
    }
    found = limits(measured, 0.003)
    for name, center, factor, variance in (
        ("a / b", 0, quantile, 0.5 / 9),
        ("c / d", 1, quantile, 0.8 / 9),
        ("e / f", 0, 4.2968, 0.05 / 9),
    ):
        reach = factor * math.sqrt(variance) * math.sqrt(1 + 1 / 10)
        assert math.log(found[name].center) == pytest.approx(center)
        assert math.log(found[name].high) == pytest.approx(center + reach, rel=1e-4)
        assert math.log(found[name].low) == pytest.approx(center - reach, rel=1e-4)


def drawn() -> list[tuple[Measured, float]]:
    """8,000 times the bounds of ten runs, at 5 %, and the ratio of one more run of the same code."""
    draws = np.random.default_rng(0).normal(0, 0.03, (8000, 11))
    return [(limits({"a / b": series(row[:10])}, 0.05)["a / b"], math.exp(row[10])) for row in draws]


def test_the_stated_share_of_healthy_runs_is_above_the_limit_and_as_many_below() -> None:
    """400 of 8,000, with a standard deviation of 19.5. A normal quantile in the place of Student's would give 538."""
    above = sum(value > measured.high for measured, value in drawn())
    below = sum(value < measured.low for measured, value in drawn())
    assert abs(above - 400) < 4 * 19.5
    assert abs(below - 400) < 4 * 19.5


def test_the_slowdown_that_a_ratio_catches_passes_as_rarely_as_a_healthy_run_fails() -> None:
    """400 of 8,000 again; a slowdown to limit / measured passes in every second run: 4,000, standard deviation 45."""
    passed = sum(value * (1 + measured.catches) <= measured.high for measured, value in drawn())
    assert abs(passed - 400) < 4 * 19.5
    even = sum(value * measured.high / measured.center <= measured.high for measured, value in drawn())
    assert abs(even - 4000) < 4 * 45


def test_a_pair_that_scatters_more_than_its_class_fails_as_rarely_as_stated() -> None:
    """Three pairs of four are still. At 5 % a pair t(36, 0.95) is 1.6883, and the tail of t(9) above that 0.0628: 502
    of 8,000, with a standard deviation of 21.7. By the pooled deviation alone, half of its own, it would be 1,690.
    """
    draws = np.random.default_rng(1).normal(0, 0.03, (8000, 11))
    quiet = {f"{name} / {name}": series(1e-3 * STEPS, denominator=name) for name in "cde"}
    found = [(limits({"a / b": series(row[:10]), **quiet}, 0.2)["a / b"], math.exp(row[10])) for row in draws]
    assert abs(sum(value > measured.high for measured, value in found) - 502) < 4 * 21.7


def test_no_limit_is_below_what_it_was_measured_from() -> None:
    """One run of ten is as far from the others as one can be, in a class of ten that is still but for that."""
    quiet = {f"{name} / {name}": series(1e-3 * STEPS, denominator=name) for name in "cdefghijk"}
    found = limits({"a / b": series(np.array([0.0] * 9 + [1.0])), **quiet})
    assert found["a / b"].high > math.e
    assert found["c / c"].high < 1.6


def test_rarer_false_alarms_make_a_limit_wider() -> None:
    measured = {"a / b": series(0.01 * STEPS)}
    assert limits(measured, 1e-5)["a / b"].high > limits(measured, 1e-3)["a / b"].high > math.exp(0.02)


def test_a_spread_needs_ten_runs_and_as_many_of_each() -> None:
    assert scatters({"a / b": series(STEPS)})["all"].degrees == 9
    with pytest.raises(ValueError, match="9 runs are too few"):
        scatters({"a / b": series(STEPS), "c / b": series(STEPS[:9])})
    with pytest.raises(ValueError, match="10 runs and of 20"):
        scatters({"a / b": series(STEPS), "c / b": series(np.tile(STEPS, 2))})
