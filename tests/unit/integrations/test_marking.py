"""What transformers knows of a model after parts of it were converted: what it saves can be loaded, as what it is."""

from pathlib import Path
from typing import Any

import pytest
from torch import nn

import quant
from quant.schemes import NF4, W8A16
from tests.checkpoints import load, logits, save, state
from tests.models import tiny_phi3, tokens


def is_float(model: nn.Module) -> bool:
    return not any(isinstance(module, quant.modules.QuantizedLinear) for module in model.modules())


def assert_float_for_transformers(model: Any, folder: Path) -> None:
    assert is_float(model)
    again = load(save(model, folder))
    assert is_float(again)
    assert state(again) == state(model)


def test_the_body_alone_is_saved_with_the_head(tmp_path: Path) -> None:
    """The configuration is shared, and names the layers as the body has them."""
    model = tiny_phi3()
    quant.quantize(model.model, NF4())
    again = load(save(model, tmp_path))
    assert state(again) == state(model)
    assert logits(again, tokens()) == logits(model, tokens())


def test_the_body_is_dequantized_by_itself(tmp_path: Path) -> None:
    model: Any = quant.quantize(tiny_phi3(), NF4())
    quant.dequantize(model.model)
    assert_float_for_transformers(model, tmp_path)
    loaded = load(save(quant.quantize(tiny_phi3(), NF4()), tmp_path / "quantized"))
    quant.dequantize(loaded.model)
    assert_float_for_transformers(loaded, tmp_path / "loaded")


def test_the_whole_is_dequantized_after_the_body_was_quantized(tmp_path: Path) -> None:
    model = tiny_phi3()
    quant.quantize(model.model, NF4())
    quant.dequantize(model)
    assert_float_for_transformers(model, tmp_path)


def test_a_layer_quantized_by_itself_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    """The models around it are not seen from it: nothing in the file says that it is quantized, and its shape is not a
    weight's.
    """
    model = tiny_phi3()
    quant.quantize(model.model.layers[0], W8A16())
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        load(save(model, tmp_path))


def test_the_marks_of_another_library_stay() -> None:
    """On a model beside the one that is converted, of whatever quantizer."""
    theirs, foreign = tiny_phi3(), object()
    theirs.hf_quantizer, theirs.quantization_method = foreign, "theirs"
    theirs.config.quantization_config = {"quant_method": "theirs"}
    both: Any = nn.ModuleList([theirs, tiny_phi3()])
    quant.quantize(both, NF4(), include="1.*")
    quant.dequantize(both)
    assert (theirs.hf_quantizer, theirs.quantization_method) == (foreign, "theirs")
    assert theirs.config.quantization_config == {"quant_method": "theirs"}


def test_architectures_are_told_not_to_read_weights(tmp_path: Path) -> None:
    """As `from_pretrained` tells them, of models that were quantized in memory."""
    model: Any = quant.quantize(tiny_phi3(), NF4())
    assert model.config._is_quantized
    assert load(save(model, tmp_path)).config._is_quantized
    quant.dequantize(model)
    assert not getattr(model.config, "_is_quantized", False)
