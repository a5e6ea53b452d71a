"""Mistakes in products and in calling the kernels: `quant/kernels`, `quant/native`."""

from tests.mutation.fault import Fault

BITS = "tests/unit/native/test_bits.py"
CALLS = "tests/unit/native/test_calls.py"
DISPATCH = "tests/unit/native/test_dispatch.py"
LOADING = "tests/unit/native/test_loading.py"
QUANTIZING = "tests/unit/native/test_quantizing.py"
GRADIENTS = "tests/unit/test_gradients.py"
KERNELS = "tests/unit/test_kernels.py"
OBSERVERS = "tests/unit/test_observers.py"

FAULTS = (
    Fault(
        "gradient-without-the-transpose",
        "kernels/reference.py",
        "dequantize_rows(codes, scales).t()",
        "dequantize_rows(codes, scales)",
        f"{GRADIENTS}::test_the_gradient_through_a_square_weight_is_not_transposed",
    ),
    Fault(
        "product-in-the-dtype-of-the-activations",
        "kernels/reference.py",
        "compute = torch.promote_types(x.dtype, torch.float32)",
        "compute = x.dtype",
        f"{KERNELS}::test_every_dtype_of_x_with_few_and_many_rows",
    ),
    Fault(
        "autocast-rounds-the-weight",
        "kernels/reference.py",
        "with torch.autocast(x.device.type, enabled=False):",
        "with torch.autocast(x.device.type, enabled=torch.is_autocast_enabled(x.device.type)):",
        f"{KERNELS}::test_autocast_does_not_round_the_weight_of_the_reference",
    ),
    Fault(
        "double-quantized-absmax-not-undone",
        "kernels/reference.py",
        "if absmax_scale is not None and absmax_offset is not None:",
        "if absmax_scale is not None and absmax_offset is None:",
        f"{GRADIENTS}::test_gradients_are_those_of_the_dequantized_layer",
    ),
    Fault(
        "bias-gradient-is-a-mean",
        "kernels/__init__.py",
        ".to(compute).sum(0)",
        ".to(compute).mean(0)",
        f"{GRADIENTS}::test_gradients_are_those_of_the_dequantized_layer",
    ),
    Fault(
        "bias-gradient-summed-in-16-bit",
        "kernels/__init__.py",
        "compute = torch.promote_types(grad.dtype, torch.float32)",
        "compute = grad.dtype",
        f"{GRADIENTS}::test_under_autocast_the_product_and_its_gradient_are_those_of_bfloat16",
    ),
    Fault(
        "gradient-is-lost-past-the-dispatcher",
        "kernels/__init__.py",
        "not torch.is_grad_enabled()\n        and ",
        "",
        f"{GRADIENTS}::test_gradients_are_those_of_the_dequantized_layer",
    ),
    Fault(
        "tensor-subclass-is-not-noticed",
        "kernels/__init__.py",
        "and _PLAIN.issuperset(map(type, operands))",
        "",
        f"{OBSERVERS}::test_observers_see_the_op",
    ),
    Fault(
        "fake-kernel-has-another-shape",
        "kernels/__init__.py",
        "x.new_empty(*x.shape[:-1], codes.shape[0])",
        "x.new_empty(*x.shape[:-1], codes.shape[1])",
        f"{KERNELS}::test_w8a16_is_registered_with_schema_fake_kernel_and_gradient",
    ),
    Fault(
        "torch-is-picked-in-silence",
        "kernels/cpu.py",
        '"""Whether there are native kernels for x."""\n    return native.reads(x)',
        '"""Whether there are native kernels for x."""\n    return False',
        f"{DISPATCH}::test_products_on_the_cpu_go_by_the_number_of_rows",
    ),
    Fault(
        "fixed-point-of-another-codebook",
        "kernels/cpu.py",
        "FIXED_POINT[codebook], DYNAMIC8_LEVELS",
        'FIXED_POINT["nf4"], DYNAMIC8_LEVELS',
        f"{BITS}::test_widths_on_both_sides_of_every_tile",
    ),
    Fault(
        "bias-dropped-for-a-single-row",
        "native/calls.py",
        "if bias is not None:",
        "if bias is not None and x.numel() > k:",
        "tests/unit/test_modules.py::test_the_bias_is_added_once_with_and_without_gradients",
    ),
    Fault(
        "strided-activations-read-as-contiguous",
        "native/calls.py",
        "x = x.resolve_neg().contiguous()",
        "x = x.resolve_neg()",
        f"{KERNELS}::test_strides_of_x_do_not_matter",
    ),
    Fault(
        "strided-bias-is-refused",
        "native/calls.py",
        "bias = bias.contiguous() if bias.dtype in DTYPES else bias.float()",
        "bias = bias if bias.dtype in DTYPES else bias.float()",
        f"{CALLS}::test_the_ops_take_operands_with_strides",
    ),
    Fault(
        "negated-view-read-as-it-lies",
        "native/calls.py",
        "weight.detach().resolve_neg().contiguous()",
        "weight.detach().contiguous()",
        f"{QUANTIZING}::test_a_weight_that_torch_negates_lazily",
    ),
    Fault(
        "float64-handed-to-the-kernels",
        "native/calls.py",
        "tensor.dtype in DTYPES\n        and tensor.is_cpu",
        "tensor.is_cpu",
        f"{DISPATCH}::test_float64_other_devices_subclasses_and_other_layouts_are_torch_s",
    ),
    Fault(
        "groups-of-absmax-rounded-down",
        "operands.py",
        "torch.float32, -(-count // 256), device)",
        "torch.float32, count // 256, device)",
        f"{CALLS}::test_a_wrong_operand_is_refused_by_name",
    ),
    Fault(
        "operand-of-another-size-accepted",
        "operands.py",
        "and tensor.device == device and tensor.numel() == size",
        "and tensor.device == device",
        f"{CALLS}::test_a_wrong_operand_is_refused_by_name",
    ),
    Fault(
        "not-finite-weight-quantized",
        "native/calls.py",
        "return None if bad else (codes, scales)",
        "return codes, scales",
        f"{QUANTIZING}::test_what_is_not_finite_is_counted_by_the_reference",
    ),
    Fault(
        "output-on-torch-s-default-device",
        "native/calls.py",
        "y = x.new_empty((*leading, n))",
        "y = torch.empty((*leading, n), dtype=x.dtype)",
        f"{CALLS}::test_the_result_lies_where_x_does_whatever_the_default_device",
    ),
    Fault(
        "forced-kernels-stay-forced",
        "native/variants.py",
        "        _forced = before\n",
        "        _forced = name\n",
        f"{LOADING}::test_an_override_ends_with_an_exception",
    ),
    Fault(
        "unknown-kernels-are-not-refused",
        "native/variants.py",
        "        _check(asked)\n",
        "",
        f"{LOADING}::test_an_unknown_value_is_an_error_that_names_those_that_work",
    ),
    Fault(
        "slow-way-without-a-word",
        "native/variants.py",
        "    if kernels is None:\n        warnings.warn(",
        '    if kernels is None:\n        return "torch"\n        warnings.warn(',
        f"{LOADING}::test_without_the_extension_the_first_use_says_once_what_to_do",
    ),
    Fault(
        "reference-computes-whatever-the-table-says",
        "kernels/__init__.py",
        "return dispatch(name, x, *operands)(x, *operands)",
        "return IMPLEMENTATIONS[name][-1][1](x, *operands)",
        f"{DISPATCH}::test_a_layer_runs_what_the_table_says",
    ),
    Fault(
        "every-call-goes-past-the-dispatcher",
        "kernels/__init__.py",
        "if _unobserved(operands):",
        "if operands:",
        f"{GRADIENTS}::test_gradients_are_those_of_the_dequantized_layer",
    ),
    Fault(
        "scales-applied-after-the-sum-in-16-bit",
        "kernels/reference.py",
        "return _linear(x, dequantize_rows(codes, scales), bias)",
        "return F.linear(x, codes.to(x.dtype)) * scales.to(x.dtype) + (0 if bias is None else bias.to(x.dtype))",
        "tests/faults/test_numerics.py::test_n4_float16_products_beyond_its_range_do_not_overflow",
    ),
    Fault(
        "strided-weight-read-in-the-order-of-memory",
        "native/calls.py",
        "weight.detach().resolve_neg().contiguous()",
        "weight.detach().resolve_neg()",
        "tests/unit/test_int8.py::test_strides_do_not_matter",
    ),
    Fault(
        "blocks-counted-row-by-row",
        "native/calls.py",
        "check_blockwise(CPU, out_features, k, block_size, packed,",
        "check_blockwise(CPU, out_features, -(-k // block_size) * block_size, block_size, packed,",
        "tests/faults/test_packing.py::test_p6_blocks_that_run_over_the_ends_of_rows_are_read_as_written",
    ),
    Fault(
        "two-threads-whatever-is-set",
        "native/calls.py",
        "torch.get_num_threads(), few,",
        "max(2, torch.get_num_threads()), few,",
        "tests/faults/test_resources.py::test_f5_with_one_thread_no_other_is_left_behind",
    ),
    Fault(
        "frozen-layer-keeps-its-input",
        "kernels/__init__.py",
        "    _, codes, scales, bias = inputs\n    ctx.save_for_backward(codes, scales)\n",
        "    ctx.x, codes, scales, bias = inputs\n    ctx.save_for_backward(codes, scales)\n",
        f"{GRADIENTS}::test_the_input_is_not_kept_alive",
    ),
)
