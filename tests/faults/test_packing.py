"""Faults of packing and layout (P1 to P7) in the parts that no other test holds."""

import functools

import pytest
import torch
from torch import nn

from quant.modules import quantized_linear
from quant.schemes import FP4, INT4, NF4, W8A16, Blockwise
from tests import integer_oracle, oracle
from tests.models import seeded
from tests.strategies import bits, normal, scheme_id


def test_p5_compiled_layers_of_odd_widths_have_the_bits_of_eager(nothing_compiled: None) -> None:
    for out_features, in_features, scheme in ((1, 65, W8A16()), (65, 17, NF4(32)), (129, 33, W8A16())):
        layer = quantized_linear(seeded(functools.partial(nn.Linear, in_features, out_features)), scheme)
        compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
        for rows in (1, 33):
            x = normal((rows, in_features), seed=rows)
            assert bits(compiled(x)) == bits(layer(x)), (out_features, in_features, rows)


@pytest.mark.parametrize("in_features", [96, 192, 288])
@pytest.mark.parametrize("scheme", [NF4(64), FP4(128), INT4(4096)], ids=scheme_id)
def test_p6_blocks_that_run_over_the_ends_of_rows_are_read_as_written(scheme: Blockwise, in_features: int) -> None:
    """The weight is the oracle's, so quantizing and multiplying cannot agree on a wrong division into blocks."""
    linear = seeded(lambda: nn.Linear(in_features, 5, bias=False))
    flat, levels = linear.weight.detach().reshape(-1).tolist(), oracle.LEVELS[scheme.name]
    codes, absmax = oracle.quantize_blocks(flat, levels, scheme.block_size)
    values = oracle.dequantize_blocks(codes, absmax, levels, scheme.block_size)
    weight = [values[start : start + in_features] for start in range(0, len(values), in_features)]
    layer, x = quantized_linear(linear, scheme), normal((33, in_features), seed=2)
    for rows in (1, 33):
        y = layer(x[:rows]).tolist()
        level_error = integer_oracle.LEVEL_ERROR[scheme.name]
        assert oracle.linear_error(y, x[:rows].tolist(), weight, level_error=level_error) <= 1
