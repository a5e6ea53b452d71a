"""Mistakes in the arithmetic of the formats: `quant/numerics`, `quant/codebooks.py`, `quant/schemes.py`."""

from tests.mutation.fault import Fault

INT8 = "tests/unit/test_int8.py"
BLOCKWISE = "tests/unit/test_blockwise.py"
PACKING = "tests/unit/test_packing.py"
DOUBLE = "tests/unit/test_double_quantization.py"
CODEBOOKS = "tests/unit/test_codebooks.py"
SCHEMES = "tests/unit/test_schemes.py"
FLUSHED = "tests/unit/test_flushed_subnormals.py"

FAULTS = (
    Fault(
        "int8-one-scale-for-all-rows",
        "numerics/int8.py",
        "absmax = chunk.abs().amax(dim=1)",
        "absmax = chunk.abs().amax().expand(len(chunk))",
        (INT8,),
    ),
    Fault(
        "int8-scale-along-the-wrong-axis",
        "numerics/int8.py",
        "return codes.float() * scales[:, None]",
        "return codes.float() * scales[None, :]",
        ("tests/unit/test_tensor.py", "tests/property/test_int8_round_trip.py"),
    ),
    Fault("int8-truncates", "numerics/int8.py", "quotient.round_()", "quotient.trunc_()", (INT8,)),
    Fault(
        "int8-rounds-half-up",
        "numerics/int8.py",
        "quotient.round_()",
        "quotient.add_(0.5).floor_()",
        ("tests/unit/native/test_quantizing.py",),
    ),
    Fault("int8-divides-by-128", "numerics/int8.py", "absmax / QMAX", "absmax / 128", (INT8,)),
    Fault("int8-code-128-wraps-around", "numerics/int8.py", "QMAX = 127", "QMAX = 128", (INT8,)),
    Fault(
        "int8-scale-in-the-dtype-of-the-weight",
        "numerics/int8.py",
        "scale = absmax / QMAX",
        "scale = (absmax.to(weight.dtype) / QMAX).float()",
        ("tests/unit/native/test_quantizing.py",),
    ),
    Fault(
        "int8-quotient-in-the-dtype-of-the-weight",
        "numerics/int8.py",
        "weight[start : start + rows].float()",
        "weight[start : start + rows]",
        (INT8,),
    ),
    Fault("int8-nan-is-not-refused", "numerics/int8.py", "check_finite(absmax, weight)", "pass", (INT8,)),
    Fault("int8-zero-rows-divide-by-zero", "numerics/int8.py", "torch.where(scale > 0, scale, 1.0)", "scale", (INT8,)),
    Fault(
        "int8-scales-of-later-chunks-overwrite-the-first",
        "numerics/int8.py",
        "scales[start : start + rows] = scale",
        "scales[: len(scale)] = scale",
        (INT8,),
    ),
    Fault(
        "int8-subnormal-rows-keep-their-scale",
        "numerics/int8.py",
        "scale = torch.where(scale >= SMALLEST_SCALE, scale, 0.0)",
        "scale = torch.where(scale >= 0.0, scale, 0.0)",
        (INT8, FLUSHED),
    ),
    Fault(
        "blockwise-ties-take-the-upper-level",
        "numerics/blockwise.py",
        "midpoints, out_int32=True)",
        "midpoints, out_int32=True, right=True)",
        (BLOCKWISE,),
    ),
    Fault(
        "blockwise-absmax-of-the-block-before",
        "numerics/blockwise.py",
        "stop // block_size] = largest",
        "stop // block_size] = largest.roll(1)",
        (BLOCKWISE,),
    ),
    Fault(
        "blockwise-largest-instead-of-largest-magnitude",
        "numerics/blockwise.py",
        "largest = blocks.abs().amax(dim=1)",
        "largest = blocks.amax(dim=1)",
        (BLOCKWISE,),
    ),
    Fault(
        "blockwise-short-last-block-is-scaled-by-the-first",
        "numerics/blockwise.py",
        "values[full:].mul_(absmax[-1])",
        "values[full:].mul_(absmax[0])",
        (BLOCKWISE,),
    ),
    Fault(
        "blockwise-short-last-block-is-forgotten",
        "numerics/blockwise.py",
        "    if full < count:\n        values",
        "    if full < count - 1:\n        values",
        (BLOCKWISE,),
    ),
    Fault(
        "blockwise-short-last-block-by-the-reciprocal",
        "numerics/blockwise.py",
        "(tail / largest)",
        "(tail * (1.0 / largest))",
        ("tests/unit/native/test_quantizing.py",),
    ),
    Fault(
        "blockwise-odd-tail-is-filled-with-code-0",
        "numerics/blockwise.py",
        "pack_nibbles(codes, fill=zero_code)",
        "pack_nibbles(codes, fill=0)",
        (BLOCKWISE,),
    ),
    Fault(
        "blockwise-nan-in-the-last-block-is-not-refused",
        "numerics/blockwise.py",
        "check_finite(tail.abs().amax(), weight)",
        "pass",
        (BLOCKWISE,),
    ),
    Fault(
        "blockwise-flushed-divisor-gives-nan",
        "numerics/blockwise.py",
        ".clamp_(max=LARGEST)",
        "",
        (FLUSHED,),
    ),
    Fault(
        "nibbles-swapped-when-packed",
        "numerics/packing.py",
        "(codes[0::2] << 4) | codes[1::2]",
        "(codes[1::2] << 4) | codes[0::2]",
        (PACKING,),
    ),
    Fault(
        "nibbles-swapped-when-read",
        "numerics/blockwise.py",
        "[levels[byte >> 4], levels[byte & 0xF]]",
        "[levels[byte & 0xF], levels[byte >> 4]]",
        (BLOCKWISE,),
    ),
    Fault(
        "reciprocal-that-was-flushed-gives-zeros",
        "numerics/reciprocal.py",
        "flushed = reciprocal == 0",
        "flushed = reciprocal < 0",
        (FLUSHED,),
    ),
    Fault(
        "double-quantization-forgets-the-offset",
        "numerics/double_quantization.py",
        "* per_code + offset",
        "* per_code",
        (DOUBLE,),
    ),
    Fault(
        "double-quantization-subtracts-nothing",
        "numerics/double_quantization.py",
        "torch.sub(absmax, offset, out=centred[:count])",
        "centred[:count] = absmax",
        (DOUBLE,),
    ),
    Fault(
        "double-quantization-scales-of-the-wrong-group",
        "numerics/double_quantization.py",
        "scales.repeat_interleave(DOUBLE_QUANT_BLOCK)",
        "scales.repeat(DOUBLE_QUANT_BLOCK)",
        (DOUBLE,),
    ),
    Fault(
        "double-quantization-coarser-grid", "numerics/double_quantization.py", "GRID = 65536", "GRID = 65535", (DOUBLE,)
    ),
    Fault(
        "double-quantization-of-a-block-of-zeros",
        "numerics/double_quantization.py",
        "codes[scales == 0] = 0",
        "codes[scales == 0] = 128",
        (DOUBLE,),
    ),
    Fault(
        "double-quantization-mean-overflows",
        "numerics/double_quantization.py",
        "offset = absmax.double().mean().float()",
        "offset = absmax.mean()",
        (DOUBLE,),
    ),
    Fault(
        "table-of-placeholders-is-cached",
        "numerics/tables.py",
        'type(torch.empty(0, device="cpu")) is not Tensor',
        "False",
        ("tests/unit/test_tables.py",),
    ),
    Fault("nf4-level-with-a-wrong-digit", "codebooks.py", "0.7229568362236023,", "0.7229658362236023,", (CODEBOOKS,)),
    Fault("int4-levels-of-eighths", "codebooks.py", "(code - 8) / 7.0", "(code - 8) / 8.0", (CODEBOOKS,)),
    Fault(
        "fixed-point-levels-truncated",
        "codebooks.py",
        "tuple(round(level * FIXED_POINT[codebook])",
        "tuple(int(level * FIXED_POINT[codebook])",
        ("tests/unit/native/test_bits.py", "tests/unit/test_integer_error.py"),
    ),
    Fault("bytes-without-the-format-tag", "schemes.py", "+ absmax + FORMAT_BYTES", "+ absmax", (SCHEMES,)),
    Fault(
        "block-size-tag-off-by-one",
        "schemes.py",
        "self.block_size.bit_length() - 1",
        "self.block_size.bit_length()",
        (SCHEMES, "tests/golden"),
    ),
)
