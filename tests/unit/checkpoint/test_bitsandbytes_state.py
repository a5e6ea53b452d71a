"""The JSON beside a weight of bitsandbytes: read, written byte by byte, and refused where a value is not sound."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from quant import FP4, NF4, QuantError
from quant.checkpoint.bitsandbytes_state import PREFIX, WeightState, read_state, state_tensor

NAME = "model.layers.0.mlp.down_proj"
PLAIN = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [128, 256]}
NESTED = {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.040517330169677734}


def tensor_of(content: bytes) -> Tensor:
    return torch.tensor(list(content), dtype=torch.uint8)


def parts_of(fields: Any, kind: str = "nf4") -> dict[str, Tensor]:
    return {f"{PREFIX}{kind}": tensor_of(json.dumps(fields).encode())}


@pytest.mark.parametrize("fields", [PLAIN, {**PLAIN, **NESTED}], ids=["plain", "double"])
def test_it_is_read_and_written_to_the_byte(fields: dict[str, Any]) -> None:
    parts = parts_of(fields)
    state = read_state(NAME, parts)
    double = "nested_offset" in fields
    assert (state.scheme, state.shape, state.dtype) == (NF4(64, double), torch.Size((128, 256)), torch.bfloat16)
    assert torch.equal(state_tensor(state), parts[f"{PREFIX}nf4"])


@pytest.mark.parametrize("offset", [0.0, 1e-45, 1.1754944e-38, 0.1, 1 / 3, 3.4028235e38, -0.5], ids=str)
def test_every_offset_survives_the_decimals(offset: float) -> None:
    value = torch.tensor(offset, dtype=torch.float32)
    state = WeightState(FP4(32, double_quant=True), torch.Size((2, 3)), torch.float16, value)
    back = read_state(NAME, {f"{PREFIX}fp4": state_tensor(state)})
    assert back.offset is not None
    assert torch.equal(back.offset.view(torch.int32), value.view(torch.int32))
    assert (back.scheme, back.shape, back.dtype) == (state.scheme, state.shape, state.dtype)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quant_type": "int4"}, r"bitsandbytes__nf4 has quant_type 'int4': only nf4 and fp4"),
        ({"quant_type": "fp4"}, r"bitsandbytes__nf4 has quant_type 'fp4'"),
        ({"quant_type": None}, r"has quant_type None"),
        ({"quant_type": ["nf4"]}, r"has quant_type \['nf4'\]"),
        ({"blocksize": 48}, r"bitsandbytes__nf4: NF4: block_size 48 is not allowed, use one of 32"),
        ({"blocksize": 64.0}, r"has blocksize 64\.0: the file is damaged"),
        ({"blocksize": True}, r"has blocksize True"),
        ({"dtype": "float64"}, r"has dtype 'float64': only weights of float32, bfloat16, float16"),
        ({"dtype": 3}, r"has dtype 3"),
        ({"shape": None}, r"has shape None"),
        ({"shape": [128]}, r"has shape \[128\]: only weights \[out, in\]"),
        ({"shape": [4, 4, 4]}, r"has shape \[4, 4, 4\]"),
        ({"shape": [0, 4]}, r"has shape \[0, 4\]"),
        ({"shape": [4.0, 4]}, r"has shape \[4\.0, 4\]"),
        ({"shape": [10**30, 4]}, r"has shape \[1000"),
        ({**NESTED, "nested_blocksize": 128}, r"has nested_blocksize 128: only 256"),
        ({**NESTED, "nested_offset": None}, r"has nested_offset None"),
        ({**NESTED, "nested_offset": float("nan")}, r"has nested_offset nan: the weight held NaN or Inf"),
        ({**NESTED, "nested_offset": 1e300}, r"has nested_offset inf"),
        ({**NESTED, "nested_dtype": "bfloat16"}, r"quantized from bfloat16, .*AVX512-BF16.*before its first forward"),
        ({"nested_blocksize": 256}, r"has nested_dtype None"),
    ],
    ids=str,
)
def test_values_that_no_scheme_has_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(QuantError, match=rf"down_proj\.weight\.quant_state\..*{message}"):
        read_state(NAME, parts_of({**PLAIN, **change}))


@pytest.mark.parametrize("field", PLAIN)
def test_a_missing_field_is_refused(field: str) -> None:
    with pytest.raises(QuantError, match=f"has {field} None"):
        read_state(NAME, parts_of({name: value for name, value in PLAIN.items() if name != field}))


@pytest.mark.parametrize(
    "tensor",
    [tensor_of(b""), tensor_of(b'{"quant_type"'), tensor_of(b"\xff\xfe{"), tensor_of(b"[" * 100_000), tensor_of(b"[]"),
     torch.zeros(4)],
    ids=["empty", "cut short", "no text", "nested without end", "a list", "floats"],
)  # fmt: skip
def test_what_is_no_json_object_is_refused(tensor: Tensor) -> None:
    with pytest.raises(QuantError, match=r"bitsandbytes__nf4 is not valid JSON .*the file is damaged"):
        read_state(NAME, {f"{PREFIX}nf4": tensor})


@pytest.mark.parametrize("kinds", [(), ("nf4", "fp4")], ids=["none", "two"])
def test_there_must_be_exactly_one(kinds: tuple[str, ...]) -> None:
    parts = {name: tensor for kind in kinds for name, tensor in parts_of(PLAIN, kind).items()}
    found = "found none" if not kinds else r"found .*nf4, .*fp4"
    with pytest.raises(QuantError, match=rf"down_proj: expected one .*nf4 or .*fp4, {found}: save"):
        read_state(NAME, parts)
