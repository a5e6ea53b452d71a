"""Model folders and hub ids: what is opened, and what is refused without waiting for a network or reading a pickle."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from quant import reference_model
from quant.errors import QuantError
from quant.integrations import transformers
from quant.sources import PHI_3_MINI, REFERENCE, build_for_sizing, open_source


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("tried to connect"))


def split_into_shards(folder: Path) -> list[Path]:
    """Replace model.safetensors by two shards and an index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = [folder / "model-00001-of-00002.safetensors", folder / "model-00002-of-00002.safetensors"]
    weight_map = {}
    for shard, part in zip(shards, (names[::2], names[1::2]), strict=True):
        save_file({name: tensors[name] for name in part}, shard, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, shard.name))
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": weight_map}), encoding="utf-8"
    )
    return shards


def test_a_folder_is_opened_with_its_config_and_dtype(model_folder: Path) -> None:
    opened = open_source(str(model_folder))
    assert (opened.name, opened.folder, opened.dtype) == (str(model_folder), model_folder, torch.float32)
    assert opened.config.vocab_size == 512
    assert open_source(str(model_folder), "float16").dtype == torch.float16


def test_shards_are_opened_like_one_file(damaged_folder: Path) -> None:
    split_into_shards(damaged_folder)
    assert open_source(str(damaged_folder)).folder == damaged_folder
    model = transformers.load_model(damaged_folder, torch.float32)
    assert sum(parameter.numel() for parameter in model.parameters()) == 2 * 512 * 64 + 5 * 64 + 2 * (
        64 * 448 + 64 * 128
    )


def test_reference_is_the_embedded_folder(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_model, "FOLDER", model_folder)
    assert open_source(REFERENCE).folder == model_folder
    assert build_for_sizing(REFERENCE)[0].config.vocab_size == 512


def test_phi_3_mini_is_sized_without_any_file() -> None:
    model, dtype = build_for_sizing(PHI_3_MINI)
    assert dtype == "float32"
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    config = model.config
    assert (config.vocab_size, config.hidden_size, config.intermediate_size, config.num_hidden_layers) == (
        32064,
        3072,
        8192,
        32,
    )
    assert (config.num_attention_heads, config.num_key_value_heads, config.max_position_embeddings) == (32, 32, 4096)
    assert (config.sliding_window, config.tie_word_embeddings) == (2047, False)


def test_sizing_needs_only_the_config(damaged_folder: Path) -> None:
    (damaged_folder / "model.safetensors").unlink()
    assert build_for_sizing(str(damaged_folder), "bfloat16")[1] == "bfloat16"


def test_a_hub_id_that_is_not_cached_fails_without_network() -> None:
    with pytest.raises(
        QuantError, match=r"'some-organisation/some-model' is not in the local cache.*pass a local folder"
    ):
        open_source("some-organisation/some-model")
    with pytest.raises(QuantError, match="pass a local folder"):
        open_source(PHI_3_MINI)


def test_an_unreachable_hub_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Online by its settings, but nothing answers: one attempt with a short timeout, then the local cache."""
    from huggingface_hub import constants  # noqa: PLC0415

    attempts: list[Any] = []

    def refuse(address: object, timeout: float) -> None:
        attempts.append((address, timeout))
        raise ConnectionRefusedError

    for variable in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(QuantError, match="the hub cannot be reached"):
        open_source("some-organisation/some-model")
    assert len(attempts) == 1
    assert attempts[0][1] <= 5


def test_a_download_that_fails_is_told_with_the_hub_s_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub, or a proxy that may lead to it, is there, but not the model."""
    from huggingface_hub import constants  # noqa: PLC0415

    def refuse(*_: object, **__: object) -> None:
        raise OSError("404 Client Error\n\nRepository Not Found")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("went around the proxy"))
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    with pytest.raises(QuantError, match=r"'some/model' cannot be downloaded: 404 Client Error$"):
        open_source("some/model")
    for variable in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: socket.socket())
    with pytest.raises(QuantError, match=r"'some/model' cannot be downloaded: 404 Client Error$"):
        open_source("some/model")


@pytest.mark.parametrize("model", ["./missing", "/missing/folder", "missing", "a/b/c"])
def test_a_missing_folder_is_named(model: str) -> None:
    with pytest.raises(QuantError, match=f"model '{model}': no such folder"):
        open_source(model)


def test_a_file_is_not_a_model(damaged_folder: Path) -> None:
    with pytest.raises(QuantError, match="is a file: pass the folder"):
        open_source(str(damaged_folder / "config.json"))


def test_a_folder_without_config_is_refused(damaged_folder: Path) -> None:
    (damaged_folder / "config.json").unlink()
    with pytest.raises(QuantError, match=r"config\.json is missing"):
        open_source(str(damaged_folder))


