"""What cannot be quantized on disk is refused by file and tensor, and what was interrupted is taken up."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from quant.checkpoint.partial import Partial
from quant.checkpoint_quantization import QuantizedCheckpoint, quantize_checkpoint
from quant.errors import QuantError
from quant.integrations.transformers import load_model
from tests.checkpoints import save
from tests.unit.folders import interrupt, rewrite, tensors_of


def change(tensors: dict[str, Tensor], changes: dict[str, Tensor | None]) -> None:
    """Change tensors; None removes one."""
    for name, tensor in changes.items():
        tensors.pop(name, None)
        if tensor is not None:
            tensors[name] = tensor


DOWN = "model.layers.0.mlp.down_proj.weight"
NAN = torch.full((64, 96), 0.5)
NAN[63, 95] = float("nan")
NAN_EMBEDDING = torch.zeros(512, 64)
NAN_EMBEDDING[511, 63] = float("nan")
REFUSED: dict[str, tuple[dict[str, Tensor | None], str]] = {
    "a layer's weight missing": (
        {DOWN: None},
        rf"has no tensor {DOWN}: .*another layout: load it with from_pretrained",
    ),
    "another tensor missing": ({"model.norm.weight": None}, r"has no tensor model\.norm\.weight"),
    "another shape": (
        {DOWN: torch.zeros(64, 95)},
        rf"model\.safetensors: tensor {DOWN} has shape \[64, 95\], the model of its config\.json has \[64, 96\]",
    ),
    "another shape of another tensor": (
        {"model.norm.weight": torch.zeros(65)},
        r"model\.norm\.weight has shape \[65\]",
    ),
    "a tensor too many": (
        {"model.layers.1.mlp.down_proj.weight": NAN},
        r"tensor model\.layers\.1\.mlp\.down_proj\.weight is not one of Phi3ForCausalLM's",
    ),
    "NaN": ({DOWN: NAN}, rf"model\.safetensors: tensor {DOWN} has NaN or infinite values in float32"),
    "NaN in the embedding": (
        {"model.embed_tokens.weight": NAN_EMBEDDING},
        r"model\.safetensors: tensor model\.embed_tokens\.weight has NaN or infinite values, .*: repair the checkpoint",
    ),
    "infinity in a norm": (
        {"model.norm.weight": torch.full((64,), float("inf"))},
        r"tensor model\.norm\.weight has NaN or infinite values",
    ),
    "an integer weight": ({DOWN: NAN.nan_to_num().to(torch.int8)}, rf"{DOWN} has dtype int8, so it is quantized"),
    "an 8-bit float": ({DOWN: NAN.to(torch.float8_e4m3fn)}, rf"{DOWN} has the 8-bit dtype float8_e4m3fn"),
    "codes of this library": ({f"{DOWN}_scale": torch.zeros(64)}, r"is already quantized \(layers of quant: it holds"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED)
def test_a_checkpoint_that_does_not_fit_is_refused_with_file_and_tensor(
    float_folders: dict[str, Path], tmp_path: Path, changes: dict[str, Tensor | None], message: str
) -> None:
    folder = shutil.copytree(float_folders["phi3"], tmp_path / "model")
    rewrite(folder, lambda tensors: change(tensors, changes))
    with pytest.raises(QuantError, match=message):
        quantize_checkpoint(str(folder), tmp_path / "out", "nf4")
    assert not (tmp_path / "out").exists()


def test_names_of_an_older_layout_are_refused_with_the_way_out(float_folders: dict[str, Path], tmp_path: Path) -> None:
    """GPT-2's on the hub lack the prefix, which transformers adds when it loads them."""
    folder = shutil.copytree(float_folders["gpt2"], tmp_path / "model")
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in tensors_of(folder).items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        QuantError,
        match=r"has no tensor transformer\.wte\.weight: .*save it again with save_pretrained\(\.\.\., save_original",
    ):
        quantize_checkpoint(str(folder), tmp_path / "out", "nf4")
    save(load_model(folder, torch.float32), tmp_path / "again", save_original_format=False)
    quantize_checkpoint(str(tmp_path / "again"), tmp_path / "out", "nf4")


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quant.checkpoint_quantization.open_source", lambda *_: pytest.fail("looked for a model"))


@pytest.mark.usefixtures("no_reading")
def test_an_out_that_exists_is_refused_before_the_model_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(QuantError, match="exists: name a folder that does not"):
        quantize_checkpoint("org/name", tmp_path, "nf4")


@pytest.mark.usefixtures("no_reading")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "nf5"}, "unknown scheme 'nf5': use one of w8a16, "),
        ({"name": "baseline"}, "a checkpoint cannot be quantized to 'baseline': use one of w8a16, "),
        ({"name": "bnb-nf4"}, "a checkpoint cannot be quantized to 'bnb-nf4': use one of w8a16, "),
        ({"name": "nf4", "block_size": 48}, "block_size 48 is not allowed"),
        ({"name": "nf4", "dtype": "int8"}, "unknown dtype 'int8'"),
    ],
    ids=["unknown", "the baseline", "bitsandbytes", "a block size", "a dtype"],
)
def test_options_are_refused_before_the_model_is_looked_for(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(QuantError, match=message):
        quantize_checkpoint("org/name", tmp_path / "out", **options)


def test_it_can_be_taken_up(float_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command; with other layers, another dtype or another scheme it is another one."""
    folder = str(float_folders["phi3"])

    def call(name: str = "nf4", dtype: str = "auto", exclude: tuple[str, ...] = ()) -> QuantizedCheckpoint:
        return quantize_checkpoint(folder, tmp_path / "out", name, dtype=dtype, exclude=exclude)

    with monkeypatch.context() as patch:
        patch.setattr(Partial, "complete", interrupt)
        with pytest.raises(KeyboardInterrupt):
            call()
    with pytest.raises(QuantError, match="of other scheme, output tensors: repeat"):
        call("w8a16")
    with pytest.raises(QuantError, match="of other dtype, output tensors: repeat"):
        call(dtype="bfloat16")
    with pytest.raises(QuantError, match="of other layers, output tensors: repeat"):
        call(exclude=("*.down_proj",))
    made = call()
    assert made.outcome.kept == made.outcome.tensors > 0
