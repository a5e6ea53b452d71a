"""Which layers are in which format, by name, and what a layer in another one is told as."""

import bitsandbytes
import pytest
import torch
from torch import nn

from quant import NF4, quantize
from quant.evaluate.gates import Verdict
from quant.evaluate.layers import check_layers, float_layers, layer_formats


def model() -> nn.Module:
    parts = {"up": nn.Linear(64, 64), "norm": nn.LayerNorm(64), "down": nn.Linear(64, 64), "head": nn.Linear(64, 8)}
    return nn.Sequential(nn.Embedding(8, 64), nn.ModuleDict(parts)).bfloat16()


def quantized() -> nn.Module:
    return quantize(model(), NF4(), exclude=["1.head"])


def test_formats_are_the_schemes_of_our_layers_and_class_and_dtype_of_others() -> None:
    """A norm's weight has one dimension and no quantizer takes it."""
    assert layer_formats(quantized()) == {
        "Embedding bfloat16": ["0"],
        str(NF4()): ["1.up", "1.down"],
        "Linear bfloat16": ["1.head"],
    }


def test_the_recorded_layers_pass_and_are_counted() -> None:
    check = check_layers(layer_formats(quantized()), layer_formats(quantized()))
    assert (check.name, check.verdict) == ("layers", Verdict.PASS)
    assert check.text == (f"layers in the recorded formats (1 Embedding bfloat16, 2 {NF4()}, 1 Linear bfloat16): pass")


def test_a_layer_left_one_more_and_one_less_are_regressions_by_name() -> None:
    then = {"NF4": ["a", "b"], "Linear float32": ["head"]}
    for now, message in (
        ({"NF4": ["a"], "Linear float32": ["head", "b"]}, "b was NF4, is Linear float32"),
        ({"NF4": ["a", "b"], "Linear float32": ["head", "c"]}, "c was not there, is Linear float32"),
        ({"NF4": ["a", "b"]}, "head was Linear float32, is gone"),
    ):
        check = check_layers(then, now)
        assert (check.name, check.verdict) == ("layers", Verdict.REGRESSION)
        assert f"recorded: {message}: if the change is meant" in check.text
        assert check.text.endswith("record it with pytest --update-thresholds: regression")


def test_float_layers_are_those_with_an_ordinary_weight() -> None:
    """Of bitsandbytes' 8 bits the weight is of a class of its own, and of integers."""
    mixed = nn.Sequential(quantized(), bitsandbytes.nn.Linear8bitLt(64, 8), nn.Conv2d(1, 1, 3))
    assert float_layers(mixed) == {"0.0", "0.1.head", "2"}


def test_only_some_of_many_are_named() -> None:
    names = [f"layer{index}" for index in range(7)]
    check = check_layers({"W8A16": names}, {"NF4": names})
    assert check.text.count("was W8A16") == 5
    assert "layer4 was W8A16, is NF4, and 2 more: if" in check.text
    told = "; ".join(f"layer{index} was W8A16, is NF4" for index in range(5))
    assert f"than recorded: {told}: if" in check_layers({"W8A16": names[:5]}, {"NF4": names[:5]}).text


def test_what_a_weight_of_another_library_says_of_itself_is_told() -> None:
    """torchao's are tensors of a class of their own in an ordinary Linear, in the dtype of what they were."""

    class Packed(torch.Tensor):
        pass

    linear = nn.Linear(4, 4)
    packed = nn.Parameter(torch.ones(4, 4).as_subclass(Packed))
    linear.weight = packed
    assert layer_formats(nn.Sequential(linear, nn.Linear(4, 4))) == {
        "Linear float32 Packed": ["0"],
        "Linear float32": ["1"],
    }


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"quant_type": "nf4"}, "nf4, blocks of 64"),
        ({"quant_type": "fp4", "blocksize": 128}, "fp4, blocks of 128"),
        ({"quant_type": "nf4", "compress_statistics": True}, "nf4, blocks of 64, double quantization"),
    ],
)
def test_what_bitsandbytes_keeps_beside_its_codes_is_told(options: dict[str, object], told: str) -> None:
    weight = bitsandbytes.nn.Params4bit(
        torch.randn(64, 64), **{"compress_statistics": False, "blocksize": 64, **options}
    )
    linear = bitsandbytes.nn.Linear4bit(64, 64)
    linear.weight = weight.to("cpu")
    assert layer_formats(nn.Sequential(linear)) == {f"Linear4bit uint8 Params4bit {told}": ["0"]}


def test_a_tensor_that_only_looks_like_a_weight_is_none() -> None:
    other = nn.Module()
    setattr(other, "weight", 3)  # noqa: B010  # a module's attributes are typed as modules and tensors
    assert layer_formats(nn.Sequential(other, nn.Linear(4, 4, dtype=torch.float64))) == {"Linear float64": ["1"]}
