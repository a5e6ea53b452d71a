"""Whole checkpoints from bitsandbytes' format to ours and back: the weights, and what is written beside them.

No bitsandbytes is needed: the checkpoints in its format are ones that `convert_checkpoint` made, which tests/parity
holds to its own.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from quant import QuantError
from quant.checkpoint.partial import Partial
from quant.checkpoint_conversion import convert_checkpoint
from quant.integrations.transformers import quiet_transformers
from tests.strategies import bits
from tests.unit.folders import SCHEME, config_of, configure, interrupt, tensors_of, write_config


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


def null(folder: Path) -> None:
    """The newer name of the dtype is there, and the older one says it."""
    write_config(folder, {**config_of(folder), "dtype": None, "torch_dtype": "bfloat16"})


@pytest.mark.parametrize("change", [older, undeclared, null])
def test_older_configurations_are_read_and_the_dtype_is_written(theirs: Path, change: Callable[[Path], None]) -> None:
    change(theirs)
    convert_checkpoint(str(theirs), theirs.with_name("out"), "quant")
    config = config_of(theirs.with_name("out"))
    assert config["dtype"] == "bfloat16"
    assert "torch_dtype" not in config
    assert config["quantization_config"]["quant_method"] == "quant-nf4"
    with quiet_transformers():
        model, info = AutoModelForCausalLM.from_pretrained(theirs.with_name("out"), output_loading_info=True)
    assert not any(info.values())
    assert model.dtype == torch.bfloat16


def test_what_another_dtype_made_is_not_taken_up(ours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in every weight of bitsandbytes, and may have as many letters as the new one."""
    configure(ours, dtype="float16")
    with monkeypatch.context() as patch:
        patch.setattr(Partial, "complete", interrupt)
        with pytest.raises(KeyboardInterrupt):
            convert_checkpoint(str(ours), ours.with_name("out"), "bitsandbytes")
    configure(ours, dtype="float32")
    with pytest.raises(QuantError, match=r"interrupted run, but of other dtype: .*--restart"):
        convert_checkpoint(str(ours), ours.with_name("out"), "bitsandbytes")
