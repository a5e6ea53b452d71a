"""The forward of a quantized layer is a function of its input: it changes nothing that the layer holds, and gives the
same bits again.

What is held is compared to the bit before and after each call, and so is the memory it lies in: a kernel that repacks
weights in place and unpacks them for `state_dict()` would pass a comparison of values.
"""

from contextlib import AbstractContextManager, nullcontext

import pytest
import torch

from quant.modules import QuantizedLinear
from quant.schemes import Scheme
from tests.contract.battery.layers import IN, quantized, state_bits
from tests.strategies import DTYPES, bits, normal

ROWS = (0, 1, 2, 33, 70)
"""None, one, few and many: kernels differ."""
MODES: dict[str, type[AbstractContextManager[None]]] = {
    "gradients": nullcontext,
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
}


def held(layer: QuantizedLinear) -> dict[str, object]:
    """Everything that the layer and its `state_dict()` hold."""
    tensors = {**dict(layer.named_buffers()), **dict(layer.named_parameters())}
    described = {name: (t.data_ptr(), t.dtype, t.shape, t.requires_grad) for name, t in tensors.items()}
    attributes = {name: value for name, value in vars(layer).items() if not name.startswith("_")}
    return {"state": state_bits(layer), "order": list(layer.state_dict()), "tensors": described, **attributes}


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("x_dtype", DTYPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_forward_changes_nothing_and_repeats(
    dtype: torch.dtype, x_dtype: torch.dtype, training: bool, scheme: Scheme
) -> None:
    layer = quantized(scheme, dtype=dtype).train(training)
    before = held(layer)
    for rows in ROWS:
        x = normal((rows, IN), seed=rows).to(x_dtype)
        outputs = []
        for mode, context in MODES.items():
            with context():
                outputs.append(bits(layer(x)))
            assert held(layer) == before, (rows, mode)
        assert outputs[1:] == outputs[:-1], rows


def test_backward_dequantize_and_autocast_change_nothing(scheme: Scheme) -> None:
    """But for the gradient of the bias, which is none of the state."""
    layer = quantized(scheme)
    before = held(layer)
    for rows in ROWS:
        layer(normal((rows, IN)).requires_grad_()).sum().backward()
        with torch.autocast("cpu", torch.bfloat16):
            layer(normal((rows, IN)))
        layer.dequantize()
        assert held(layer) == before, rows
