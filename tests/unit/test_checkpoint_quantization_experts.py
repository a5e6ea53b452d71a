"""A mixture of experts is stored by other names than its model has: it is refused, and both ways out that the message
names lead to the model that was quantized in memory.
"""

from pathlib import Path

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM

from quant.checkpoint_quantization import quantize_checkpoint
from quant.convert import quantize
from quant.errors import QuantError
from quant.schemes import NF4
from tests.checkpoints import config_for, load, save
from tests.models import VOCAB_SIZE, seeded, tokens
from tests.unit.folders import check_equal


@pytest.fixture
def mixtral(tmp_path: Path) -> Path:
    """Two experts in one layer, as save_pretrained leaves it."""
    config = MixtralConfig(
        vocab_size=VOCAB_SIZE, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=2, num_experts_per_tok=1, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return save(seeded(lambda: MixtralForCausalLM(config)), tmp_path / "mixtral")


def test_experts_that_are_stored_apart_are_refused_and_the_ways_out_work(mixtral: Path, tmp_path: Path) -> None:
    message = r"has no tensor model\.layers\.0\.mlp\.\S+: .*save_original_format=False.*quantization_config=\.\.\.\)"
    with pytest.raises(QuantError, match=message):
        quantize_checkpoint(str(mixtral), tmp_path / "out", "nf4")
    in_memory = load(mixtral)
    quantize(in_memory, NF4())

    again = save(load(mixtral), tmp_path / "again", save_original_format=False)
    made = quantize_checkpoint(str(again), tmp_path / "out", "nf4")
    on_disk = load(tmp_path / "out")
    on_load = load(mixtral, quantization_config=config_for(NF4()))
    assert len(made.assignment.schemes) == 4
    for model in (on_disk, on_load):
        check_equal(model.state_dict(), in_memory.state_dict())
        assert torch.equal(model(tokens()).logits, in_memory(tokens()).logits)
