"""Whole checkpoints between bitsandbytes' format and ours: what is written beside the weights, and what is refused.

No bitsandbytes is needed: the checkpoints in its format are ones that `convert_checkpoint` made, which tests/parity
holds to its own.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

import quant
from quant import FP4, INT4, NF4, W8A16, QuantError
from quant.checkpoint.bitsandbytes_layout import to_bitsandbytes
from quant.conversion import convert_checkpoint
from quant.integrations.bitsandbytes_config import bitsandbytes_config
from quant.integrations.transformers import load_model, quiet_transformers
from quant.schemes import Blockwise, Scheme
from tests.strategies import bits, normal, scheme_id

SCHEME = NF4(double_quant=True)
LAYER = "model.layers.0.mlp.down_proj"
Change = Callable[[Path], None]


def save_ours(folder: Path, out: Path, scheme: Scheme) -> Path:
    """The float model in `folder`, quantized, with its tokenizer, in `out`."""
    shutil.copytree(folder, out, ignore=shutil.ignore_patterns("*.safetensors"))
    with quiet_transformers():
        quant.quantize(load_model(folder, torch.bfloat16), scheme).save_pretrained(out)  # type: ignore[operator]
    return out


@pytest.fixture(scope="module")
def our_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NF4 with double quantization, bfloat16; 8 of 9 layers. Not to be changed."""
    return save_ours(model_folder, tmp_path_factory.mktemp("converted") / "ours", SCHEME)


@pytest.fixture(scope="module")
def their_folder(our_folder: Path) -> Path:
    """The same in bitsandbytes' format. Not to be changed."""
    out = our_folder.with_name("theirs")
    convert_checkpoint(str(our_folder), out, "bitsandbytes")
    return out


@pytest.fixture
def ours(our_folder: Path, tmp_path: Path) -> Path:
    """A copy of ours, for a test to change."""
    return shutil.copytree(our_folder, tmp_path / "ours")


@pytest.fixture
def theirs(their_folder: Path, tmp_path: Path) -> Path:
    """A copy of theirs, for a test to change."""
    return shutil.copytree(their_folder, tmp_path / "theirs")


