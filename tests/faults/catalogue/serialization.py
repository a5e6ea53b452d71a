"""S1 to S7: what is saved, in which files, and what must not load."""

from tests.faults.fault import Fault

FAULTS = (
    Fault(
        id="S1",
        title="What dequantizing needs is not saved",
        what="Scales or the kind of quantization were missing from the state, so that loading worked in the same "
        "process only; a quantized head was exported as a float one.",
        seen=("bnb#159", "quanto@8b9bb5f", "NVIDIA/Model-Optimizer#2112", "PrunaAI/pruna#275"),
        here="Checkpoints that were committed long ago load and compute the same bits, which no state of this process "
        "can help with. Each stored tensor that is taken away is missed by name, and a loaded model has the layers of "
        "the saved one.",
        tests=(
            "golden/test_checkpoints.py::test_it_loads_and_computes_the_same_bits",
            "contract/battery/test_checkpoints.py::test_by_every_road_the_same_codes_and_in_every_file_the_same_bytes",
            "unit/integrations/test_round_trip.py::test_the_head_and_chosen_layers",
            "contract/battery/test_loading.py::test_each_tensor_that_is_missing_is_named",
            "unit/integrations/test_loading_refusals.py::test_each_stored_tensor_is_missed_by_name",
        ),
    ),
    Fault(
        id="S2",
        title="What is not a tensor gets lost",
        what="Strings in a state were dropped by one writer without a word, refused by the next, and crashed the code "
        "that divides a model into files.",
        seen=("bnb#1164", "tf#24416", "tf#30051"),
        here="A state holds plain tensors and nothing else, loads strictly without a missing or unexpected key, and "
        "the options of the scheme make the round trip through config.json and the stored format tag.",
        tests=(
            "contract/battery/test_loading.py::"
            "test_the_state_is_the_stored_tensors_and_the_bias_and_loads_into_an_empty_layer",
            "unit/test_convert.py::test_the_report_is_no_part_of_the_state",
            "unit/integrations/test_quantization_config.py::test_what_is_written_is_read_back",
            "unit/test_tensor.py::test_the_stored_format_is_the_tag_of_the_scheme",
            "faults/test_serialization.py::test_s7_a_state_is_read_by_the_restricted_unpickler",
        ),
    ),
    Fault(
        id="S3",
        title="The variant that is used less cannot be saved",
        what="The shape was stored with double quantization only; states that were not packed could not be read back; "
        "a table that all layers share was left out as a duplicate.",
        seen=("bnb#868", "bnb#1729"),
        here="Every scheme, block size and double quantization makes the round trip as a state, every scheme and dtype "
        "through files, and to bitsandbytes' format and back; no two layers share a tensor.",
        tests=(
            "contract/battery/test_loading.py::"
            "test_the_state_is_the_stored_tensors_and_the_bias_and_loads_into_an_empty_layer",
            "contract/battery/test_state.py::test_two_layers_share_no_tensor",
            "contract/battery/test_checkpoints.py::test_by_every_road_the_same_codes_and_in_every_file_the_same_bytes",
            "parity/test_bitsandbytes_checkpoints.py::test_a_checkpoint_goes_there_and_back_without_a_bit_changed",
            "parity/test_bitsandbytes_checkpoints.py::test_every_block_size_and_searched_absmax_are_loaded_by_transformers",
            "unit/checkpoint/test_bitsandbytes_state.py::test_it_is_read_and_written_to_the_byte",
        ),
    ),
    Fault(
        id="S4",
        title="Shared, tied and strided tensors in safetensors",
        what="Tensors that share memory or are not contiguous were refused; copying all of them doubled the memory; "
        "the wrong ones were filtered out.",
        seen=(
            "quanto#388",
            "huggingface/diffusers#10379",
            "autogptq#536",
            "autogptq#524",
            "safetensors/safetensors#515",
        ),
        here="Tied models, transposed weights and views of one storage are saved as what they are and load to the same "
        "bits; stored tensors own their memory, and a file holds the computed bytes and a header.",
        tests=(
            "unit/integrations/test_round_trip.py::test_every_kind_of_model",
            "unit/test_tensor.py::test_what_is_stored_is_the_documented_table_and_its_bytes_are_the_scheme_s",
            "unit/test_double_quantization.py::test_codes_own_their_memory",
            "faults/test_serialization.py::test_s4_views_of_one_storage_are_saved_as_what_they_are",
            "faults/test_resources.py::test_f3_a_file_holds_the_reported_bytes_and_a_header",
        ),
    ),
    Fault(
        id="S5",
        title="Shards: a layer in several files, files missing or cut short",
        what="A loader wanted all parts of a weight in one file; a missing one loaded in silence, because quantized "
        "models were not loaded strictly; one cut short became zeros or noise.",
        seen=(
            "tf#41138",
            "tf#32056",
            "vllm#34930",
            "sgl-project/sglang#32279",
            "osaurus-ai/vmlx-swift#217",
            "quanto@fb7d18a",
            "quanto@f9b71f4",
        ),
        here="Shards so small that codes and scales lie apart load to the same bits. Missing, shortened and damaged "
        "ones and wrong indexes do not load; the commands of this library name the file. A flipped bit in the data is "
        "found by the manifest of folders that `quant quantize` and `quant convert` wrote; `save_pretrained` writes "
        "none, and there it cannot be told.",
        tests=(
            "contract/battery/test_checkpoints.py::test_by_every_road_the_same_codes_and_in_every_file_the_same_bytes",
            "faults/test_serialization.py::test_s5_a_damaged_shard_of_a_quantized_model_does_not_load",
            "faults/test_serialization.py::test_s5_swapped_shards_hold_the_same_tensors",
            "unit/test_model_folders.py::test_a_missing_shard_is_named",
            "unit/test_model_folders.py::test_a_truncated_shard_is_named",
            "unit/checkpoint/test_headers.py::test_every_shortened_file_is_refused",
            "unit/checkpoint/test_manifest.py::test_a_flipped_bit_anywhere_in_the_data_is_found_with_its_tensor",
            "unit/checkpoint/test_manifest.py::test_what_is_not_as_it_was_written_is_named",
        ),
    ),
    Fault(
        id="S6",
        title="Saving or loading has side effects",
        what="Saving the configuration removed the shards that were just saved; buffers that are not saved were "
        "written, or wiped while loading; pickling changed the live parameter; the float copy of a weight lived on.",
        seen=("gptqm#1297", "gptqm#2242", "gptqm#54", "quanto@67490c9", "bnb#1230", "tf#44728"),
        here="Attributes and tensors of a model are compared before and after saving, buffers that are not saved "
        "included; a second saving writes the same bytes, saving over a larger checkpoint leaves none of it, and "
        "conversions on disk never write over anything and survive being killed at any step. No float weight outlives "
        "the loading that quantizes it.",
        tests=(
            "faults/test_serialization.py::test_s6_saving_changes_neither_the_model_nor_what_a_second_saving_writes",
            "faults/test_serialization.py::test_s6_a_checkpoint_is_not_written_over_another",
            "faults/test_dtypes.py::test_d7_rotary_frequencies_stay_float32_to_the_bit",
            "faults/test_integration.py::test_i3_a_copy_is_the_same_layer_and_the_original_stays",
            "faults/test_resources.py::test_f2_the_float_weights_are_freed_while_a_model_is_loaded",
            "unit/integrations/test_round_trip.py::test_saving_over_a_larger_checkpoint_leaves_none_of_it",
            "unit/checkpoint/test_killed.py::test_every_killed_run_is_finished_to_the_bit",
            "unit/checkpoint/test_exclusion.py::test_what_is_there_is_never_replaced",
        ),
    ),
    Fault(
        id="S7",
        title="Versions and formats that do not match",
        what="A newer framework sets an attribute that a constructor does not take; `weights_only=True` became the "
        "default and refuses subclasses of tensors; a field that names the format was wrong.",
        seen=(
            "bnb#1900",
            "NVIDIA/Model-Optimizer#2071",
            "ao#1228",
            "ao#1241",
            "ao#1122",
            "ao#1486",
            "tf#34355",
            "vllm#38966",
            "gptqm#2209",
        ),
        here="A committed checkpoint of every version of the format and every scheme must load and compute its "
        "recorded bits; a newer version is refused with the remedy, a missing one is the current one. States load "
        "with `weights_only`, and attributes that others set stay.",
        tests=(
            "golden/test_checkpoints.py::test_each_version_has_each_of_its_schemes",
            "golden/test_checkpoints.py::test_it_loads_and_computes_the_same_bits",
            "unit/integrations/test_loading_refusals.py::test_a_newer_format_is_refused_with_the_remedy",
            "unit/integrations/test_loading_refusals.py::test_a_configuration_that_does_not_fit_is_refused",
            "contract/battery/test_loading.py::test_tensors_of_equal_shapes_but_another_format_are_told_apart",
            "unit/integrations/test_quantization_config.py::test_the_version_may_be_left_out",
            "faults/test_serialization.py::test_s7_a_state_is_read_by_the_restricted_unpickler",
            "faults/test_serialization.py::test_s7_attributes_that_others_set_stay",
        ),
    ),
)
