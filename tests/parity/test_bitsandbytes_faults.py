"""What bitsandbytes gets wrong about 4-bit weights, and what becomes of it here: refused, read right, or passed on."""

from pathlib import Path

import bitsandbytes.functional as bnb
import pytest
import torch

import quant
from quant import NF4, QuantError
from quant.checkpoint_conversion import convert_checkpoint
from tests.models import tokens
from tests.parity.checkpoints import assert_same_weights, load, load_theirs, their_weight
from tests.strategies import normal

needs_repacking = pytest.mark.skipif(
    not bnb.has_avx512bf16(), reason="only on CPUs with AVX512-BF16 does bitsandbytes repack weights"
)


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
