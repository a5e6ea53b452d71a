"""The subject split over devices by accelerate: the codes and the logits of the model in one place.

accelerate brings a layer that is kept elsewhere to the device that computes, so every layer meets the operands it meets
unsplit, in the same kernels. In a rehearsal both devices are the CPU.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils.modeling import get_state_dict_offloaded_model
from transformers import AutoModelForCausalLM

import quant
from quant.gated_model import GatedModel
from quant.integrations.transformers import quiet_transformers
from tests.gpu.needing import NeedsCuda

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:Current model requires:UserWarning")]

CONFIGS = [quant.W8A16Config(), quant.NF4Config(), quant.NF4Config(double_quant=True)]
TOKENS = 64


def split(layers: int, first: str, second: str) -> dict[str, str]:
    """The first half of the layers and what stands before them on `first`, the rest on `second`."""
    blocks = {f"model.layers.{index}": first if 2 * index < layers else second for index in range(layers)}
    ends = {"model.embed_tokens": first, "model.rotary_emb": first, "model.norm": second, "lm_head": second}
    return ends | blocks


def load(folder: Path, config: Any, device_map: Any) -> Any:
    with quiet_transformers():
        return AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, device_map=device_map, offload_buffers=True, quantization_config=config
        ).eval()


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=ids).logits.cpu()
    return found


def assert_same(model: Any, other: Any, ids: torch.Tensor) -> None:
    """Every tensor, from wherever accelerate keeps it, and the logits."""
    here, there = (get_state_dict_offloaded_model(each) for each in (model, other))
    assert here.keys() == there.keys() == model.state_dict().keys()
    assert all(torch.equal(here[name], there[name]) for name in here)
    assert torch.equal(logits(model, ids), logits(other, ids))


@pytest.mark.parametrize("config", CONFIGS, ids=["w8a16", "nf4", "nf4-dq"])
def test_a_model_split_over_devices_computes_as_in_one_place(
    config: Any, gated_model: GatedModel, device: torch.device, needs_cuda: NeedsCuda
) -> None:
    folder, layers = gated_model.source.folder, gated_model.source.config.num_hidden_layers
    ids = gated_model.windows.ids[None, :TOKENS].to(device)
    whole = load(folder, config, {"": str(device)})
    assert_same(whole, load(folder, config, split(layers, str(device), "cpu")), ids)
    if needs_cuda("two GPUs", gpus=2):
        assert_same(whole, load(folder, config, split(layers, "cuda:0", "cuda:1")), ids)
