"""Mistakes in the kernels for GPUs and in what decides about them: `quant/kernels/cuda`."""

from tests.mutation.fault import Fault

BITS = "tests/unit/cuda/test_bits.py"
ROUNDED = "tests/unit/cuda/test_rounded_weights.py"
TABLE = "tests/unit/cuda/test_table.py"
CODE = "tests/unit/cuda/test_machine_code.py"
OPERANDS = "tests/unit/cuda/test_operands.py"

FAULTS = (
    Fault(
        "low-digits-not-put-back",
        "kernels/cuda/w8a16.py",
        "code_sums.to(tl.int64)[None, :] * 128",
        "code_sums.to(tl.int64)[None, :] * 127",
        f"{BITS}::test_int8_tiles_of_every_size",
    ),
    Fault(
        "digits-of-the-next-tile",
        "kernels/cuda/w8a16.py",
        "(m + rows[:, None]) * k",
        "(BLOCK_M + rows[:, None]) * k",
        f"{BITS}::test_int8_tiles_of_every_size",
    ),
    Fault(
        "int8-sums-widened-too-late",
        "kernels/cuda/w8a16.py",
        "high_sums.to(tl.int64) * 256",
        "(high_sums * 256).to(tl.int64)",
        f"{BITS}::test_the_largest_sums_of_int8_products_fit",
    ),
    Fault(
        "one-row-in-32-bits",
        "kernels/cuda/w8a16.py",
        "total = tl.sum(sums.to(tl.int64), axis=1)",
        "total = tl.sum(sums, axis=1)",
        f"{BITS}::test_the_largest_sums_of_int8_products_fit",
    ),
    Fault(
        "unit-of-one-row-in-32-bits",
        "kernels/cuda/w8a16.py",
        "tl.load(largest_ptr).to(tl.float64) / 32767.0",
        "(tl.load(largest_ptr) / 32767.0).to(tl.float64)",
        f"{BITS}::test_few_rows_of_every_dtype",
    ),
    Fault(
        "activations-cut-off-on-the-gpu",
        "kernels/cuda/activations.py",
        "q = ((value + 6755399441055744.0) - 6755399441055744.0).to(tl.int32)",
        "q = value.to(tl.int32)",
        f"{BITS}::test_few_rows_of_every_dtype",
    ),
    Fault(
        "infinite-activations-are-zeros-on-the-gpu",
        "kernels/cuda/activations.py",
        'tl.where(is_broken, float("nan"), a)',
        "a",
        f"{BITS}::test_edge_rows_and_scales",
    ),
    Fault(
        "largest-activation-of-the-first-chunk",
        "kernels/cuda/activations.py",
        "for start in range(0, k, CHUNK):",
        "for start in range(0, CHUNK, CHUNK):",
        f"{BITS}::test_rows_of_several_chunks",
    ),
    Fault(
        "nibbles-swapped-on-the-gpu",
        "kernels/cuda/lanes.py",
        "tl.load(levels_ptr + ((byte >> 4) & 15)) * ((both << 16) >> 16)[None, :]",
        "tl.load(levels_ptr + ((byte >> 4) & 15)) * (both >> 16)[None, :]",
        f"{BITS}::test_few_rows_of_every_dtype",
    ),
    Fault(
        "lanes-as-a-tree",
        "kernels/cuda/lanes.py",
        "    total = tl.sum(tl.where(lane == 0, lanes, 0.0), axis=1)\n",
        "    return tl.sum(lanes, axis=1)\n",
        f"{BITS}::test_few_rows_of_every_dtype",
    ),
    Fault(
        "lanes-added-backwards",
        "kernels/cuda/lanes.py",
        "tl.where(lane == index, lanes, 0.0)",
        "tl.where(lane == 16 - index, lanes, 0.0)",
        f"{BITS}::test_few_rows_of_every_dtype",
    ),
    Fault(
        "lanes-stay-infinite",
        "kernels/cuda/blockwise.py",
        "total = tl.where(finite, total, in_order(wide))",
        "total = tl.where(finite, total, total)",
        f"{BITS}::test_edge_rows_and_scales",
    ),
    Fault(
        "second-row-of-x-is-the-first",
        "kernels/cuda/lanes.py",
        "second = pairs_ptr + tl.minimum(row + 1, m - 1) * pairs",
        "second = pairs_ptr + row * pairs",
        f"{BITS}::test_few_rows_of_every_dtype",
    ),
    Fault(
        "absmax-offset-left-out-on-the-gpu",
        "kernels/cuda/absmax.py",
        "tl.where(mask, scaled + tl.load(offset_ptr), 0.0)",
        "tl.where(mask, scaled, 0.0)",
        f"{BITS}::test_few_rows_of_every_dtype",
    ),
    Fault(
        "codes-from-the-middle-of-a-word",
        "kernels/cuda/blockwise.py",
        "(packed.clone() if packed.data_ptr() % 8 else packed).view(torch.int64)",
        "packed.view(torch.int64)",
        f"{BITS}::test_codes_that_begin_anywhere",
    ),
    Fault(
        "bias-left-out-by-a-tile",
        "kernels/cuda/dequantizing.py",
        "    if HAS_BIAS:\n",
        "    if HAS_BIAS and BLOCK_N < 64:\n",
        f"{ROUNDED}::test_tiles_that_are_dequantized",
    ),
    Fault(
        "absmax-offset-left-out-of-bitsandbytes-op",
        "kernels/cuda/bitsandbytes_op.py",
        "absmax_scale, block_size, codebook, bias, absmax, level8, absmax_offset)",
        "absmax_scale, block_size, codebook, bias, absmax, level8, absmax_offset * 0)",
        f"{ROUNDED}::test_bitsandbytes_op_on_our_tensors",
    ),
    Fault(
        "products-and-sums-are-contracted",
        "kernels/cuda/w8a16.py",
        '"enable_fp_fusion": False}',
        '"enable_fp_fusion": True}',
        f"{CODE}::test_all_kernels_fit_and_round_as_specified",
    ),
    Fault(
        "old-gpus-are-taken",
        "kernels/cuda/__init__.py",
        "OLDEST_CAPABILITY = (8, 0)",
        "OLDEST_CAPABILITY = (7, 0)",
        f"{TABLE}::test_older_gpus_are_torch_s",
    ),
    Fault(
        "inputs-that-overflow-are-taken",
        "kernels/cuda/__init__.py",
        "x.shape[-1] <= LARGEST_K",
        "x.shape[-1] <= 2 * LARGEST_K",
        f"{BITS}::test_more_inputs_than_sums_hold_are_left_to_torch",
    ),
    Fault(
        "parts-of-groups-are-taken",
        "kernels/cuda/__init__.py",
        "rows <= FEW_ROWS and _reads(x) and x.shape[-1] % GROUP == 0",
        "rows <= FEW_ROWS and _reads(x)",
        f"{ROUNDED}::test_the_table_for_4_bits_on_a_gpu",
    ),
    Fault(
        "constants-in-the-memory-of-a-graph",
        "numerics/tables.py",
        "return thread.submit(build, *args, **kwargs).result()",
        "return build(*args, **kwargs)",
        "tests/unit/test_tables.py::test_constants_are_made_in_a_thread_of_their_own",
    ),
    Fault(
        "bias-of-another-size-on-the-gpu",
        "kernels/cuda/operands.py",
        '    check_operand("bias", bias, bias.dtype, n, device)\n',
        "",
        f"{OPERANDS}::test_a_wrong_operand_is_refused_by_name",
    ),
    Fault(
        "operands-of-another-device-on-the-gpu",
        "operands.py",
        "tensor.device == device and ",
        "",
        f"{OPERANDS}::test_operands_on_another_device_than_x_are_refused",
    ),
    Fault(
        "negated-views-read-as-they-lie-on-the-gpu",
        "kernels/cuda/operands.py",
        "return tensor.resolve_neg().contiguous()",
        "return tensor.contiguous()",
        f"{OPERANDS}::test_what_torch_negates_lazily_is_read_as_its_values",
    ),
    Fault(
        "codes-are-taken-to-begin-at-a-whole-word",
        "kernels/cuda/blockwise.py",
        "packed.clone() if packed.data_ptr() % 8 else packed",
        "packed.clone() if packed.storage_offset() % 8 else packed",
        f"{BITS}::test_codes_that_begin_anywhere",
    ),
)
