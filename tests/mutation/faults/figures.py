"""Mistakes in what is told of measurements: intervals, sizes, speeds, fingerprints (`quant/evaluate`)."""

from tests.mutation.fault import Fault

FINGERPRINT = "tests/unit/evaluate/test_fingerprint.py"
FOOTPRINT = "tests/unit/evaluate/test_footprint.py"
GENERATION = "tests/unit/evaluate/test_generation.py"
PAIRED = "tests/unit/evaluate/test_paired.py"
PEAK_MEMORY = "tests/unit/evaluate/test_peak_memory.py"
STATISTICS = "tests/unit/evaluate/test_statistics.py"

FAULTS = (
    Fault(
        "mean-of-means",
        "evaluate/statistics.py",
        ".numpy()\n    mean = float(sums.sum() / counts.sum())",
        ".numpy()\n    mean = float((sums / counts).mean())",
        f"{STATISTICS}::test_a_short_last_window_weighs_its_tokens",
    ),
    Fault(
        "interval-too-narrow",
        "evaluate/statistics.py",
        "CONFIDENCE = 0.95",
        "CONFIDENCE = 0.90",
        f"{STATISTICS}::test_independent_windows_get_the_normal_interval_of_95_percent",
    ),
    Fault(
        "interval-too-wide",
        "evaluate/statistics.py",
        "CONFIDENCE = 0.95",
        "CONFIDENCE = 0.99",
        f"{STATISTICS}::test_independent_windows_get_the_normal_interval_of_95_percent",
    ),
    Fault(
        "windows-resampled-as-independent",
        "evaluate/statistics.py",
        "return 1 if math.isnan(block) else min(max(1, math.ceil(block)), len(series) // 2)",
        "return 1",
        f"{STATISTICS}::test_autocorrelated_windows_get_a_wider_interval_than_the_same_ones_shuffled",
    ),
    Fault(
        "interval-of-another-seed-each-time",
        "evaluate/statistics.py",
        "counts, seed=SEED)",
        "counts)",
        f"{STATISTICS}::test_the_same_values_give_the_same_interval_whatever_the_random_state",
    ),
    Fault(
        "interval-from-too-few-windows",
        "evaluate/statistics.py",
        "if len(sums) < MIN_WINDOWS:\n        reason",
        "if len(sums) < MIN_WINDOWS - 1:\n        reason",
        f"{STATISTICS}::test_too_few_windows_give_a_value_without_an_interval",
    ),
    Fault(
        "tokens-resampled-instead-of-windows",
        "evaluate/statistics.py",
        "    sums = window_sums(values, window_of_token).numpy()\n",
        "    window_of_token = torch.arange(len(values))\n    sums = window_sums(values, window_of_token).numpy()\n",
        f"{STATISTICS}::test_tokens_of_a_window_do_not_count_as_independent",
    ),
    Fault(
        "tied-weights-counted-twice",
        "evaluate/footprint.py",
        "if storage._cdata not in seen:",
        "if id(tensor) not in seen:",
        f"{FOOTPRINT}::test_tied_weights_count_once",
    ),
    Fault(
        "only-the-view-is-counted",
        "evaluate/footprint.py",
        "total += storage.nbytes()",
        "total += tensor.nbytes",
        f"{FOOTPRINT}::test_views_of_one_storage_count_it_once",
    ),
    Fault(
        "codes-counted-as-buffers",
        "evaluate/footprint.py",
        "if isinstance(module, QuantizedLinear):",
        "if module is None:",
        f"{FOOTPRINT}::test_quantized_layers_are_parameters_of_the_schemes_size",
    ),
    Fault(
        "decode-speed-includes-the-prefill",
        "evaluate/generation.py",
        "(new_tokens - 1) / (total - prefill)",
        "(new_tokens - 1) / total",
        f"{GENERATION}::test_speeds_follow_from_one_token_and_from_all",
    ),
    Fault(
        "decode-counts-the-prefill-s-token",
        "evaluate/generation.py",
        "decode = (new_tokens - 1) /",
        "decode = new_tokens /",
        f"{GENERATION}::test_speeds_follow_from_one_token_and_from_all",
    ),
    Fault(
        "first-call-is-timed",
        "evaluate/generation.py",
        "        _generate(model, inputs, min(2, new_tokens))\n",
        "",
        f"{GENERATION}::test_one_warm_up_and_then_both_lengths_in_turn",
    ),
    Fault(
        "mean-instead-of-median",
        "evaluate/generation.py",
        "statistics.median(whole)",
        "statistics.mean(whole)",
        f"{GENERATION}::test_times_are_medians_of_the_repeats",
    ),
    Fault(
        "generation-may-stop-early",
        "evaluate/generation.py",
        "min_new_tokens=new_tokens, ",
        "",
        f"{GENERATION}::test_one_warm_up_and_then_both_lengths_in_turn",
    ),
    Fault(
        "sampling-instead-of-greedy",
        "evaluate/generation.py",
        "do_sample=False",
        "do_sample=True",
        f"{GENERATION}::test_one_warm_up_and_then_both_lengths_in_turn",
    ),
    Fault(
        "peak-from-zero",
        "evaluate/generation.py",
        "process.memory_info().rss) - above.cpu_bytes)",
        "process.memory_info().rss))",
        f"{PEAK_MEMORY}::test_the_peak_sees_a_tensor_that_is_gone_before_the_end",
    ),
    Fault(
        "gpu-peak-with-what-was-there",
        "evaluate/generation.py",
        "max_memory_allocated(device) - above.gpu_bytes[device.index])",
        "max_memory_allocated(device))",
        f"{PEAK_MEMORY}::test_gpu_memory_is_that_of_the_given_devices_and_no_other",
    ),
    Fault(
        "threads-are-not-compared",
        "evaluate/fingerprint.py",
        "for name in left if left[name]",
        'for name in left if name != "threads" and left[name]',
        f"{FINGERPRINT}::test_the_differing_field_is_named_with_both_values",
    ),
    Fault(
        "ratio-upside-down",
        "evaluate/paired.py",
        "perplexity_ratio(baseline.losses, measured.losses,",
        "perplexity_ratio(measured.losses, baseline.losses,",
        f"{PAIRED}::test_figures_follow_from_the_tokens",
    ),
    Fault(
        "relative-change-in-percent",
        "evaluate/paired.py",
        "relative_change=after / before - 1",
        "relative_change=100 * (after / before - 1)",
        f"{PAIRED}::test_figures_follow_from_the_tokens",
    ),
    Fault(
        "fingerprints-are-not-compared",
        "evaluate/paired.py",
        "    require_comparable(baseline.fingerprint, measured.fingerprint)\n",
        "",
        f"{PAIRED}::test_measurements_of_different_things_are_refused",
    ),
)
