"""F1 to F5: slow paths, memory, sizes, growth, threads."""

from tests.faults.fault import Fault

FAULTS = (
    Fault(
        id="F1",
        title="A slow path is taken without a word",
        what="A default dtype selected the slow kernel; the whole weight was dequantized in every call; an "
        "implementation was not registered for the CPU, so another one ran.",
        seen=(
            "bnb#2077",
            "tf#34310",
            "pt#122813",
            "pt#113019",
            "ao#253",
            "ao#1578",
            "quanto@95c079f",
            "sgl-project/sglang#34305",
        ),
        here="The implementation that runs is compared with a table, not with a clock, and a product on the CPU may "
        "not allocate a copy of the weight, which the same measurement does see where torch makes one. That way is "
        "taken where there are no native kernels, as documented, and the first use says so. Speeds are benchmarks.",
        tests=(
            "unit/native/test_dispatch.py::test_products_on_the_cpu_go_by_the_number_of_rows",
            "unit/native/test_dispatch.py::test_a_layer_runs_what_the_table_says",
            "unit/native/test_memory.py::test_a_forward_allocates_no_copy_of_the_weight",
            "unit/native/test_memory.py::test_the_measurement_sees_the_copy_that_torch_s_way_makes",
            "unit/native/test_loading.py::test_without_the_extension_the_first_use_says_once_what_to_do",
        ),
    ),
    Fault(
        id="F2",
        title="Memory that is not freed, or kept for backward",
        what="A bound method stored on its own module made a cycle, so that large tensors waited for the collector; "
        "the float weight had other holders while it was loaded; a frozen layer kept its input.",
        seen=("modelscope/DiffSynth-Studio#1646", "tf#44728", "bnb#1270", "huggingface/diffusers#11329", "gptqm#1636"),
        here="Layers, the float layers they replace, and the float weights that a model is quantized from while it is "
        "loaded are gone with the last reference, with the collector switched off; fifty passes leave as many bytes as "
        "one; backward keeps codes and scales only. `quantize` needs the model and its quantized layers side by side, "
        "which is documented, and no float copy; on disk, memory does not grow with the model.",
        tests=(
            "faults/test_resources.py::test_f2_a_layer_that_is_dropped_is_freed_at_once",
            "faults/test_resources.py::test_f2_the_float_layers_are_freed_when_a_model_is_quantized",
            "faults/test_resources.py::test_f2_the_float_weights_are_freed_while_a_model_is_loaded",
            "faults/test_resources.py::test_f2_fifty_forwards_leave_as_many_bytes_as_one",
            "faults/test_resources.py::test_f2_quantizing_natively_allocates_what_is_stored",
            "faults/test_resources.py::test_f2_the_count_sees_the_copies_that_torch_s_way_makes",
            "unit/test_gradients.py::test_backward_keeps_the_codes_and_their_scales_and_nothing_else",
            "unit/test_gradients.py::test_the_input_is_not_kept_alive",
            "unit/evaluate/test_baseline.py::test_the_baseline_model_is_let_go_where_its_logits_are_kept",
            "unit/checkpoint/test_memory.py::test_no_copy_of_the_weights_is_held",
        ),
    ),
    Fault(
        id="F3",
        title="The reported size is not the real one",
        what="Both layouts of a weight were saved; the number of parameters halved by packing.",
        seen=("jllllll/bitsandbytes#2", "autogptq#524"),
        here="Reported bytes are those of all storages, each once, and equal the scheme's formula, which equals sums "
        "by hand; a file holds exactly them and a header. Numbers of parameters are not reported.",
        tests=(
            "faults/test_resources.py::test_f3_a_file_holds_the_reported_bytes_and_a_header",
            "unit/test_schemes.py::test_storage_bytes_by_hand",
            "unit/test_tensor.py::test_what_is_stored_is_the_documented_table_and_its_bytes_are_the_scheme_s",
            "unit/evaluate/test_footprint.py::test_quantized_layers_are_parameters_of_the_schemes_size",
            "unit/evaluate/test_footprint.py::test_views_of_one_storage_count_it_once",
            "unit/test_inspection.py::test_w8a16_gives_the_published_bytes",
        ),
    ),
    Fault(
        id="F4",
        title="Python loops that grow with the square, or with every element",
        what="Collecting a state walked the whole model once per buffer, 99 seconds instead of 0.06; packing went "
        "column by column.",
        seen=("gptqm#2945", "gptqm#1128"),
        here="Calls, comparisons of names and operations are counted. Four times the layers make at most four times "
        "the calls in every walk over a model in memory; while loading, saving and on disk, each further block of "
        "Phi-3 costs as many calls as the last. No operation or call more is needed for 128 times the rows or the "
        "columns.",
        tests=(
            "faults/test_growth.py::test_f4_calls_grow_no_faster_than_the_model",
            "faults/test_growth.py::test_f4_each_further_block_of_a_checkpoint_costs_as_many_calls_as_the_last",
            "faults/test_growth.py::test_f4_names_of_a_checkpoint_are_compared_no_faster_than_their_number_grows",
            "faults/test_growth.py::test_f4_neither_operations_nor_calls_grow_with_the_weight",
        ),
    ),
    Fault(
        id="F5",
        title="Threads",
        what="Threads were started for large tensors whatever was set, or none were used; a quantization in CI took 2 "
        "hours 34 instead of 46 seconds because too many ran.",
        seen=("pt#45418", "pt#40473", "openvinotoolkit/nncf#1995"),
        here="With one thread set, no other is left behind (the pools of torch and OpenMP stay once they are started), "
        "and the setting stays. Codes and products have the same bits with any number of threads, and what double "
        "quantization stores reads the same.",
        tests=(
            "faults/test_resources.py::test_f5_with_one_thread_no_other_is_left_behind",
            "unit/native/test_quantizing.py::test_threads",
            "unit/native/test_independence.py::test_threads",
            "unit/test_double_quantization.py::test_what_is_stored_reads_the_same_with_any_number_of_threads",
        ),
    ),
)
