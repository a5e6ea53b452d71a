"""Checkpoints that cannot be converted between bitsandbytes' format and ours are refused by what is wrong with them,
before anything is written.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import quant
from quant import FP4, INT4, NF4, W8A16, QuantError
from quant.checkpoint.bitsandbytes_layout import to_bitsandbytes
from quant.checkpoint_conversion import convert_checkpoint
from quant.schemes import Blockwise, Scheme
from tests.strategies import normal, scheme_id
from tests.unit.folders import SCHEME, config_of, configure, rewrite, save_ours, write_config

LAYER = "model.layers.0.mlp.down_proj"
Change = Callable[[Path], None]


def refused(folder: Path, to: str, message: str) -> None:
    """Converting `folder` raises an error that names it and matches `message`, and nothing is left beside it."""
    before = sorted(folder.parent.iterdir())
    with pytest.raises(QuantError, match=message) as caught:
        convert_checkpoint(str(folder), folder.with_name("out"), to)
    assert str(folder) in str(caught.value)
    assert sorted(folder.parent.iterdir()) == before


@pytest.mark.parametrize("scheme", [W8A16(), INT4()], ids=scheme_id)
def test_schemes_that_bitsandbytes_does_not_have_are_refused(
    model_folder: Path, tmp_path: Path, scheme: Scheme
) -> None:
    refused(save_ours(model_folder, tmp_path / "ours", scheme), "bitsandbytes", r"bitsandbytes has no format for .*nf4")


def test_an_unknown_format_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(QuantError, match="unknown format 'gguf': use --to quant or bitsandbytes"):
        convert_checkpoint("missing", tmp_path / "out", "gguf")


def test_an_output_that_exists_is_refused_before_the_model_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").touch()
    with pytest.raises(QuantError, match=r"out exists: name a folder that does not"):
        convert_checkpoint(str(tmp_path / "missing"), tmp_path / "out", "quant")


@pytest.mark.parametrize(
    ("quantization", "found"),
    [
        (None, "its config.json has no quantization_config"),
        ({"quant_method": "gptq", "bits": 4}, "its quantization_config has method 'gptq'"),
        ({"bits": 4}, "its quantization_config has method 'unknown'"),
    ],
    ids=["float", "gptq", "unnamed"],
)
def test_checkpoints_of_other_formats_are_refused(theirs: Path, quantization: object, found: str) -> None:
    configure(theirs, quantization_config=quantization)
    for to, library in (("quant", "bitsandbytes"), ("bitsandbytes", "this library")):
        refused(theirs, to, rf"theirs is not a checkpoint of {library} \({found}\): pass one, or quantize a float")


def test_a_checkpoint_that_has_the_format_already_is_refused(ours: Path, theirs: Path) -> None:
    refused(ours, "quant", r"ours is not a checkpoint of bitsandbytes .*method 'quant-nf4'")
    refused(theirs, "bitsandbytes", r"theirs is not a checkpoint of this library .*method 'bitsandbytes'")


def test_a_newer_format_of_ours_is_refused(ours: Path) -> None:
    configure(ours, quantization_config={**config_of(ours)["quantization_config"], "format_version": 2})
    refused(ours, "bitsandbytes", "format_version 2, this version of quant reads")


def drop(name: str) -> Change:
    return lambda folder: rewrite(folder, lambda tensors: tensors.pop(name))


def rename(old: str, new: str) -> Change:
    def change(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if name.startswith(f"{old}.")]:
            tensors[new + name.removeprefix(old)] = tensors.pop(name)

    return lambda folder: rewrite(folder, change)


def requantize(shape: tuple[int, int] = (64, 128), scheme: Blockwise = SCHEME, dtype: Any = torch.bfloat16) -> Change:
    """Put another weight in the place of one, in bitsandbytes' format."""

    def change(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if name.startswith(f"{LAYER}.")]:
            del tensors[name]
        parts = to_bitsandbytes(LAYER, quant.quantize_tensor(normal(shape).to(dtype), scheme))
        tensors.update({f"{LAYER}.{part}": tensor.contiguous() for part, tensor in parts.items()})

    return lambda folder: rewrite(folder, change)


