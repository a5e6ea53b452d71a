"""Sizes to the byte: what is loaded is what `quant inspect` predicts from the configuration, and all of it is on the
device.
"""

import pytest
import torch

from quant.evaluate.footprint import Footprint
from quant.gated_model import GatedModel
from quant.inspection import inspect_model, size_model
from quant.integrations.transformers import build_on_meta
from quant.variants import BASELINE
from tests.gpu.measuring import SCHEMES, Run
from tests.gpu.needing import NeedsCuda
from tests.gpu.references import parameter_bytes_of

pytestmark = pytest.mark.gpu

LIKE = {"bnb-int8": "w8a16", "bnb-fp4": "fp4", "bnb-nf4": "nf4"}
"""The scheme of ours that stores as much: bitsandbytes cannot quantize a model without values."""
TABLE_BYTES = {"bnb-fp4": 64 - 4, "bnb-nf4": 64 - 4}
"""Of each layer: bitsandbytes has the 16 levels in float32 beside codes and absmax, and ours a tag of the format."""


def predicted(scheme: str, gated_model: GatedModel) -> Footprint:
    """The size of the subject as `scheme`, from its configuration; bitsandbytes' as ours."""
    model = build_on_meta(gated_model.source.config, torch.float32)
    if scheme == BASELINE:
        return inspect_model(model).size
    after = size_model(model, gated_model.name, "float32", LIKE.get(scheme, scheme)).after
    assert after is not None
    return after.size


@pytest.mark.parametrize("scheme", [BASELINE, *SCHEMES])
def test_what_is_loaded_is_what_inspect_predicts(
    scheme: str, run: Run, gated_model: GatedModel, model_name: str
) -> None:
    size, expected = run.of(scheme).size, predicted(scheme, gated_model)
    tables = TABLE_BYTES.get(scheme, 0) * run.of(scheme).quantized_layers
    assert size.parameter_bytes == expected.parameter_bytes + tables
    assert size.buffer_bytes == expected.buffer_bytes
    assert size.parameter_bytes == parameter_bytes_of(model_name, scheme)


@pytest.mark.parametrize("scheme", [BASELINE, *SCHEMES])
def test_every_byte_is_on_the_device(scheme: str, run: Run, device: torch.device, needs_cuda: NeedsCuda) -> None:
    record = run.of(scheme)
    assert {place.type for place in record.places} == {device.type}
    if needs_cuda("bytes that torch allocates on the GPU"):
        assert record.requested_bytes == record.size.total_bytes
