"""Mistakes in what the formats are: levels, bytes, double quantization (`quant/codebooks.py`, `quant/schemes.py`)."""

from tests.mutation.fault import Fault

BITS = "tests/unit/native/test_bits.py"
CODEBOOKS = "tests/unit/test_codebooks.py"
DOUBLE_QUANTIZATION = "tests/unit/test_double_quantization.py"
SCHEMES = "tests/unit/test_schemes.py"
TABLES = "tests/unit/test_tables.py"

FAULTS = (
    Fault(
        "absmax-codes-are-a-view-of-padding",
        "numerics/double_quantization.py",
        "codes = codes.view(-1)[:count].clone()",
        "codes = codes.view(-1)[:count]",
        f"{DOUBLE_QUANTIZATION}::test_codes_own_their_memory",
    ),
    Fault(
        "double-quantization-forgets-the-offset",
        "numerics/double_quantization.py",
        "* per_code + offset",
        "* per_code",
        f"{DOUBLE_QUANTIZATION}::test_codes_scales_and_values_equal_the_oracle",
    ),
    Fault(
        "double-quantization-subtracts-nothing",
        "numerics/double_quantization.py",
        "torch.sub(absmax, offset, out=centred[:count])",
        "centred[:count] = absmax",
        f"{DOUBLE_QUANTIZATION}::test_codes_scales_and_values_equal_the_oracle",
    ),
    Fault(
        "double-quantization-scales-of-the-wrong-group",
        "numerics/double_quantization.py",
        "scales.repeat_interleave(DOUBLE_QUANT_BLOCK)",
        "scales.repeat(DOUBLE_QUANT_BLOCK)",
        f"{DOUBLE_QUANTIZATION}::test_codes_scales_and_values_equal_the_oracle",
    ),
    Fault(
        "double-quantization-coarser-grid",
        "numerics/double_quantization.py",
        "GRID = 65536",
        "GRID = 65535",
        f"{DOUBLE_QUANTIZATION}::test_codes_scales_and_values_equal_the_oracle",
    ),
    Fault(
        "double-quantization-of-a-block-of-zeros",
        "numerics/double_quantization.py",
        "codes[scales == 0] = 0",
        "codes[scales == 0] = 128",
        f"{DOUBLE_QUANTIZATION}::test_codes_scales_and_values_equal_the_oracle",
    ),
    Fault(
        "double-quantization-mean-overflows",
        "numerics/double_quantization.py",
        "offset = absmax.double().mean().float()",
        "offset = absmax.mean()",
        f"{DOUBLE_QUANTIZATION}::test_huge_values_stay_finite",
    ),
    Fault(
        "kept-table-is-given-to-fakes",
        "numerics/tables.py",
        'type(torch.empty(0, device="cpu")) is not Tensor',
        "False",
        f"{TABLES}::test_a_fake_table_is_not_kept_and_a_kept_one_is_not_given_to_fakes",
    ),
    Fault(
        "table-of-placeholders-is-cached",
        "numerics/tables.py",
        "    return table\n",
        "    return functools.cache(build)\n",
        f"{TABLES}::test_a_call_under_fake_tensors_does_not_poison_the_next_one",
    ),
    Fault(
        "nf4-level-with-a-wrong-digit",
        "codebooks.py",
        "0.7229568362236023,",
        "0.7229658362236023,",
        f"{CODEBOOKS}::test_levels_are_the_reference_levels_exactly",
    ),
    Fault(
        "int4-levels-of-eighths",
        "codebooks.py",
        "(code - 8) / 7.0",
        "(code - 8) / 8.0",
        f"{CODEBOOKS}::test_levels_are_the_reference_levels_exactly",
    ),
    Fault(
        "fixed-point-levels-truncated",
        "codebooks.py",
        "tuple(round(level * FIXED_POINT[codebook])",
        "tuple(int(level * FIXED_POINT[codebook])",
        f"{BITS}::test_widths_on_both_sides_of_every_tile",
    ),
    Fault(
        "bytes-without-the-format-tag",
        "schemes.py",
        "+ absmax + FORMAT_BYTES",
        "+ absmax",
        f"{SCHEMES}::test_storage_bytes_by_hand",
    ),
    Fault(
        "block-size-tag-off-by-one",
        "schemes.py",
        "self.block_size.bit_length() - 1",
        "self.block_size.bit_length()",
        f"{SCHEMES}::test_format_tags_are_the_ones_in_existing_files",
    ),
    Fault(
        "block-size-of-minus-1-means-the-row",
        "schemes.py",
        "self.block_size not in BLOCK_SIZES",
        "self.block_size not in (-1, *BLOCK_SIZES)",
        f"{SCHEMES}::test_block_size_outside_the_list_is_refused_with_the_list",
    ),
)
