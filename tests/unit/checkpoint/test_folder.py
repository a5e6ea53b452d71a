"""An index and the shards that it lists are believed only where they say the same."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from quant.checkpoint.folder import INDEX, SINGLE, open_checkpoint, read_json
from quant.errors import QuantError
from tests.unit.checkpoint.files import SHARDS, layer_tensors, write_sharded


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards: embedding.weight and first.weight in the first, first.bias and second.weight in the second."""
    return write_sharded(tmp_path / "model", layer_tensors())


def change_map(folder: Path, **changes: str | None) -> None:
    """Change entries of the index; None removes one. `__` in a name stands for a dot."""
    content = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    for name, file in changes.items():
        content["weight_map"][name.replace("__", ".")] = file
    content["weight_map"] = {name: file for name, file in content["weight_map"].items() if file is not None}
    (folder / INDEX).write_text(json.dumps(content), encoding="utf-8")


def test_shards_are_opened_with_all_their_tensors(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    assert (list(checkpoint.files), checkpoint.sharded) == (list(SHARDS), True)
    assert checkpoint.tensors.keys() == layer_tensors().keys()
    assert checkpoint.tensors["first.bias"].path == folder / SHARDS[1]


def test_a_single_file_needs_no_index(tmp_path: Path) -> None:
    save_file(layer_tensors(), tmp_path / SINGLE)
    save_file({"consolidated": torch.zeros(1)}, tmp_path / "consolidated.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    assert (list(checkpoint.files), checkpoint.sharded) == ([SINGLE], False)
    assert checkpoint.tensors.keys() == layer_tensors().keys()


def duplicate(folder: Path) -> None:
    tensors = {**load_file(folder / SHARDS[1]), "first.weight": torch.zeros(2)}
    save_file(tensors, folder / SHARDS[1])


def swap(folder: Path) -> None:
    first, second = (folder / shard for shard in SHARDS)
    first.rename(folder / "other")
    second.rename(first)
    (folder / "other").rename(second)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a missing shard": (lambda f: (f / SHARDS[1]).unlink(), rf"{SHARDS[1]} is missing: the checkpoint is half-written"),
    "swapped shards": (swap, rf"{SHARDS[0]}: tensor first\.bias is in {SHARDS[1]} according to"),
    "another shard": (
        lambda f: change_map(f, second__weight=SHARDS[0]),
        rf"{SHARDS[1]}: tensor second\.weight is in {SHARDS[0]} according to",
    ),
    "not in its shard": (
        lambda f: change_map(f, third__weight=SHARDS[0]),
        rf"{SHARDS[0]}: tensor third\.weight is missing, {INDEX} lists it",
    ),
    "not in the index": (
        lambda f: change_map(f, first__bias=None),
        rf"{SHARDS[1]}: tensor first\.bias is not in {INDEX}",
    ),
    "in two shards": (duplicate, rf"{SHARDS[1]}: tensor first\.weight is in {SHARDS[0]} as well"),
    "a second checkpoint": (
        lambda f: save_file(layer_tensors(), f / SINGLE),
        rf"holds two checkpoints, {SINGLE} and the files that {INDEX} lists",
    ),
    "no map": (lambda f: (f / INDEX).write_text('{"weight_map": {}}'), "has no weight_map"),
    "a map of numbers": (lambda f: (f / INDEX).write_text('{"weight_map": {"a": 1}}'), "has no weight_map"),
    "no JSON": (lambda f: (f / INDEX).write_text("{"), rf"{INDEX} is not valid JSON"),
}


@pytest.mark.parametrize(("damage", "message"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused_by_name(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(folder)
    with pytest.raises(QuantError, match=message):
        open_checkpoint(folder)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "a/b", "..", ".", "", "a\\b", "a\0b"])
def test_an_index_may_name_no_file_outside_the_folder(folder: Path, name: str) -> None:
    save_file({"first.weight": torch.zeros(1)}, folder.parent / "secret.safetensors")
    change_map(folder, first__weight=name)
    with pytest.raises(QuantError, match=r"tensor first\.weight is said to be in .*do not trust this checkpoint"):
        open_checkpoint(folder)


def test_links_to_files_elsewhere_are_followed(folder: Path, tmp_path: Path) -> None:
    """As the hub's cache keeps them."""
    blob = tmp_path / "blob"
    (folder / SHARDS[0]).rename(blob)
    (folder / SHARDS[0]).symlink_to(blob)
    assert open_checkpoint(folder).tensors.keys() == layer_tensors().keys()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
def test_pickles_are_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"anything")
    with pytest.raises(QuantError, match="pickled weights only, which are refused because they can run code"):
        open_checkpoint(tmp_path)


def test_an_index_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(QuantError, match=rf"{tmp_path} cannot be read \(Is a directory\): check the file"):
        read_json(tmp_path)
