"""A small matrix and what each scheme stores for it, as text: bytes in hexadecimal, values in decimals.

A byte of a 4-bit scheme is two digits: the first is the code of the element that comes first. So the layout can be read
from the file itself: NF4's first row, a ramp from -1, begins with 00, its second row, 4, -4, 2, -2, ..., with f0.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from quant import quantize_tensor
from quant.schemes import Scheme
from quant.tensor import QuantizedTensor

FILE = "packed.json"
COLUMNS = 64


def matrix() -> Tensor:
    """float32 [2, 64], exact in every dtype: a ramp from -1, and powers of two of both signs from 4 down to 0."""
    ramp = (torch.arange(COLUMNS) - COLUMNS // 2) / 32
    powers = torch.tensor(
        [4.0, -4.0, 2.0, -2.0, 1.0, -1.0, 0.5, -0.5, 0.25, -0.25, 0.125, -0.125, 0.0625, -0.0625, 0, 0]
    )
    return torch.stack([ramp, powers.repeat(COLUMNS // len(powers))])


def described(scheme: Scheme) -> dict[str, Any]:
    """What `scheme` stores for `matrix()`, and what that stands for, row by row."""
    quantized = quantize_tensor(matrix(), scheme)
    stored = {
        name: {
            "dtype": str(part.dtype).removeprefix("torch."),
            "shape": list(part.shape),
            "hex": part.numpy().tobytes().hex(),
        }
        for name, part in quantized.stored.items()
    }
    values = [" ".join(map(repr, row)) for row in quantized.dequantize().tolist()]
    return {"scheme": str(scheme), "stored": stored, "values": values}


def read(content: dict[str, Any], scheme: Scheme) -> tuple[QuantizedTensor, Tensor]:
    """The quantized matrix from its bytes in the file, and the values [2, 64] that are written beside them."""
    stored = {
        name: torch.from_numpy(np.frombuffer(bytearray.fromhex(part["hex"]), part["dtype"]).reshape(part["shape"]))
        for name, part in content["stored"].items()
    }
    values = torch.tensor([[float(value) for value in row.split()] for row in content["values"]])
    return QuantizedTensor(scheme, matrix().shape, torch.float32, stored), values


def write(folder: Path, scheme: Scheme) -> None:
    """The file of `scheme` in `folder`."""
    (folder / FILE).write_text(json.dumps(described(scheme), indent=1) + "\n", encoding="utf-8")
