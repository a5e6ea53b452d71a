"""P1 to P7: bytes, blocks, tails, strides and orientation."""

from tests.faults.fault import Fault

FAULTS = (
    Fault(
        id="P1",
        title="An accumulator that is not reset between packed bytes",
        what="From the second byte of a thread on, codes were OR-ed with those before, which happened from a block "
        "size of 1024 on. For two years the tolerances of the tests, which grew with the block size, had room for it.",
        seen=("bnb#1721", "bnb#565", "bnb#1160", "bnb#1828"),
        here="Codes and bytes equal the oracle's and bitsandbytes' at every block size, and the mean error at each is "
        "what the levels predict, from both sides. No tolerance here depends on a configuration without a derivation.",
        tests=(
            "unit/test_blockwise.py::test_codes_bytes_and_absmax_equal_the_oracle",
            "property/test_expected_error.py::test_blockwise_formats_err_as_their_levels_predict",
            "parity/test_bitsandbytes.py::test_codes_absmax_and_values_are_theirs",
            "unit/native/test_bits.py::test_every_block_size",
        ),
    ),
    Fault(
        id="P2",
        title="Tails: a last block that is short, an odd number of weights",
        what="The last block was filled up with memory as it was found, so its absmax was arbitrary; up to six absmax "
        "were written beyond the end; dequantizing returned the padding.",
        seen=("bnb#1884", "bnb#2043", "ao#4186"),
        here="Counts on both sides of one, a pair and a block equal the oracle after memory was filled with NaN, and a "
        "build with sanitizers reads and writes no byte outside, nor one that was not written.",
        tests=(
            "unit/test_blockwise.py::test_tails_and_odd_counts_equal_the_oracle",
            "unit/test_blockwise.py::test_an_empty_weight_has_no_codes_and_no_absmax",
            "unit/test_tensor.py::test_what_is_stored_is_the_documented_table_and_its_bytes_are_the_scheme_s",
            "parity/test_bitsandbytes.py::test_codes_absmax_and_values_are_theirs",
            "unit/native/test_quantizing.py::test_sizes_with_tails",
            "unit/native/test_sanitizers.py::"
            "test_the_sanitizers_find_nothing_and_no_result_depends_on_what_memory_held",
        ),
    ),
    Fault(
        id="P3",
        title="Strides are ignored",
        what="A kernel that takes a raw pointer reads a slice in the order of memory: silently wrong on the CPU, where "
        "the test was skipped. Elsewhere a view fails, as for the last position of each sequence before the head.",
        seen=("bnb#1995", "bnb#1996", "pt#147588", "quanto@d73696f", "quanto@194150f"),
        here="Weights and activations are transposed, sliced, expanded and moved in memory; the result has the bits of "
        "their contiguous copies.",
        tests=(
            "unit/test_int8.py::test_strides_do_not_matter",
            "unit/test_blockwise.py::test_strides_do_not_matter",
            "property/test_purity.py::test_strides_and_offsets_do_not_matter",
            "unit/test_kernels.py::test_strides_of_x_do_not_matter",
            "unit/test_kernels.py::test_leading_dimensions_are_kept",
            "unit/test_kernels.py::test_no_rows_give_no_rows",
            "unit/native/test_independence.py::test_where_operands_lie",
            "unit/native/test_independence.py::test_strides_of_the_weight_do_not_matter",
        ),
    ),
    Fault(
        id="P4",
        title="Orientation guessed from the shape",
        what="A weight was transposed where its shape did not fit, so square ones never were; or the other way round, "
        "only the others failed.",
        seen=("gptqm#2913", "peft#3532", "bnb#765"),
        here="Square matrices without symmetry go through products, gradients, Conv1D and loading, and the tests show "
        "that the transposed one would be far off.",
        tests=(
            "unit/test_kernels.py::test_square_weights_are_not_transposed",
            "unit/test_gradients.py::test_the_gradient_through_a_square_weight_is_not_transposed",
            "unit/test_modules.py::test_conv1d_is_quantized_per_output_and_comes_back_as_conv1d",
            "unit/test_linears.py::test_a_conv1d_without_transposition_would_show",
            "unit/integrations/test_loading_refusals.py::test_a_weight_of_another_shape_stops_the_loading",
            "unit/integrations/test_peft.py::test_conv1d_bases_take_adapters_and_no_merge",
        ),
    ),
    Fault(
        id="P5",
        title="Widths that are no multiple of the kernel's tile",
        what="NaN in the last columns of a compiled int8 product with 65 outputs.",
        seen=("pt#140208",),
        here="Widths on both sides of every tile, and every small number of rows, have the oracle's bits in each "
        "variant of the kernels; compiled layers of odd widths have those of eager ones.",
        tests=(
            "unit/test_kernels.py::test_widths_on_both_sides_of_every_tile",
            "unit/native/test_bits.py::test_widths_on_both_sides_of_every_tile",
            "unit/native/test_bits.py::test_every_count_of_rows",
            "unit/cuda/test_bits.py::test_int8_tiles_of_every_size",
            "unit/cuda/test_rounded_weights.py::test_tiles_that_are_dequantized",
            "faults/test_packing.py::test_p5_compiled_layers_of_odd_widths_have_the_bits_of_eager",
        ),
    ),
    Fault(
        id="P6",
        title="Groups that do not divide the row",
        what="Widths such as 192 or 27392 are no multiples of the group: an unclear error far inside, groups that run "
        "into the next row, or checkpoints that another device cannot read. A group size of -1 meant the row for "
        "some.",
        seen=(
            "awq#578",
            "awq#602",
            "pytorch/torchchat#522",
            "gptqm#328",
            "gptqm#2130",
            "vllm-project/compressed-tensors#447",
        ),
        here="Blocks run over the ends of rows, which is documented and bitsandbytes' format; every other block size "
        "is refused with the list of those that are allowed. Layers of such widths multiply by the oracle's weight.",
        tests=(
            "unit/test_schemes.py::test_block_size_outside_the_list_is_refused_with_the_list",
            "unit/test_blockwise.py::test_blocks_run_over_row_ends_of_any_shape",
            "unit/native/test_bits.py::test_every_block_size",
            "faults/test_packing.py::test_p6_blocks_that_run_over_the_ends_of_rows_are_read_as_written",
        ),
    ),
    Fault(
        id="P7",
        title="The layout of bytes: nibble order, repacking, bytes seen as floats",
        what="Reader and writer disagreed on which nibble comes first; a packer of torch changed its input between two "
        "versions; a layout for one CPU was left in place when the weight moved; packed bytes stored as bfloat16 lost "
        "bits where a float operation normalised NaN.",
        seen=("quanto@c02750b", "bnb#2078", "bnb#2083", "bnb#1945", "bnb#1206"),
        here="Bytes are compared with written-down ones, with bitsandbytes' and with committed checkpoints; codes are "
        "integers throughout, those of others that are stored as floats are read as bytes, and what bitsandbytes has "
        "repacked is refused. Nothing is packed by torch.",
        tests=(
            "unit/test_packing.py::test_first_code_goes_to_the_high_nibble",
            "unit/test_blockwise.py::test_each_level_gets_its_code_and_comes_back",
            "unit/test_tensor.py::test_what_is_stored_is_the_documented_table_and_its_bytes_are_the_scheme_s",
            "parity/test_bitsandbytes.py::test_codes_absmax_and_values_are_theirs",
            "parity/test_bitsandbytes_checkpoints.py::"
            "test_codes_stored_under_a_float_dtype_are_read_and_written_as_bytes",
            "parity/test_bitsandbytes_faults.py::"
            "test_what_is_saved_after_a_forward_on_a_cpu_with_avx512_bf16_is_refused",
            "golden/test_packed.py::test_the_matrix_gets_its_bytes",
            "golden/test_packed.py::test_the_values_are_those_of_the_bytes_without_this_package",
            "golden/test_packed.py::test_the_first_of_two_codes_is_the_first_digit",
            "golden/test_checkpoints.py::test_it_loads_and_computes_the_same_bits",
            "golden/test_checkpoints.py::test_the_current_version_is_written_as_it_was",
        ),
    ),
)
