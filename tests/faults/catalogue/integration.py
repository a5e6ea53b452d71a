"""I1 to I7: compile, dispatch, copies, offloading, shapes, process-wide state, Phi-3."""

from tests.faults.fault import Fault

FAULTS = (
    Fault(
        id="I1",
        title="torch.compile: graph breaks, missing fake kernels, recompilation",
        what="State in Python, warnings and attribute tricks of tensor subclasses broke the graph; an op had no fake "
        "kernel or one with another shape; what was compiled for one shape was used for the next.",
        seen=("bnb#1916", "bnb#1904", "bnb#1581", "pt#157729", "ao#4508", "meta-pytorch/torchtune#1795"),
        here="Layers are ops with fake kernels and gradients, each of which passes torch's own checks; a layer and a "
        "model are one graph with the bits of eager, for any number of rows, forward, backward and checkpointed. "
        "Inductor is measured at full size (docs/full-size.md), and is not a test.",
        tests=(
            "contract/battery/test_compile.py::test_forward_is_one_graph_with_the_bits_of_eager",
            "contract/battery/test_compile.py::test_one_graph_serves_any_number_of_rows",
            "contract/battery/test_compile.py::test_backward_has_the_bits_of_eager",
            "unit/test_kernels.py::test_w8a16_is_registered_with_schema_fake_kernel_and_gradient",
            "unit/test_kernels.py::test_blockwise_is_registered_with_schema_fake_kernel_and_gradient",
            "contract/battery/test_export.py::test_a_layer_is_one_op_for_any_number_of_rows",
            "faults/test_integration.py::test_i1_a_model_is_one_graph_for_any_batch_and_length",
            "faults/test_integration.py::test_i1_a_checkpointed_layer_is_one_graph_with_the_gradients_of_eager",
        ),
    ),
    Fault(
        id="I2",
        title="The fast kernel stops being used, in silence",
        what="A pattern upstream changed, the fused kernel no longer matched: slower, and numerically different, "
        "without an error.",
        seen=("pt#135928", "pt#131310", "pt#122955", "ao#884"),
        here="One table decides. It is written down a second time in the tests, for every op, dtype, number of rows "
        "and variant, and layers run what it names. Where there are no native kernels, the first use says so, once.",
        tests=(
            "unit/native/test_dispatch.py::test_products_on_the_cpu_go_by_the_number_of_rows",
            "unit/native/test_dispatch.py::test_a_layer_runs_what_the_table_says",
            "unit/native/test_memory.py::test_a_forward_allocates_no_copy_of_the_weight",
            "unit/native/test_loading.py::test_without_the_extension_the_first_use_says_once_what_to_do",
        ),
    ),
    Fault(
        id="I3",
        title="Copies, pickles and state on the class",
        what="A deep copy failed, or pickling handed out the live attributes and changed the original; a constructor "
        "wrote to its class, so that two layers shared their settings.",
        seen=("bnb#1230", "bnb#1231", "quanto@da0315f", "bnb@1dbe602"),
        here="Copies by `copy`, every protocol of pickle, `torch.save` and torch's multiprocessing are the same layer, "
        "which computes the same bits in a spawned process; the original stays, deep copies share nothing with it, and "
        "layers of different schemes do not meet. Codes are plain buffers, so slices of them are plain tensors and "
        "carry no state to lose.",
        tests=(
            "faults/test_integration.py::test_i3_a_copy_is_the_same_layer_and_the_original_stays",
            "faults/test_integration.py::test_i3_a_deep_copy_shares_nothing",
            "faults/test_integration.py::test_i3_a_layer_computes_the_same_in_another_process",
            "faults/test_integration.py::test_i3_layers_of_two_schemes_in_one_process_do_not_share_their_settings",
            "contract/battery/test_checkpoints.py::test_copies_are_quantized_models_too",
        ),
    ),
    Fault(
        id="I4",
        title="accelerate: hooks, device maps, offloading, the meta device",
        what="Weights moved without their state; tensors on meta were copied as if they had values; hooks were put "
        "where none were needed; a head stayed on meta.",
        seen=("bnb#1279", "bnb#1786", "bnb#1776", "bnb#1900", "NVIDIA/Model-Optimizer#2161"),
        here="Models that were made on meta and loaded, spread by device maps over CPU and disk, or offloaded by "
        "accelerate, with buffers or without, compute the same bits twice. A device map over CPU and CUDA waits for "
        "tests on a GPU.",
        tests=(
            "contract/battery/test_offloading.py::test_a_checkpoint_with_a_device_map",
            "contract/battery/test_offloading.py::test_a_model_in_memory",
            "unit/integrations/test_in_use.py::test_quantizing_on_load_with_a_device_map",
            "unit/integrations/test_in_use.py::test_offloaded_layers_are_not_dequantized",
            "unit/integrations/test_loading_refusals.py::test_each_stored_tensor_is_missed_by_name",
            "unit/integrations/test_loading_refusals.py::test_quantizing_with_layers_on_disk_is_refused",
            "unit/test_convert.py::test_a_model_on_meta_is_converted_without_values",
        ),
    ),
    Fault(
        id="I5",
        title="The kernel for one row is another function",
        what="It returned two dimensions for three, dropped the bias or ignored `out`, and one row and many differed "
        "by more than rounding.",
        seen=("bnb@6a905be", "bnb@90b0ac5", "bnb#1893"),
        here="Shapes from one dimension to four, and none of rows; a row in a batch has the bits of the row alone, in "
        "every variant, so prefill and decoding agree. There is no `out`.",
        tests=(
            "unit/test_modules.py::test_forward_of_any_leading_shape_is_within_what_float32_explains",
            "unit/test_kernels.py::test_leading_dimensions_are_kept",
            "unit/test_kernels.py::test_no_rows_give_no_rows",
            "unit/test_kernels.py::test_the_bias_is_added_exactly_once",
            "unit/test_modules.py::test_the_bias_is_added_once_with_and_without_gradients",
            "unit/native/test_independence.py::test_a_row_in_a_batch_is_the_row_alone",
            "unit/native/test_edge_rows.py::test_edge_rows_together_and_alone",
            "unit/test_convert_transformers.py::test_prefill_equals_decoding_token_by_token",
        ),
    ),
    Fault(
        id="I6",
        title="Process-wide state leaks",
        what="Quantizing set the precision of all float32 products of the process; TF32 was switched; patches of "
        "transformers stayed; an import opened a CUDA context.",
        seen=("ao#4643", "gptqm#1978", "gptqm#485", "gptqm#1979", "peft#2230"),
        here="Settings of torch, random states, warnings, environment, logging and the attributes of transformers are "
        "compared around one use of everything, a part of them in every test; importing is watched in a process of "
        "its own. Threads of the caller get what one would.",
        tests=(
            "contract/test_imports.py::test_importing_quant_leaves_cuda_torch_s_settings_and_the_process_alone",
            "contract/test_imports.py::test_importing_quant_imports_no_optional_library",
            "faults/test_process_state.py::test_i6_using_everything_leaves_the_process_as_it_was",
            "faults/test_process_state.py::test_i6_threads_of_the_caller_quantize_and_compute_as_one_does",
            "unit/test_variants.py::test_loading_leaves_the_verbosity_of_other_libraries_as_it_was",
        ),
    ),
    Fault(
        id="I7",
        title="What Phi-3 does by itself",
        what="LongRoPE's factors change at the original context: chosen by the allocated length, or keys of one kind "
        "read with the other, they look like quantization loss. Fused projections were divided without their scales.",
        seen=("lcpp#24823", "lcpp#8995", "tf#33129", "kekzl/imp#494", "vllm#9887"),
        here="A small Phi-3 with LongRoPE is compared with itself first, where nothing may differ, then its quantized "
        "weights with the same weights as floats, at lengths on both sides of the change; generation across it takes "
        "what whole passes say. A part of a fused layer is the layer of that part.",
        tests=(
            "faults/test_phi3.py::test_i7_the_frequencies_do_change_at_the_original_context",
            "faults/test_phi3.py::"
            "test_i7_around_the_original_context_the_quantized_model_is_the_float_model_of_its_weights",
            "faults/test_phi3.py::test_i7_generation_across_the_original_context_takes_what_whole_passes_say",
            "faults/test_phi3.py::test_i7_a_part_of_a_fused_layer_is_the_layer_of_that_part",
        ),
    ),
)
