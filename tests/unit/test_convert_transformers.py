"""Whole models of transformers: Phi-3 with fused layers, tied and untied, in every dtype, and GPT-2 with transposed
weights.
"""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import quant
from quant import W8A16, conversion_report
from quant.modules import QuantizedLinear
from quant.schemes import Scheme
from tests import measured
from tests.models import tiny_gpt2, tiny_phi3, tokens
from tests.strategies import SCHEMES, bits, scheme_id


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        output: Tensor = model(tokens()).logits
    return output


def unquantized_tensors(model: nn.Module) -> dict[str, tuple[torch.dtype, list[int]]]:
    """Parameters and buffers, non-persistent ones included, outside the inner linear layers."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {
        name: (tensor.dtype, bits(tensor.reshape(-1)))
        for name, tensor in tensors.items()
        if "proj" not in name and ".c_" not in name
    }


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_phi3_keeps_head_embedding_norms_and_rotary_buffers_bit_for_bit(tied: bool, scheme: Scheme) -> None:
    model = tiny_phi3(tied)
    before = unquantized_tensors(model)
    embedding = model.get_parameter("model.embed_tokens.weight")
    quant.quantize(model, scheme)
    assert unquantized_tensors(model) == before
    assert any("inv_freq" in name for name in before)
    assert model.get_parameter("model.embed_tokens.weight") is embedding
    assert (model.get_parameter("lm_head.weight") is embedding) is tied
    assert len(conversion_report(model).converted) == 8


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_phi3_runs_in_every_dtype_and_a_cast_leaves_the_codes(dtype: torch.dtype, scheme: Scheme) -> None:
    model = quant.quantize(tiny_phi3(), scheme)
    codes = {
        name: bits(module.quantized_weight.codes)
        for name, module in model.named_modules()
        if isinstance(module, QuantizedLinear)
    }
    output = logits(model.to(dtype))
    assert output.dtype == dtype
    assert output.shape == (2, 12, 512)
    assert output.isfinite().all()
    after = {
        name: bits(module.quantized_weight.codes)
        for name, module in model.named_modules()
        if isinstance(module, QuantizedLinear)
    }
    assert after == codes


@pytest.mark.parametrize("model", ["phi3", "gpt2"])
@pytest.mark.parametrize("scheme", measured.EFFECTS["phi3"])
def test_the_quantized_model_computes_what_the_dequantized_one_does(scheme: str, model: str) -> None:
    """The same weights in other layers; and not those of the float model."""
    same, effect = measured.same_weights_and_effect(model, scheme)
    assert same <= measured.EFFECTS[model]["w8a16"] * measured.SAME_WEIGHTS_SHARE
    assert effect == pytest.approx(measured.EFFECTS[model][scheme], rel=measured.EFFECT_TOLERANCE)


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_gpt2_s_transposed_layers_are_quantized_per_output_and_come_back(scheme: Scheme) -> None:
    model = tiny_gpt2()
    sources = {
        name: module.weight.t().detach().clone()
        for name, module in model.named_modules()
        if type(module).__name__ == "Conv1D"
    }
    assert len(sources) == 8
    keys = model.state_dict().keys()
    quant.quantize(model, scheme)
    for name, weight in sources.items():
        layer = model.get_submodule(name)
        assert isinstance(layer, QuantizedLinear)
        assert (layer.out_features, layer.in_features) == weight.shape
        assert bits(layer.quantized_weight.codes) == bits(quant.quantize_tensor(weight, scheme).codes)
    quant.dequantize(model)
    assert {name for name, module in model.named_modules() if type(module).__name__ == "Conv1D"} == set(sources)
    assert model.state_dict().keys() == keys


@pytest.mark.parametrize("scheme", measured.DECODING)
def test_prefill_equals_decoding_token_by_token(scheme: str) -> None:
    """With the cache; quantized layers agree bit for bit, attention in float32 nearly."""
    same, other = measured.decoding(scheme)
    assert same <= measured.DECODING_FACTOR * max(measured.DECODING.values())
    assert other > 0.2, "half of what was measured: logits of different tokens are far apart"


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_a_head_that_is_named_is_quantized_and_still_gives_logits(scheme: Scheme) -> None:
    model = quant.quantize(tiny_phi3(), scheme, include=["*", "lm_head"])
    assert isinstance(model.get_submodule("lm_head"), QuantizedLinear)
    assert logits(model).shape == (2, 12, 512)
    with pytest.raises(
        quant.QuantError, match=r"lm_head cannot be quantized \(weight shared with model\.embed_tokens\)"
    ):
        quant.quantize(tiny_phi3(tied=True), scheme, include=["*", "lm_head"])


def test_generation_runs_and_repeats() -> None:
    generate: Any = quant.quantize(tiny_phi3(), W8A16()).generate
    first, second = (generate(tokens(1, 4), max_new_tokens=4, do_sample=False, pad_token_id=0) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape[1] <= 8
