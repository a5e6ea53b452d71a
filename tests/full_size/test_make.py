"""A checkpoint that the script writes loads completely, computes sensibly, is reproducible and never half of one."""

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from quant.errors import QuantError
from quant.integrations.transformers import quiet_transformers
from tests.full_size import make
from tests.full_size.make import PIECE, write_checkpoint
from tests.full_size.phi3 import phi3_config, phi3_shapes
from tests.full_size.weights import Weight


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_nothing_is_missing_or_unexpected_and_logits_are_finite(checkpoint: Path) -> None:
    with quiet_transformers():
        model, info = AutoModelForCausalLM.from_pretrained(checkpoint, output_loading_info=True)
    assert not any(info.values()), info
    assert model.dtype == torch.bfloat16
    with torch.no_grad():
        logits = model(torch.arange(3, 40)[None]).logits
    assert bool(logits.isfinite().all())
    assert logits.argmax(-1).unique().numel() > 1


def test_hidden_states_stay_within_what_bfloat16_resolves_through_all_layers(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, phi3_config(shrink=32))
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.no_grad():
        states = model(torch.arange(3, 40)[None], output_hidden_states=True).hidden_states
    sizes = [float(state.float().square().mean().sqrt()) for state in states]
    assert len(sizes) == 33
    assert min(sizes) > 0.01
    assert max(sizes) < 100
    assert sizes[:-1] == sorted(sizes[:-1])  # the residual grows with depth; the last is normalized


def test_the_same_seed_gives_the_same_bytes_for_any_number_of_workers(checkpoint: Path, tmp_path: Path) -> None:
    config = phi3_config(layers=2, shrink=16)
    write_checkpoint(tmp_path / "one", config, workers=1)
    write_checkpoint(tmp_path / "other", config, seed=1)
    assert contents(tmp_path / "one") == contents(checkpoint)
    assert contents(tmp_path / "other")["model.safetensors"] != contents(checkpoint)["model.safetensors"]


def test_shards_are_listed_in_an_index_and_hold_the_values_of_a_single_file(checkpoint: Path, tmp_path: Path) -> None:
    config = phi3_config(layers=2, shrink=16)
    size = write_checkpoint(tmp_path, config, largest_shard="1MB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(files) > 2
    assert sorted(set(index["weight_map"].values())) == files
    assert list(index["weight_map"]) == list(phi3_shapes(config))
    assert index["metadata"]["total_size"] == size
    with safe_open(checkpoint / "model.safetensors", "pt") as whole:
        for name, file in index["weight_map"].items():
            with safe_open(tmp_path / file, "pt") as shard:
                assert torch.equal(shard.get_tensor(name), whole.get_tensor(name)), name


def test_the_full_size_is_written_in_small_pieces_that_cover_every_row() -> None:
    config = phi3_config()
    weights = [Weight(name, shape, config.num_hidden_layers, 0) for name, shape in phi3_shapes(config).items()]
    pieces: dict[str, list[tuple[int, int]]] = {}
    for weight, first, last in make._pieces(weights):
        assert 0 < (last - first) * torch.Size(weight.shape[1:]).numel() <= PIECE
        pieces.setdefault(weight.name, []).append((first, last))
    for weight in weights:
        firsts, lasts = zip(*pieces[weight.name], strict=True)
        assert (0, *lasts) == (*firsts, weight.shape[0])


def test_pieces_land_in_their_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make, "PIECE", 5000)
    config = phi3_config(layers=1, shrink=32)
    write_checkpoint(tmp_path, config)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        for name, shape in phi3_shapes(config).items():
            weight = Weight(name, shape, 1, seed=0)
            pieces = [weight.rows(first, last) for _, first, last in make._pieces([weight])]
            assert len(pieces) > 1 or shape[0] == 96
            assert torch.equal(file.get_tensor(name), torch.cat(pieces)), name


def test_the_full_size_has_the_published_shards() -> None:
    shards, index = make._shards(phi3_shapes(phi3_config()), make.SHARD)
    assert list(shards) == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert index["metadata"]["total_size"] == 7_642_159_104


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(QuantError, match="is not empty"):
        write_checkpoint(tmp_path, phi3_config(layers=1, shrink=32))
    assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_what_was_interrupted_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(weight: Weight, first: int, last: int) -> torch.Tensor:
        raise KeyboardInterrupt

    monkeypatch.setattr(Weight, "rows", stop)
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path, phi3_config(layers=1, shrink=32))
    assert list(contents(tmp_path)) == ["model.safetensors"]


def test_the_command_line_writes_and_tells_and_refuses_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    folder = str(tmp_path / "new")
    monkeypatch.setattr(sys, "argv", ["make", folder, "--layers", "1", "--shrink", "32"])
    make.main()
    assert capsys.readouterr().out.startswith(f"{folder}: 0.00 billion weights")
    with pytest.raises(SystemExit, match="is not empty"):
        make.main()
    monkeypatch.setattr(sys, "argv", ["make", folder, "--shrink", "5"])
    with pytest.raises(SystemExit, match="--shrink 5"):
        make.main()
