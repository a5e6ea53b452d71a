"""What a quantized model keeps in floats, and whether these are the recorded bits.

Norms, embeddings and the head are read from the checkpoint and never computed, so they are the same bits everywhere,
where losses in bfloat16 hide a norm weight that is gone. Left out: what is quantized, by whichever library, since
others' codes may differ between machines; buffers, which models compute; and parameters on the meta device.
"""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from quant.dtypes import dtype_name
from quant.evaluate.gates import Check, Verdict
from quant.evaluate.layers import differing, first_of
from quant.evaluate.thresholds import UPDATE
from quant.modules import QuantizedLinear

DIGITS = 16
"""Hexadecimal digits that are kept of a SHA-256: it tells changes, and is no defence against an attack."""


def float_digests(model: nn.Module) -> dict[str, str]:
    """Name -> digest of dtype, shape and bytes, of each plain floating-point parameter, a tied one under one name."""
    quantized = [name for name, module in model.named_modules() if isinstance(module, QuantizedLinear)]
    prefixes = tuple(f"{name}." for name in quantized)
    return {
        name: _digest(parameter.detach())
        for name, parameter in model.named_parameters()
        if type(parameter) is nn.Parameter
        and parameter.is_floating_point()
        and not parameter.is_meta
        and not name.startswith(prefixes)
    }


def check_parameters(recorded: Mapping[str, str], now: Mapping[str, str]) -> Check:
    """A regression where any has other bits than it had, is new, or is gone."""
    names = differing(recorded, now)
    if not names:
        return Check("floats", Verdict.PASS, f"{len(now)} float parameters have the recorded bits: pass")
    text = (
        f"float parameters with other bits than recorded: {first_of(names, ', ')}: if the change is meant, record it "
        f"with {UPDATE}: {Verdict.REGRESSION.value}"
    )
    return Check("floats", Verdict.REGRESSION, text)


def _digest(tensor: Tensor) -> str:
    found = hashlib.sha256(f"{dtype_name(tensor.dtype)} {list(tensor.shape)}\n".encode())
    found.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:DIGITS]
