"""`torch.compile(fullgraph=True)` of a model's decoding step, of a small Phi-3 with a static cache.

On the GPU the backend is inductor, which fuses the float parts; on the CPU it only traces (`aot_eager`: compiling would
take minutes and say little of a GPU), which takes float operations apart. So logits may move by what rounding moves
them by.
"""

from typing import Any

import pytest
import torch
from transformers import StaticCache

import quant
from quant.evaluate.noise import rounding_noise
from tests.models import tiny_phi3, tokens

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.usefixtures("nothing_compiled"),
    # inductor's advice for float32 products.
    pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores:UserWarning"),
]

BACKENDS = {"cpu": "aot_eager", "cuda": "inductor"}
NOISE_FACTOR = 5
"""As in `quant.evaluate.gates`: real reorderings moved losses by up to 2.7 times what `rounding_noise` does."""
STEPS = 3


def decode(model: Any, forward: Any, device: torch.device) -> torch.Tensor:
    """Logits float32 [STEPS, batch, vocabulary] of a prefill by `model` and STEPS - 1 steps by `forward`, on the CPU.
    The tokens are given, so that one that falls otherwise changes nothing after it.
    """
    ids = tokens(length=12 + STEPS).to(device)
    cache = StaticCache(model.config, max_cache_len=32)
    found = []
    with torch.no_grad():
        for step in range(STEPS):
            fed = ids[:, :12] if step == 0 else ids[:, 11 + step : 12 + step]
            run = model if step == 0 else forward
            found.append(run(input_ids=fed, past_key_values=cache, use_cache=True).logits[:, -1].float().cpu())
    return torch.stack(found)


@pytest.mark.parametrize("scheme", [quant.W8A16(), quant.NF4(), quant.NF4(double_quant=True)], ids=str)
def test_a_compiled_decoding_step_is_one_graph_that_computes_as_eager_does(
    scheme: quant.Scheme, device: torch.device
) -> None:
    model: Any = quant.quantize(tiny_phi3(), scheme).to(device)
    eager = decode(model, model, device)
    with rounding_noise(model):
        allowed = NOISE_FACTOR * (decode(model, model, device) - eager).abs().max()
    compiled = torch.compile(model, fullgraph=True, dynamic=False, backend=BACKENDS[device.type])
    moved = (decode(model, compiled, device) - eager).abs().max()
    assert 0 < allowed < eager.abs().max() / 100
    assert moved <= allowed