THEIR_FAULTS = {
    "a part is missing": (drop(f"{LAYER}.weight.nested_absmax"), rf"{LAYER}: weight\.nested_absmax is missing"),
    "the codes are missing": (drop(f"{LAYER}.weight"), rf"has no tensor {LAYER}\.weight: it is half-written"),
    "a float tensor is missing": (drop("model.norm.weight"), r"has no tensor model\.norm\.weight: .*from the float"),
    "an unknown layer": (
        lambda folder: rewrite(folder, lambda tensors: tensors.update({"model.extra.weight.absmax": torch.zeros(2)})),
        r"model\.extra is no linear layer of the model that its config\.json describes: .*quantize the float",
    ),
    "rows and columns exchanged": (
        requantize((128, 64)),
        rf"{LAYER} has a weight \[128, 64\], .*'s is \[64, 128\]",
    ),
    "another block size": (
        requantize(scheme=NF4(128, double_quant=True)),
        r"layers of several kinds \(.*size=64.* of bfloat16, .*size=128.* of bfloat16\), .*has one: quantize",
    ),
    "another dtype": (requantize(dtype=torch.float16), r"layers of several kinds \(.* of bfloat16, .* of float16\)"),
    "another scheme": (requantize(scheme=FP4()), r"layers of several kinds \(.*NF4.*, .*down_proj: FP4"),
    "no quantized layers": (
        lambda folder: rewrite(
            folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if ".weight." in name]
        ),
        r"has no layers that bitsandbytes quantized: nothing to convert",
    ),
    "another dtype than the model's": (
        lambda folder: configure(folder, dtype="float32"),
        r"quantized from bfloat16, config\.json says dtype float32: write bfloat16 there",
    ),
    "another dtype than the model's under its older name": (
        lambda folder: write_config(folder, {**config_of(folder), "dtype": None, "torch_dtype": "float32"}),
        r"quantized from bfloat16, config\.json says dtype float32: write bfloat16 there",
    ),
}
OUR_FAULTS = {
    "a part is missing": (drop(f"{LAYER}.weight_absmax_offset"), rf"{LAYER}\.weight_absmax_offset is missing"),
    "a float tensor is missing": (drop("model.norm.weight"), r"has no tensor model\.norm\.weight: .*from the float"),
    "no dtype": (
        lambda folder: configure(folder, dtype=None),
        r"config\.json has no dtype, which the layers dequantize to: add it",
    ),
    "a layer that is not listed": (
        lambda folder: relist(folder, lambda names: names.remove(LAYER)),
        rf"{LAYER} is quantized, but not one of the quantized_modules of its config\.json",
    ),
    "a listed layer that is float": (
        lambda folder: relist(folder, lambda names: names.append("lm_head")),
        r"lm_head is one of the quantized_modules of its config\.json, but not quantized",
    ),
    "a listed layer that does not exist": (
        lambda folder: relist(folder, lambda names: names.append("model.extra")),
        r"model\.extra, one of the quantized_modules of its config\.json, is no linear layer of the model",
    ),
    "no quantized layers": (
        lambda folder: rewrite(
            folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if ".weight_" in name]
        ),
        r"has no layers that this library quantized: nothing to convert",
    ),
    "another scheme than the tensors'": (
        lambda folder: configure(
            folder, quantization_config={**config_of(folder)["quantization_config"], "quant_method": "quant-fp4"}
        ),
        r"weight_format: tensors of format \(1, 0, 6, 1\) are not FP4",
    ),
}


def relist(folder: Path, change: Callable[[list[str]], object]) -> None:
    """Change the list of quantized layers in config.json."""
    quantization = config_of(folder)["quantization_config"]
    change(quantization["quantized_modules"])
    configure(folder, quantization_config=quantization)


@pytest.mark.parametrize(("change", "message"), THEIR_FAULTS.values(), ids=THEIR_FAULTS)
def test_a_checkpoint_of_bitsandbytes_that_does_not_fit_is_refused(theirs: Path, change: Change, message: str) -> None:
    change(theirs)
    refused(theirs, "quant", message)


@pytest.mark.parametrize(("change", "message"), OUR_FAULTS.values(), ids=OUR_FAULTS)
def test_a_checkpoint_of_ours_that_does_not_fit_is_refused(ours: Path, change: Change, message: str) -> None:
    change(ours)
    refused(ours, "bitsandbytes", message)
