"""Faults of modules and models (M1 to M10) in the parts that no other test holds."""

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_model
from torch import Tensor, nn

import quant
from quant import conversion_report
from quant.modules import QuantizedLinear
from quant.schemes import NF4, W8A16, Scheme
from tests.models import seeded
from tests.strategies import bits, normal, scheme_id


class Repeated(nn.Module):
    """One block three times in a list, and its first layer under a name of its own."""

    def __init__(self) -> None:
        super().__init__()
        block = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))
        self.blocks = nn.ModuleList([block, block, block])
        self.alias = block[0]

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


@pytest.mark.parametrize("scheme", [W8A16(), NF4(32)], ids=scheme_id)
def test_m7_a_block_that_is_used_three_times_is_quantized_and_saved_once(scheme: Scheme, tmp_path: Path) -> None:
    model = quant.quantize(seeded(Repeated), scheme)
    assert isinstance(model, Repeated)
    first, second, third = model.blocks
    assert first is second is third
    assert model.get_submodule("alias") is first.get_submodule("0")
    assert isinstance(model.get_submodule("alias"), QuantizedLinear)
    assert conversion_report(model).converted == ("blocks.0.0", "blocks.0.2")
    alone = quant.quantize(nn.Sequential(seeded(Repeated).blocks[0]), scheme)
    x = expected = normal((3, 16), seed=1)
    for _ in range(3):
        expected = expected + alone(expected)
    assert bits(model(x)) == bits(expected)
    save_model(model, str(tmp_path / "model.safetensors"))
    stored = load_file(tmp_path / "model.safetensors")
    assert len(stored) == len(model.blocks[0].state_dict())
    quant.dequantize(model)
    assert model.blocks[0] is model.blocks[2]
    assert type(model.get_submodule("alias")) is nn.Linear
    assert model.get_submodule("alias") is model.get_submodule("blocks.1.0")
