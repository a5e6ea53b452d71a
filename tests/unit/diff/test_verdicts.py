"""What changed between two runs: verdicts and figures against numbers computed here."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from scipy.stats import t

from quant.diff import diff
from quant.evaluate.gates import Verdict
from quant.records import Comparison, Result
from tests.unit.diff.runs import BASELINE, INT8, NOISE, RUN, moved, verdicts, with_result
from tests.unit.report.samples import ENVIRONMENT, LOSSES, WINDOW_TOKENS


def mean_and_reach(values: Sequence[float], tokens: Sequence[int]) -> tuple[float, float]:
    """The mean over tokens, and what it is uncertain by for single windows as blocks, at the gates' one in 10,000."""
    mean = math.fsum(v * n for v, n in zip(values, tokens, strict=True)) / sum(tokens)
    squares = math.fsum((n * (v - mean)) ** 2 for v, n in zip(values, tokens, strict=True))
    count = len(values)
    error = math.sqrt(squares * count / (count - 1)) / sum(tokens)
    return mean, float(t.ppf(1 - 0.5e-4, count - 1)) * error


def test_the_same_run_has_not_changed() -> None:
    found = diff(RUN, RUN)
    assert verdicts(found) == {
        "baseline": [("perplexity", "pass"), ("footprint", "pass")],
        "w8a16": [("perplexity ratio", "pass"), ("KL divergence", "pass"), ("footprint", "pass")],
    }
    assert not found.regressed
    assert not any(check.changed for scheme in found.schemes for check in scheme.checks)
    assert found.notes == ()
    assert [s.perplexity_change for s in found.schemes] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("by", "verdict"), [(0.01, "regression"), (0.0005, "inconclusive"), (-0.0005, "inconclusive"), (-0.01, "pass")]
)
def test_a_change_is_judged_by_its_own_uncertainty(by: float, verdict: str) -> None:
    """Of 25 windows with 1e-3 nats of noise the mean is known to 1e-3 nats."""
    mean, reach = mean_and_reach([by + noise for noise in NOISE], WINDOW_TOKENS)
    assert 0.0007 < reach < 0.0015
    expected = "regression" if mean > reach else "pass" if mean <= -reach else "inconclusive"
    assert expected == verdict
    found = diff(RUN, moved(by))
    check = found.schemes[1].checks[0]
    assert (check.name, check.verdict.value) == ("perplexity ratio", verdict)
    assert f": {100 * math.expm1(mean):+.4f} % +- {100 * math.expm1(reach):.4f} %: {verdict}" in check.text
    assert found.regressed is (verdict == "regression")
    bound = f", worse by {100 * math.expm1(mean + reach):+.4f} % at most"
    assert check.text.endswith(bound) is (verdict == "inconclusive")


def test_the_ratio_is_judged_and_not_the_loss() -> None:
    """Both moved alike, as with another release of torch: the scheme costs what it did, the model is worse."""
    worse = tuple(loss + 0.01 + noise for loss, noise in zip(LOSSES, NOISE, strict=True))
    scheme = tuple(loss + 0.01 + noise + 2e-5 for loss, noise in zip(LOSSES, NOISE, strict=True))
    found = diff(RUN, with_result(1, with_result(0, window_losses=worse), window_losses=scheme))
    assert found.schemes[0].checks[0].verdict is Verdict.REGRESSION
    # Sums in another order: differences of 1e-15 nats, which are no one's fault.
    assert found.schemes[1].checks[0].verdict is not Verdict.REGRESSION


def test_a_larger_divergence_is_a_regression_though_the_perplexity_is_the_same() -> None:
    kl = tuple(3.25e-5 + 1e-6 + 1e-4 * abs(noise) for noise in NOISE)
    found = diff(RUN, with_result(1, window_kl=kl, kl_mean=3.4e-5))
    assert verdicts(found)["w8a16"] == [
        ("perplexity ratio", "pass"),
        ("KL divergence", "regression"),
        ("footprint", "pass"),
    ]
    text = found.schemes[1].checks[1].text
    mean, reach = mean_and_reach([value - 3.25e-5 for value in kl], WINDOW_TOKENS)
    assert f"KL divergence 3.2500e-05 -> 3.4000e-05 nats: {mean:+.2e} nats +- {reach:.2e} nats" in text


@pytest.mark.parametrize(("change", "verdict"), [(1, "regression"), (0, "pass"), (-1, "pass")])
def test_one_byte_more_is_a_regression(change: int, verdict: str) -> None:
    found = diff(RUN, with_result(1, footprint_bytes=12_000_000 + change))
    check = found.schemes[1].checks[-1]
    assert (check.name, check.verdict.value, check.changed) == ("footprint", verdict, change != 0)
    assert found.regressed is (change > 0)


def test_a_missing_scheme_is_a_regression_and_a_new_one_is_not() -> None:
    fewer = replace(RUN, results=(BASELINE,))
    found = diff(RUN, fewer)
    assert found.regressed
    assert verdicts(found)["w8a16"] == [("scheme", "regression")]
    assert "w8a16: missing from the second run: regression" in found.schemes[1].checks[0].text
    found = diff(fewer, RUN)
    assert not found.regressed
    assert (found.schemes[1].before, found.schemes[1].checks, found.schemes[1].verdict) == (None, (), None)


