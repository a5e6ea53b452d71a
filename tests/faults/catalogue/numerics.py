"""N1 to N9: scales, rounding, ranges and tables."""

from tests.faults.fault import Fault

FAULTS = (
    Fault(
        id="N1",
        title="A row or block of zeros is divided by its own absmax",
        what="The scale of an all-zero row is 0, the weight is divided by it, and the NaN ends up in the scale or the "
        "code. Padded vocabulary rows and dead experts trigger it; one NaN scale poisons every output it touches, and "
        "a scale of 0 can hide a NaN code, so the dequantized value alone proves nothing.",
        seen=("intel/auto-round#1908", "lcpp#3010", "lcpp#7805", "lcpp#20460", "gptqm#1531", "apple/coremltools#2851"),
        here="Zero rows and blocks, of 0.0 and of -0.0, have codes of zero and the documented scale, in every dtype, "
        "and leave their neighbours alone; their outputs are the bias to the bit, natively and through torch.",
        tests=(
            "unit/test_int8.py::test_zero_rows_get_scale_zero_and_leave_their_neighbours_alone",
            "unit/test_blockwise.py::test_zero_blocks_get_the_zero_code_and_leave_their_neighbours_alone",
            "unit/test_blockwise.py::test_a_zero_tail_stores_the_smallest_divisor_and_comes_back_as_zero",
            "unit/test_double_quantization.py::test_equal_values_have_scale_zero_and_come_back_exactly",
            "faults/test_numerics.py::test_n1_rows_of_zeros_add_nothing_to_the_bias",
        ),
    ),
    Fault(
        id="N2",
        title="Tiny rows: the reciprocal overflows or the stored scale underflows",
        what="An absmax near 1e-38 passes a test for zero, its reciprocal is infinite and infinity over infinity is "
        "NaN. Or the scale is kept in float16, where it becomes 0 although the weights themselves do not.",
        seen=("lcpp#7311", "lcpp#7313", "lcpp#3010", "apple/coremltools#2851", "awq#519"),
        here="Scales are float32 only. Magnitudes from 1e-45 to the end of each dtype keep the error bound down to the "
        "smallest scale that is kept, and are zeros below it, also on CPUs that flush subnormals.",
        tests=(
            "unit/test_int8.py::test_tiny_rows_stay_accurate_until_the_scale_leaves_the_normal_range",
            "unit/test_int8.py::test_the_smallest_kept_scale_is_twice_the_smallest_normal_float32",
            "unit/test_int8.py::test_rows_of_normal_numbers_do_not_depend_on_flushing_subnormals",
            "unit/test_blockwise.py::test_tiny_and_huge_blocks_stay_finite_and_within_their_absmax",
            "unit/test_flushed_subnormals.py::test_blocks_of_zeros_and_subnormals_are_zeros",
            "unit/test_flushed_subnormals.py::test_any_magnitude_stays_finite_and_within_the_error_bound",
            "unit/native/test_quantizing.py::test_edge_rows",
        ),
    ),
    Fault(
        id="N3",
        title="Epsilon or scale taken in the dtype of the weight",
        what="A floor of finfo(bfloat16).eps, which is 0.0078, gives every row with an absmax below 1 a scale that is "
        "far too large; a scale computed in bfloat16 instead of float32 costs 0.6 dB. Both came with a rewrite and "
        "changed no test.",
        seen=("ao#3664", "ao#4326"),
        here="A bfloat16 or float16 weight gets the codes and scales of its float32 copy; scales are held to one "
        "float32 rounding, mean errors to what the levels predict from both sides, and a run with scales rounded to "
        "bfloat16 shows that the accuracy tests see it.",
        tests=(
            "unit/test_int8.py::test_half_precision_weights_get_a_float32_scale",
            "property/test_int8_round_trip.py::test_half_precision_weights_are_quantized_as_their_float32_copies",
            "property/test_blockwise_round_trip.py::test_half_precision_weights_are_quantized_as_their_float32_copies",
            "property/test_expected_error.py::test_w8a16_errs_as_its_grid_predicts",
            "accuracy/test_gates.py::test_a_planted_fault_is_a_regression",
        ),
    ),
    Fault(
        id="N4",
        title="float16 overflows before the scale is applied",
        what="The sum of activations times codes exceeds 65504 in float16, and the scale that would bring it back "
        "comes too late. Tests with inputs between -1 and 1 never saw it.",
        seen=(
            "ao#1662",
            "ao#1698",
            "huggingface/diffusion-fast#1",
            "quanto@86df68a",
            "quanto@0a429d4",
            "awq#532",
            "lcpp#26223",
        ),
        here="Sums are of integers, or of floats that are scaled first. Inputs reach the ends of float16 and float32, "
        "for one row and for many, natively and through torch.",
        tests=(
            "unit/test_kernels.py::test_float16_does_not_overflow_where_the_result_fits",
            "unit/native/test_edge_rows.py::test_lanes_that_leave_float32_are_summed_in_float64",
            "faults/test_numerics.py::test_n4_float16_products_beyond_its_range_do_not_overflow",
        ),
    ),
    Fault(
        id="N5",
        title="Truncating instead of rounding, wrapping instead of saturating",
        what="A cast to int8 truncates towards zero, which is a bias of up to one code, and wraps beyond the range: "
        "128 becomes -128, NaN becomes 0. A reference that truncates too makes the test agree.",
        seen=("sgl-project/sglang-jax#1598", "astramind-ai/BitMat#13", "ROCm/aiter#4637"),
        here="Ties, and values just beside them, have written-down codes; the error equals the distance to the nearest "
        "level elementwise, its mean has no sign, and NaN and Inf are refused.",
        tests=(
            "unit/test_int8.py::test_rounds_to_nearest_and_halves_to_even",
            "unit/test_int8.py::test_rounding_has_no_bias_towards_zero",
            "unit/test_int8.py::test_every_code_is_reached_and_minus_128_is_not",
            "unit/test_int8.py::test_nan_and_infinity_are_refused_with_their_number",
            "property/test_int8_round_trip.py::test_the_error_is_the_distance_to_the_grid",
            "unit/test_blockwise.py::test_midpoints_take_the_lower_level_and_their_neighbours_the_nearest",
            "unit/test_blockwise.py::test_nan_and_infinity_are_refused",
            "unit/native/test_rounding.py::test_activations_on_ties",
        ),
    ),
    Fault(
        id="N6",
        title="Conventions of the code range: largest code, -128, offset, saturation",
        what="The largest code was derived by a formula that is wrong for some types; signed codes were packed without "
        "their offset, which the reader made up for; on CPUs without VNNI the product of unsigned and signed bytes "
        "saturates at 16 bits, so full-range codes are silently wrong.",
        seen=("quanto@a4dfdb6", "gptqm#2357", "gptqm#2356", "ao#4266", "quanto@76e59a1"),
        here="Every code of every format makes the round trip, -128 is never written, and negated weights have negated "
        "codes. The products of the largest codes and activations are exact in each variant of the kernels.",
        tests=(
            "unit/test_int8.py::test_every_code_is_reached_and_minus_128_is_not",
            "property/test_int8_round_trip.py::test_every_code_comes_back_whatever_the_scale",
            "property/test_blockwise_round_trip.py::test_every_code_comes_back_whatever_the_absmax",
            "property/test_symmetries.py::test_w8a16_mirrors_the_codes_of_the_negated_weight",
            "property/test_symmetries.py::test_int4_mirrors_the_codes_but_where_a_quotient_is_a_tie",
            "unit/native/test_edge_rows.py::test_sums_that_leave_int32",
            "faults/test_numerics.py::test_n6_the_largest_codes_and_activations_give_exact_sums",
        ),
    ),
    Fault(
        id="N7",
        title="A zero point off by one, or wrapped in its field",
        what="A format stores the zero point less one and the reader adds one; 0 becomes 15 in four bits. Checkpoints "
        "of one version read as the other shift every weight by a step, little enough to look like the usual loss.",
        seen=("gptqm#2350", "gptqm#2351", "autogptq#325", "autogptq#640", "vllm#38966", "ao#3685"),
        here="All formats here are symmetric and have no zero point. What is nearest to one is the offset of double "
        "quantization, held to the oracle, and the nibbles, of which every pair makes its byte. Formats and versions "
        "are told apart by what is stored, not by trust.",
        tests=(
            "unit/test_double_quantization.py::test_codes_scales_and_values_equal_the_oracle",
            "unit/test_double_quantization.py::test_offset_is_the_mean_within_the_error_of_a_float32_sum",
            "unit/test_packing.py::test_every_pair_of_codes_makes_its_byte",
            "contract/battery/test_loading.py::test_tensors_of_equal_shapes_but_another_format_are_told_apart",
            "unit/integrations/test_loading_refusals.py::test_a_newer_format_is_refused_with_the_remedy",
        ),
    ),
    Fault(
        id="N8",
        title="Tables of levels that differ between backends",
        what="One backend had 0.00520833 for 1/192 in the FP4 table; a published generator does not give the NF4 "
        "levels that are in use; NF4 was scaled by the formula for integers.",
        seen=("bnb#2026", "bnb#1772", "inc#1241"),
        here="The levels are bitsandbytes' to the bit, each gets its own code and comes back, and the native kernels "
        "of each variant write the codes that torch's operations do. On a GPU the codes are compared with the CPU's "
        "by a test that needs one.",
        tests=(
            "unit/test_codebooks.py::test_levels_are_the_reference_levels_exactly",
            "unit/test_blockwise.py::test_each_level_gets_its_code_and_comes_back",
            "unit/test_blockwise.py::test_midpoints_take_the_lower_level_and_their_neighbours_the_nearest",
            "unit/test_blockwise.py::test_the_absmax_of_a_block_comes_back_exactly",
            "parity/test_bitsandbytes.py::test_the_levels_are_theirs",
            "parity/test_bitsandbytes.py::test_codes_absmax_and_values_are_theirs",
            "unit/native/test_quantizing.py::test_sizes_with_tails",
            "gpu/test_layers.py::test_quantizing_on_the_gpu_gives_the_codes_of_the_cpu",
        ),
    ),
    Fault(
        id="N9",
        title="Quantizing changes its input or does not repeat",
        what="In-place arithmetic inside the quantizing function altered the caller's weight for two months; a merge "
        "that was called safe wrote to the weight before it checked for NaN.",
        seen=("inc#1703", "peft#3411"),
        here="Inputs of quantizing, dequantizing, products, evaluation and saving are compared bit for bit before and "
        "after, results are repeated, and a refusal or an interruption leaves the model as it was.",
        tests=(
            "property/test_purity.py::test_quantizing_and_dequantizing_change_no_input_and_repeat",
            "property/test_purity.py::test_forward_is_the_exact_product_within_float32_and_changes_nothing",
            "unit/test_kernels.py::test_operands_are_unchanged_and_the_result_repeats",
            "unit/native/test_quantizing.py::test_strides_do_not_matter_and_the_weight_is_unchanged",
            "contract/battery/test_forward.py::test_forward_changes_nothing_and_repeats",
            "unit/test_convert_refusals.py::test_a_refusal_leaves_the_model_as_it_was",
            "unit/test_convert_refusals.py::test_an_interruption_leaves_the_model_as_it_was",
            "contract/battery/test_adapters.py::test_merging_into_codes_is_refused_and_changes_nothing",
            "faults/test_serialization.py::test_s6_saving_changes_neither_the_model_nor_what_a_second_saving_writes",
        ),
    ),
)
