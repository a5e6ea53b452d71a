"""What must not load: each is refused by name, and nothing loads as something else."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import quant
from quant.errors import QuantError
from quant.schemes import NF4, W8A16, Scheme
from tests.checkpoints import edited, load, save, without
from tests.models import tiny_gpt2, tiny_phi3
from tests.strategies import scheme_id

LAYER = "model.layers.0.mlp.down_proj"
DISK = {"model.embed_tokens": "cpu", "model.layers": "disk", "model.norm": "cpu", "model.rotary_emb": "cpu"}


@pytest.fixture(scope="module")
def float_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_phi3(), tmp_path_factory.mktemp("float"))


@pytest.fixture(scope="module")
def quantized_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Scheme], Path]:
    folders: dict[Scheme, Path] = {}

    def folder(scheme: Scheme) -> Path:
        if scheme not in folders:
            folders[scheme] = save(quant.quantize(tiny_phi3(), scheme), tmp_path_factory.mktemp("quantized"))
        return folders[scheme]

    return folder


@pytest.mark.parametrize("scheme", [W8A16(), NF4(), NF4(double_quant=True)], ids=scheme_id)
def test_each_stored_tensor_is_missed_by_name(
    scheme: Scheme, quantized_folder: Callable[[Scheme], Path], tmp_path: Path
) -> None:
    """transformers would fill it with memory as it found it. Offloaded, too: accelerate then moves what it loaded."""
    folder = quantized_folder(scheme)
    layer = load(folder).get_submodule(LAYER)
    for part in layer.stored:
        damaged = without(folder, tmp_path / part, f"{LAYER}.{part}")
        for placed in ({}, {"device_map": {**DISK, "lm_head": "cpu"}, "offload_folder": tmp_path / "offloaded"}):
            with pytest.raises(QuantError, match=rf"{LAYER}\.{part} is not in the checkpoint"):
                load(damaged, **placed)


def test_a_missing_bias_is_missed_by_name(tmp_path: Path) -> None:
    folder = save(quant.quantize(tiny_gpt2(), W8A16()), tmp_path / "gpt2")
    name = "transformer.h.0.mlp.c_fc.bias"
    with pytest.raises(QuantError, match=rf"{name} is not in the checkpoint"):
        load(without(folder, tmp_path / "damaged", name))


def test_a_float_weight_that_is_missing_is_missed_when_quantizing(float_folder: Path, tmp_path: Path) -> None:
    damaged = without(float_folder, tmp_path / "damaged", f"{LAYER}.weight")
    with pytest.raises(QuantError, match=rf"{LAYER}\.weight is not in the checkpoint"):
        load(damaged, quantization_config=quant.NF4Config())


def test_a_newer_format_is_refused_with_the_remedy(quantized_folder: Callable[[Scheme], Path], tmp_path: Path) -> None:
    newer = edited(quantized_folder(NF4()), tmp_path / "newer", format_version=2, unheard_of=True)
    with pytest.raises(
        QuantError, match=r"format_version 2, this version of quant reads 1 to 1: install the version that wrote"
    ):
        load(newer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quant_method": "quant-fp4"}, r"self_attn.o_proj: its tensors are of format \(1, 0, 6, 0\), FP4"),
        ({"quantized_modules": ["model.layers.7.mlp.down_proj"]}, r"no linear layer model\.layers\.7\.mlp\.down_proj"),
        ({"quantized_modules": ["model.embed_tokens"]}, r"no linear layer model\.embed_tokens"),
        ({"unheard_of": 1}, r"NF4Config: unknown option 'unheard_of'"),
        ({"block_size": 48}, r"block_size 48 is not allowed"),
        ({"include": ["*"]}, r"quantized_modules names the layers, include and exclude choose them: pass one"),
    ],
    ids=["codebook", "missing layer", "no linear layer", "option", "block size", "patterns"],
)
def test_a_configuration_that_does_not_fit_is_refused(
    changes: dict[str, object], message: str, quantized_folder: Callable[[Scheme], Path], tmp_path: Path
) -> None:
    with pytest.raises(QuantError, match=message):
        load(edited(quantized_folder(NF4()), tmp_path / "edited", **changes))


@pytest.mark.parametrize("ignore", [False, True])
def test_tensors_of_another_size_are_refused(
    ignore: bool, quantized_folder: Callable[[Scheme], Path], tmp_path: Path
) -> None:
    """By transformers, and where it was told to go on, by us."""
    other = edited(quantized_folder(NF4()), tmp_path / "other", block_size=32)
    with pytest.raises(QuantError if ignore else RuntimeError, match="weight_absmax is not in" if ignore else "sizes"):
        load(other, ignore_mismatched_sizes=ignore)


def test_nan_stops_the_loading(tmp_path: Path) -> None:
    model = tiny_phi3()
    model.get_submodule(LAYER).weight.data[3, 3] = torch.nan
    with pytest.raises(QuantError, match=rf"^{LAYER}: weight of shape \[128, 256\] has 1 NaN or infinite values"):
        load(save(model, tmp_path), quantization_config=quant.W8A16Config())


def test_a_weight_of_another_shape_stops_the_loading(float_folder: Path, tmp_path: Path) -> None:
    """Which transformers does not look at where the weight is to be quantized."""
    folder = shutil.copytree(float_folder, tmp_path / "transposed")
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors[f"{LAYER}.weight"] = tensors[f"{LAYER}.weight"].t().contiguous()
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(QuantError, match=rf"{LAYER}: W8A16Linear.*\[out, in\] = \[128, 256\], got \[256, 128\]"):
        load(folder, quantization_config=quant.W8A16Config())


def test_pickled_weights_are_refused(float_folder: Path, tmp_path: Path) -> None:
    shutil.copy(float_folder / "config.json", tmp_path)
    torch.save(tiny_phi3().state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(QuantError, match=r"pytorch_model\.bin is no safetensors file: pickled weights are refused"):
        load(tmp_path, quantization_config=quant.W8A16Config())


@pytest.mark.parametrize("device_map", [{**DISK, "lm_head": "cpu"}, "auto"], ids=["named", "auto"])
def test_quantizing_with_layers_on_disk_is_refused(float_folder: Path, device_map: object, tmp_path: Path) -> None:
    with pytest.raises(QuantError, match="cannot be quantized while it is offloaded to disk: quantize the checkpoint"):
        load(
            float_folder,
            quantization_config=quant.NF4Config(),
            device_map=device_map,
            max_memory={"cpu": 400_000},
            offload_folder=tmp_path,
        )


@pytest.mark.parametrize("build", [lambda: tiny_phi3(tied=True), tiny_gpt2], ids=["phi3", "gpt2"])
def test_a_tied_head_that_is_named_is_refused(build: Callable[[], torch.nn.Module], tmp_path: Path) -> None:
    """On the meta device nothing is tied yet: transformers declares what it will tie."""
    folder = save(build(), tmp_path)
    with pytest.raises(QuantError, match=r"lm_head cannot be quantized \(weight shared with \S+"):
        load(folder, quantization_config=quant.W8A16Config(include=["*", "lm_head"]))


def test_the_configuration_of_another_scheme_is_refused(quantized_folder: Callable[[Scheme], Path]) -> None:
    with pytest.raises(ValueError, match="quantized with NF4Config but you are passing a W8A16Config"):
        load(quantized_folder(NF4()), quantization_config=quant.W8A16Config())


def test_other_options_than_the_checkpoint_s_are_ignored_with_a_warning(
    quantized_folder: Callable[[Scheme], Path],
) -> None:
    with pytest.warns(UserWarning, match="The `quantization_config` from the model will be used"):
        model = load(quantized_folder(NF4()), quantization_config=quant.NF4Config(block_size=32))
    assert model.config.quantization_config.scheme == NF4(64)


def test_codes_without_a_configuration_are_refused(
    quantized_folder: Callable[[Scheme], Path], float_folder: Path, tmp_path: Path
) -> None:
    for scheme in (W8A16(), NF4()):
        folder = shutil.copytree(quantized_folder(scheme), tmp_path / scheme.name)
        shutil.copy(float_folder / "config.json", folder)
        with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
            load(folder)


def test_transformers_alone_refuses_the_codes(quantized_folder: Callable[[Scheme], Path]) -> None:
    """In a process without this library transformers warns of the unknown method, takes the model for a float one and
    stops at the shapes of its weights. Should a release of transformers change that, this test tells.
    """
    script = (
        "import sys\n"
        "from transformers import AutoModelForCausalLM\n"
        f"AutoModelForCausalLM.from_pretrained({str(quantized_folder(W8A16()))!r})"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert f"Unknown quantization type, got {quant.W8A16Config().quant_method}" in result.stderr
    assert "RuntimeError: You set `ignore_mismatched_sizes` to `False`" in result.stderr
