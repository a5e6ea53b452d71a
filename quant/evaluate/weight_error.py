"""How far the weights of quantized layers are from the float weights of the checkpoint, layer by layer, as SQNR.

    SQNR = 10 log10(sum w^2 / sum (w - w')^2) decibels

w is the stored weight, cast to the dtype that it was quantized from; w' is what the layer's codes stand for, in
float32. Ten decibels more are a tenth of the squared error. The sums are float64.

The float weights are read from the checkpoint's files one after the other, and compared with the codes that the model
holds: so no second model is in memory, at most three copies of one weight are, and what is measured is the model that
is run, not a second quantization. It costs one reading of the files and a pass over the codes.

Left out are layers of other libraries, which keep their codes as they like; layers whose weight is not in the
checkpoint under their own name, where transformers renames or merges tensors; and those whose codes are offloaded to
disk.
"""

import math
from typing import Any

import torch
from torch import Tensor

from quant.checkpoint.reading import Inputs
from quant.errors import QuantError
from quant.modules import QuantizedLinear


def sqnr(reference: Tensor, restored: Tensor) -> float:
    """Signal-to-quantization-noise ratio of `restored` in dB; both float, of one shape. inf where they are equal, -inf
    where only the reference is zero.
    """
    signal = _norm(reference)
    noise = _norm(reference.float() - restored.float())
    if not noise:
        return math.inf
    return 20 * math.log10(signal / noise) if signal else -math.inf


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64))


def layer_sqnr(model: Any, checkpoint: Inputs) -> dict[str, float]:
    """Name -> SQNR in dB of the layers of `model` that this library quantized, in the model's order; checkpoint: the
    files that it was loaded from.

    Raises:
        QuantError: a file cannot be read.
    """
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, QuantizedLinear) and not module.weight.is_meta:
            weight = _float_weight(name, module, model, checkpoint)
            if weight is not None:
                found[name] = sqnr(weight, module.quantized_weight.dequantize(torch.float32).cpu())
    return found


def _float_weight(name: str, module: QuantizedLinear, model: Any, checkpoint: Inputs) -> Tensor | None:
    """The weight [out, in] that `module` was quantized from, None where the checkpoint has none of its name."""
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    # GPT-2 on the hub is stored without its head, and so without the prefix.
    candidates = (f"{name}.weight", f"{name.removeprefix(prefix)}.weight")
    stored = next((checkpoint[candidate] for candidate in candidates if candidate in checkpoint), None)
    if stored is None or not stored.dtype.is_floating_point:
        return None
    weight = checkpoint.read(stored.name).view(stored.shape).to(module.dtype)
    try:
        return module.as_matrix(weight)
    except QuantError:  # merged or split while loading
        return None
