"""Mistakes in comparing, inspecting and reporting."""

from tests.mutation.fault import Fault

FILES = "tests/unit/report/test_files.py"
JSON_FILE = "tests/unit/report/test_json_file.py"
RENDERINGS = "tests/unit/report/test_renderings.py"
TABLES = "tests/unit/report/test_tables.py"
COMPARE = "tests/unit/test_compare.py"
COMPARE_SCHEMES = "tests/unit/test_compare_schemes.py"
INSPECTION = "tests/unit/test_inspection.py"
SOURCES = "tests/unit/test_sources.py"
VARIANTS = "tests/unit/test_variants.py"
DIFF = "tests/unit/diff/test_verdicts.py"

FAULTS = (
    Fault(
        "full-variant-forgets-the-head",
        "variants.py",
        'return [*(include or ("*",)), *heads]',
        'return [*(include or ("*",))]',
        f"{VARIANTS}::test_a_variant_quantizes_its_layers_and_leaves_every_other_tensor",
    ),
    Fault(
        "block-size-is-ignored",
        "variants.py",
        "return replace(searched, block_size=block_size) if isinstance(searched, Blockwise) else searched",
        "return searched",
        f"{VARIANTS}::test_the_block_size_is_for_our_four_bit_schemes",
    ),
    Fault(
        "unconverted-model-passes-for-quantized",
        "variants.py",
        "if name != BASELINE and not quantized:",
        "if name == BASELINE and quantized:",
        f"{VARIANTS}::test_a_model_that_bitsandbytes_leaves_as_it_is_is_not_passed_off_as_quantized",
    ),
    Fault(
        "quantized-layers-are-no-linear-ones",
        "variants.py",
        "return quantized, quantized + sum(is_linear(m) for m in modules)",
        "return quantized, sum(is_linear(m) for m in modules)",
        f"{VARIANTS}::test_a_variant_quantizes_its_layers_and_leaves_every_other_tensor",
    ),
    Fault(
        "times-smaller-upside-down",
        "compare.py",
        "_ratio(baseline.footprint_bytes, result.footprint_bytes)",
        "_ratio(result.footprint_bytes, baseline.footprint_bytes)",
        f"{COMPARE}::test_size_and_speed_are_told_in_terms_of_the_baseline_s",
    ),
    Fault(
        "scheme-asked-for-by-name-fails-in-silence",
        "cli/compare.py",
        "    if failed:\n",
        "    if failed and False:\n",
        "tests/unit/test_cli_files.py::test_a_scheme_that_fails_on_the_way_is_told_after_what_was_measured",
    ),
    Fault(
        "scheme-that-fails-costs-those-before-it",
        "compare.py",
        "            if name == BASELINE:\n",
        "            if name == BASELINE or request.schemes is not None:\n",
        f"{COMPARE_SCHEMES}::test_a_variant_that_fails_on_the_way_costs_no_record_of_the_others",
    ),
    Fault(
        "a-full-disk-costs-the-tables",
        "cli/delivery.py",
        "        failure = error\n",
        "        raise\n",
        "tests/unit/test_cli_files.py::test_a_disk_that_has_gone_does_not_cost_what_is_printed",
    ),
    Fault(
        "an-encoder-and-a-decoder-are-one-stack",
        "layer_names.py",
        "if behind and several else []",
        "if behind and not several else []",
        "tests/unit/test_layer_names.py::test_several_stacks_of_blocks_are_told_apart",
    ),
    Fault(
        "baseline-is-measured-twice",
        "compare.py",
        "names = list(dict.fromkeys((BASELINE, *(request.schemes or VARIANTS))))",
        "names = [BASELINE, *(request.schemes or VARIANTS)]",
        f"{COMPARE_SCHEMES}::test_every_variant_makes_a_record",
    ),
    Fault(
        "generation-in-the-place-of-the-prompt",
        "compare.py",
        "request.windows.ids[: request.prompt_tokens]",
        "request.windows.ids[: request.new_tokens]",
        f"{COMPARE}::test_generation_is_timed_and_shown",
    ),
    Fault(
        "first-quantized-layer-is-the-last",
        "inspection.py",
        "            break\n",
        "",
        f"{INSPECTION}::test_the_first_quantized_layer_is_shown_with_its_tensors",
    ),
    Fault(
        "change-in-percent-is-a-fraction",
        "report/tables.py",
        'f"{100 * v:+.4f}"',
        'f"{v:+.4f}"',
        f"{TABLES}::test_accuracy_cells",
    ),
    Fault(
        "mebibytes-are-megabytes",
        "report/tables.py",
        "/ 2**20:.2f}",
        "/ 1e6:.2f}",
        f"{TABLES}::test_size_cells_are_bytes_and_mebibytes",
    ),
    Fault(
        "schemes-that-failed-are-not-mentioned",
        "report/tables.py",
        'not measured: {result.error}" for result in comparison.results if result.error is not None)',
        'not measured: {result.error}" for result in comparison.results if not result.error)',
        f"{TABLES}::test_notes_say_what_was_measured_and_what_was_not",
    ),
    Fault(
        "sign-of-the-change-is-lost",
        "report/tables.py",
        'f"{v:+.4f}"),\n            _cell(result.perplexity_relative',
        'f"{v:.4f}"),\n            _cell(result.perplexity_relative',
        f"{TABLES}::test_accuracy_cells",
    ),
    Fault(
        "json-with-infinity",
        "report/json_file.py",
        "json.dumps(_finite(record), indent=2, allow_nan=False)",
        "json.dumps(record, indent=2)",
        f"{JSON_FILE}::test_the_documented_keys_are_there",
    ),
    Fault(
        "numbers-aligned-to-the-left",
        "report/markdown.py",
        '"---:" for _',
        '"---" for _',
        f"{RENDERINGS}::test_markdown_aligns_numbers_to_the_right",
    ),
    Fault(
        "bar-in-a-cell-splits-it",
        "report/markdown.py",
        '_one_line(cell).replace("|", "\\\\|")',
        "_one_line(cell)",
        f"{RENDERINGS}::test_brackets_are_not_markup",
    ),
    Fault(
        "brackets-are-markup",
        "report/terminal.py",
        "*(Text(cell) for cell in row)",
        "*row",
        f"{RENDERINGS}::test_brackets_are_not_markup",
    ),
    Fault(
        "half-a-report-is-left-behind",
        "report/files.py",
        "            temporary.unlink(missing_ok=True)\n",
        "            pass\n",
        f"{FILES}::test_a_full_disk_is_one_line_and_changes_nothing",
    ),
    Fault(
        "limit-of-tokens-is-ignored",
        "sources.py",
        "transformers.tokenize(tokenizer, text)[:max_tokens]",
        "transformers.tokenize(tokenizer, text)",
        f"{SOURCES}::test_options_reach_the_windows",
    ),
    Fault(
        "text-in-another-encoding-is-guessed",
        "sources.py",
        'text.read_text(encoding="utf-8")',
        'text.read_text(encoding="utf-8", errors="replace")',
        f"{SOURCES}::test_unreadable_texts_are_refused",
    ),
    Fault(
        "rounding-is-a-regression",
        "diff/checks.py",
        "mean.value - reach <= rounding",
        "mean.value - reach <= 0",
        f"{DIFF}::test_a_divergence_grows_by_what_rounding_adds",
    ),
    Fault(
        "every-error-is-rounding",
        "diff/checks.py",
        "min(of_scheme, most)",
        "of_scheme",
        f"{DIFF}::test_a_divergence_grows_by_what_rounding_adds",
    ),
)
