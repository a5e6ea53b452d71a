"""A weight's tensors in bitsandbytes' layout and back: nothing changes on the way, and what does not fit is refused by
name. That the layout is bitsandbytes' own, tests/parity proves.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from quant import FP4, INT4, NF4, W8A16, QuantError, QuantizedTensor, quantize_tensor
from quant.checkpoint.bitsandbytes_layout import from_bitsandbytes, to_bitsandbytes
from quant.schemes import BLOCK_SIZES, Blockwise, Scheme
from tests.strategies import bits, normal, scheme_id

Parts = dict[str, Tensor]
Damage = Callable[[Parts], object]
EXPORTABLE = [kind(size, double) for kind in (NF4, FP4) for size in BLOCK_SIZES for double in (False, True)]
NAME = "model.layers.0.mlp.down_proj"


def quantized(scheme: Scheme, shape: tuple[int, ...] = (6, 65), dtype: torch.dtype = torch.bfloat16) -> QuantizedTensor:
    return quantize_tensor(normal(shape).to(dtype), scheme)


def parts_of(scheme: Blockwise) -> Parts:
    return to_bitsandbytes(NAME, quantized(scheme))


def stored_bits(tensors: Parts) -> dict[str, tuple[torch.dtype, torch.Size, list[int]]]:
    return {name: (tensor.dtype, tensor.shape, bits(tensor.flatten())) for name, tensor in tensors.items()}


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (6, 65), (300, 64)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("scheme", EXPORTABLE, ids=scheme_id)
def test_there_and_back_is_the_same_to_the_bit(scheme: Blockwise, dtype: torch.dtype, shape: tuple[int, int]) -> None:
    """Odd counts, short last blocks, blocks that run over rows, more than one group of absmax."""
    before = quantized(scheme, shape, dtype)
    parts = to_bitsandbytes(NAME, before)
    after = from_bitsandbytes(NAME, parts)
    assert (after.scheme, after.shape, after.dtype) == (scheme, before.shape, dtype)
    assert stored_bits(dict(after.stored)) == stored_bits(dict(before.stored))
    assert stored_bits(to_bitsandbytes(NAME, after)) == stored_bits(parts)


def test_the_parts_are_named_and_shaped_as_in_their_files() -> None:
    parts = to_bitsandbytes(NAME, quantized(NF4(64, double_quant=True), (300, 64)))
    state = parts.pop("weight.quant_state.bitsandbytes__nf4")
    assert {name: (str(tensor.dtype), *tensor.shape) for name, tensor in parts.items()} == {
        "weight": ("torch.uint8", 9600, 1),
        "weight.absmax": ("torch.uint8", 300),
        "weight.quant_map": ("torch.float32", 16),
        "weight.nested_absmax": ("torch.float32", 2),
        "weight.nested_quant_map": ("torch.float32", 256),
    }
    assert bytes(state.tolist()).startswith(
        b'{"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [300, 64]'
    )


@pytest.mark.parametrize("scheme", [NF4(), FP4(32, double_quant=True)], ids=scheme_id)
def test_a_weight_on_meta_is_checked_without_its_values(scheme: Blockwise) -> None:
    parts = parts_of(scheme)
    after = from_bitsandbytes(NAME, {**parts, "weight": parts["weight"].to("meta")})
    assert after.stored["weight"].is_meta
    assert after.stored["weight"].shape == quantized(scheme).stored["weight"].shape
    assert to_bitsandbytes(NAME, after)["weight"].shape == parts["weight"].shape


@pytest.mark.parametrize("dtype", [torch.int8, torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_codes_under_another_storage_dtype_are_the_same_bytes(dtype: torch.dtype) -> None:
    """Every byte occurs, so among the floats there are NaN, infinities and subnormals, whose bits must survive."""
    codes = torch.arange(256, dtype=torch.uint8)
    before = quantized(NF4(), (8, 64))
    parts = to_bitsandbytes(NAME, replace(before, stored={**before.stored, "weight": codes}))
    parts["weight"] = codes.view(dtype).view(-1, 1)
    assert bits(from_bitsandbytes(NAME, parts).stored["weight"]) == list(range(256))


@pytest.mark.parametrize("scheme", [W8A16(), INT4(), INT4(32, double_quant=True)], ids=scheme_id)
def test_schemes_that_bitsandbytes_does_not_have_are_refused(scheme: Scheme) -> None:
    with pytest.raises(QuantError, match=r"bitsandbytes has no format for .*: quantize .* as nf4 or fp4"):
        to_bitsandbytes(NAME, quantized(scheme))


@pytest.mark.parametrize(
    ("shape", "dtype"), [((64,), torch.float32), ((2, 4, 8), torch.float32), ((4, 16), torch.float64)], ids=str
)
def test_shapes_and_dtypes_that_bitsandbytes_does_not_have_are_refused(
    shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    with pytest.raises(QuantError, match=r"down_proj: bitsandbytes holds weights \[out, in\] of float32, "):
        to_bitsandbytes(NAME, quantized(NF4(), shape, dtype))


def without(part: str) -> Damage:
    return lambda parts: parts.pop(part)


def put(part: str, change: Callable[[Tensor], Tensor]) -> Damage:
    """Replace a part by what `change` makes of a copy of it."""

    def damage(parts: Parts) -> None:
        parts[part] = change(parts[part].clone())

    return damage


def poke(position: int, value: float) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        tensor.view(-1)[position] = value
        return tensor

    return change


def nudge(position: int) -> Callable[[Tensor], Tensor]:
    """One float to its neighbour, or zero to minus zero: a change of one bit."""

    def change(tensor: Tensor) -> Tensor:
        tensor.view(torch.int32)[position] ^= -(2**31) if tensor[position] == 0 else 1
        return tensor

    return change


PLAIN = {
    "no codes": (without("weight"), r"down_proj: weight is missing"),
    "no absmax": (without("weight.absmax"), r"weight\.absmax is missing"),
    "no levels": (without("weight.quant_map"), r"weight\.quant_map is missing"),
    "a foreign part": (
        lambda parts: parts.update({"weight.x": parts["weight"]}),
        r"\.weight\.x does not belong",
    ),
    "nested absmax alone": (
        lambda parts: parts.update({"weight.nested_absmax": parts["weight.absmax"]}),
        r"weight\.nested_absmax does not belong",
    ),
    "another level": (put("weight.quant_map", nudge(3)), r"weight\.quant_map holds other levels"),
    "minus zero": (put("weight.quant_map", nudge(7)), r"weight\.quant_map holds other levels"),
    "a level short": (put("weight.quant_map", lambda t: t[:15]), r"weight\.quant_map holds other levels"),
    "levels of bfloat16": (put("weight.quant_map", lambda t: t.bfloat16()), r"weight\.quant_map holds other levels"),
    "codes cut short": (put("weight", lambda t: t[:-1]), r"down_proj\.weight has 194 bytes where its shape needs 195"),
    "codes too long": (
        put("weight", lambda t: torch.cat([t, t[:1]])),
        r"down_proj\.weight has 196 bytes where its shape needs 195",
    ),
    "codes in rows": (
        put("weight", lambda t: t.view(3, 65)),
        r"\[3, 65\] and not packed codes .*repacked",
    ),
    "codes of int64": (put("weight", lambda t: t.long()), r"torch\.int64 .* and not packed codes"),
    "absmax cut short": (put("weight.absmax", lambda t: t[:-1]), r"of shape \[6\] where the weight needs .* \[7\]"),
    "absmax of float64": (
        put("weight.absmax", lambda t: t.double()),
        r"float64 .* where .* torch\.float32 of shape \[7\]",
    ),
    "absmax of uint8": (put("weight.absmax", lambda t: t.byte()), r"uint8 .* where the weight needs torch\.float32"),
    "absmax NaN": (put("weight.absmax", poke(2, float("nan"))), r"weight\.absmax has NaN or infinite values"),
    "absmax infinite": (put("weight.absmax", poke(2, float("inf"))), r"weight\.absmax has NaN or infinite values"),
    "absmax repacked": (
        put("weight.absmax", lambda t: t[:6].bfloat16().view(2, 3).t()),
        r"absmax is torch\.bfloat16 of shape \[3, 2\].*AVX512-BF16 before it saved.*save it before its first forward",
    ),
    "LLM.int8": (
        lambda parts: parts.update({"SCB": torch.ones(6)}),
        r"down_proj\.SCB: a layer of LLM\.int8.*: quantize the float checkpoint, as w8a16",
    ),
}
DOUBLE = {
    "no nested absmax": (without("weight.nested_absmax"), r"weight\.nested_absmax is missing"),
    "no nested levels": (without("weight.nested_quant_map"), r"weight\.nested_quant_map is missing"),
    "another nested level": (
        put("weight.nested_quant_map", nudge(200)),
        r"weight\.nested_quant_map holds other levels",
    ),
    "absmax of float32": (put("weight.absmax", lambda t: t.float()), r"float32 .* where the weight needs torch\.uint8"),
    "nested absmax too long": (
        put("weight.nested_absmax", lambda t: t.repeat(2)),
        r"nested_absmax is .*shape \[2\] where",
    ),
    "nested absmax NaN": (put("weight.nested_absmax", poke(0, float("nan"))), r"nested_absmax has NaN or infinite"),
}


@pytest.mark.parametrize(("damage", "message"), PLAIN.values(), ids=PLAIN)
def test_what_does_not_fit_is_refused_by_name(damage: Damage, message: str) -> None:
    parts = parts_of(NF4())
    from_bitsandbytes(NAME, parts)
    damage(parts)
    with pytest.raises(QuantError, match=message):
        from_bitsandbytes(NAME, parts)


@pytest.mark.parametrize(("damage", "message"), DOUBLE.values(), ids=DOUBLE)
def test_what_does_not_fit_double_quantization_is_refused_by_name(damage: Damage, message: str) -> None:
    parts = parts_of(FP4(double_quant=True))
    from_bitsandbytes(NAME, parts)
    damage(parts)
    with pytest.raises(QuantError, match=message):
        from_bitsandbytes(NAME, parts)


@pytest.mark.parametrize("part", quantized(NF4(double_quant=True)).stored)
def test_stored_tensors_that_do_not_fit_are_not_written(part: str) -> None:
    sound = quantized(NF4(double_quant=True))
    missing = {name: tensor for name, tensor in sound.stored.items() if name != part}
    with pytest.raises(QuantError, match=rf"down_proj\.{part} is missing"):
        to_bitsandbytes(NAME, replace(sound, stored=missing))
    longer = {**sound.stored, part: torch.cat([sound.stored[part].view(-1)] * 2)}
    with pytest.raises(QuantError, match=rf"down_proj\.{part} is .* where NF4.* needs"):
        to_bitsandbytes(NAME, replace(sound, stored=longer))


def test_tensors_of_another_scheme_are_not_written() -> None:
    with pytest.raises(QuantError, match=r"weight_format: tensors of format \(1, 1, 6, 0\) are not NF4"):
        to_bitsandbytes(NAME, replace(quantized(FP4()), scheme=NF4()))


def test_nothing_that_is_passed_in_is_changed() -> None:
    parts = parts_of(NF4(double_quant=True))
    before = stored_bits(parts)
    to_bitsandbytes(NAME, from_bitsandbytes(NAME, parts))
    assert stored_bits(parts) == before
