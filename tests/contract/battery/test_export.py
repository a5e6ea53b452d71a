"""`torch.export` of quantized layers and models: a program of the package's ops with the bits of eager, for any number
of rows.
"""

import io

import torch
from torch import Tensor, nn

from quant import W8A16, quantize
from quant.modules import quantized_linear
from quant.schemes import Scheme
from tests.models import Layers, seeded
from tests.strategies import bits, normal

ROWS = torch.export.Dim("rows", min=2, max=4096)


def quant_ops(program: torch.export.ExportedProgram) -> list[str]:
    """The package's ops in a program, in order."""
    return [str(node.target) for node in program.graph.nodes if str(node.target).startswith("quant.")]


def op_of(scheme: Scheme) -> str:
    return "quant.w8a16_linear.default" if scheme == W8A16() else "quant.blockwise_linear.default"


def test_a_layer_is_one_op_for_any_number_of_rows(scheme: Scheme) -> None:
    layer = quantized_linear(seeded(lambda: nn.Linear(48, 20)), scheme)
    program = torch.export.export(layer, (normal((3, 48)),), dynamic_shapes=({0: ROWS},))
    assert quant_ops(program) == [op_of(scheme)]
    for rows in (2, 3, 5, 33):
        x = normal((rows, 48), seed=rows)
        assert bits(program.module()(x)) == bits(layer(x)), rows


def test_a_model_survives_being_saved(scheme: Scheme) -> None:
    model = seeded(Layers).eval()
    quantize(model, scheme)
    ids = torch.arange(6).view(2, 3)
    stored = io.BytesIO()
    torch.export.save(torch.export.export(model, (ids,)), stored)
    stored.seek(0)
    program = torch.export.load(stored)
    assert quant_ops(program) == [op_of(scheme)] * 2  # lm_head stays a float
    assert bits(program.module()(ids)) == bits(model(ids))


def test_the_program_keeps_codes_and_no_float_weight(scheme: Scheme) -> None:
    layer = quantized_linear(seeded(lambda: nn.Linear(48, 20)), scheme)
    program = torch.export.export(layer, (normal((3, 48)),))
    tensors: dict[str, Tensor] = {**program.state_dict, **program.constants}
    assert {name: tensor.dtype for name, tensor in tensors.items() if name in layer.state_dict()} == {
        name: tensor.dtype for name, tensor in layer.state_dict().items()
    }
    assert max(tensor.numel() for tensor in tensors.values() if tensor.is_floating_point()) < 20 * 48
