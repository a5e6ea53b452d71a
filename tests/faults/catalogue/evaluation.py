"""E1 to E10: perplexity, divergence, and tests that hide faults."""

from tests.faults.fault import Fault

FAULTS = (
    Fault(
        id="E1",
        title="The mean of the windows' means",
        what="A short last window weighs as much as a full one; the official guide computed perplexity so for years.",
        seen=("tf#34138", "tf#34387"),
        here="Losses are summed in float64 over tokens and divided once by their number, which a short window of huge "
        "losses shows; the same for intervals and for the perplexity that training records.",
        tests=(
            "unit/evaluate/test_perplexity.py::test_a_short_last_window_weighs_as_many_tokens_as_it_holds",
            "unit/evaluate/test_token_losses.py::test_sums_over_many_tokens_keep_their_digits",
            "unit/evaluate/test_statistics.py::test_a_short_last_window_weighs_its_tokens",
            "unit/test_training.py::test_held_out_perplexity_covers_every_token_whatever_the_last_window_holds",
        ),
    ),
    Fault(
        id="E2",
        title="Windows overlap, leave gaps, or score a token twice",
        what="The first window was too short; windows that were said to roll were disjoint; the first token of each "
        "was never predicted; what overlaps was counted twice.",
        seen=("tf#18887", "lmeval#339", "lcpp#270"),
        here="For every length to 50, window to 12 and stride, each position from the second on is scored once, with "
        "the context that was promised; disjoint windows and a single one equal loops.",
        tests=(
            "unit/evaluate/test_windows.py::test_each_position_is_scored_once_with_the_promised_context",
            "unit/evaluate/test_windows.py::"
            "test_a_window_as_long_as_the_text_is_one_forward_over_all_but_the_last_token",
            "unit/evaluate/test_perplexity.py::test_losses_equal_the_loops_for_every_window_and_stride",
            "unit/evaluate/test_perplexity.py::test_stride_equal_to_the_window_is_disjoint_chunks",
            "unit/evaluate/test_perplexity.py::test_overlap_gives_the_context_that_a_model_needs",
        ),
    ),
    Fault(
        id="E3",
        title="BOS in the first window only, twice, or EOS in its place",
        what="Models that need it lose much in every later window; tokenizer and harness both added it; with EOS in "
        "front a perplexity of 39 became 1.8e7.",
        seen=("tf#40524", "lmeval#2382", "lmeval#3333", "lmeval#1586", "lmeval#1588", "lcpp#1303", "lcpp#2153"),
        here="A model that is sure only where BOS stands first and once has perplexity 1 in every window; the "
        "tokenizer adds nothing by itself, and the rule is part of what a result is compared by.",
        tests=(
            "unit/evaluate/test_windows.py::test_bos_comes_first_in_every_window_and_is_never_scored",
            "unit/evaluate/test_windows.py::test_each_position_is_scored_once_with_the_promised_context",
            "unit/evaluate/test_windows.py::test_bos_rules_follow_the_tokenizer_or_the_caller",
            "unit/evaluate/test_windows.py::test_the_text_is_tokenized_without_special_tokens",
            "unit/evaluate/test_perplexity.py::test_with_bos_every_window_has_it_exactly_once",
            "unit/evaluate/test_paired.py::test_measurements_of_different_things_are_refused",
        ),
    ),
    Fault(
        id="E4",
        title="Padding is counted or attended to",
        what="Labels of padding were scored, masks were lost, token 0 was taken for padding, and results depended on "
        "the side of the padding and on the batch size.",
        seen=(
            "axolotl-ai-cloud/axolotl#3988",
            "ml-explore/mlx-lm#1855",
            "huggingface/datasets#4258",
            "huggingface/evaluate#636",
            "neuralmagic/deepsparse#1141",
            "tf#9173",
        ),
        here="One stream of tokens is evaluated, not a set of documents, and nothing is padded or masked: windows of "
        "equal length share a call. Token 0 is a token like any, and the batch size changes no bit of the losses.",
        tests=(
            "unit/evaluate/test_windows.py::test_windows_of_equal_length_share_a_call_and_nothing_is_padded",
            "unit/evaluate/test_perplexity.py::test_losses_equal_the_loops_for_every_window_and_stride",
            "unit/evaluate/test_perplexity.py::test_batch_size_changes_no_bit",
        ),
    ),
    Fault(
        id="E5",
        title="Labels shifted twice, not at all, or across rows",
        what="The model shifts by itself and the caller did too, or nobody did; rows were flattened, so that the last "
        "target of one was the first of the next; the count was taken before the shift.",
        seen=("tf#47395", "tf#44642", "tf#46204", "tf#35066", "mosaicml/llm-foundry#288", "tf#27517"),
        here="A model that is sure of the successor has perplexity exactly 1, in several windows at once, and infinity "
        "on a text that is shifted; on a real model our losses average to its own.",
        tests=(
            "unit/evaluate/test_perplexity.py::test_the_successor_model_has_perplexity_exactly_one",
            "unit/evaluate/test_perplexity.py::test_a_shifted_text_is_as_bad_as_can_be",
            "faults/test_evaluation.py::test_e5_our_shift_of_labels_is_the_model_s_own",
        ),
    ),
    Fault(
        id="E6",
        title="Not the same text, tokens or normalisation",
        what="Documents or one stream, joined by blank lines or not, per word, byte or token, another tokenizer or "
        "context: each changes the number, and none was recorded beside it.",
        seen=("lmeval#2301", "IST-DASLab/gptq#40", "xvyaward/owq#3", "lcpp#6936", "tf#483"),
        here="A result carries the hash of its tokens, their number, window, stride, BOS, dtype, batch size, machine "
        "and versions; a comparison of two that differ is refused and names the field. The hash of the embedded "
        "text's tokens is written down.",
        tests=(
            "unit/evaluate/test_fingerprint.py::test_it_holds_what_was_measured",
            "unit/evaluate/test_fingerprint.py::test_every_field_has_a_counterexample",
            "unit/evaluate/test_fingerprint.py::test_the_differing_field_is_named_with_both_values",
            "unit/evaluate/test_paired.py::test_measurements_of_different_things_are_refused",
            "unit/evaluate/test_windows.py::test_the_hash_is_of_the_ids_as_little_endian_int64",
            "unit/test_datasets.py::test_the_test_split_is_joined_with_blank_lines",
            "faults/test_evaluation.py::test_e6_the_embedded_text_has_the_tokens_that_it_had",
        ),
    ),
    Fault(
        id="E7",
        title="Short texts, truncation, NaN",
        what="A text shorter than the window gave no window and a meaningless number; a text that was cut short was "
        "divided by its full length; a NaN window made the mean NaN, or was left out in silence.",
        seen=("lcpp#2858", "facebookresearch/lingua#46", "gptqm#2350", "gptqm@d0a7624", "ikawrakow/ik_llama.cpp#285"),
        here="No tokens and one are refused, two make one prediction, and the count is that of the scored tokens "
        "whatever the window. NaN and infinite logits are errors that name the window; a perplexity that overflows is "
        "infinite.",
        tests=(
            "unit/evaluate/test_windows.py::test_fewer_than_two_tokens_are_refused",
            "unit/evaluate/test_windows.py::test_two_tokens_make_one_prediction",
            "unit/evaluate/test_windows.py::test_each_position_is_scored_once_with_the_promised_context",
            "unit/evaluate/test_perplexity.py::test_nan_or_infinite_logits_are_an_error_that_names_the_window",
            "unit/evaluate/test_token_losses.py::test_perplexity_that_overflows_is_infinite",
            "unit/evaluate/test_baseline.py::test_nan_or_infinite_logits_are_an_error",
        ),
    ),
    Fault(
        id="E8",
        title="KL divergence from low precision",
        what="Log-probabilities kept in 16 bits, cut off 16 below the largest, give the divergence a floor and a bias; "
        "its direction was mixed up; ties of the largest logit had no rule.",
        seen=("ikawrakow/ik_llama.cpp#325", "lcpp#5076"),
        here="float64 from both models' logits: zero for equal ones, never negative, right in direction and in the "
        "tail of sixty nats, for vocabularies of 2 to 32064, and without a floor down to 1e-13. Ties go to the lowest "
        "token.",
        tests=(
            "unit/evaluate/test_divergence.py::test_direction_is_from_the_baseline_to_the_model",
            "unit/evaluate/test_divergence.py::test_equal_logits_have_divergence_exactly_zero",
            "unit/evaluate/test_divergence.py::test_divergence_equals_the_loops",
            "unit/evaluate/test_divergence.py::test_a_range_of_sixty_nats_keeps_its_tail",
            "unit/evaluate/test_divergence.py::test_a_tiny_divergence_has_no_floor_and_no_bias",
            "unit/evaluate/test_divergence.py::test_divergence_is_never_negative",
            "unit/evaluate/test_divergence.py::test_a_constant_added_to_the_logits_changes_nothing",
            "unit/evaluate/test_divergence.py::test_top1_compares_the_largest_logits_and_ties_go_to_the_lowest_token",
        ),
    ),
    Fault(
        id="E9",
        title="The result depends on the batch or on the run",
        what="Other rows in the batch change the logits of a row: by another kernel, another division of the work, or "
        "a scale of activations that is taken over the whole batch.",
        seen=(
            "bnb#28",
            "lcpp#4479",
            "microsoft/onnxruntime#10111",
            "microsoft/onnxruntime#5672",
            "IST-DASLab/marlin#38",
        ),
        here="A row's output has the same bits alone and beside any others, with any number of threads, and again; "
        "evaluation switches dropout off and restores it, and figures agree at every batch size. On a GPU, where not "
        "all products promise bits, outputs are held to a bound.",
        tests=(
            "unit/native/test_independence.py::test_a_row_in_a_batch_is_the_row_alone",
            "unit/native/test_independence.py::test_threads",
            "unit/native/test_edge_rows.py::test_edge_rows_together_and_alone",
            "unit/test_kernels.py::test_operands_are_unchanged_and_the_result_repeats",
            "unit/evaluate/test_perplexity.py::test_batch_size_changes_no_bit",
            "unit/evaluate/test_windows.py::"
            "test_evaluating_switches_training_and_gradients_off_and_restores_each_module",
            "unit/test_compare.py::test_so_does_it_at_other_batch_sizes",
            "gpu/test_layers.py::test_outputs_are_the_exact_ones_but_for_rounding",
        ),
    ),
    Fault(
        id="E10",
        title="Tests that hide faults, or see some where there are none",
        what="Bounds were widened until a packing fault fitted in, or set so close to the mean that new hardware broke "
        "them; inputs were small, shapes square, models without bias; a parameter was overwritten inside the test; a "
        "test was skipped where the fault was.",
        seen=("bnb#1721", "bnb#1864", "bnb#1996", "lcpp#26223", "tf#37530", "ao#878"),
        here="Bounds are derived and hold from both sides, so that a quantizer that does nothing fails; planted faults "
        "show that the figures of accuracy see them. Every parameter of every test is read by it, and the places that "
        "may skip a test are listed. Of mistakes in the suite none can be planted in the package; what is planted is "
        "the one of its own gate, which holds a model to itself.",
        tests=(
            "property/test_int8_round_trip.py::test_a_ramp_is_as_wrong_as_255_levels_must_make_it",
            "property/test_blockwise_round_trip.py::test_a_ramp_is_as_wrong_as_16_levels_must_make_it",
            "property/test_expected_error.py::test_blockwise_formats_err_as_their_levels_predict",
            "accuracy/test_gates.py::test_a_planted_fault_is_a_regression",
            "accuracy/test_layer_error.py::test_activations_of_8_bits_would_be_worse",
            "faults/test_suite.py::test_e10_every_parameter_of_a_test_reaches_it",
            "faults/test_suite.py::test_e10_a_parameter_that_does_not_is_seen",
            "faults/test_suite.py::test_e10_a_mark_of_another_file_is_seen",
            "faults/test_suite.py::test_e10_tests_are_skipped_only_where_it_is_known",
        ),
    ),
)
