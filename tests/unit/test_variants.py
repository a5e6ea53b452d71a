"""The rows of a comparison: names, what each quantizes, and that nothing else of the model changes."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import Phi3ForCausalLM
from transformers.utils import logging as transformers_logging

from quant.errors import QuantError
from quant.evaluate.footprint import footprint
from quant.modules import QuantizedLinear
from quant.schemes import FP4, INT4, NF4, W8A16, Scheme
from quant.variants import VARIANTS, check_possible, check_variants, count_layers, load_variant, quantize_as, scheme_of

OURS: dict[str, Scheme] = {
    "w8a16": W8A16(),
    "w8a16-full": W8A16(),
    "nf4": NF4(),
    "nf4-dq": NF4(double_quant=True),
    "fp4": FP4(),
    "int4": INT4(),
}

pytestmark = pytest.mark.usefixtures("quick_comparisons")


def load(name: str, folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    return load_variant(name, folder, dtype, "cpu", trust_remote_code=False).model


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """All parameters and buffers, also those that are not saved."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def test_the_names_are_the_documented_ones() -> None:
    assert VARIANTS == (
        "baseline",
        "w8a16",
        "w8a16-full",
        "nf4",
        "nf4-dq",
        "fp4",
        "int4",
        "bnb-int8",
        "bnb-fp4",
        "bnb-nf4",
    )
    check_variants(list(VARIANTS))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["w8a16", "int5"], "unknown scheme 'int5': use one of baseline, w8a16, "),
        (["NF4", "nf4 "], "unknown scheme 'NF4', 'nf4 ': .*; did you mean nf4\\?$"),
        (["w8a17"], "bnb-nf4; did you mean w8a16\\?$"),
        (["gptq"], "bnb-nf4$"),
        ([""], "unknown scheme ''"),
        ([], r"unknown scheme \(none\)"),
    ],
    ids=["one", "two", "a near one", "none near", "empty", "none"],
)
def test_other_names_are_refused_with_the_list(names: list[str], message: str) -> None:
    with pytest.raises(QuantError, match=message):
        check_variants(names)


def test_each_of_our_names_has_its_scheme_and_the_others_none() -> None:
    assert {name: scheme_of(name) for name in VARIANTS} == {name: OURS.get(name) for name in VARIANTS}


@pytest.mark.parametrize("block_size", [32, 128])
def test_the_block_size_is_for_our_four_bit_schemes(model_folder: Path, block_size: int) -> None:
    assert scheme_of("nf4-dq", block_size) == NF4(block_size=block_size, double_quant=True)
    assert scheme_of("w8a16", block_size) == W8A16()
    for name, scheme in (("int4", INT4(block_size=block_size)), ("w8a16", W8A16())):
        model = load_variant(name, model_folder, torch.float32, block_size=block_size).model
        assert {module.scheme for module in model.modules() if isinstance(module, QuantizedLinear)} == {scheme}


def test_a_searched_scale_is_for_all_of_our_schemes(model_folder: Path) -> None:
    assert scheme_of("nf4-dq", 32, "mse") == NF4(32, True, scale="mse")
    assert scheme_of("w8a16-full", scale="mse") == W8A16(scale="mse")
    assert scheme_of("baseline", scale="mse") is None
    model = load_variant("w8a16-full", model_folder, torch.float32, scale="mse").model
    assert {m.scheme for m in model.modules() if isinstance(m, QuantizedLinear)} == {W8A16(scale="mse")}
    quantize_as("fp4", model := load("baseline", model_folder), scale="mse")
    assert {m.scheme for m in model.modules() if isinstance(m, QuantizedLinear)} == {FP4(scale="mse")}
    with pytest.raises(QuantError, match='scale must be "absmax" or "mse"'):
        scheme_of("w8a16", scale="max")


def test_a_block_size_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(QuantError, match="block_size 48 is not allowed"):
        scheme_of("nf4", 48)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_baseline_is_the_checkpoint_in_the_asked_dtype_and_evaluation_mode(
    model_folder: Path, dtype: torch.dtype
) -> None:
    model = load("baseline", model_folder, dtype)
    expected: Any = Phi3ForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    assert not any(module.training for module in model.modules())
    assert count_layers(model) == (0, 9)
    for name, parameter in expected.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter.to(dtype))
    assert all(buffer.dtype == torch.float32 for buffer in model.buffers()), "rotary tables must not be rounded"


