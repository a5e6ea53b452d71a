"""`torch.compile(fullgraph=True)` of a model's decoding step, of a small Phi-3 with a static cache; and that of
transformers, which on a GPU makes CUDA graphs of it.

On the GPU the backend is inductor, which fuses the float parts; on the CPU it only traces (`aot_eager`: compiling would
take minutes and say little of a GPU), which takes float operations apart. So logits may move by what rounding moves
them by.
"""

import sys
from typing import Any

import pytest
import torch
from transformers import StaticCache

import quant
from quant.evaluate.noise import rounding_noise
from quant.numerics.tables import cached_table
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


@pytest.mark.parametrize("scheme", [quant.W8A16(), quant.NF4(double_quant=True)], ids=str)
def test_generating_with_a_static_cache_gives_the_tokens_of_a_dynamic_one(
    scheme: quant.Scheme, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the memory of CUDA graphs nothing may lie that a kernel keeps, as its constants, which are made anew here."""
    model: Any = quant.quantize(tiny_phi3(), scheme).to(device)
    for name in [name for name in sys.modules if name.startswith("quant.kernels.cuda.")]:
        for constant in {"table", "dynamic_levels"} & set(vars(sys.modules[name])):
            made = getattr(sys.modules[name], constant)
            monkeypatch.setattr(sys.modules[name], constant, cached_table(made.__wrapped__))
    ids = tokens(length=12).to(device)
    options = {"attention_mask": torch.ones_like(ids), "do_sample": False, "output_logits": True}
    lengths = {"min_new_tokens": 8, "max_new_tokens": 8, "return_dict_in_generate": True}
    static = model.generate(ids, cache_implementation="static", **options, **lengths)
    dynamic = model.generate(ids, **options, **lengths)
    # A thousand times what float32 rounds: however it is compiled, no other token is chosen.
    two = torch.stack(dynamic.logits).topk(2).values
    assert (two[..., 0] - two[..., 1]).min() > 1e-4 * two.abs().max()
    assert torch.equal(static.sequences, dynamic.sequences)
