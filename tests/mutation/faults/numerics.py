"""Mistakes in the arithmetic of the formats: `quant/numerics`."""

from tests.mutation.fault import Fault

QUANTIZING = "tests/unit/native/test_quantizing.py"
BLOCKWISE = "tests/unit/test_blockwise.py"
FLUSHED_SUBNORMALS = "tests/unit/test_flushed_subnormals.py"
INT8 = "tests/unit/test_int8.py"
PACKING = "tests/unit/test_packing.py"

FAULTS = (
    Fault(
        "int8-one-scale-for-all-rows",
        "numerics/int8.py",
        "absmax = chunk.abs().amax(dim=1)",
        "absmax = chunk.abs().amax().expand(len(chunk))",
        f"{INT8}::test_codes_and_scales_equal_the_oracle",
    ),
    Fault(
        "int8-scale-along-the-wrong-axis",
        "numerics/int8.py",
        "return codes.float() * scales[:, None]",
        "return codes.float() * scales[None, :]",
        f"{INT8}::test_each_row_comes_back_by_its_own_scale",
    ),
    Fault(
        "int8-truncates",
        "numerics/int8.py",
        "quotient.round_()",
        "quotient.trunc_()",
        f"{INT8}::test_codes_and_scales_equal_the_oracle",
    ),
    Fault(
        "int8-rounds-half-up",
        "numerics/int8.py",
        "quotient.round_()",
        "quotient.add_(0.5).floor_()",
        f"{QUANTIZING}::test_sizes_with_tails",
    ),
    Fault(
        "int8-divides-by-128",
        "numerics/int8.py",
        "absmax / QMAX",
        "absmax / 128",
        f"{INT8}::test_codes_and_scales_equal_the_oracle",
    ),
    Fault(
        "int8-code-128-wraps-around",
        "numerics/int8.py",
        "QMAX = 127",
        "QMAX = 128",
        f"{INT8}::test_codes_and_scales_equal_the_oracle",
    ),
    Fault(
        "int8-scale-in-the-dtype-of-the-weight",
        "numerics/int8.py",
        "scale = absmax / QMAX",
        "scale = (absmax.to(weight.dtype) / QMAX).float()",
        f"{QUANTIZING}::test_sizes_with_tails",
    ),
    Fault(
        "int8-quotient-in-the-dtype-of-the-weight",
        "numerics/int8.py",
        "weight[start : start + rows].float()",
        "weight[start : start + rows]",
        f"{INT8}::test_tiny_rows_stay_accurate_until_the_scale_leaves_the_normal_range",
    ),
    Fault(
        "int8-nan-is-not-refused",
        "numerics/int8.py",
        "check_finite(absmax, weight)",
        "pass",
        f"{INT8}::test_nan_and_infinity_are_refused_with_their_number",
    ),
    Fault(
        "int8-zero-rows-divide-by-zero",
        "numerics/int8.py",
        "torch.where(scale > 0, scale, 1.0)",
        "scale",
        f"{INT8}::test_tiny_rows_stay_accurate_until_the_scale_leaves_the_normal_range",
    ),
    Fault(
        "int8-scales-of-later-chunks-overwrite-the-first",
        "numerics/int8.py",
        "scales[start : start + rows] = scale",
        "scales[: len(scale)] = scale",
        f"{INT8}::test_chunks_do_not_matter",
    ),
    Fault(
        "int8-subnormal-rows-keep-their-scale",
        "numerics/int8.py",
        "scale = torch.where(scale >= SMALLEST_SCALE, scale, 0.0)",
        "scale = torch.where(scale >= 0.0, scale, 0.0)",
        f"{INT8}::test_tiny_rows_stay_accurate_until_the_scale_leaves_the_normal_range",
    ),
    Fault(
        "blockwise-ties-take-the-upper-level",
        "numerics/blockwise.py",
        "midpoints, out_int32=True)",
        "midpoints, out_int32=True, right=True)",
        f"{BLOCKWISE}::test_codes_bytes_and_absmax_equal_the_oracle",
    ),
    Fault(
        "blockwise-absmax-of-the-block-before",
        "numerics/blockwise.py",
        "stop // block_size] = largest",
        "stop // block_size] = largest.roll(1)",
        f"{BLOCKWISE}::test_codes_bytes_and_absmax_equal_the_oracle",
    ),
    Fault(
        "blockwise-largest-instead-of-largest-magnitude",
        "numerics/blockwise.py",
        "largest = blocks.abs().amax(dim=1)",
        "largest = blocks.amax(dim=1)",
        f"{BLOCKWISE}::test_codes_bytes_and_absmax_equal_the_oracle",
    ),
    Fault(
        "blockwise-short-last-block-is-scaled-by-the-first",
        "numerics/blockwise.py",
        "values[full:].mul_(absmax[-1])",
        "values[full:].mul_(absmax[0])",
        f"{BLOCKWISE}::test_midpoints_take_the_lower_level_and_their_neighbours_the_nearest",
    ),
    Fault(
        "blockwise-short-last-block-is-forgotten",
        "numerics/blockwise.py",
        "    if full < count:\n        values",
        "    if full < count - 1:\n        values",
        f"{BLOCKWISE}::test_tails_and_odd_counts_equal_the_oracle",
    ),
    Fault(
        "blockwise-short-last-block-by-the-reciprocal",
        "numerics/blockwise.py",
        "(tail / largest)",
        "(tail * (1.0 / largest))",
        f"{QUANTIZING}::test_midpoints_of_short_blocks_are_divided_and_not_multiplied_by_a_reciprocal",
    ),
    Fault(
        "blockwise-odd-tail-is-filled-with-code-0",
        "numerics/blockwise.py",
        "pack_nibbles(codes, fill=zero_code)",
        "pack_nibbles(codes, fill=0)",
        f"{BLOCKWISE}::test_codes_bytes_and_absmax_equal_the_oracle",
    ),
    Fault(
        "blockwise-nan-in-the-last-block-is-not-refused",
        "numerics/blockwise.py",
        "check_finite(tail.abs().amax(), weight)",
        "pass",
        f"{BLOCKWISE}::test_nan_and_infinity_are_refused",
    ),
    Fault(
        "blockwise-flushed-divisor-gives-nan",
        "numerics/blockwise.py",
        ".clamp_(max=LARGEST)",
        "",
        f"{FLUSHED_SUBNORMALS}::test_blocks_of_zeros_and_subnormals_are_zeros",
    ),
    Fault(
        "nibbles-swapped-when-packed",
        "numerics/packing.py",
        "(codes[0::2] << 4) | codes[1::2]",
        "(codes[1::2] << 4) | codes[0::2]",
        f"{PACKING}::test_first_code_goes_to_the_high_nibble",
    ),
    Fault(
        "nibbles-swapped-when-read",
        "numerics/blockwise.py",
        "[levels[byte >> 4], levels[byte & 0xF]]",
        "[levels[byte & 0xF], levels[byte >> 4]]",
        f"{BLOCKWISE}::test_each_level_gets_its_code_and_comes_back",
    ),
    Fault(
        "reciprocal-that-was-flushed-gives-zeros",
        "numerics/reciprocal.py",
        "flushed = reciprocal == 0",
        "flushed = reciprocal < 0",
        f"{FLUSHED_SUBNORMALS}::test_any_magnitude_stays_finite_and_within_the_error_bound",
    ),
    Fault(
        "a-level-beyond-the-largest-float",
        "numerics/double_quantization.py",
        "        codes -= lower.to(torch.uint8)\n",
        "        break\n",
        "tests/unit/test_double_quantization.py::test_a_level_beyond_the_largest_float_gives_way_to_the_next_lower_one",
    ),
)
