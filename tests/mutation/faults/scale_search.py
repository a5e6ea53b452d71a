"""Mistakes in searching a scale of less squared error: `quant/numerics/scale_search.py` and where it is used."""

from tests.mutation.fault import Fault

SCALE_SEARCH = "tests/unit/test_scale_search.py"
SEARCHES = "tests/property/test_scale_search.py"

FAULTS = (
    Fault(
        "searched-scale-is-summed-by-vectors",
        "numerics/scale_search.py",
        "refined = _fold(weights * levels) / _fold(levels * levels)",
        "refined = (weights * levels).sum(dim=0) / (levels * levels).sum(dim=0)",
        f"{SCALE_SEARCH}::test_scales_are_the_oracle_s",
    ),
    Fault(
        "searched-scale-is-the-last-one-tried",
        "numerics/scale_search.py",
        "less = error < least",
        "less = error <= error",
        f"{SCALE_SEARCH}::test_scales_are_the_oracle_s",
    ),
    Fault(
        "searched-scale-wins-by-a-rounding",
        "numerics/scale_search.py",
        "least < plain_error * (1 - MARGIN)",
        "least < plain_error",
        f"{SCALE_SEARCH}::test_what_rounding_may_explain_is_no_gain",
    ),
    Fault(
        "searched-scale-is-any-that-was-tried",
        "numerics/scale_search.py",
        "return torch.where(least < plain_error * (1 - MARGIN), best, plain)",
        "return plain * factors[0]",
        f"{SEARCHES}::test_a_search_never_adds_squared_error_and_keeps_the_worst_case",
    ),
    Fault(
        "least-squares-step-leaves-the-factors",
        "numerics/scale_search.py",
        "consider(refined.clamp(plain * factors[0], plain * factors[-1]))",
        "consider(refined)",
        f"{SCALE_SEARCH}::test_a_refined_scale_stays_between_the_factors",
    ),
    Fault(
        "tiny-rows-are-searched",
        "numerics/scale_search.py",
        "searched = (plain >= low) & (plain <= high)",
        "searched = (plain > 0) & (plain <= high)",
        f"{SCALE_SEARCH}::test_scales_beyond_what_is_searched_are_kept",
    ),
    Fault(
        "searched-absmax-divides-nothing",
        "numerics/blockwise.py",
        "        reciprocal = (1.0 / largest.clamp(min=SMALLEST_DIVISOR)).clamp_(max=LARGEST)",
        "        reciprocal = (1.0 / blocks.abs().amax(dim=1).clamp(min=SMALLEST_DIVISOR)).clamp_(max=LARGEST)",
        f"{SCALE_SEARCH}::test_codes_are_the_nearest_ones_under_the_stored_scale",
    ),
)
