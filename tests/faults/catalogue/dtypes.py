"""D1 to D7: moves, casts, biases and what is not quantized."""

from tests.faults.fault import Fault

FAULTS = (
    Fault(
        id="D1",
        title="A move quantizes again, or forgets that the weight is quantized",
        what="To the CPU and back to the GPU, and the packed codes were quantized as if they were weights; or the "
        "parameter that a move returned was marked as not quantized. The repair of one case broke another, twice.",
        seen=("bnb#937", "bnb#953", "bnb#1664", "bnb#1665", "bnb#1332", "bnb#1776", "bnb#1786"),
        here="Any two of twelve moves, casts, copies and reloads after each other keep every bit of what is stored and "
        "the output. Moves to a GPU and back are in the tests that need one.",
        tests=(
            "contract/battery/test_state.py::test_any_two_moves_keep_every_bit_of_the_weight",
            "gpu/test_layers.py::test_moving_to_the_gpu_and_back_keeps_every_bit",
        ),
    ),
    Fault(
        id="D2",
        title="A move that leaves a part behind",
        what="The table of levels, the absmax or the state of double quantization stayed on the old device; `.cuda()` "
        "did something that `.to('cuda')` did not; the spellings with a keyword or with a tensor were overlooked.",
        seen=(
            "bnb#1527",
            "bnb#2078",
            "bnb#1332",
            "ao#158",
            "ao#522",
            "ao#726",
            "ao#1312",
            "ao#4297",
            "peft#3418",
            "quanto@a233649",
        ),
        here="Every spelling moves every tensor that the layer holds, in state objects on its tensors too, with the "
        "meta device in place of a second one; the same for whole models. Moves to CUDA are in the tests that need a "
        "GPU.",
        tests=(
            "contract/battery/test_state.py::test_every_spelling_of_a_move_moves_every_tensor",
            "contract/battery/test_state.py::test_a_tensor_is_found_wherever_it_hangs",
            "faults/test_dtypes.py::test_d2_a_move_of_a_model_moves_every_tensor_of_its_layers",
            "gpu/test_layers.py::test_moving_to_the_gpu_and_back_keeps_every_bit",
        ),
    ),
    Fault(
        id="D3",
        title="A cast hits the codes or the scales",
        what="A cast took the zero point from another tensor, or was applied to packed codes; one library gives up "
        "quantization on `.to(dtype)`, another ignores it; models read `weight.dtype`, which is that of codes, and "
        "cast their activations to it.",
        seen=("quanto@8299366", "quanto@3bddd0a", "ao#1312", "city96/ComfyUI-GGUF#456", "PaddlePaddle/PaddleNLP#7027"),
        here="Codes and float32 scales survive every cast of a layer and of a model, to half precision and back. The "
        "dtype of `weight` is that of the codes: architectures of transformers are told so, those that read it are "
        "left in float32, and activations cast to integers are refused.",
        tests=(
            "contract/battery/test_state.py::test_any_two_moves_keep_every_bit_of_the_weight",
            "contract/battery/test_state.py::test_a_cast_sets_the_dtype_of_dequantize_and_back_again_loses_nothing",
            "unit/test_convert_transformers.py::test_phi3_runs_in_every_dtype_and_a_cast_leaves_the_codes",
            "unit/integrations/test_in_use.py::test_a_cast_of_the_model_leaves_codes_and_scales",
            "unit/test_modules.py::test_other_inputs_are_refused_by_a_message_that_names_the_layer",
            "unit/integrations/test_marking.py::test_architectures_are_told_not_to_read_weights",
            "unit/integrations/test_architectures.py::test_what_an_architecture_keeps_in_float32_is_left",
        ),
    ),
    Fault(
        id="D4",
        title="The output's dtype is not the input's",
        what="The dtype of the first input stayed for all later ones; float32 scales made float32 outputs, which the "
        "next layer refused; half-precision models crashed inside, or behaved differently under autocast.",
        seen=(
            "bnb#1623",
            "dropbox/hqq#7",
            "autogptq#390",
            "openvinotoolkit/nncf#2596",
            "huggingface/trl#4634",
            "tf#34409",
        ),
        here="Every dtype of input, in both orders, with and without autocast, against a float layer; models in half "
        "precision run, and generate with every tensor between their layers in that dtype.",
        tests=(
            "unit/test_modules.py::test_the_dtype_of_x_is_the_dtype_of_y_in_whatever_order_they_come",
            "unit/test_modules.py::test_under_autocast_the_output_dtype_is_that_of_a_float_layer",
            "unit/test_modules.py::test_under_autocast_the_product_is_still_computed_in_float32",
            "unit/test_gradients.py::test_under_autocast_the_product_and_its_gradient_are_those_of_bfloat16",
            "unit/test_convert_transformers.py::test_phi3_runs_in_every_dtype_and_a_cast_leaves_the_codes",
            "faults/test_dtypes.py::test_d4_models_in_half_precision_generate",
        ),
    ),
    Fault(
        id="D5",
        title="The bias is dropped, mistyped or added twice",
        what="The path for one row without gradients returned the product alone; a typing error in a cast; a loader "
        "that skipped biases, which no model in the tests had.",
        seen=("bnb@90b0ac5", "bnb@b8ea2b4", "quanto@4d469e6", "ao#1087", "tf#37530"),
        here="Biases that dwarf the products, for one row and many, with and without gradients, in training and "
        "evaluation, in each variant of the kernels; and by every road on which a model is quantized, saved and "
        "loaded.",
        tests=(
            "unit/test_kernels.py::test_the_bias_is_added_exactly_once",
            "unit/test_modules.py::test_the_bias_is_added_once_with_and_without_gradients",
            "unit/native/test_bits.py::test_every_dtype_and_bias",
            "unit/integrations/test_loading_refusals.py::test_a_missing_bias_is_missed_by_name",
            "faults/test_dtypes.py::test_d5_biases_come_along_by_every_road",
        ),
    ),
    Fault(
        id="D6",
        title="The default dtype, raw pointers, dtypes that are accepted and not supported",
        what="Tensors made without a dtype followed torch's default one; a float16 value was passed as a pointer to "
        "float32; a float16 input to a kernel for float32 gave zeros, and later a crash.",
        seen=("bnb@097b1cc", "bnb#553", "bnb#1971", "bnb#1540", "ao#2286"),
        here="Other default dtypes change nothing. A dtype is computed with or refused by name, for weights and for "
        "activations, float8 and integers included; every operand is checked before its address is taken, and the "
        "extension's own checks are held one by one.",
        tests=(
            "contract/battery/test_state.py::test_the_default_dtype_reaches_a_new_layer_s_bias_and_nothing_else",
            "unit/test_tensor.py::test_the_default_dtype_does_not_matter",
            "unit/test_tensor.py::test_other_dtypes_are_refused",
            "unit/test_modules.py::test_other_inputs_are_refused_by_a_message_that_names_the_layer",
            "unit/test_kernels.py::test_every_dtype_of_x_with_few_and_many_rows",
            "unit/native/test_calls.py::test_a_wrong_operand_is_refused_by_name",
            "unit/native/test_extension.py::test_a_wrong_argument_is_refused",
            "unit/native/test_sanitizers.py::test_an_operand_that_is_one_byte_short_is_reported",
        ),
    ),
    Fault(
        id="D7",
        title="A cast of the model damages what is not quantized",
        what="`model.to(bfloat16)` rounds the rotary frequencies, positions beyond 256 collapse, and quantization is "
        "blamed. Loading with a dtype leaves those buffers in float32, so two ways to load one model differ.",
        seen=("tf#25681", "tf#29496", "tf#30709", "NVIDIA-NeMo/Automodel#2549", "EleutherAI/gpt-neox#1003"),
        here="Quantizing leaves dtype and bits of every other parameter and buffer, those that are not saved included. "
        "The rotary frequencies stay float32 to the bit by every road in half precision, and baseline and variants of "
        "a comparison share all tensors that are not quantized.",
        tests=(
            "unit/test_convert_transformers.py::test_phi3_keeps_head_embedding_norms_and_rotary_buffers_bit_for_bit",
            "unit/test_convert.py::test_the_chosen_layers_are_replaced_in_place_and_nothing_else_is_touched",
            "unit/test_variants.py::test_a_variant_quantizes_its_layers_and_leaves_every_other_tensor",
            "faults/test_dtypes.py::test_d7_rotary_frequencies_stay_float32_to_the_bit",
        ),
    ),
)
