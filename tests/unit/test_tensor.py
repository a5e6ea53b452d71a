"""`quantize_tensor` and `QuantizedTensor`: what is stored under which name, its bytes and dtypes, what is refused."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from quant import FP4, INT4, NF4, W8A16, QuantError, QuantizedTensor, native, quantize_tensor
from quant.modules import quantized_linear
from quant.numerics.blockwise import quantize_blocks
from quant.numerics.int8 import quantize_rows
from quant.schemes import Blockwise, Scheme
from quant.tensor import dequantize_stored, empty_stored
from tests.strategies import (
    ALL_SCHEMES,
    BLOCKWISE_KINDS,
    BLOCKWISE_SCHEMES,
    DTYPES,
    FLOAT32_MAX,
    bits,
    normal,
    scheme_id,
)

FEW_SCHEMES: tuple[Scheme, ...] = (W8A16(), NF4(), FP4(128, True), INT4(32))
SHAPES = ((1, 1), (13, 67), (64, 64), (257, 33))


def layout(scheme: Scheme, shape: tuple[int, int]) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """What must be stored, written out from the documented table."""
    if not isinstance(scheme, Blockwise):
        return {"weight": (torch.int8, (math.prod(shape),)), "weight_scale": (torch.float32, shape[:1])}
    count = math.prod(shape)
    blocks = math.ceil(count / scheme.block_size)
    packed = {"weight": (torch.uint8, (math.ceil(count / 2),)), "weight_format": (torch.uint8, (4,))}
    if not scheme.double_quant:
        return {**packed, "weight_absmax": (torch.float32, (blocks,))}
    return {
        **packed,
        "weight_absmax": (torch.uint8, (blocks,)),
        "weight_absmax_scale": (torch.float32, (math.ceil(blocks / 256),)),
        "weight_absmax_offset": (torch.float32, ()),
    }


def stored_layout(quantized: QuantizedTensor) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    return {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in quantized.stored.items()}


@pytest.mark.parametrize("scheme", ALL_SCHEMES, ids=scheme_id)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_what_is_stored_is_the_documented_table_and_its_bytes_are_the_scheme_s(
    shape: tuple[int, int], scheme: Scheme
) -> None:
    quantized = quantize_tensor(normal(shape), scheme)
    assert stored_layout(quantized) == layout(scheme, shape)
    assert quantized.nbytes == scheme.storage_bytes(*shape)
    assert sum(tensor.untyped_storage().nbytes() for tensor in quantized.stored.values()) == quantized.nbytes


@pytest.mark.parametrize("scheme", ALL_SCHEMES, ids=scheme_id)
def test_the_meta_device_and_empty_stored_have_the_same_layout(scheme: Scheme) -> None:
    shape = (13, 67)
    on_meta = quantize_tensor(torch.empty(shape, device="meta"), scheme)
    assert stored_layout(on_meta) == layout(scheme, shape)
    assert all(tensor.is_meta for tensor in on_meta.stored.values())
    empty = empty_stored(scheme, torch.Size(shape), "cpu")
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in empty.items()} == layout(scheme, shape)


@pytest.mark.parametrize("scheme", BLOCKWISE_SCHEMES, ids=scheme_id)
def test_the_stored_format_is_the_tag_of_the_scheme(scheme: Blockwise) -> None:
    stored = quantize_tensor(normal((2, 3)), scheme).stored
    assert tuple(stored["weight_format"].tolist()) == scheme.format_tag
    assert tuple(empty_stored(scheme, torch.Size((2, 3)), None)["weight_format"].tolist()) == scheme.format_tag


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_codes_and_scales_are_those_of_the_numerics(dtype: torch.dtype) -> None:
    weight = normal((5, 70)).to(dtype)
    codes, scales = quantize_rows(weight)
    int8 = quantize_tensor(weight, W8A16())
    assert bits(int8.codes) == bits(codes)
    assert bits(int8.scales) == bits(scales)
    for codebook, scheme in (("nf4", NF4(32)), ("fp4", FP4(32)), ("int4", INT4(32))):
        packed, absmax = quantize_blocks(weight, codebook, 32)
        quantized = quantize_tensor(weight, scheme)
        assert bits(quantized.codes) == bits(packed)
        assert bits(quantized.scales) == bits(absmax)


@pytest.mark.parametrize("kind", BLOCKWISE_KINDS)
def test_double_quantization_keeps_the_codes_and_changes_the_scales(kind: type[Blockwise]) -> None:
    weight = normal((16, 64))
    plain, double = quantize_tensor(weight, kind(32)), quantize_tensor(weight, kind(32, True))
    assert bits(plain.codes) == bits(double.codes)
    assert double.scales.dtype == torch.float32
    assert plain.scales.shape == double.scales.shape
    assert not torch.equal(plain.scales, double.scales)
    assert not torch.equal(plain.dequantize(), double.dequantize())


@pytest.mark.parametrize("scheme", FEW_SCHEMES, ids=scheme_id)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dequantize_rounds_the_float32_values_to_the_source_s_dtype(dtype: torch.dtype, scheme: Scheme) -> None:
    quantized = quantize_tensor(normal((5, 70)).to(dtype), scheme)
    exact = quantized.dequantize(torch.float32)
    assert quantized.dtype == quantized.dequantize().dtype == dtype
    assert quantized.dequantize().shape == quantized.shape == (5, 70)
    assert bits(quantized.dequantize()) == bits(exact.to(dtype))
    assert bits(dequantize_stored(scheme, quantized.stored, torch.Size((5, 70)))) == bits(exact)


@pytest.mark.parametrize("kernels", [native.variant(), "torch"])
@pytest.mark.parametrize("scheme", FEW_SCHEMES, ids=scheme_id)
def test_the_weight_and_the_codes_are_unchanged_and_no_graph_is_kept(scheme: Scheme, kernels: str) -> None:
    weight = normal((5, 70)).requires_grad_()
    before = bits(weight)
    with native.override(kernels):
        quantized = quantize_tensor(weight, scheme)
    stored = {name: bits(tensor.reshape(-1)) for name, tensor in quantized.stored.items()}
    assert not quantized.dequantize().requires_grad
    assert bits(weight) == before
    assert {name: bits(tensor.reshape(-1)) for name, tensor in quantized.stored.items()} == stored
    assert not any(tensor.requires_grad for tensor in quantized.stored.values())


@pytest.mark.parametrize("scheme", [NF4(), FP4(), INT4(32, True)], ids=scheme_id)
@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 11)], ids=str)
def test_blockwise_schemes_take_any_shape(shape: tuple[int, ...], scheme: Scheme) -> None:
    weight = torch.ones(shape)
    assert torch.equal(quantize_tensor(weight, scheme).dequantize(), weight)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_w8a16_refuses_what_is_not_a_matrix_on_any_device(device: str) -> None:
    with pytest.raises(QuantError, match=r"W8A16 needs a weight \[out, in\], got shape \[5\]"):
        quantize_tensor(torch.ones(5, device=device), W8A16())


@pytest.mark.parametrize("scheme", [NF4, W8A16, "nf4", None, 4], ids=str)
def test_what_is_not_a_scheme_is_refused_with_the_choices(scheme: object) -> None:
    with pytest.raises(QuantError, match=r"unknown scheme .*: pass quant.W8A16\(\), quant.NF4\(\)"):
        quantize_tensor(torch.ones(2, 2), scheme)  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", FEW_SCHEMES, ids=scheme_id)
@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.int8, torch.uint8, torch.int64, torch.bool, torch.complex64], ids=str
)
def test_other_dtypes_are_refused(dtype: torch.dtype, scheme: Scheme) -> None:
    with pytest.raises(
        QuantError, match=rf"cannot quantize a weight of dtype {dtype}, shape \[2, 2\]: use one of float32"
    ):
        quantize_tensor(torch.zeros(2, 2, dtype=dtype), scheme)


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scheme", FEW_SCHEMES, ids=scheme_id)
def test_the_default_dtype_does_not_matter(scheme: Scheme, default: torch.dtype) -> None:
    weight = normal((5, 70))
    expected = quantize_tensor(weight, scheme)
    torch.set_default_dtype(default)
    try:
        actual = quantize_tensor(weight, scheme)
        assert bits(actual.dequantize()) == bits(expected.dequantize())
    finally:
        torch.set_default_dtype(torch.float32)
    assert stored_layout(actual) == stored_layout(expected)
    assert [bits(part.reshape(-1)) for part in actual.stored.values()] == [
        bits(part.reshape(-1)) for part in expected.stored.values()
    ]


@pytest.mark.parametrize("kernels", [native.variant(), "torch"])
@pytest.mark.parametrize("scheme", FEW_SCHEMES, ids=scheme_id)
def test_the_default_device_does_not_matter(scheme: Scheme, kernels: str) -> None:
    weight = normal((5, 71))
    with native.override(kernels):
        expected = quantize_tensor(weight, scheme)
        with torch.device("meta"):
            actual = quantize_tensor(weight, scheme)
            back = actual.dequantize()
    assert [bits(part.reshape(-1)) for part in actual.stored.values()] == [
        bits(part.reshape(-1)) for part in expected.stored.values()
    ]
    assert bits(back) == bits(expected.dequantize())


def test_the_default_device_of_the_first_call_does_not_matter() -> None:
    """In a process of its own, since later calls find the tables in a cache; loaders quantize under
    `torch.device("meta")`.
    """
    program = (
        "import torch, quant\n"
        "from quant import native\n"
        "weight = torch.ones(2, 64)\n"
        "for kernels in ('torch', native.variant()):\n"
        "    with native.override(kernels), torch.device('meta'):\n"
        "        back = quant.quantize_tensor(weight, quant.NF4(double_quant=True)).dequantize()\n"
        "    assert torch.equal(back, weight)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scheme", [W8A16(), NF4(), FP4(128), INT4(32)], ids=scheme_id)
def test_values_beyond_a_narrow_dtype_saturate_at_its_finite_range(scheme: Scheme, dtype: torch.dtype) -> None:
    """The largest float32 rounds to infinity in either dtype."""
    weight = normal((4, 64))
    weight[0, 0], weight[1, 3] = FLOAT32_MAX, -FLOAT32_MAX
    quantized = quantize_tensor(weight, scheme)
    narrow, largest = quantized.dequantize(dtype), torch.finfo(dtype).max
    assert bits(narrow) == bits(quantized.dequantize().clamp(-largest, largest).to(dtype))
    assert (narrow[0, 0].item(), narrow[1, 3].item()) == (largest, -largest)


@pytest.mark.parametrize("scheme", FEW_SCHEMES, ids=scheme_id)
def test_a_layer_cast_to_a_narrow_dtype_dequantizes_to_finite_weights(scheme: Scheme) -> None:
    linear = nn.Linear(64, 4)
    linear.weight.data *= 1e6
    layer = quantized_linear(linear, scheme).half()
    assert layer.dequantize().get_parameter("weight").abs().max().item() == torch.finfo(torch.float16).max
