"""Faults in mixed precision: plans, what is measured of single layers, and what is chosen by that."""

from tests.mutation.fault import Fault

ASSIGNMENT = "tests/unit/test_assignment.py"
BIT_ALLOCATION = "tests/unit/sensitivity/test_bit_allocation.py"
PLANS = "tests/unit/sensitivity/test_plans_of_a_budget.py"
CLI = "tests/unit/test_cli_sensitivity.py"
FOR_A_WHILE = "tests/unit/test_convert_for_a_while.py"
MIXED_PRECISION = "tests/unit/test_mixed_precision.py"
REPORT = "tests/unit/report/test_sensitivity.py"
SENSITIVITY = "tests/unit/sensitivity/test_measurements.py"

FAULTS = (
    Fault(
        "unknown-fields-of-a-plan-are-passed-over",
        "mixed_precision.py",
        "    if unknown := sorted(content.keys() - needed - optional):\n",
        "    if unknown := sorted(optional - optional):\n",
        f"{MIXED_PRECISION}::test_what_is_not_understood_is_refused_with_the_file_s_name",
    ),
    Fault(
        "a-layer-named-twice-in-a-plan-has-the-last-scheme",
        "mixed_precision.py",
        "        if name in content:\n",
        "        if name in content and not name:\n",
        f"{MIXED_PRECISION}::test_what_is_not_understood_is_refused_with_the_file_s_name",
    ),
    Fault(
        "a-layer-that-a-plan-leaves-out-stays-float",
        "assignment.py",
        "        if not named:\n            raise QuantError(",
        "        if not named:\n            continue\n            raise QuantError(",
        f"{ASSIGNMENT}::test_a_plan_that_does_not_fit_is_refused_before_anything_is_changed",
    ),
    Fault(
        "a-tied-layer-of-a-plan-is-quantized",
        "assignment.py",
        "elif aliases[0] in fixed:",
        "elif aliases[0] in unreadable:",
        f"{ASSIGNMENT}::test_a_plan_that_does_not_fit_is_refused_before_anything_is_changed",
    ),
    Fault(
        "measured-layers-are-put-back-only-without-an-exception",
        "convert.py",
        "        yield report\n    finally:\n",
        "        yield report\n    except QuantError:\n        raise\n    else:\n",
        f"{FOR_A_WHILE}::test_an_exception_puts_them_back_too",
    ),
    Fault(
        "a-kind-is-measured-by-its-first-layer",
        "sensitivity/__init__.py",
        "quantized_for_a_while(model, dict.fromkeys(names, scheme))",
        "quantized_for_a_while(model, dict.fromkeys(names[:1], scheme))",
        f"{SENSITIVITY}::test_every_figure_is_that_of_the_model_with_these_layers_quantized",
    ),
    Fault(
        "the-least-sensitive-layer-is-ranked-first",
        "sensitivity/__init__.py",
        "-one.accuracy.kl.value",
        "one.accuracy.kl.value",
        f"{SENSITIVITY}::test_the_layer_that_was_made_sensitive_ranks_first",
    ),
    Fault(
        "the-mean-is-held-to-the-budget",
        "sensitivity/proposal.py",
        "interval[1] <= 1 + budget",
        "accuracy.ratio.value <= 1 + budget",
        f"{PLANS}::test_it_is_the_end_of_the_interval_that_is_held",
    ),
    Fault(
        "noise-is-credited-to-a-layer",
        "sensitivity/bit_allocation.py",
        "max(0.0, loss)",
        "loss",
        f"{BIT_ALLOCATION}::test_measurements_leave_float_and_every_scheme_to_choose_from",
    ),
    Fault(
        "a-plan-may-lose-twice-what-it-may",
        "sensitivity/bit_allocation.py",
        "self._losses[self._best] <= most_loss",
        "self._losses[self._best] <= 2 * most_loss",
        f"{BIT_ALLOCATION}::test_no_plan_within_the_loss_is_smaller_and_none_as_small_loses_less",
    ),
    Fault(
        "the-loss-of-a-plan-is-that-of-its-last-layer",
        "sensitivity/bit_allocation.py",
        "losses[before][less] + one.loss",
        "one.loss",
        f"{BIT_ALLOCATION}::test_of_more_plans_than_can_be_counted_it_is_the_smallest_to_the_byte",
    ),
    Fault(
        "the-largest-plan-that-loses-as-much",
        "sensitivity/bit_allocation.py",
        "np.where(prices < least_before",
        "np.where(prices <= least_before",
        f"{BIT_ALLOCATION}::test_of_choices_that_cost_the_same_the_smaller_is_taken",
    ),
    Fault(
        "plans-are-looked-for-among-the-too-small",
        "sensitivity/proposal.py",
        "                best = plan\n",
        "                too_few = most_bytes\n",
        f"{PLANS}::test_no_plan_that_fits_is_smaller",
    ),
    Fault(
        "a-plan-is-held-to-the-text-it-was-chosen-on",
        "sensitivity/proposal.py",
        "search.hold(chosen, held_to)",
        "search.hold(chosen, baseline)",
        f"{PLANS}::test_a_plan_is_held_to_windows_that_had_no_part_in_its_choice",
    ),
    Fault(
        "a-layer-without-a-divergence-is-drawn",
        "report/sensitivity_figure.py",
        " and one.accuracy.kl.value > 0]",
        "]",
        f"{REPORT}::test_the_figure_has_a_point_for_each_layer_with_a_place_on_a_logarithmic_axis",
    ),
    Fault(
        "no-plan-is-a-success",
        "cli/sensitivity.py",
        "        raise typer.Exit(1)\n",
        "        raise typer.Exit(0)\n",
        f"{CLI}::test_where_no_plan_is_within_the_budget_it_says_so_and_writes_none",
    ),
)
