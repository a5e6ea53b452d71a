"""M1 to M10: which layers are replaced, sharing, options, gradients, adapters."""

from tests.faults.fault import Fault

FAULTS = (
    Fault(
        id="M1",
        title="The replacement does not hold the weights, or is never called",
        what="A new module kept its random weights; a wrapper called the inner model, so that the head was left out; "
        "modules without weight or bias crashed. A quantizer that replaces nothing passes for a very accurate one.",
        seen=("quanto@51db6d9", "quanto@ccf6063", "quanto@7aaf99e", "quanto@9af9869", "ao#211"),
        here="Models whose weights lie on the format's grid keep their outputs, others change by what was measured; "
        "the replaced layers are counted, logits have the size of the vocabulary, and where nothing can be quantized "
        "that is an error.",
        tests=(
            "unit/test_convert.py::test_weights_on_the_grid_of_the_format_give_the_model_s_own_output",
            "unit/test_convert.py::test_the_chosen_layers_are_replaced_in_place_and_nothing_else_is_touched",
            "unit/test_convert_transformers.py::test_the_quantized_model_computes_what_the_dequantized_one_does",
            "unit/test_convert_transformers.py::test_a_head_that_is_named_is_quantized_and_still_gives_logits",
            "unit/test_selection.py::test_a_model_without_linear_layers_is_refused",
            "unit/test_selection.py::test_nothing_left_to_quantize_is_refused_with_the_reasons",
            "unit/test_variants.py::test_a_model_that_bitsandbytes_leaves_as_it_is_is_not_passed_off_as_quantized",
        ),
    ),
    Fault(
        id="M2",
        title="Names to skip are matched by prefix or by part",
        what="`model.layers.1` also skipped layers 10 to 19, `kv_proj` matched `qkv_proj`; or names had to match as a "
        "whole, so short ones matched nothing and the layers were quantized.",
        seen=("tf#29958", "vllm#9887", "vllm#44628"),
        here="Patterns are globs on whole dotted names, tried on twelve layers and on Phi-3's fused names; one that "
        "matches nothing is an error with a hint.",
        tests=(
            "unit/test_selection.py::test_a_name_means_that_layer_and_not_those_that_begin_like_it",
            "unit/test_selection.py::test_globs_match_the_whole_dotted_name",
            "unit/test_selection.py::test_a_pattern_that_matches_nothing_is_refused_with_a_hint",
            "unit/integrations/test_bitsandbytes_config.py::test_names_that_only_look_alike_are_told_apart",
        ),
    ),
    Fault(
        id="M3",
        title="A list of names to skip replaces the safe default",
        what="With any list of the user's the head was quantized; a refactoring lost the list; names to skip worked "
        "for one format and failed for another.",
        seen=("tf#45674", "tf#45734", "tf#24037", "tf#24043", "bnb#1634"),
        here="`exclude` adds to the default, whatever it is; only the head's exact name in `include` quantizes it. The "
        "set survives saving and loading, and is the same for bitsandbytes' variants of a comparison.",
        tests=(
            "unit/test_selection.py::test_excluding_adds_to_the_safe_default",
            "unit/test_selection.py::test_only_its_exact_name_includes_the_head",
            "unit/integrations/test_round_trip.py::test_the_head_and_chosen_layers",
            "unit/test_variants.py::test_bitsandbytes_variants_quantize_the_same_layers",
            "parity/test_bitsandbytes_checkpoints.py::test_what_was_skipped_stays_float",
        ),
    ),
    Fault(
        id="M4",
        title="Tied embeddings",
        what="Quantizing the head changed or untied the embedding; loading tied it again, over the quantized head; "
        "sizes counted it twice.",
        seen=("tf#37905", "gptqm#1550", "quanto@fb7d18a", "intel/auto-round#1040"),
        here="A tied weight is left, which the report says, and naming it is refused, in memory, while loading and on "
        "disk; it stays the same tensor, through saving and loading too, and counts once.",
        tests=(
            "unit/test_convert.py::test_a_tied_weight_stays_tied_and_unchanged",
            "unit/test_convert_transformers.py::test_phi3_keeps_head_embedding_norms_and_rotary_buffers_bit_for_bit",
            "unit/test_selection.py::test_tied_weights_are_left_with_the_name_of_the_other_holder",
            "unit/test_selection.py::test_two_linear_layers_with_one_weight_are_both_left",
            "unit/integrations/test_round_trip.py::test_every_kind_of_model",
            "unit/integrations/test_loading_refusals.py::test_a_tied_head_that_is_named_is_refused",
            "unit/test_variants.py::test_a_tied_head_cannot_be_quantized",
            "unit/evaluate/test_footprint.py::test_tied_weights_count_once",
        ),
    ),
    Fault(
        id="M5",
        title="GPT-2's Conv1D holds its weight transposed",
        what="Nothing of GPT-2 was quantized, without a word; or along the wrong axis, which a square weight does not "
        "show.",
        seen=("tf#24504", "peft#3532"),
        here="All Conv1D layers are replaced, with a scale per output, the square ones too, and come back as Conv1D.",
        tests=(
            "unit/test_modules.py::test_conv1d_is_quantized_per_output_and_comes_back_as_conv1d",
            "unit/test_linears.py::test_conv1d_is_read_as_out_by_in",
            "unit/test_selection.py::test_gpt2_s_transposed_layers_are_chosen",
            "unit/test_convert_transformers.py::test_gpt2_s_transposed_layers_are_quantized_per_output_and_come_back",
            "parity/test_bitsandbytes_checkpoints.py::test_conv1d_layers_and_a_tied_head_go_there_and_back",
        ),
    ),
    Fault(
        id="M6",
        title="Options that are ignored or land in the wrong place",
        what="A group size was accepted and the row used; what was to be included was excluded; a setting of None fell "
        "through; the number of bits was passed where the precision of scales belonged.",
        seen=("ao#1165", "ao#4518", "ao#2135", "ao#3298", "ao#3903", "ao#4459", "quanto@3c7a807"),
        here="For every option of every public name, taken from the signatures, two values make a difference that can "
        "be seen; unknown ones are refused. The choice of layers and the block size come along when a model is saved "
        "and loaded. The same for the options of the commands.",
        tests=(
            "faults/test_options.py::test_m6_every_option_has_an_entry",
            "faults/test_options.py::test_m6_another_value_of_an_option_makes_a_difference",
            "unit/test_schemes.py::test_every_option_but_the_scale_changes_the_format_tag_and_the_bytes",
            "unit/integrations/test_round_trip.py::test_the_head_and_chosen_layers",
            "unit/integrations/test_round_trip.py::test_other_block_sizes",
            "unit/integrations/test_quantization_config.py::test_bad_options_are_refused",
            "unit/test_cli_quantize.py::test_options_reach_the_layers",
            "unit/test_sources.py::test_options_reach_the_windows",
            "unit/test_compare_schemes.py::test_block_size_and_scale_are_used_and_recorded",
        ),
    ),
    Fault(
        id="M7",
        title="One module under two names",
        what="A walk over a model lists it once: one reference is replaced and the other stays float, or it is wrapped "
        "twice.",
        seen=("IntelLabs/distiller#239", "pt#54812", "pt#70927", "qualcomm/aimet#3791"),
        here="A layer with two names, and a block that is used three times, are quantized once, stay one object, are "
        "saved once and compute what they should; any of the names selects them.",
        tests=(
            "unit/test_convert.py::test_a_layer_under_two_names_is_quantized_once_and_stays_one",
            "unit/test_selection.py::test_any_name_of_a_shared_layer_selects_it_once",
            "unit/test_checkpoint_quantization.py::test_a_layer_of_two_names_is_quantized_under_the_one_that_is_stored",
            "unit/evaluate/test_footprint.py::test_a_layer_under_two_names_counts_once",
            "faults/test_models.py::test_m7_a_block_that_is_used_three_times_is_quantized_and_saved_once",
        ),
    ),
    Fault(
        id="M8",
        title="Quantizing what is quantized already",
        what="Codes were taken for weights, or the second call did nothing, or it used what the first had left.",
        seen=("tf#27500", "tf#39998", "gptqm#574", "intel/auto-round#352", "ml-explore/mlx-lm#1511"),
        here="Refused, with the model unchanged, whoever quantized it, in memory and on disk; models quantized one "
        "after another do not influence each other.",
        tests=(
            "unit/test_convert_refusals.py::test_quantizing_twice_is_refused_and_changes_nothing",
            "unit/test_convert_refusals.py::test_models_of_other_quantizers_are_refused",
            "parity/test_bitsandbytes_faults.py::test_a_model_of_theirs_is_not_quantized_again",
            "unit/test_convert.py::test_two_models_in_a_row_do_not_influence_each_other",
            "unit/integrations/test_round_trip.py::test_one_configuration_loads_several_models",
            "unit/test_foreign_checkpoints.py::test_a_quantized_config_is_refused_before_the_weights_are_fetched",
            "unit/test_cli_quantize.py::test_a_quantized_folder_is_refused",
        ),
    ),
    Fault(
        id="M9",
        title="Gradients: integer parameters, a missing or wrong backward",
        what="Parameters of integers cannot require gradients, and many loaders ask them to; reloading switched them "
        "on; a backward kernel used the wrong operands.",
        seen=("pt#99264", "tf#37720", "bnb#1232", "quanto#293", "ao#2280"),
        here="Codes are buffers. Gradients are those of the float layer with the same weight, for any shape and "
        "strides, under autocast and checkpointing; training touches nothing but the bias.",
        tests=(
            "unit/test_gradients.py::test_gradients_are_those_of_the_dequantized_layer",
            "unit/test_gradients.py::test_expanded_and_transposed_gradients_are_read_by_their_strides",
            "unit/test_gradients.py::test_the_gradient_through_a_square_weight_is_not_transposed",
            "unit/test_gradients.py::test_checkpointing_gives_the_same_bits",
            "unit/test_gradients.py::test_under_autocast_the_product_and_its_gradient_are_those_of_bfloat16",
            "unit/test_gradients.py::test_only_the_bias_can_be_trained",
            "unit/test_gradients.py::test_inference_mode_first_does_not_spoil_training_later",
            "unit/integrations/test_in_use.py::test_gradient_checkpointing_changes_no_gradient",
        ),
    ),
    Fault(
        id="M10",
        title="LoRA adapters on a quantized base",
        what="The adapter's term was added twice; its dtype was read from the codes; adapters of another name were not "
        "switched on; merging rounds the sum to new codes, and undoing it did not restore them.",
        seen=("peft#878", "peft#2893", "peft#1294", "peft#1347", "peft#2847", "peft#3216", "peft#2321", "peft#1388"),
        here="An untrained adapter changes no bit, a trained one is added once, under any name; it has the dtype that "
        "it has on the float layer (the second was a fault of ours too, found by this list). Merging into codes is "
        "refused.",
        tests=(
            "contract/battery/test_adapters.py::test_an_untrained_adapter_changes_no_bit",
            "contract/battery/test_adapters.py::test_the_adapter_is_added_once_and_scaled",
            "unit/integrations/test_peft.py::test_an_adapter_has_the_dtype_that_it_has_on_the_float_layer",
            "contract/battery/test_adapters.py::test_training_lowers_the_loss_and_leaves_the_codes",
            "contract/battery/test_adapters.py::test_merging_into_codes_is_refused_and_changes_nothing",
            "contract/battery/test_adapters.py::test_a_dequantized_base_takes_the_merge_and_gives_it_back",
        ),
    ),
)
