"""Every byte of a converted folder is proved by its manifest, and whatever differs is named."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from quant.checkpoint.folder import INDEX, open_checkpoint
from quant.checkpoint.headers import read_header
from quant.checkpoint.manifest import (
    MANIFEST,
    Verified,
    describe_file,
    describe_weights,
    digest_of_weights,
    verify,
)
from quant.checkpoint.run import run
from quant.errors import QuantError
from quant.schemes import NF4
from tests.checkpoints import flip
from tests.unit.checkpoint.files import SHARDS, layer_tensors, plan_of, write_sharded


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("manifest")
    checkpoint = open_checkpoint(write_sharded(base / "model", layer_tensors()))
    run(plan_of(checkpoint, NF4()), checkpoint, base / "out")
    return base / "out"


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(made, tmp_path / "out")


def test_an_intact_folder_is_proved(folder: Path) -> None:
    size = sum(path.stat().st_size for path in folder.iterdir() if path.name != MANIFEST)
    assert verify(folder) == Verified(files=5, tensors=8, nbytes=size, made_by="quant 0.1.0")


def test_the_sums_are_sha_256(folder: Path) -> None:
    files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    assert set(files) == {path.name for path in folder.iterdir()} - {MANIFEST}
    for name, entry in files.items():
        content = (folder / name).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    for shard in SHARDS:
        content, header = (folder / shard).read_bytes(), read_header(folder / shard)
        assert files[shard]["header_sha256"] == hashlib.sha256(content[: header.data_start]).hexdigest()
        assert files[shard]["tensors"] == {
            name: hashlib.sha256(content[tensor.start : tensor.start + tensor.nbytes]).hexdigest()
            for name, tensor in header.tensors.items()
        }


def test_a_flipped_bit_anywhere_in_the_data_is_found_with_its_tensor(folder: Path) -> None:
    """First and last byte of every tensor."""
    for shard in SHARDS:
        for name, tensor in read_header(folder / shard).tensors.items():
            for position in (tensor.start, tensor.start + tensor.nbytes - 1):
                flip(folder / shard, position)
                with pytest.raises(QuantError, match=rf"{shard}: tensor {name} differs from {MANIFEST}"):
                    verify(folder)
                flip(folder / shard, position)
    assert verify(folder).files == 5


def test_a_flipped_bit_anywhere_in_a_header_is_found(folder: Path) -> None:
    path = folder / SHARDS[0]
    for position in range(read_header(path).data_start):
        flip(path, position)
        with pytest.raises(QuantError, match=SHARDS[0]):
            verify(folder)
        flip(path, position)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", INDEX])
def test_a_flipped_bit_in_a_small_file_is_found(folder: Path, name: str) -> None:
    flip(folder / name, 0)
    with pytest.raises(QuantError, match=rf"{name}: its content differs from {MANIFEST}"):
        verify(folder)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a missing shard": (lambda f: (f / SHARDS[1]).unlink(), rf"{SHARDS[1]} is missing"),
    "a missing small file": (lambda f: (f / "tokenizer.json").unlink(), r"tokenizer\.json is missing"),
    "a byte too few": (
        lambda f: (f / SHARDS[1]).write_bytes((f / SHARDS[1]).read_bytes()[:-1]),
        rf"{SHARDS[1]} has \d+ bytes instead of \d+",
    ),
    "a byte too many": (
        lambda f: (f / SHARDS[1]).write_bytes((f / SHARDS[1]).read_bytes() + b"\0"),
        rf"{SHARDS[1]} has \d+ bytes instead of \d+",
    ),
    "another weight file": (
        lambda f: save_file(layer_tensors(), f / "model.safetensors"),
        rf"model\.safetensors is not in {MANIFEST}: it was added later",
    ),
    "a pickle": (lambda f: (f / "pytorch_model.bin").touch(), rf"pytorch_model\.bin is not in {MANIFEST}"),
    "an adapter": (lambda f: (f / "adapter_config.json").touch(), rf"adapter_config\.json is not in {MANIFEST}"),
    "shards that were swapped": (
        lambda f: [
            (f / SHARDS[0]).rename(f / "x"),
            (f / SHARDS[1]).rename(f / SHARDS[0]),
            (f / "x").rename(f / SHARDS[1]),
        ],
        f"{SHARDS[0]} has",
    ),
    "no manifest": (lambda f: (f / MANIFEST).unlink(), f"{MANIFEST} is missing: only folders that quant"),
    "no JSON": (lambda f: (f / MANIFEST).write_text("{"), f"{MANIFEST} is not valid JSON"),
    "a list": (lambda f: (f / MANIFEST).write_text("[]"), f"{MANIFEST} is of format None"),
    "a later format": (
        lambda f: (f / MANIFEST).write_text('{"format_version": 2}'),
        f"{MANIFEST} is of format 2, this version reads 1: update quant",
    ),
    "no files": (lambda f: (f / MANIFEST).write_text('{"format_version": 1}'), f"{MANIFEST} is damaged"),
    "no folder": (shutil.rmtree, "out: no such folder"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE)
def test_what_is_not_as_it_was_written_is_named(folder: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(folder)
    with pytest.raises(QuantError, match=message):
        verify(folder)


def change_entry(folder: Path, name: str, entry: object) -> None:
    content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    content["files"][name] = entry
    (folder / MANIFEST).write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("config.json", {"bytes": 3}),
        ("config.json", [3]),
        (SHARDS[0], {"bytes": 3, "sha256": ""}),
        ("../secret.json", {"bytes": 3, "sha256": ""}),
    ],
    ids=["no sum", "a list", "no tensors", "another folder"],
)
def test_a_manifest_of_another_form_is_refused(folder: Path, name: str, entry: object) -> None:
    change_entry(folder, name, entry)
    with pytest.raises(QuantError, match=f"{MANIFEST} is damaged"):
        verify(folder)


def test_a_tensor_that_the_manifest_lacks_is_named(folder: Path) -> None:
    content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    entry = content["files"][SHARDS[0]]
    entry["tensors"] = {**entry["tensors"], "another": ""}
    change_entry(folder, SHARDS[0], entry)
    with pytest.raises(QuantError, match=f"{SHARDS[0]}: its content differs"):
        verify(folder)
    del entry["tensors"]["another"], entry["tensors"]["first.weight"]
    change_entry(folder, SHARDS[0], entry)
    with pytest.raises(QuantError, match=rf"{SHARDS[0]}: tensor first\.weight differs"):
        verify(folder)


def test_files_that_hold_no_weights_may_be_added(folder: Path) -> None:
    (folder / "README.md").touch()
    assert verify(folder).files == 5


def test_progress_ends_at_its_total(folder: Path) -> None:
    calls: list[tuple[int, int]] = []
    verified = verify(folder, lambda done, total: calls.append((done, total)))
    assert calls[-1] == (verified.nbytes, verified.nbytes)


def test_a_file_that_cannot_be_read_is_named_with_the_reason(folder: Path) -> None:
    header = read_header(folder / SHARDS[0])
    header.path.unlink()
    with pytest.raises(QuantError, match=rf"{SHARDS[0]} cannot be read \(No such file.*check the disk"):
        describe_weights(header)
    with pytest.raises(QuantError, match=rf"{SHARDS[0]} cannot be read \(No such file.*check the disk"):
        describe_file(header.path)


def test_the_digest_of_weights_is_of_the_tensors_and_not_of_the_files(tmp_path: Path) -> None:
    tensors = layer_tensors()
    sharded = open_checkpoint(write_sharded(tmp_path / "sharded", tensors))
    (tmp_path / "single").mkdir()
    save_file(tensors, tmp_path / "single" / "model.safetensors")
    assert digest_of_weights(sharded) == digest_of_weights(open_checkpoint(tmp_path / "single"))


@pytest.mark.parametrize("change", ["a bit", "a name", "a shape", "a dtype"])
def test_the_digest_of_weights_sees_any_other_tensor(change: str, tmp_path: Path) -> None:
    def digest(tensor: torch.Tensor, name: str = "weight") -> str:
        save_file({name: tensor}, tmp_path / "model.safetensors")
        return digest_of_weights(open_checkpoint(tmp_path))

    tensor = torch.arange(8, dtype=torch.int16).view(2, 4)
    other = {
        "a bit": lambda: digest(tensor ^ torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.int16)),
        "a name": lambda: digest(tensor, "weights"),
        "a shape": lambda: digest(tensor.view(4, 2)),
        "a dtype": lambda: digest(tensor.view(torch.bfloat16)),
    }
    assert digest(tensor) == digest(tensor.clone()) != other[change]()