def config_of(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return config


def configure(folder: Path, **changes: Any) -> None:
    """Change entries of config.json; None removes one."""
    config = {name: value for name, value in {**config_of(folder), **changes}.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def tensors_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Replace the weights by what `change` leaves of them."""
    tensors = tensors_of(folder)
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def refused(folder: Path, to: str, message: str) -> None:
    """Converting `folder` raises an error that matches `message`, and nothing is left beside it."""
    before = sorted(folder.parent.iterdir())
    with pytest.raises(QuantError, match=message):
        convert_checkpoint(str(folder), folder.with_name("out"), to)
    assert sorted(folder.parent.iterdir()) == before


def test_there_and_back_gives_the_same_tensors_and_the_same_settings(
    our_folder: Path, their_folder: Path, tmp_path: Path
) -> None:
    done = convert_checkpoint(str(their_folder), tmp_path / "back", "quant")
    assert (done.scheme, len(done.layers)) == (SCHEME, 8)
    back, before = tensors_of(tmp_path / "back"), tensors_of(our_folder)
    assert {name: bits(tensor.flatten()) for name, tensor in back.items()} == {
        name: bits(tensor.flatten()) for name, tensor in before.items()
    }
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in back.items()} == {
        name: (tensor.dtype, tensor.shape) for name, tensor in before.items()
    }
    assert config_of(tmp_path / "back") == config_of(our_folder)


def test_what_is_not_weights_comes_along(our_folder: Path, their_folder: Path) -> None:
    names = {path.name for path in our_folder.iterdir()}
    assert {"tokenizer.json", "generation_config.json"} < names
    assert {path.name for path in their_folder.iterdir()} == names | {"quant-manifest.json"}
    for name in names - {"config.json", "model.safetensors"}:
        assert (their_folder / name).read_bytes() == (our_folder / name).read_bytes(), name
    before, after = config_of(our_folder), config_of(their_folder)
    assert {**before, "quantization_config": None} == {**after, "quantization_config": None}


def test_bitsandbytes_is_told_what_it_needs_to_load(their_folder: Path) -> None:
    assert config_of(their_folder)["quantization_config"] == {
        "quant_method": "bitsandbytes",
        "load_in_4bit": True,
        "load_in_8bit": False,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "bfloat16",
        "bnb_4bit_quant_storage": "uint8",
        "llm_int8_enable_fp32_cpu_offload": False,
        "llm_int8_has_fp16_weight": False,
        "llm_int8_skip_modules": ["lm_head"],
        "llm_int8_threshold": 6.0,
    }


def older(folder: Path) -> None:
    """As transformers 4.30 wrote it: no method, the dtype under its older name."""
    quantization = config_of(folder)["quantization_config"]
    del quantization["quant_method"]
    configure(folder, quantization_config=quantization, dtype=None, torch_dtype="bfloat16")


def undeclared(folder: Path) -> None:
    configure(folder, dtype=None)


@pytest.mark.parametrize("change", [older, undeclared])
def test_older_configurations_are_read_and_the_dtype_is_written(theirs: Path, change: Change) -> None:
    change(theirs)
    convert_checkpoint(str(theirs), theirs.with_name("out"), "quant")
    config = config_of(theirs.with_name("out"))
    assert config["dtype"] == "bfloat16"
    assert config["quantization_config"]["quant_method"] == "quant-nf4"
    with quiet_transformers():
        model, info = AutoModelForCausalLM.from_pretrained(theirs.with_name("out"), output_loading_info=True)
    assert not any(info.values())
    assert model.dtype == torch.bfloat16


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
    "a float tensor is missing": (drop("model.norm.weight"), r"has no tensor model\.norm\.weight: it is half-written"),
    "an unknown layer": (
        lambda folder: rewrite(folder, lambda tensors: tensors.update({"model.extra.weight.absmax": torch.zeros(2)})),
        r"model\.extra is no linear layer of the model that its config\.json describes: load it with transformers",
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
}
OUR_FAULTS = {
    "a part is missing": (drop(f"{LAYER}.weight_absmax_offset"), rf"{LAYER}\.weight_absmax_offset is missing"),
    "a float tensor is missing": (drop("model.norm.weight"), r"has no tensor model\.norm\.weight: it is half-written"),
    "no dtype": (undeclared, r"config\.json has no dtype, which the layers dequantize to: add it"),
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


class Named(nn.Module):
    """Linear layers with the given names, dots allowed."""

    def __init__(self, *names: str, keep: list[str] | None = None) -> None:
        super().__init__()
        self._keep_in_fp32_modules = keep
        for name in names:
            parent: nn.Module = self
            *path, last = name.split(".")
            for part in path:
                if not hasattr(parent, part):
                    parent.add_module(part, nn.Module())
                parent = parent.get_submodule(part)
            parent.add_module(last, nn.Linear(2, 2, device="meta"))


@pytest.mark.parametrize(
    ("left", "quantized"),
    [("layers.1.fc", "layers.11.fc"), ("layers.1.fc", "layers.1.fc2"), ("mlp.gate", "mlp.gate_proj"), ("b.fc", "a.fc")],
)
def test_names_that_only_look_alike_are_told_apart(left: str, quantized: str) -> None:
    config = bitsandbytes_config(Named(left, quantized), [quantized], NF4(), torch.float32)
    assert config["llm_int8_skip_modules"] == [left]


@pytest.mark.parametrize(
    ("model", "lost", "pattern"),
    [
        (Named("fc", "mlp.fc"), "mlp.fc", "fc"),
        (Named("head", "lm_head"), "lm_head", "head"),
        (Named("mlp.wo", "mlp.wi", keep=["mlp.wo"]), "mlp.wo", "mlp.wo"),
    ],
    ids=["last part of a name", "end of a name", "kept in float32"],
)
def test_a_quantized_layer_that_would_be_skipped_is_refused(model: nn.Module, lost: str, pattern: str) -> None:
    with pytest.raises(QuantError, match=f"not read {lost} as quantized, because {pattern} is not .*without {lost}"):
        bitsandbytes_config(model, [lost], NF4(), torch.float32)
