"""The formats on a trained model's own weights, layer by layer.

The layers are those that `quant.quantize` would convert. A difference between two formats has an interval over the
layer's blocks, resampled as if they were independent, which neighbours in a trained weight need not be: it says how far
the result hangs on single blocks, not what another training run would give.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy import stats
from torch import Tensor

from quant.linears import read_linear
from quant.selection import select
from quant.study.distributions import Array
from quant.study.errors import against, square_sum
from quant.study.formats import FORMATS, restore
from quant.study.intervals import decibels, interval
from quant.study.records import Layer
from quant.study.settings import Settings


def weights_of(model: Any) -> Iterator[tuple[str, Tensor]]:
    """(name, weight [out, in] in float32) of every layer that is quantized by default: of a float32 model the weight
    itself, which can be changed.
    """
    for name in select(model).chosen:
        yield name, read_linear(model.get_submodule(name)).weight.detach().float()


def measure_layer(name: str, weight: Tensor, settings: Settings) -> list[Layer]:
    """A record for every block size. weight: float32 [out, in], a whole number of blocks of each."""
    kurtosis = float(stats.kurtosis(weight.double().flatten().numpy()))
    signal = square_sum(weight)
    layers = []
    for block_size in settings.block_sizes:
        errors = {form: restore(weight, form, block_size).values - weight for form in FORMATS}
        sqnr = {form: float(decibels(np.array(square_sum(error) / signal))) for form, error in errors.items()}
        nf4, int4 = (_by_block(errors[form], block_size) for form in ("nf4", "int4"))
        bounds = tuple(interval(against, settings.resamples, nf4, int4)[:, 0].tolist())
        difference = float(against(nf4, int4)[0])
        layers.append(Layer(name, block_size, weight.numel(), kurtosis, sqnr, difference, bounds))
    return layers


def _by_block(error: Tensor, block_size: int) -> Array:
    """float64 [blocks, 1]: squared error of each block."""
    summed: Array = error.reshape(-1, block_size).double().square_().sum(dim=1, keepdim=True).numpy()
    return summed
