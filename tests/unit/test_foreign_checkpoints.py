"""Checkpoints that are not plain float models: pickles on the hub, quantized ones, ones with code of their own, ones
that do not fit the machine. Each is refused by its cause, with a way out.
"""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file, save_model
from transformers import AutoModelForCausalLM

from quant.convert import quantize
from quant.errors import QuantError
from quant.integrations import transformers
from quant.schemes import NF4, W8A16, Scheme
from quant.sources import build_for_sizing, open_source


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("tried to connect"))


@pytest.fixture
def hub(damaged_folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """A hub that has `damaged_folder` under every id; returns the patterns of each download."""
    downloads: list[tuple[str, ...]] = []

    def download(hub_id: str, patterns: tuple[str, ...]) -> Path:
        downloads.append(patterns)
        return damaged_folder

    monkeypatch.setattr("quant.integrations.hub._download", download)
    return downloads


def test_a_hub_repository_with_pickles_only_is_refused_with_the_way_out(
    damaged_folder: Path, hub: list[tuple[str, ...]]
) -> None:
    """Pickles are not among the files that are fetched, so the folder just has no weights."""
    (damaged_folder / "model.safetensors").unlink()
    with pytest.raises(QuantError, match=r"'org/name' has no safetensors on the hub, and pickled.*refused.*convert it"):
        open_source("org/name")
    assert not any("bin" in pattern for patterns in hub for pattern in patterns)


@pytest.mark.parametrize("quantization", [{"quant_method": "bitsandbytes", "load_in_4bit": True}, "?"], ids=str)
def test_a_quantized_config_is_refused_before_the_weights_are_fetched(
    damaged_folder: Path, hub: list[tuple[str, ...]], quantization: object
) -> None:
    path = damaged_folder / "config.json"
    config = {**json.loads(path.read_text(encoding="utf-8")), "quantization_config": quantization}
    path.write_text(json.dumps(config), encoding="utf-8")
    method = "bitsandbytes" if isinstance(quantization, dict) else "unknown"
    for call in (open_source, build_for_sizing):
        hub.clear()
        with pytest.raises(QuantError, match=f"is already quantized .*method '{method}'.*pass the float checkpoint"):
            call("org/name")
        assert hub == [("config.json",)]
        with pytest.raises(QuantError, match="is already quantized"):
            call(str(damaged_folder))


@pytest.mark.parametrize("scheme", [W8A16(), NF4()], ids=str)
@pytest.mark.parametrize("call", [open_source, build_for_sizing])
def test_our_own_layers_in_a_checkpoint_are_named_as_the_cause(
    call: Callable[[str], object], scheme: Scheme, damaged_folder: Path
) -> None:
    """Where config.json has lost its quantization_config, or never had one."""
    model: Any = quantize(transformers.load_model(damaged_folder, torch.float32), scheme)
    save_model(model, str(damaged_folder / "model.safetensors"))
    with pytest.raises(QuantError, match=r"is already quantized \(layers of quant: it holds model.*load_state_dict"):
        call(str(damaged_folder))


@pytest.mark.parametrize("name", ["weight.absmax", "SCB"])
@pytest.mark.parametrize("call", [open_source, build_for_sizing])
def test_bitsandbytes_layers_in_a_checkpoint_are_named_as_the_cause(
    call: Callable[[str], object], name: str, damaged_folder: Path
) -> None:
    path = damaged_folder / "model.safetensors"
    tensors = {**load_file(path), f"model.layers.0.mlp.down_proj.{name}": torch.zeros(4)}
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(QuantError, match=r"is already quantized \(layers of bitsandbytes: it holds model"):
        call(str(damaged_folder))


def test_sizing_does_not_mind_weights_that_are_cut_short(damaged_folder: Path) -> None:
    path = damaged_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    assert build_for_sizing(str(damaged_folder))[1] == "float32"


def test_code_of_the_checkpoint_is_refused_with_the_option_that_allows_it(damaged_folder: Path) -> None:
    path = damaged_folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config.update(model_type="theirs", auto_map={"AutoConfig": "theirs.Config", "AutoModelForCausalLM": "theirs.Model"})
    path.write_text(json.dumps(config), encoding="utf-8")
    (damaged_folder / "theirs.py").write_text("raise SystemExit('this code must not run')", encoding="utf-8")
    for call in (open_source, build_for_sizing):
        with pytest.raises(QuantError, match="Python code of its own: pass --trust-remote-code to run it"):
            call(str(damaged_folder))


def test_a_model_that_cannot_be_spread_is_one_line_with_the_remedy(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What accelerate answers where the model does not fit the machine."""

    def refuse(*_: object, **__: object) -> None:
        raise ValueError("You are trying to offload the whole model to the disk.\nPlease use `disk_offload` instead.")

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", refuse)
    with pytest.raises(
        QuantError,
        match=r"on device auto \(You are .*disk_offload` instead\): use --device cpu or cuda:N",
    ):
        transformers.load_model(model_folder, torch.float32, "auto")


def test_a_long_reason_is_cut_between_sentences(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("One sentence. " * 100)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", refuse)
    with pytest.raises(QuantError, match=r"cpu: (One sentence\. ){20}One sentence$"):
        transformers.load_model(model_folder, torch.float32)
