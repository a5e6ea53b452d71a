"""A quantized checkpoint in the hands of transformers: generate, pipelines, device maps, checkpointing, casts."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import pipeline

import quant
from quant.modules import QuantizedLinear
from quant.schemes import NF4, W8A16, Scheme
from tests.checkpoints import SPLIT, load, logits, save, state
from tests.models import tiny_phi3, tokens
from tests.strategies import scheme_id
from tests.unit.conftest import save_tokenizer

SCHEMES: tuple[Scheme, ...] = (W8A16(), NF4(double_quant=True))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Scheme], Path]:
    made: dict[Scheme, Path] = {}

    def folder(scheme: Scheme) -> Path:
        if scheme not in made:
            made[scheme] = save(quant.quantize(tiny_phi3(), scheme), tmp_path_factory.mktemp("quantized"))
            save_tokenizer(made[scheme])
        return made[scheme]

    return folder


def generated(model: Any, **options: Any) -> list[list[int]]:
    ids = tokens(2, 5)
    choices: list[list[int]] = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, pad_token_id=0, **options
    ).tolist()
    return choices


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_a_loaded_model_generates_what_the_quantized_one_does(
    scheme: Scheme, folders: Callable[[Scheme], Path]
) -> None:
    expected = generated(quant.quantize(tiny_phi3(), scheme))
    loaded = load(folders(scheme))
    assert generated(loaded) == expected
    assert generated(loaded, cache_implementation="static") == expected
    assert generated(loaded, use_cache=False) == expected


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_a_pipeline_takes_the_folder(scheme: Scheme, folders: Callable[[Scheme], Path]) -> None:
    generator = pipeline("text-generation", str(folders(scheme)))
    (result,) = generator("abc", max_new_tokens=4, do_sample=False, return_tensors=True)
    prompt = torch.tensor([generator.tokenizer("abc")["input_ids"]])
    expected = load(folders(scheme)).generate(prompt, max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert result["generated_token_ids"] == expected[0].tolist()


def test_quantizing_on_load_with_a_device_map(tmp_path: Path) -> None:
    folder = save(tiny_phi3(), tmp_path)
    placed = load(folder, quantization_config=quant.NF4Config(), device_map="auto")
    assert state(placed) == state(quant.quantize(tiny_phi3(), NF4()))


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated:FutureWarning")
@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_gradient_checkpointing_changes_no_gradient(scheme: Scheme, folders: Callable[[Scheme], Path]) -> None:
    gradients, forwards = [], []
    for checkpointing in (False, True):
        model = load(folders(scheme)).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        calls: list[nn.Module] = []
        # The first layer of the block: the last one need not run again.
        first = model.model.layers[0].self_attn.qkv_proj
        first.register_forward_hook(lambda layer, *_, seen=calls: seen.append(layer))
        model(tokens(), labels=tokens(), use_cache=False).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
        forwards.append(len(calls))
    assert forwards == [1, 2]
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(grad, gradients[1][name]) for name, grad in gradients[0].items())


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_a_cast_of_the_model_leaves_codes_and_scales(scheme: Scheme, folders: Callable[[Scheme], Path]) -> None:
    """`.to(dtype)`; transformers refuses `.half()` and `.float()` for every quantized model."""
    model = load(folders(scheme))
    stored = {name: {part: t.clone() for part, t in layer.stored.items()} for name, layer in layers(model)}
    model.to(torch.bfloat16)
    for name, layer in layers(model):
        assert all(torch.equal(tensor, stored[name][part]) for part, tensor in layer.stored.items())
        assert layer.dtype == torch.bfloat16
    with pytest.raises(ValueError, match="is not supported for quantized model"):
        model.half()


def layers(model: nn.Module) -> list[tuple[str, QuantizedLinear]]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, QuantizedLinear)]


def test_offloaded_layers_are_not_dequantized(folders: Callable[[Scheme], Path], tmp_path: Path) -> None:
    """Their codes are not there, and the hooks that fetch them would be lost."""
    model = load(folders(W8A16()), device_map=SPLIT, offload_folder=tmp_path, offload_buffers=True)
    expected = logits(model, tokens())
    with pytest.raises(
        quant.QuantError, match=r"layers\.0\.\S+: its forward was replaced \(offloading hooks\?\): remove"
    ):
        model.dequantize()
    assert logits(model, tokens()) == expected


def test_a_model_inside_another_module_is_marked(tmp_path: Path) -> None:
    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner: Any = tiny_phi3()
            self.probe: nn.Module = nn.Linear(4, 4)

    wrapper = Wrapper()
    quant.quantize(wrapper, NF4())
    assert isinstance(wrapper.probe, QuantizedLinear)
    assert state(load(save(wrapper.inner, tmp_path))) == state(wrapper.inner)
    quant.dequantize(wrapper)
    assert not hasattr(wrapper.inner, "hf_quantizer")
