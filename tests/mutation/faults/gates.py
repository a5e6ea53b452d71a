"""Mistakes in holding a model to recorded thresholds and budgets: `quant/evaluate`."""

from tests.mutation.fault import Fault

GATES = "tests/unit/evaluate/test_gates.py"
BUDGETS = "tests/unit/evaluate/test_budgets.py"
NOISE = "tests/unit/evaluate/test_noise.py"
LAYERS = "tests/unit/evaluate/test_layers.py"
PLUGIN = "tests/unit/pytest_plugin/test_holding.py"
THRESHOLDS = "tests/unit/evaluate/test_thresholds.py"
RECORDING = "tests/unit/evaluate/test_recording.py"
WINDOWED_MEAN = "tests/unit/evaluate/test_windowed_mean.py"

FAULTS = (
    Fault(
        "standard-error-is-biased",
        "evaluate/statistics.py",
        "float((around**2).mean()) * blocks / (blocks - 1)",
        "float((around**2).mean())",
        f"{WINDOWED_MEAN}::test_it_is_the_documented_formula",
    ),
    Fault(
        "blocks-are-not-circular",
        "evaluate/statistics.py",
        "torch.cat([deviations, deviations[: length - 1]])",
        "deviations",
        f"{WINDOWED_MEAN}::test_it_is_the_documented_formula",
    ),
    Fault(
        "quantile-of-one-side",
        "evaluate/recording.py",
        "t.ppf(1 - FALSE_ALARM / 2,",
        "t.ppf(1 - FALSE_ALARM,",
        f"{RECORDING}::test_the_quantile_is_two_sided_and_the_margin_as_documented",
    ),
    Fault(
        "margin-of-one-model",
        "evaluate/recording.py",
        "math.sqrt(2) * mean.standard_error",
        "mean.standard_error",
        f"{RECORDING}::test_the_quantile_is_two_sided_and_the_margin_as_documented",
    ),
    Fault(
        "uncertain-model-passes",
        "evaluate/gates.py",
        "if low <= value - reach and value + reach <= high:",
        "if low <= value <= high:",
        f"{GATES}::test_a_verdict_is_where_value_and_reach_lie",
    ),
    Fault(
        "too-good-is-no-regression",
        "evaluate/gates.py",
        "if value - reach > high or value + reach < low:",
        "if value - reach > high:",
        f"{GATES}::test_a_verdict_is_where_value_and_reach_lie",
    ),
    Fault(
        "infinite-loss-is-inconclusive",
        "evaluate/gates.py",
        "if not math.isfinite(value):",
        "if math.isnan(value):",
        f"{GATES}::test_a_verdict_is_where_value_and_reach_lie",
    ),
    Fault(
        "changes-cancel-between-windows",
        "evaluate/recording.py",
        "math.sqrt(float(((now - then) ** 2 * tokens).sum() / tokens.sum()))",
        "abs(float(((now - then) * tokens).sum() / tokens.sum()))",
        f"{GATES}::test_the_change_check_sees_what_cancels_in_the_mean",
    ),
    Fault(
        "verdict-of-all-is-the-milder-one",
        "evaluate/gates.py",
        "ranked = (Verdict.REGRESSION, Verdict.INCONCLUSIVE)",
        "ranked = (Verdict.INCONCLUSIVE, Verdict.REGRESSION)",
        f"{GATES}::test_the_verdict_of_all_is_the_worst",
    ),
    Fault(
        "threshold-of-another-text-is-taken",
        "evaluate/gates.py",
        "    threshold.require_same_measurement(baseline.fingerprint)\n",
        "",
        f"{GATES}::test_another_text_is_refused_by_field",
    ),
    Fault(
        "threshold-of-another-model-is-taken",
        "evaluate/gates.py",
        "if not distance <= NOISE_FACTOR * threshold.baseline_noise:",
        "if math.isnan(distance):",
        f"{GATES}::test_another_unquantized_model_is_refused",
    ),
    Fault(
        "short-window-weighs-as-much-as-a-long-one",
        "evaluate/recording.py",
        "((now - then) ** 2 * tokens).sum() / tokens.sum()",
        "((now - then) ** 2).mean()",
        f"{RECORDING}::test_a_short_window_weighs_what_it_holds",
    ),
    Fault(
        "edited-margin-is-believed",
        "evaluate/gates.py",
        "    require_derived(threshold)\n",
        "",
        f"{RECORDING}::test_a_threshold_that_was_edited_is_refused",
    ),
    Fault(
        "rate-of-another-promise-is-believed",
        "evaluate/recording.py",
        "if rate != FALSE_ALARM or edited:",
        "if edited:",
        f"{RECORDING}::test_a_threshold_of_another_rate_is_refused",
    ),
    Fault(
        "broken-model-is-recorded",
        "evaluate/recording.py",
        "    if infinite:\n",
        "    if not infinite and noisy is None:\n",
        f"{RECORDING}::test_a_model_that_gives_a_token_probability_0_is_not_recorded",
    ),
    Fault(
        "threshold-of-a-gpu-holds-a-cpu",
        "evaluate/thresholds.py",
        "if (device == CPU) != (fingerprint.device == CPU):",
        "if device is None:",
        f"{GATES}::test_a_gpu_is_not_held_to_a_cpu_nor_a_cpu_to_a_gpu",
    ),
    Fault(
        "limit-on-the-ratio-holds-its-logarithm",
        "evaluate/budgets.py",
        "limit = math.log(max_perplexity_ratio)",
        "limit = max_perplexity_ratio",
        f"{BUDGETS}::test_a_budget_is_held_to_its_limits",
    ),
    Fault(
        "rounding-noise-stays",
        "evaluate/noise.py",
        "            handle.remove()\n",
        "            pass\n",
        f"{NOISE}::test_it_is_the_same_every_time_and_leaves_nothing",
    ),
    Fault(
        "a-layer-in-another-format-passes",
        "evaluate/layers.py",
        "if then.get(name) != now.get(name)]",
        "if (name in then) != (name in now)]",
        f"{LAYERS}::test_a_layer_left_one_more_and_one_less_are_regressions_by_name",
    ),
    Fault(
        "only-our-layers-are-looked-at",
        "evaluate/layers.py",
        "        elif (weight := _matrix(module)) is not None:\n",
        "        elif (weight := _matrix(module)) is not None and not weight.is_floating_point():\n",
        f"{LAYERS}::test_formats_are_the_schemes_of_our_layers_and_class_and_dtype_of_others",
    ),
    Fault(
        "an-edited-noise-is-believed",
        "evaluate/thresholds.py",
        'if entry.get("sha256") != _checksum(',
        'if "sha256" in entry and not _checksum(',
        f"{THRESHOLDS}::test_an_edited_threshold_is_refused",
    ),
    Fault(
        "another-model-of-the-name-is-held",
        "gated_model.py",
        "if recorded != self.weights_sha256:",
        "if not recorded:",
        f"{PLUGIN}::test_other_weights_are_another_model_before_anything_is_measured",
    ),
)
