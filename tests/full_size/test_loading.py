"""Every variant loads as what it is named, at exactly the calculated size."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import quant
from quant.evaluate.footprint import footprint
from quant.integrations.transformers import load_model
from quant.schemes import SCHEMES
from quant.variants import count_layers
from tests.full_size import loading
from tests.full_size.conftest import task
from tests.full_size.variants import VARIANTS, Task

LAYERS, WIDTH, INNER, VOCABULARY = 2, 192, 512, 2004
WEIGHTS = LAYERS * (4 * WIDTH * WIDTH + 3 * INNER * WIDTH)
ROWS = LAYERS * (3 * WIDTH + WIDTH + 2 * INNER + WIDTH)
REST = 2 * VOCABULARY * WIDTH + (2 * LAYERS + 1) * WIDTH
ROTARY = 2 * 4 * 96 // 2
"""Bytes of two float32 buffers with a frequency for every second dimension of a head."""
TAGS = 4 * 4 * LAYERS
BLOCKS = WEIGHTS // 64
BYTES = {
    "float32": 4 * (WEIGHTS + REST),
    "bf16": 2 * (WEIGHTS + REST),
    "w8a16": WEIGHTS + 4 * ROWS + 2 * REST,
    "w8a16-fp32": WEIGHTS + 4 * ROWS + 4 * REST,
    "nf4": WEIGHTS // 2 + 4 * BLOCKS + TAGS + 2 * REST,
    "nf4-fp32": WEIGHTS // 2 + 4 * BLOCKS + TAGS + 4 * REST,
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_is_what_it_is_named(variant: str, checkpoint: Path) -> None:
    model, record = loading.load(task("generate", variant, checkpoint))
    assert model.dtype == getattr(torch, VARIANTS[variant].dtype)
    expected = 0 if VARIANTS[variant].scheme is None else 4 * LAYERS + (variant == "w8a16-full")
    assert count_layers(model)[0] == expected
    assert record["calculated_bytes"] in (record["footprint_bytes"], None)
    assert (record["calculated_bytes"] is None) == (variant == "bnb-nf4")
    assert not model.training


@pytest.mark.parametrize("variant", BYTES)
def test_the_calculated_size_is_the_sum_of_its_parts(variant: str, checkpoint: Path) -> None:
    dtype, scheme = getattr(torch, VARIANTS[variant].dtype), VARIANTS[variant].scheme
    layers = 0 if scheme is None else 4 * LAYERS
    assert loading.calculated_bytes(checkpoint, dtype, scheme) == (BYTES[variant] + ROTARY, layers)


@pytest.mark.parametrize("wrong", [(1, 0), (0, 1)], ids=["bytes", "layers"])
def test_another_size_than_calculated_is_an_error(
    wrong: tuple[int, int], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calculate = loading.calculated_bytes

    def miscalculate(*arguments: Any) -> tuple[int, int]:
        total, layers = calculate(*arguments)
        return total + wrong[0], layers + wrong[1]

    monkeypatch.setattr(loading, "calculated_bytes", miscalculate)
    with pytest.raises(RuntimeError, match=r"nf4: loaded are \d+ bytes and 8 quantized layers, calculated"):
        loading.load(task("generate", "nf4", checkpoint))


@pytest.mark.parametrize("variant", ["nf4-dq", "w8a16-fp32"])
def test_a_quantized_folder_is_loaded_and_not_quantized_again(
    variant: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheme = SCHEMES[str(VARIANTS[variant].scheme)]
    saved: Any = quant.quantize(load_model(checkpoint, torch.bfloat16), scheme)
    saved.save_pretrained(tmp_path)
    monkeypatch.setattr(loading, "quantize_as", lambda *_: pytest.fail("quantized"))
    plain = task("generate", variant, checkpoint)
    model, record = loading.load(Task(**{**vars(plain), "quantized": str(tmp_path)}))
    assert model.dtype == getattr(torch, VARIANTS[variant].dtype)
    assert record["calculated_bytes"] == footprint(model).total_bytes
    name = "model.layers.1.mlp.down_proj"
    assert torch.equal(model.get_submodule(name).weight, saved.get_submodule(name).weight)


def test_a_checkpoint_with_a_tensor_too_many_is_an_error(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint, tmp_path / "model")
    tensors = load_file(checkpoint / "model.safetensors")
    save_file({**tensors, "model.extra": torch.zeros(1)}, tmp_path / "model" / "model.safetensors", {"format": "pt"})
    with pytest.raises(RuntimeError, match=r"model\.extra"):
        loading.load(task("generate", "bf16", tmp_path / "model"))


def test_a_folder_that_was_not_quantized_yet_is_an_error(checkpoint: Path, tmp_path: Path) -> None:
    plain = task("generate", "w8a16", checkpoint)
    with pytest.raises(FileNotFoundError, match="measure the part quantize first"):
        loading.load(Task(**{**vars(plain), "quantized": str(tmp_path / "w8a16")}))


def test_memory_is_recorded_before_and_after(checkpoint: Path) -> None:
    _, record = loading.load(task("generate", "bf16", checkpoint))
    peaks = [record[name]["peak"] for name in ("memory_before", "memory", "memory_after_forward")]
    assert peaks == sorted(peaks)
    assert record["seconds"] > 0
    assert record["first_forward_seconds"] > 0
