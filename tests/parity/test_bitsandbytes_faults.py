"""What bitsandbytes 0.50 and transformers get wrong about its models on the CPU, and what becomes of it here.

Each fault is a strict xfail of its own with the smallest reproduction: once it is repaired the test turns red, and what
stands here to get around it can go. What reads their files is tested beside it: refused, read right, or passed on.

Those of repacked weights can be seen on CPUs with AVX512-BF16 only, and are skipped on others: a release that repairs
them turns the suite red on such a machine.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitsandbytes.functional as bnb
import pytest
import torch
from bitsandbytes.nn import Linear4bit
from torch import nn
from transformers import BitsAndBytesConfig

import quant
from quant import NF4, QuantError
from quant.checkpoint_conversion import convert_checkpoint
from tests.models import snapshot, tokens
from tests.parity.checkpoints import assert_same_weights, load, load_theirs, their_weight
from tests.strategies import bits, normal

needs_repacking = pytest.mark.skipif(
    not bnb.has_avx512bf16(), reason="only on CPUs with AVX512-BF16 does bitsandbytes repack weights"
)


def their_layer(out_features: int = 64, in_features: int = 128, double: bool = False) -> Any:
    """`Linear4bit` in bfloat16, quantized, about to be used."""
    layer = Linear4bit(in_features, out_features, bias=False, quant_type="nf4", compress_statistics=double)
    layer.to(torch.bfloat16).load_state_dict({"weight": normal((out_features, in_features)).bfloat16()})
    return layer.to("cpu").eval()


@needs_repacking
@pytest.mark.xfail(strict=True, raises=AssertionError, reason="absmax become bfloat16, or are quantized from bfloat16")
@pytest.mark.parametrize("double", [False, True], ids=["plain", "double"])
def test_a_forward_leaves_the_state(double: bool) -> None:
    """The first forward repacks the weight in place, and `state_dict()` unpacks the codes but not the absmax."""
    layer = their_layer(double=double)
    before = {name: bits(tensor.flatten()) for name, tensor in layer.state_dict().items()}
    with torch.no_grad():
        layer(normal((1, 128)).bfloat16())
    assert {name: bits(tensor.flatten()) for name, tensor in layer.state_dict().items()} == before


@needs_repacking
@pytest.mark.xfail(strict=True, raises=AssertionError, reason="state_dict() leaves codes and absmax in two layouts")
def test_asking_for_the_state_leaves_the_outputs() -> None:
    """They move by 14 % of themselves."""
    layer, x = their_layer(), normal((1, 128)).bfloat16()
    with torch.no_grad():
        y = layer(x)
        layer.state_dict()
        assert bits(layer(x)) == bits(y)


@needs_repacking
@pytest.mark.xfail(strict=True, raises=AssertionError, reason="dequantize_4bit does not know of the repacked layout")
def test_the_weight_of_a_used_layer_is_dequantized_as_before() -> None:
    layer = their_layer()
    before = their_weight(layer)
    with torch.no_grad():
        layer(normal((1, 128)).bfloat16())
    assert bits(their_weight(layer)) == bits(before)


@needs_repacking
@pytest.mark.xfail(strict=True, raises=AssertionError, reason="the repacked layout has tiles of 32 rows")
def test_any_number_of_rows() -> None:
    with torch.no_grad():
        assert their_layer(out_features=33)(normal((1, 128)).bfloat16()).shape == (1, 33)


LOADED: dict[str, Callable[[Path], Any]] = {
    "nf4": lambda folder: load_theirs(folder, torch.bfloat16),
    "nf4 double": lambda folder: load_theirs(folder, torch.bfloat16, double=True),
    "int8": lambda folder: load(folder, quantization_config=BitsAndBytesConfig(load_in_8bit=True)),
}


@pytest.mark.xfail(strict=True, raises=NotImplementedError, reason="what reads their tensors cannot be reversed")
@pytest.mark.parametrize("kind", LOADED)
def test_a_reloaded_model_is_saved_again(kind: str, float_folder: Path, tmp_path: Path) -> None:
    LOADED[kind](float_folder).save_pretrained(tmp_path / "saved")
    load(tmp_path / "saved").save_pretrained(tmp_path / "again")


@pytest.mark.xfail(strict=True, raises=RuntimeError, reason="saving leaves the name of the dtype in its place")
@pytest.mark.parametrize("kind", LOADED)
def test_a_saved_model_is_dequantized(kind: str, float_folder: Path, tmp_path: Path) -> None:
    theirs = LOADED[kind](float_folder)
    theirs.save_pretrained(tmp_path)
    theirs.dequantize()


@pytest.mark.parametrize("kind", LOADED)
def test_a_model_that_was_not_saved_is_dequantized(kind: str, float_folder: Path) -> None:
    """So it is saving that the test above finds."""
    theirs = LOADED[kind](float_folder).dequantize()
    assert type(theirs.model.layers[0].mlp.down_proj) is nn.Linear


@pytest.mark.parametrize("kind", LOADED)
def test_a_model_of_theirs_is_not_quantized_again(kind: str, float_folder: Path) -> None:
    """Nor is a single layer of theirs among float ones."""
    theirs = LOADED[kind](float_folder)
    before = snapshot(theirs)
    with pytest.raises(QuantError, match=r"^model\.layers\.0\..* is quantized by bitsandbytes: load"):
        quant.quantize(theirs, NF4())
    assert snapshot(theirs) == before
    mixed = nn.Sequential(nn.Linear(16, 128), their_layer())
    before = snapshot(mixed)
    with pytest.raises(QuantError, match=r"^1 is quantized by bitsandbytes: load the float model instead"):
        quant.quantize(mixed, NF4())
    assert snapshot(mixed) == before


@needs_repacking
@pytest.mark.parametrize(
    ("dtype", "double", "message"),
    [
        (torch.float32, False, r"weight\.absmax is torch\.bfloat16 of shape \[\d+, \d+\]: .*AVX512-BF16 before"),
        (torch.bfloat16, False, r"weight\.absmax is torch\.bfloat16 of shape \[\d+, \d+\]: .*AVX512-BF16 before"),
        (torch.bfloat16, True, r"bitsandbytes__nf4: the absmax were quantized from bfloat16, .*AVX512-BF16"),
    ],
    ids=["float32", "bfloat16", "bfloat16 double"],
)
def test_what_is_saved_after_a_forward_on_a_cpu_with_avx512_bf16_is_refused(
    float_folder: Path, tmp_path: Path, dtype: torch.dtype, double: bool, message: str
) -> None:
    theirs = load_theirs(float_folder, dtype, double=double)
    with torch.no_grad():
        theirs(tokens())
    theirs.save_pretrained(tmp_path / "theirs")
    with pytest.raises(QuantError, match=message):
        convert_checkpoint(str(tmp_path / "theirs"), tmp_path / "ours", "quant")
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]


@needs_repacking
def test_double_quantization_in_float32_hides_that_absmax_were_quantized_again(
    float_folder: Path, tmp_path: Path
) -> None:
    """Then the checkpoint is sound but not the model that it was saved from: it is converted as what it is."""
    theirs = load_theirs(float_folder, torch.float32, double=True)
    before = their_weight(theirs.model.layers[0].mlp.down_proj)
    with torch.no_grad():
        theirs(tokens())
    theirs.save_pretrained(tmp_path / "theirs")
    convert_checkpoint(str(tmp_path / "theirs"), tmp_path / "ours", "quant")
    ours, theirs = load(tmp_path / "ours"), load(tmp_path / "theirs")
    assert_same_weights(ours, theirs, 8)
    assert not torch.equal(ours.model.layers[0].mlp.down_proj.quantized_weight.dequantize(), before)


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() != "AVX512", reason="of their AVX-512 kernel")
@pytest.mark.xfail(strict=True, raises=AssertionError, reason="blocks that run over the ends of rows")
def test_their_cpu_kernel_reads_blocks_that_run_over_the_ends_of_rows() -> None:
    """So on such CPUs a model with rows of 32 in blocks of 64 is another one there; the files are right."""
    weight = normal((96, 32))
    packed, state = bnb.quantize_4bit(weight, blocksize=64, quant_type="nf4")
    assert torch.equal(bnb.dequantize_4bit(packed, state), quant.quantize_tensor(weight, NF4()).dequantize())
