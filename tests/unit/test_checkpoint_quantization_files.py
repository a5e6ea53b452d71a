"""What quantizing on disk writes beside the codes: the same files and shards, the configuration, what is copied."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from quant.checkpoint.folder import INDEX, open_checkpoint
from quant.checkpoint.manifest import MANIFEST, verify
from quant.checkpoint_quantization import quantize_checkpoint
from tests.unit.folders import config_of, configure, rewrite, tensors_of

OLD_INDEX = "pytorch_model.bin.index.json"


@pytest.mark.parametrize("model", ["phi3", "phi3-shards"])
def test_files_and_shards_are_those_of_the_input(float_folders: dict[str, Path], model: str, tmp_path: Path) -> None:
    quantize_checkpoint(str(float_folders[model]), tmp_path / "out", "w8a16")
    given = {path.name for path in float_folders[model].iterdir()}
    assert {path.name for path in (tmp_path / "out").iterdir()} == given | {MANIFEST}
    before, after = open_checkpoint(float_folders[model]), open_checkpoint(tmp_path / "out")
    assert after.sharded == before.sharded == (model == "phi3-shards")
    for name, tensor in before.tensors.items():
        assert after.tensors[name].path.name == tensor.path.name
    if after.sharded:
        assert len(after.files) > 2
        index = json.loads((tmp_path / "out" / INDEX).read_text(encoding="utf-8"))
        assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in after.tensors.values())
    assert verify(tmp_path / "out").tensors == len(after.tensors)


def test_the_config_says_how_it_is_quantized(float_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(float_folders["phi3"], tmp_path / "model")
    configure(folder, torch_dtype="float32", dtype=None)
    made = quantize_checkpoint(str(folder), tmp_path / "out", "nf4-dq", block_size=128, dtype="bfloat16")
    config = config_of(tmp_path / "out")
    layer = "model.layers.0"
    names = [
        f"{layer}.{name}" for name in ("self_attn.o_proj", "self_attn.qkv_proj", "mlp.gate_up_proj", "mlp.down_proj")
    ]
    assert config.pop("quantization_config") == {
        "quant_method": "quant-nf4",
        "format_version": 1,
        "block_size": 128,
        "double_quant": True,
        "quantized_modules": names,
    }
    given = config_of(folder)
    del given["torch_dtype"]
    assert config == {**given, "dtype": "bfloat16"}
    assert (made.dtype, made.assignment.left) == ("bfloat16", {"lm_head": "output head"})


def test_small_files_are_copied_and_pickles_and_code_are_not(float_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = shutil.copytree(float_folders["phi3"], tmp_path / "model")
    copied = {"tokenizer.json": "{}", "merges.txt": "a b", "tokenizer.model": "\0", "chat_template.jinja": "{{ x }}"}
    left = {"modeling.py": "", "pytorch_model.bin": "", "a.pt": "", "README.md": "", MANIFEST: "{}", OLD_INDEX: "{}"}
    for name, content in {**copied, **left}.items():
        (folder / name).write_text(content, encoding="utf-8")
    (folder / "original").mkdir()
    (folder / "original" / "params.json").touch()
    quantize_checkpoint(str(folder), tmp_path / "out", "w8a16")
    made = {path.name for path in (tmp_path / "out").iterdir()}
    assert made == {path.name for path in float_folders["phi3"].iterdir()} | set(copied) | {MANIFEST}
    for name, content in copied.items():
        assert (tmp_path / "out" / name).read_text(encoding="utf-8") == content
    assert verify(tmp_path / "out").files == len(made) - 1
    quantize_checkpoint(str(folder), tmp_path / "trusted", "w8a16", trust_remote_code=True)
    assert {path.name for path in (tmp_path / "trusted").iterdir()} == made | {"modeling.py"}


def test_tensors_that_from_pretrained_passes_over_are_copied(float_folders: dict[str, Path], tmp_path: Path) -> None:
    """Masks and tables that older versions stored: nothing of a checkpoint is lost, and they may be infinite."""
    folder = shutil.copytree(float_folders["phi3"], tmp_path / "model")
    table = torch.tensor([0.0, 1.0, float("-inf")], dtype=torch.float64)
    rewrite(folder, lambda tensors: tensors.update({"model.layers.0.self_attn.rotary_emb.inv_freq": table}))
    quantize_checkpoint(str(folder), tmp_path / "out", "nf4", dtype="bfloat16")
    assert torch.equal(tensors_of(tmp_path / "out")["model.layers.0.self_attn.rotary_emb.inv_freq"], table)