@pytest.mark.parametrize("name", OURS)
def test_a_variant_quantizes_its_layers_and_leaves_every_other_tensor(model_folder: Path, name: str) -> None:
    loaded = load_variant(name, model_folder, torch.float32, "cpu", trust_remote_code=False)
    head = name == "w8a16-full"
    assert (loaded.quantized_layers, loaded.linear_layers) == (8 + head, 9)
    layers = {path: module for path, module in loaded.model.named_modules() if isinstance(module, QuantizedLinear)}
    assert all(layer.scheme == OURS[name] for layer in layers.values())
    assert ("lm_head" in layers) is head
    assert not any(module.training for module in loaded.model.modules())

    before, after = tensors(load("baseline", model_folder)), tensors(loaded.model)
    untouched = {path for path in before if path.rpartition(".")[0] not in layers}
    assert len(untouched) == 1 + 5 + (not head) + sum("inv_freq" in path for path in before)
    for path in untouched:
        assert after[path].dtype == before[path].dtype
        assert torch.equal(after[path], before[path])


def test_the_layers_that_are_left_come_with_reasons(model_folder: Path, tied_folder: Path) -> None:
    assert quantize_as("nf4", load("baseline", model_folder)) == {"lm_head": "output head"}
    assert quantize_as("w8a16-full", load("baseline", model_folder)) == {}
    assert quantize_as("nf4", load("baseline", tied_folder)) == {"lm_head": "weight shared with model.embed_tokens"}


def test_a_tied_head_cannot_be_quantized(tied_folder: Path) -> None:
    with pytest.raises(QuantError, match=r"lm_head cannot be quantized \(weight shared with model\.embed_tokens\)"):
        load("w8a16-full", tied_folder)


def test_what_cannot_be_made_is_seen_without_loading_the_model(
    model_folder: Path, tied_folder: Path, no_model: None
) -> None:
    check_possible(VARIANTS, model_folder, torch.float32)
    check_possible(("baseline", "w8a16", "nf4"), tied_folder, torch.float32)
    with pytest.raises(QuantError, match=r"^w8a16-full: lm_head cannot be quantized .*leave it out, or use w8a16$"):
        check_possible(("w8a16", "w8a16-full"), tied_folder, torch.float32)


def test_a_model_that_cannot_be_built_without_values_is_left_to_the_loading(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise QuantError("calls item() while it is built")

    monkeypatch.setattr("quant.variants.build_on_meta", refuse)
    check_possible(("w8a16",), model_folder, torch.float32)


@pytest.mark.usefixtures("without_bitsandbytes")
def test_a_missing_bitsandbytes_is_seen_without_loading_the_model(model_folder: Path, no_model: None) -> None:
    check_possible(("nf4",), model_folder, torch.float32)
    with pytest.raises(QuantError, match="bnb-nf4 needs bitsandbytes"):
        check_possible(("nf4", "bnb-nf4"), model_folder, torch.float32)


def test_a_model_that_bitsandbytes_leaves_as_it_is_is_not_passed_off_as_quantized(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quant.variants.load_model", lambda *_: nn.Sequential(nn.Embedding(4, 4)))
    with pytest.raises(QuantError, match="bnb-nf4: nothing was converted, Sequential has no layers for it"):
        load("bnb-nf4", model_folder)
    assert load_variant("baseline", model_folder, torch.float32).quantized_layers == 0


def test_a_model_without_a_head_has_no_full_variant() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    with pytest.raises(QuantError, match="Sequential has no output head to quantize, use w8a16"):
        quantize_as("w8a16-full", model)
    assert count_layers(model) == (0, 1)


@pytest.mark.parametrize(("name", "bits"), [("bnb-int8", 8), ("bnb-nf4", 4), ("bnb-fp4", 4)])
def test_bitsandbytes_variants_quantize_the_same_layers(model_folder: Path, name: str, bits: int) -> None:
    """Their bytes are ours plus code tables: 16 float32 per layer and nothing for int8; ours have a tag of 4 bytes per
    layer of 4 bits.
    """
    loaded = load_variant(name, model_folder, torch.float32, "cpu", trust_remote_code=False)
    assert (loaded.quantized_layers, loaded.linear_layers) == (8, 9)
    assert type(loaded.model.lm_head) is nn.Linear
    ours = footprint(load("w8a16" if bits == 8 else "nf4", model_folder))
    extra = 0 if bits == 8 else 8 * (16 * 4 - 4)
    assert footprint(loaded.model).parameter_bytes == ours.parameter_bytes + extra


@pytest.mark.usefixtures("without_bitsandbytes")
def test_bitsandbytes_missing_is_an_error_that_says_how_to_get_it(model_folder: Path) -> None:
    with pytest.raises(QuantError, match=r"bnb-nf4 needs bitsandbytes: pip install 'quant\[bitsandbytes\]'"):
        load("bnb-nf4", model_folder)


def test_loading_leaves_the_verbosity_of_other_libraries_as_it_was(model_folder: Path) -> None:
    logger = logging.getLogger("bitsandbytes")
    before = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled(), logger.level
    load("w8a16", model_folder)
    with pytest.raises(QuantError):
        load("baseline", model_folder / "missing")
    assert (
        transformers_logging.get_verbosity(),
        transformers_logging.is_progress_bar_enabled(),
        logger.level,
    ) == before