def test_a_folder_without_weights_is_refused(damaged_folder: Path) -> None:
    (damaged_folder / "model.safetensors").unlink()
    with pytest.raises(QuantError, match=r"has no model\.safetensors"):
        open_source(str(damaged_folder))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickled_weights_are_refused_without_reading_them(damaged_folder: Path, name: str) -> None:
    (damaged_folder / "model.safetensors").unlink()
    (damaged_folder / name).write_bytes(b"not a pickle: reading it would raise something else")
    with pytest.raises(QuantError, match=r"pickled weights only, which are refused.*convert it to safetensors"):
        open_source(str(damaged_folder))


@pytest.mark.parametrize("cut", [0, 4, 1000, -100], ids=["empty", "in the length", "in the header", "in the data"])
def test_truncated_weights_are_refused(damaged_folder: Path, cut: int) -> None:
    path = damaged_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(QuantError, match=r"model\.safetensors is damaged or cut short"):
        open_source(str(damaged_folder))


def test_a_missing_shard_is_named(damaged_folder: Path) -> None:
    split_into_shards(damaged_folder)[1].unlink()
    with pytest.raises(QuantError, match=r"model-00002-of-00002\.safetensors is missing"):
        open_source(str(damaged_folder))


def test_a_truncated_shard_is_named(damaged_folder: Path) -> None:
    shard = split_into_shards(damaged_folder)[0]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(QuantError, match=r"model-00001-of-00002\.safetensors is damaged"):
        open_source(str(damaged_folder))


def change(damaged_folder: Path, tensors: dict[str, torch.Tensor], missing: str = "") -> None:
    path = damaged_folder / "model.safetensors"
    stored = {**load_file(path), **tensors}
    stored.pop(missing, None)
    save_file(stored, path, metadata={"format": "pt"})


def test_a_missing_tensor_is_an_error_and_not_random_numbers(damaged_folder: Path) -> None:
    change(damaged_folder, {}, missing="model.layers.1.mlp.down_proj.weight")
    with pytest.raises(QuantError, match=r"missing keys: model\.layers\.1\.mlp\.down_proj\.weight"):
        transformers.load_model(damaged_folder, torch.float32)


def test_an_unexpected_tensor_is_an_error(damaged_folder: Path) -> None:
    change(damaged_folder, {"model.layers.2.mlp.down_proj.weight": torch.zeros(64, 128)})
    with pytest.raises(QuantError, match=r"unexpected keys: model\.layers\.2\.mlp\.down_proj\.weight"):
        transformers.load_model(damaged_folder, torch.float32)


def test_a_tensor_of_another_shape_is_an_error(damaged_folder: Path) -> None:
    change(damaged_folder, {"model.norm.weight": torch.ones(65)})
    with pytest.raises(QuantError, match=r"model\.norm\.weight"):
        transformers.load_model(damaged_folder, torch.float32)


@pytest.mark.parametrize("content", ["{", "", '{"model_type": "unheard-of"}', "{}", "[]"])
def test_a_broken_or_unknown_config_is_refused(damaged_folder: Path, content: str) -> None:
    (damaged_folder / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(QuantError, match=damaged_folder.name):
        open_source(str(damaged_folder))


def test_a_damaged_config_is_named_with_the_remedy(damaged_folder: Path) -> None:
    (damaged_folder / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(QuantError, match=r"config\.json is not valid JSON .*download or save it again"):
        open_source(str(damaged_folder))
    (damaged_folder / "config.json").unlink()
    with pytest.raises(QuantError, match=r"config\.json is missing: pass a folder that save_pretrained wrote"):
        open_source(str(damaged_folder))


@pytest.mark.parametrize(
    "content",
    ["3", "null", '{"model_type": "phi3", "dtype": "float17"}', '{"model_type": "phi3", "num_attention_heads": 0}'],
)
def test_a_config_of_wrong_values_is_refused(damaged_folder: Path, content: str) -> None:
    (damaged_folder / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(QuantError, match=damaged_folder.name):
        open_source(str(damaged_folder))


@pytest.mark.parametrize("content", ["{}", "[]"])
def test_a_broken_index_is_refused(damaged_folder: Path, content: str) -> None:
    (damaged_folder / "model.safetensors.index.json").write_text(content, encoding="utf-8")
    with pytest.raises(QuantError, match=r"index\.json"):
        open_source(str(damaged_folder))


def test_an_architecture_without_a_language_model_is_refused(damaged_folder: Path) -> None:
    (damaged_folder / "config.json").write_text('{"model_type": "vit"}', encoding="utf-8")
    with pytest.raises(QuantError, match="ViTConfig"):
        build_for_sizing(str(damaged_folder))


@pytest.mark.parametrize("content", [None, "{", "[]"], ids=["missing", "damaged", "wrong"])
def test_a_broken_tokenizer_is_refused(damaged_folder: Path, content: str | None) -> None:
    path = damaged_folder / "tokenizer.json"
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    with pytest.raises(QuantError, match=f"{damaged_folder.name}: its tokenizer cannot be loaded") as caught:
        transformers.load_tokenizer(damaged_folder)
    message = str(caught.value)
    assert message.endswith("): save the tokenizer of this model into the folder, as tokenizer.json")
    assert "\n" not in message
    assert ": )" not in message
    assert "from one of: (1)" in message or content is not None
