"""The bytes of a small matrix under each scheme, as they were written and as text that a reader can check by eye."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from quant import quantize_tensor
from quant.codebooks import DYNAMIC8_LEVELS
from quant.schemes import FP4, INT4, NF4, SCHEMES, W8A16, Blockwise, Scheme
from tests import oracle
from tests.golden import packed
from tests.golden.make import FOLDERS, MIXED
from tests.strategies import bits

WITH_MATRIX = [folder for folder in FOLDERS if folder.name != MIXED]
every_folder = pytest.mark.parametrize("folder", WITH_MATRIX, ids=lambda folder: f"{folder.parent.name}-{folder.name}")


def content(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / packed.FILE).read_text(encoding="utf-8"))
    return loaded


@every_folder
def test_the_matrix_gets_its_bytes(folder: Path) -> None:
    scheme = SCHEMES[folder.name]
    assert packed.described(scheme)["stored"] == content(folder)["stored"]
    assert content(folder)["scheme"] == str(scheme)


@every_folder
def test_the_bytes_are_read_as_the_values_beside_them(folder: Path) -> None:
    quantized, values = packed.read(content(folder), SCHEMES[folder.name])
    assert quantized.stored.keys() == quantize_tensor(packed.matrix(), SCHEMES[folder.name]).stored.keys()
    assert bits(quantized.dequantize()) == bits(values)


@every_folder
def test_the_values_are_those_of_the_bytes_without_this_package(folder: Path) -> None:
    """Levels and layout are the oracle's."""
    scheme, stored = SCHEMES[folder.name], content(folder)["stored"]
    _, values = packed.read(content(folder), scheme)
    parts = {
        name: torch.frombuffer(bytearray.fromhex(part["hex"]), dtype=getattr(torch, part["dtype"])).tolist()
        for name, part in stored.items()
    }
    if isinstance(scheme, Blockwise):
        absmax = parts["weight_absmax"]
        if scheme.double_quant:
            absmax = oracle.dequantize_absmax(
                absmax, parts["weight_absmax_scale"], parts["weight_absmax_offset"][0], DYNAMIC8_LEVELS
            )
        codes = oracle.unpack(parts["weight"], values.numel())
        expected = oracle.dequantize_blocks(codes, absmax, oracle.LEVELS[scheme.name], scheme.block_size)
    else:
        rows = zip(torch.tensor(parts["weight"]).view(values.shape).tolist(), parts["weight_scale"], strict=True)
        expected = [value for codes, scale in rows for value in oracle.dequantize_int8(codes, scale)]
    assert values.flatten().tolist() == expected


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [(NF4(), "f0 d2 77"), (FP4(), "3b 2a 00"), (INT4(), "f1 c4 88"), (W8A16(), "7f 81 4c b4 00 00")],
    ids=["nf4", "fp4", "int4", "w8a16"],
)
def test_the_first_of_two_codes_is_the_first_digit(scheme: Scheme, expected: str) -> None:
    """By hand. NF4: codes ascend from 0 for -1 over 2 for -0.525, 7 for 0 and d for 0.563 to f for 1. FP4: 3 for 1, 2
    for 0.667, 0 for 0, and 8 more for the negative ones. INT4: 8 + 7 w, rounded. W8A16: 127 w, rounded.
    """
    weight = torch.tensor([[1.0, -1.0, 0.6, -0.6, 0.0, 0.0]])
    assert quantize_tensor(weight, scheme).codes.numpy().tobytes().hex(" ") == expected
