"""Mistakes in layers and what they store: `quant/modules.py`, `quant/linears.py`, `quant/tensor.py`."""

from tests.mutation.fault import Fault

LINEARS = "tests/unit/test_linears.py"
MODULE_CONSTRUCTION = "tests/unit/test_module_construction.py"
MODULES = "tests/unit/test_modules.py"
TENSOR = "tests/unit/test_tensor.py"

FAULTS = (
    Fault(
        "codes-are-not-saved",
        "modules.py",
        "self.register_buffer(name, tensor)",
        "self.register_buffer(name, tensor, persistent=False)",
        "tests/contract/battery/test_state.py::test_any_two_moves_keep_every_bit_of_the_weight",
    ),
    Fault(
        "forward-changes-the-state",
        "modules.py",
        "codes = self.weight.view(self.out_features, self.in_features)",
        "codes = self.weight = self.weight.view(self.out_features, self.in_features)",
        "tests/contract/battery/test_forward.py::test_forward_changes_nothing_and_repeats",
    ),
    Fault(
        "state-is-copied-by-half",
        "modules.py",
        "for name, tensor in quantized.stored.items():",
        "for name, tensor in [*quantized.stored.items()][:1]:",
        f"{MODULES}::test_from_a_layer_come_its_codes_its_own_bias_and_its_mode",
    ),
    Fault(
        "bias-is-copied-instead-of-shared",
        "modules.py",
        "layer.bias = parts.bias",
        "layer.bias = nn.Parameter(parts.bias.detach().clone()) if parts.bias is not None else None",
        f"{MODULES}::test_from_a_layer_come_its_codes_its_own_bias_and_its_mode",
    ),
    Fault(
        "half-narrows-the-scales",
        "modules.py",
        "moved if moved.dtype == tensor.dtype else tensor.to(moved.device)",
        "moved",
        "tests/contract/battery/test_state.py::test_any_two_moves_keep_every_bit_of_the_weight",
    ),
    Fault(
        "dtype-does-not-follow-half",
        "modules.py",
        '        self.dtype = fn(torch.empty(0, dtype=self.dtype, device="cpu")).dtype\n',
        "",
        "tests/contract/battery/test_state.py::test_any_two_moves_keep_every_bit_of_the_weight",
    ),
    Fault(
        "codes-of-another-codebook-are-loaded",
        "modules.py",
        "tuple(tag.tolist()) != self.scheme.format_tag",
        "int(tag[0]) != self.scheme.format_tag[0]",
        "tests/contract/battery/test_loading.py::test_tensors_of_equal_shapes_but_another_format_are_told_apart",
    ),
    Fault(
        "float-weight-is-loaded-as-codes",
        "modules.py",
        "loaded is not None and loaded.dtype != tensor.dtype",
        "loaded is not None and loaded.dtype == torch.bool",
        f"{MODULE_CONSTRUCTION}::test_tensors_of_another_dtype_are_not_loaded",
    ),
    Fault(
        "training-flag-is-lost",
        "modules.py",
        "return layer.train(linear.training)",
        "return layer",
        f"{MODULES}::test_from_a_layer_come_its_codes_its_own_bias_and_its_mode",
    ),
    Fault(
        "autocast-is-ignored",
        "modules.py",
        "return x.to(torch.get_autocast_dtype(device))",
        "return x",
        f"{MODULES}::test_under_autocast_the_output_dtype_is_that_of_a_float_layer",
    ),
    Fault(
        "wrong-width-is-not-refused",
        "modules.py",
        "x.dim() == 0 or x.shape[-1] != self.in_features",
        "x.dim() == 0",
        f"{MODULES}::test_other_inputs_are_refused_by_a_message_that_names_the_layer",
    ),
    Fault(
        "scale-in-place-of-the-offset",
        "modules.py",
        "self.weight_absmax_offset if double else None",
        "self.weight_absmax_scale[0] if double else None",
        f"{MODULES}::test_forward_of_any_leading_shape_is_within_what_float32_explains",
    ),
    Fault(
        "frozen-weight-becomes-trainable",
        "linears.py",
        "requires_grad=trainable",
        "requires_grad=True",
        f"{LINEARS}::test_a_frozen_weight_is_read_and_rebuilt_frozen",
    ),
    Fault(
        "conv1d-is-not-transposed",
        "linears.py",
        "return weight.t() if _is_conv1d(layer_type) else weight",
        "return weight",
        f"{LINEARS}::test_conv1d_is_read_as_out_by_in",
    ),
    Fault(
        "subclass-counts-as-linear",
        "linears.py",
        "(type(module) is nn.Linear or",
        "(isinstance(module, nn.Linear) or",
        f"{LINEARS}::test_exactly_linear_and_conv1d_count",
    ),
    Fault(
        "dequantizing-overflows-to-infinity",
        "tensor.py",
        "weight.clamp_(-largest, largest)",
        "pass",
        f"{TENSOR}::test_values_beyond_a_narrow_dtype_saturate_at_its_finite_range",
    ),
    Fault(
        "scale-and-offset-exchanged",
        "tensor.py",
        'names = ("weight_absmax", "weight_absmax_scale", "weight_absmax_offset")',
        'names = ("weight_absmax", "weight_absmax_offset", "weight_absmax_scale")',
        f"{TENSOR}::test_what_is_stored_is_the_documented_table_and_its_bytes_are_the_scheme_s",
    ),
    Fault(
        "bytes-are-elements",
        "tensor.py",
        "tensor.numel() * tensor.element_size()",
        "tensor.numel()",
        f"{TENSOR}::test_what_is_stored_is_the_documented_table_and_its_bytes_are_the_scheme_s",
    ),
    Fault(
        "gradient-history-is-kept",
        "tensor.py",
        "    weight = weight.detach()\n",
        "",
        f"{TENSOR}::test_the_weight_and_the_codes_are_unchanged_and_no_graph_is_kept",
    ),
    Fault(
        "empty-scales-are-as-many-as-columns",
        "tensor.py",
        "torch.empty(shape[0], dtype=torch.float32",
        "torch.empty(shape[1], dtype=torch.float32",
        f"{TENSOR}::test_the_meta_device_and_empty_stored_have_the_same_layout",
    ),
    Fault(
        "scales-stay-behind-in-a-move",
        "modules.py",
        "moved = fn(tensor)",
        'moved = fn(tensor) if name == "weight" else tensor',
        "tests/contract/battery/test_state.py::test_every_spelling_of_a_move_moves_every_tensor",
    ),
    Fault(
        "scheme-is-saved-as-a-string",
        "modules.py",
        "    def extra_repr(self) -> str:\n",
        "    def get_extra_state(self) -> str:\n        return repr(self.scheme)\n\n    def extra_repr(self) -> str:\n",
        "tests/contract/battery/test_loading.py::"
        "test_the_state_is_the_stored_tensors_and_the_bias_and_loads_into_an_empty_layer",
    ),
    Fault(
        "scheme-is-kept-on-the-class",
        "modules.py",
        "self.in_features, self.out_features, self.scheme = in_features, out_features, scheme",
        "self.in_features, self.out_features, type(self).scheme = in_features, out_features, scheme",
        "tests/faults/test_integration.py::test_i3_layers_of_two_schemes_in_one_process_do_not_share_their_settings",
    ),
    Fault(
        "bound-method-on-its-own-layer",
        "modules.py",
        "        self._trainable = True\n",
        "        self._trainable = True\n        self._checked = self._check_input\n",
        "tests/faults/test_resources.py::test_f2_a_layer_that_is_dropped_is_freed_at_once",
    ),
    Fault(
        "quantizing-sets-the-precision-of-the-process",
        "tensor.py",
        "    weight = weight.detach()\n",
        '    torch.set_float32_matmul_precision("high")\n    weight = weight.detach()\n',
        "tests/faults/test_process_state.py::test_i6_using_everything_leaves_the_process_as_it_was",
    ),
    Fault(
        "fused-projections-share-a-scale",
        "tensor.py",
        "codes, scales = quantize_rows(weight, scheme.searched_factors)",
        "codes, scales = quantize_rows(weight.reshape(1, -1))\n        scales = scales.repeat(len(weight))",
        "tests/faults/test_phi3.py::test_i7_a_part_of_a_fused_layer_is_the_layer_of_that_part",
    ),
)