def test_a_scheme_that_could_not_be_made_any_more_is_missing_with_its_reason() -> None:
    found = diff(RUN, replace(RUN, results=(BASELINE, Result("w8a16", error="no compiler"))))
    assert found.schemes[1].checks[0].text == "w8a16: missing from the second run: no compiler: regression"
    unmade = replace(RUN, results=(BASELINE, Result("w8a16", error="no compiler")))
    assert [s.scheme for s in diff(unmade, unmade).schemes] == ["baseline"]


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [(False, True, Verdict.REGRESSION), (True, False, Verdict.PASS), (True, True, Verdict.INCONCLUSIVE)],
)
def test_a_token_of_probability_0(before: bool, after: bool, verdict: Verdict) -> None:
    broken, other = (
        with_result(1, window_losses=(first, *LOSSES[1:-1], math.nan), perplexity=None, perplexity_ratio=None)
        for first in (3.5, 3.6)
    )
    found = diff(broken if before else RUN, other if after else RUN)
    check = found.schemes[1].checks[0]
    assert check.verdict is verdict
    assert "not finite" in check.text
    assert found.schemes[1].perplexity_change is None


def test_a_broken_model_that_is_the_same_has_not_changed() -> None:
    """A file holds null for what is not finite, and reads as NaN, which equals nothing."""
    broken = with_result(1, window_losses=(*LOSSES[:-1], math.nan), window_kl=(math.nan,) * 25, kl_mean=None)
    found = diff(broken, broken)
    assert found.schemes[1].verdict is Verdict.PASS
    assert not any(check.changed for check in found.schemes[1].checks)


@pytest.mark.parametrize(("speed", "verdict"), [(47.9, "regression"), (48.1, "pass"), (90.0, "pass")])
def test_a_limit_for_the_speed_is_held_to(speed: float, verdict: str) -> None:
    """60 tokens a second before: 20 % less are 48."""
    found = diff(RUN, with_result(1, tokens_per_second=speed), max_slowdown=0.2)
    assert verdicts(found)["w8a16"][-1] == ("speed", verdict)
    assert found.schemes[1].speed_change == speed / 60 - 1
    assert not diff(RUN, with_result(1, tokens_per_second=1.0)).regressed


def rounded(
    kl: float, dtype: str = "float32", scheme: float = 1e-6, baseline: float = 1e-7
) -> tuple[Comparison, Comparison]:
    """`RUN`, and it on another machine: losses of windows moved by so many nats, up and down; KL by `kl` everywhere."""
    assert INT8.window_losses is not None
    run = replace(RUN, environment=replace(ENVIRONMENT, dtype=dtype))
    signs = [(-1) ** window for window in range(25)]
    of_float = tuple(loss + sign * baseline for loss, sign in zip(LOSSES, signs, strict=True))
    of_scheme = tuple(loss + sign * scheme for loss, sign in zip(INT8.window_losses, signs, strict=True))
    kls = tuple(3.25e-5 + kl for _ in LOSSES)
    return run, with_result(1, with_result(0, run, window_losses=of_float), window_losses=of_scheme, window_kl=kls)


VARIANCE = (24 * 500**2 + 345**2) / 12_345
"""Of a token, for each squared nat that windows moved by."""


@pytest.mark.parametrize(
    ("dtype", "scheme", "baseline", "added"),
    [
        pytest.param("float32", 1e-6, 1e-7, VARIANCE * (1e-12 + 1e-14) / 2, id="as it moved"),
        pytest.param("float32", 1e-4, 1e-7, VARIANCE * (1e4 + 1) * 1e-14 / 2, id="no more than rounding can"),
        pytest.param("bfloat16", 1e-4, 1e-5, VARIANCE * 3 * 1e-10 / 2, id="of 16 bits"),
    ],
)
def test_a_divergence_grows_by_what_rounding_adds(dtype: str, scheme: float, baseline: float, added: float) -> None:
    """A thousandth below that is inconclusive, and above it a regression; of the same in every window s is 0."""
    for kl, verdict in ((0.999 * added, "inconclusive"), (1.001 * added, "regression")):
        check = diff(*rounded(kl, dtype, scheme, baseline)).schemes[1].checks[1]
        assert (check.name, check.verdict.value) == ("KL divergence", verdict)
        assert (f"of which rounding may be {added:+.2e} nats" in check.text) is (verdict == "inconclusive")


def test_nothing_is_taken_off_where_the_baseline_is_the_same() -> None:
    assert diff(*rounded(1e-13, baseline=0.0)).schemes[1].checks[1].verdict is Verdict.REGRESSION
    assert diff(*rounded(1e-13)).schemes[1].checks[1].verdict is Verdict.INCONCLUSIVE


def test_windows_that_overlap_are_not_taken_for_independent() -> None:
    """A change that goes on for several windows is known less well than as many independent ones."""
    slow = tuple(loss + 0.01 * (window // 5 % 2) for window, loss in enumerate(LOSSES))

    def reach(stride: int) -> float:
        before = replace(RUN, environment=replace(ENVIRONMENT, stride=stride))
        after = with_result(1, before, window_losses=slow)
        (found,) = re.findall(r"\+- ([\d.]+) %", diff(before, after).schemes[1].checks[0].text)
        return float(found)

    assert reach(254) > 1.5 * reach(255)
