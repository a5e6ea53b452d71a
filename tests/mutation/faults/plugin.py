"""Mistakes in the pytest plugin and what it calls: what must not be green, and what a project is told."""

from tests.mutation.fault import Fault

HOLDING = "tests/unit/pytest_plugin/test_holding.py"
BUDGETS = "tests/unit/pytest_plugin/test_budgets.py"
RECORDING = "tests/unit/pytest_plugin/test_recording.py"
REPORTS = "tests/unit/test_gate_reports.py"
OPTIONS = "tests/unit/pytest_plugin/test_options.py"

FAULTS = (
    Fault(
        "inconclusive-is-green",
        "accuracy_gate.py",
        "if result is None or result.verdict is not Verdict.PASS:",
        "if result is None or result.verdict is Verdict.REGRESSION:",
        f"{HOLDING}::test_what_is_inconclusive_fails",
    ),
    Fault(
        "no-model-is-this-librarys-own",
        "gated_model.py",
        "        if model is None:\n",
        "        model = NOT_GIVEN if model is None else model\n        if not scheme:\n",
        f"{HOLDING}::test_no_model_is_told_before_anything_is_measured",
    ),
    Fault(
        "formats-are-held-to-themselves",
        "gated_model.py",
        "check_layers(threshold.layers, ",
        "check_layers(layers, ",
        f"{HOLDING}::test_a_layer_left_unquantized_is_named",
    ),
    Fault(
        "a-limit-alone-is-no-budget",
        "accuracy_gate.py",
        "is_budget = max_perplexity_ratio is not None or max_kl is not None",
        "is_budget = max_perplexity_ratio is not None and max_kl is not None",
        f"{BUDGETS}::test_a_budget_needs_no_threshold",
    ),
    Fault(
        "poor-power-is-not-warned-of",
        "gate_reports.py",
        "if threshold.perplexity_margin > POOR_POWER:",
        "if threshold.perplexity_margin > 1 + POOR_POWER:",
        f"{HOLDING}::test_a_pass_tells_its_figures_and_poor_power",
    ),
    Fault(
        "recording-is-a-pass",
        "pytest_plugin.py",
        "        pytest.skip(",
        "        print(",
        f"{RECORDING}::test_recording_then_holding",
    ),
    Fault(
        "the-last-of-a-name-is-recorded",
        "accuracy_gate.py",
        "            if is_given or before.is_given:\n",
        "            if before.is_given:\n",
        f"{RECORDING}::test_a_name_is_recorded_for_one_model_in_a_run",
    ),
    Fault(
        "several-processes-write-one-file",
        "pytest_plugin.py",
        ' or config.getoption("tx", None)',
        "",
        f"{RECORDING}::test_recording_in_several_processes_is_refused",
    ),
    Fault(
        "the-baseline-is-recorded",
        "gated_model.py",
        "        if scheme == BASELINE:\n",
        "        if scheme is None:\n",
        f"{RECORDING}::test_what_is_not_there_is_told_while_recording",
    ),
    Fault(
        "a-text-of-few-windows-is-measured",
        "gated_model.py",
        "    if len(windows.spans) < MIN_WINDOWS:\n",
        "    if not windows.spans:\n",
        f"{RECORDING}::test_a_text_that_is_too_short_is_told_before_anything_is_measured",
    ),
    Fault(
        "what-changed-is-the-new-twice",
        "gate_reports.py",
        "ratio {old.perplexity_ratio:.6f} ->",
        "ratio {new.perplexity_ratio:.6f} ->",
        f"{REPORTS}::test_what_recording_changed_is_before_and_after",
    ),
    Fault(
        "no-scheme-is-no-test",
        "pytest_plugin.py",
        "    if not names:\n",
        "    if not names and given is None:\n",
        f"{OPTIONS}::test_what_selects_nothing_stops_the_run",
    ),
    Fault(
        "settings-go-before-options",
        "pytest_plugin.py",
        "    if option is not None:\n",
        '    if option is not None and not config.getini(f"quant_{name}"):\n',
        f"{OPTIONS}::test_options_go_before_settings",
    ),
    Fault(
        "a-text-is-found-where-pytest-starts",
        "pytest_plugin.py",
        'if name in ("text", "thresholds") or',
        'if name == "thresholds" or',
        f"{OPTIONS}::test_settings_are_found_beside_the_configuration",
    ),
    Fault(
        "a-model-is-a-folder-of-tests",
        "pytest_plugin.py",
        "            folders.remove(value)\n",
        "            pass\n",
        f"{OPTIONS}::test_short_options_are_ours_where_nobody_has_them",
    ),
    Fault(
        "options-of-the-project-are-taken",
        "pytest_plugin.py",
        "    free = [name for name in SHORT if _is_free(parser, name, options)]\n",
        "    free = SHORT\n",
        f"{OPTIONS}::test_options_of_the_project_go_before_ours",
    ),
    Fault(
        "a-ratio-is-no-limit-beside-another",
        "gated_model.py",
        "measured, max_perplexity_ratio, max_kl)",
        "measured, None if max_kl else max_perplexity_ratio, max_kl)",
        f"{BUDGETS}::test_a_budget_needs_no_threshold",
    ),
    Fault(
        "the-baseline-is-within-budget",
        "gated_model.py",
        "if self._baseline[1] <= float_layers(subject):",
        "if self._baseline[1] < float_layers(subject):",
        f"{BUDGETS}::test_a_model_that_is_not_quantized_is_refused",
    ),
    Fault(
        "what-stays-in-floats-is-not-held",
        "gated_model.py",
        "check_parameters(threshold.floats, ",
        "check_parameters(float_digests(subject), ",
        "tests/accuracy/test_gates.py::test_a_planted_fault_is_a_regression",
    ),
    Fault(
        "no-model-is-the-embedded-one",
        "pytest_plugin.py",
        'model, text = setting(config, "model"), ',
        'model, text = setting(config, "model") or REFERENCE, ',
        f"{OPTIONS}::test_a_model_and_its_text_are_named",
    ),
    Fault(
        "a-model-elsewhere-is-held-to-a-baseline-here",
        "gated_model.py",
        "            require_same_device(scheme, model, self.device)\n",
        "",
        f"{HOLDING}::test_a_model_on_another_kind_of_device_is_refused",
    ),
    Fault(
        "noise-is-not-made",
        "gated_model.py",
        "with rounding_noise(model, NOISE_SEED):",
        "with quiet_transformers():",
        f"{RECORDING}::test_what_rounding_does_is_measured",
    ),
    Fault(
        "an-empty-variable-is-the-embedded-model",
        "pytest_plugin.py",
        'for name in ("model", "text", "thresholds", "device"):',
        'for name in ("thresholds", "device"):',
        f"{OPTIONS}::test_an_empty_value_is_refused",
    ),
    Fault(
        "another-projects-configuration-is-taken",
        "pytest_plugin.py",
        "    _require_own_configuration(early_config, options, (*free, *LONG))\n",
        "",
        f"{OPTIONS}::test_a_path_elsewhere_that_pytest_takes_for_tests_is_refused",
    ),
)
