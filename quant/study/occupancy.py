"""How often each code occurs in blocks of normal weights: counted in what the quantizer packs, and derived."""

import numpy as np
import torch
from torch import Tensor

from quant.study import expected
from quant.study.distributions import DISTRIBUTIONS, Array
from quant.study.errors import Advance
from quant.study.formats import PLAIN, scheme_of
from quant.study.intervals import interval
from quant.study.levels import cells
from quant.study.records import Code, Entropy
from quant.study.settings import Settings
from quant.tensor import quantize_tensor

NORMAL = DISTRIBUTIONS["normal"]


def count_codes(weight: Tensor, name: str, block_size: int) -> Array:
    """float64 [16]: how often each code of a plain format occurs in `weight` (float32, an even number), by code."""
    packed = quantize_tensor(weight, scheme_of(name, block_size)).codes
    codes = torch.cat([packed >> 4, packed & 0xF])
    counts: Array = torch.bincount(codes, minlength=16).double().numpy()
    return counts


def measure_occupancy(settings: Settings, advance: Advance) -> tuple[list[Code], list[Entropy]]:
    """The codes' frequencies and entropies at every block size; `advance` is called after each sample."""
    counts: dict[tuple[str, int], list[Array]] = {(n, b): [] for n in PLAIN for b in settings.block_sizes}
    for seed in range(settings.seeds):
        weight = torch.from_numpy(NORMAL.sample(settings.weights, seed))
        for (name, block_size), found in counts.items():
            found.append(count_codes(weight, name, block_size)[list(cells(name).codes)])
        advance()
    codes: list[Code] = []
    entropies: list[Entropy] = []
    for (name, block_size), found in counts.items():
        derived = expected.code_probabilities(cells(name), NORMAL, block_size)
        codes += _codes(name, block_size, derived, np.array(found), settings.resamples)
        entropies.append(_entropy(name, block_size, derived, np.array(found), settings.resamples))
    return codes, entropies


def _codes(name: str, block_size: int, derived: Array, counts: Array, resamples: int) -> list[Code]:
    """counts: float64 [samples, 16], ascending levels, as `derived` [16]."""
    sampled, bounds = _frequencies(counts), interval(_frequencies, resamples, counts)
    constructed = expected.constructed_probabilities(cells(name))
    return [
        Code(
            format=name,
            block_size=block_size,
            rank=rank,
            level=float(level),
            derived=float(derived[rank]),
            sampled=float(sampled[rank]),
            interval=tuple(bounds[:, rank].tolist()),
            constructed=float(constructed[rank]),
        )
        for rank, level in enumerate(cells(name).levels)
    ]


def _entropy(name: str, block_size: int, derived: Array, counts: Array, resamples: int) -> Entropy:
    def statistic(resampled: Array) -> Array:
        return np.array([expected.entropy_bits(resampled.sum(axis=0))])

    bounds = tuple(interval(statistic, resamples, counts)[:, 0].tolist())
    return Entropy(name, block_size, expected.entropy_bits(derived), float(statistic(counts)[0]), bounds)


def _frequencies(counts: Array) -> Array:
    frequencies: Array = counts.sum(axis=0) / counts.sum()
    return frequencies
