"""Faults of saving and loading (S1 to S7) in the parts that no other test holds."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

import quant
from quant.checkpoint.manifest import MANIFEST
from quant.checkpoint_quantization import quantize_checkpoint
from quant.errors import QuantError
from quant.modules import quantized_linear
from quant.schemes import NF4, W8A16, Scheme
from tests.checkpoints import contents, data_bytes, flip, load, logits, save, state
from tests.models import Layers, seeded, tiny_phi3, tokens
from tests.strategies import SCHEMES, bits, normal, scheme_id

FEW: tuple[Scheme, ...] = (W8A16(), NF4(double_quant=True))


class Fused(nn.Module):
    """Two layers whose weights are rows of one matrix, the second as a transposed view."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(48, 32, bias=False), nn.Linear(16, 48, bias=False)
        whole = normal((48, 48))
        self.first.weight = nn.Parameter(whole[:32])
        self.second.weight = nn.Parameter(whole[32:].t())


@pytest.mark.parametrize("scheme", FEW, ids=scheme_id)
def test_s4_views_of_one_storage_are_saved_as_what_they_are(scheme: Scheme, tmp_path: Path) -> None:
    """The codes are those of copies; safetensors takes them; its file holds them and nothing else of the storage."""
    model, whole = Fused(), normal((48, 48))
    quant.quantize(model, scheme)
    path = tmp_path / "model.safetensors"
    save_file(model.state_dict(), path)
    loaded = load_file(path)
    for name, weight in (("first", whole[:32].clone()), ("second", whole[32:].t().contiguous())):
        for part, expected in quant.quantize_tensor(weight, scheme).stored.items():
            assert bits(loaded[f"{name}.{part}"].reshape(-1)) == bits(expected.reshape(-1))
    kept = sum(tensor.untyped_storage().nbytes() for tensor in model.state_dict().values())
    assert kept == data_bytes(path) == scheme.storage_bytes(32, 48) + scheme.storage_bytes(48, 16)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quantized model in shards so small that codes and scales of a layer lie apart."""
    return save(quant.quantize(tiny_phi3(), NF4()), tmp_path_factory.mktemp("sharded"), max_shard_size="40KB")


INDEX = "model.safetensors.index.json"
SHARD = "model-00004-of-00008.safetensors"


def rewritten(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


def reindexed(folder: Path, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    content = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    content["weight_map"] = change(content["weight_map"])
    (folder / INDEX).write_text(json.dumps(content), encoding="utf-8")


DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing": lambda folder: (folder / SHARD).unlink(),
    "a byte too few": lambda folder: rewritten(folder / SHARD, lambda content: content[:-1]),
    "half": lambda folder: rewritten(folder / SHARD, lambda content: content[: len(content) // 2]),
    "empty": lambda folder: rewritten(folder / SHARD, lambda content: b""),
    "length": lambda folder: flip(folder / SHARD, 1),
    "header": lambda folder: flip(folder / SHARD, 20),  # the name of its metadata
    "left out of the index": lambda folder: reindexed(
        folder, lambda files: {name: file for name, file in files.items() if file != SHARD}
    ),
    "an older index": lambda folder: reindexed(
        folder, lambda files: {name: file.replace("00004", "00003") for name, file in files.items()}
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_s5_a_damaged_shard_of_a_quantized_model_does_not_load(
    sharded: Path, damage: Callable[[Path], object], tmp_path: Path
) -> None:
    """transformers reads the shards; what it passes over in silence is missed by us."""
    folder = shutil.copytree(sharded, tmp_path / "damaged")
    assert len(list(folder.glob("*.safetensors"))) == 8
    damage(folder)
    with pytest.raises((QuantError, SafetensorError, OSError)):
        load(folder)


def test_s5_swapped_shards_hold_the_same_tensors(sharded: Path, tmp_path: Path) -> None:
    """Each shard names what it holds, and that is what is read."""
    folder = shutil.copytree(sharded, tmp_path / "swapped")
    other = SHARD.replace("00004", "00005")
    (folder / SHARD).rename(folder / "x")
    (folder / other).rename(folder / SHARD)
    (folder / "x").rename(folder / other)
    assert state(load(folder)) == state(load(sharded))


def parts_of(model: nn.Module) -> dict[str, object]:
    """Every module's attributes by name, and every tensor's bits, non-persistent buffers included."""
    attributes: dict[str, object] = {name: sorted(vars(module)) for name, module in model.named_modules()}
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return attributes | {f"{name} bits": (t.dtype, t.device, bits(t.reshape(-1))) for name, t in tensors.items()}


@pytest.mark.parametrize("scheme", FEW, ids=scheme_id)
def test_s6_saving_changes_neither_the_model_nor_what_a_second_saving_writes(scheme: Scheme, tmp_path: Path) -> None:
    model = quant.quantize(tiny_phi3(), scheme)
    before, expected = parts_of(model), logits(model, tokens())
    saved = contents(save(model, tmp_path / "saved"))
    assert (parts_of(model), logits(model, tokens())) == (before, expected)
    assert contents(save(model, tmp_path / "saved")) == saved
    loaded = load(tmp_path / "saved")
    assert logits(loaded, tokens()) == expected
    tensors = {name: value for name, value in parts_of(loaded).items() if name.endswith(" bits")}
    assert tensors == {name: value for name, value in before.items() if name.endswith(" bits")}
    assert set(load_file(tmp_path / "saved" / "model.safetensors")) == set(model.state_dict())


def test_s6_a_checkpoint_is_not_written_over_another(tmp_path: Path) -> None:
    """Neither file by file, which leaves half of each after an interruption, nor as a whole."""
    folder = save(tiny_phi3(num_hidden_layers=1), tmp_path / "float")
    quantize_checkpoint(str(folder), tmp_path / "out", "nf4")
    before = contents(tmp_path / "out")
    with pytest.raises(QuantError, match="out"):
        quantize_checkpoint(str(folder), tmp_path / "out", "w8a16")
    assert contents(tmp_path / "out") == before
    assert MANIFEST in before


@pytest.mark.parametrize("scheme", SCHEMES, ids=scheme_id)
def test_s7_a_state_is_read_by_the_restricted_unpickler(scheme: Scheme) -> None:
    """`torch.load` refuses everything but plain tensors since 2.6: no class of ours may be among the values."""
    model = quant.quantize(seeded(Layers), scheme)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert {type(value) for value in loaded.values()} == {torch.Tensor}
    fresh = quant.quantize(seeded(Layers, seed=1), scheme)
    fresh.load_state_dict(loaded)
    ids = torch.arange(4)[None]
    assert bits(fresh(ids)) == bits(model(ids))


def test_s7_attributes_that_others_set_stay(tmp_path: Path) -> None:
    """Frameworks mark tensors and modules they have seen (`_is_hf_initialized`); that breaks neither saving nor use."""
    model: Any = quant.quantize(tiny_phi3(num_hidden_layers=1), W8A16())
    layer = model.model.layers[0].mlp.down_proj
    for marked in (layer, layer.weight, layer.weight_scale):
        marked._is_hf_initialized = marked.anything = True
    expected = logits(model, tokens())
    assert logits(load(save(model, tmp_path)), tokens()) == expected
    assert layer.weight.anything
    linear = nn.Linear(16, 8)
    linear.weight._is_hf_initialized = True  # type: ignore[attr-defined]
    assert quantized_linear(linear, W8A16()).quantized_weight.codes.shape == (8, 16)
