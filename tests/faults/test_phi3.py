"""What Phi-3 itself does that looks like a fault of quantization (I7): LongRoPE's other frequencies beyond the original
context, and layers that are several projections in one.

The float model is compared with itself first: there the difference must be none.
"""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import quant
from quant.modules import quantized_linear
from quant.schemes import FP4, INT4, NF4, W8A16, Scheme
from tests import measured
from tests.models import seeded, tiny_phi3, tokens
from tests.strategies import bits, normal, scheme_id

ORIGINAL = 32
"""Tokens up to which the short factors hold."""
LENGTHS = (31, 32, 33, 64)
each_scheme = pytest.mark.parametrize("scheme", ["w8a16", "nf4-64"])


@pytest.fixture(scope="module")
def longrope() -> Any:
    """Phi-3 whose frequencies are divided by 4 beyond `ORIGINAL` tokens."""
    factors = {"short_factor": [1.0] * 16, "long_factor": [4.0] * 16}
    parameters = {"rope_type": "longrope", "rope_theta": 10000.0, "factor": 4.0, **factors}
    changes: Any = {"rope_parameters": parameters, "original_max_position_embeddings": ORIGINAL}
    return tiny_phi3(max_position_embeddings=4 * ORIGINAL, **changes)


def logits(model: Any, ids: Tensor) -> Tensor:
    with torch.no_grad():
        output: Tensor = model(ids).logits
    return output


def generated(model: Any, ids: Tensor, count: int) -> Tensor:
    tokens_: Tensor = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=count,
        min_new_tokens=count,
        do_sample=False,
        pad_token_id=0,
    )
    return tokens_


def test_i7_the_frequencies_do_change_at_the_original_context(longrope: Any) -> None:
    ids = tokens(1, ORIGINAL + 1)
    short, long = logits(longrope, ids[:, :ORIGINAL]), logits(longrope, ids)[:, :ORIGINAL]
    assert torch.equal(logits(longrope, ids[:, :ORIGINAL]), short)
    # Measured 1.0e-2, where float32 and the lengths of sums alone make 1e-6.
    assert (short - long).abs().max().item() > 1e-3


@each_scheme
def test_i7_around_the_original_context_the_quantized_model_is_the_float_model_of_its_weights(
    scheme: str, longrope: Any
) -> None:
    """From one length to the next, with the same model: the frequencies follow the length there and back."""
    quantized = quant.quantize(copy.deepcopy(longrope), measured.SCHEMES[scheme])
    rounded, again = quant.dequantize(copy.deepcopy(quantized)), copy.deepcopy(longrope)
    for length in (*LENGTHS, *LENGTHS[::-1]):
        ids = tokens(1, length)
        assert torch.equal(logits(again, ids), logits(longrope, ids))
        difference = (logits(quantized, ids) - logits(rounded, ids)).abs().max().item()
        assert difference <= measured.EFFECTS["phi3"]["w8a16"] * measured.SAME_WEIGHTS_SHARE, length


@each_scheme
def test_i7_generation_across_the_original_context_takes_what_whole_passes_say(scheme: str, longrope: Any) -> None:
    """A cache of keys that were turned by the short factors must not be read with the long ones."""
    model = quant.quantize(copy.deepcopy(longrope), measured.SCHEMES[scheme])
    start, count = tokens(1, ORIGINAL - 4), 10
    whole = start
    for _ in range(count):
        top = logits(model, whole)[0, -1].topk(2)
        # Decoding with the cache differs from a whole pass by float32 noise, which must not decide.
        noise = measured.DECODING_FACTOR * max(measured.DECODING.values())
        assert top.values[0] - top.values[1] > 2 * noise
        whole = torch.cat([whole, top.indices[:1][None]], dim=1)
    assert torch.equal(generated(model, start, count), whole)


@pytest.mark.parametrize("scheme", [W8A16(), NF4(32), FP4(64), INT4(128)], ids=scheme_id)
def test_i7_a_part_of_a_fused_layer_is_the_layer_of_that_part(scheme: Scheme) -> None:
    """gate_up_proj and qkv_proj: rows belong with their scales. 64 rows of 64 are whole blocks of every scheme here."""
    fused = seeded(lambda: nn.Linear(64, 3 * 64))
    whole, x = quantized_linear(fused, scheme), normal((5, 64), seed=1)
    for part in range(3):
        rows = slice(64 * part, 64 * (part + 1))
        linear = nn.Linear(64, 64)
        linear.load_state_dict({"weight": fused.weight[rows], "bias": fused.bias[rows]})
        assert bits(quantized_linear(linear, scheme)(x)) == bits(whole(x)[:, rows])
