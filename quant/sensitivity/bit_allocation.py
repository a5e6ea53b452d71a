"""Which scheme each layer gets so that a model loses least for its bytes: all such plans, for losses that are known.

What layers lose is taken to add up, so this is a knapsack with one choice for each layer. Shoham and Gersho, "Efficient
bit allocation for an arbitrary set of quantizers" (IEEE Trans. ASSP 36(9), 1988), go along the convex hull of (bytes,
loss) and so pass over the plans between its corners. Dynamic programming over bytes, the "multiple-choice knapsack" of
Kellerer, Pferschy and Pisinger, "Knapsack Problems" (2004), finds those too: for each number of bytes the least loss of
the layers so far. It takes a second for two thousand layers, always as long, and gives the same plans everywhere, which
integer programming does not promise.

Bytes are counted in units of their greatest common divisor, so the plans are exact; where that would be more than
`CELLS` numbers, in larger ones, which moves the bytes of a plan by some hundred-thousandths of what can be saved.

A layer that seems to gain from being quantized counts as losing nothing, because that is noise. Choices that seem to
cost nothing are told apart by their KL divergence, which sees every change of the predictions: it is added with so
small a weight (`TIES`) that it decides where losses do not.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quant.schemes import Scheme
from quant.sensitivity import Sensitivity

CELLS = 20_000_000
"""Bytes of memory: one for each layer and number of units."""
TIES = 1e-6
"""Nats of loss that a nat of KL divergence counts for: a divergence of 1e-3 as a billionth."""


@dataclass(frozen=True)
class Choice:
    """What a layer may get: a scheme, or None for float. nbytes: of its weight then; loss, kl: nats per token by that
    alone.
    """

    scheme: Scheme | None
    nbytes: int
    loss: float
    kl: float = 0.0


@dataclass(frozen=True)
class Allocation:
    """schemes: (layer, scheme) of the layers that are quantized; bytes of all layers then, and the sum of losses."""

    schemes: tuple[tuple[str, Scheme], ...]
    nbytes: int
    loss: float


Choices = dict[str, list[Choice]]
"""Layer -> what it may get, float among it."""


def choices_of(layers: Sequence[Sensitivity]) -> Choices:
    """What measurements leave to choose from. A scheme that makes a token impossible is none: its loss or its
    KL divergence is infinite.

    Args:
        layers: one measurement for each layer and scheme.
    """
    choices: Choices = {}
    for one in layers:
        found = choices.setdefault(one.name, [Choice(None, one.bytes_before, 0.0)])
        loss, kl = one.loss_increase, one.accuracy.kl.value
        if math.isfinite(loss) and math.isfinite(kl):
            found.append(Choice(one.scheme, one.bytes_after, max(0.0, loss), kl))
    return choices


class Frontier:
    """The plans that lose least for their bytes.

    Args:
        choices: at least one layer, with float among its choices.
    """

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self._least_bytes = sum(min(one.nbytes for one in several) for several in choices.values())
        self._unit, self._spans = _in_units(choices)
        cells = sum(max(spans) for spans in self._spans) + 1
        self._taken = np.zeros((len(choices), cells), dtype=np.int8)
        prices, self._losses = np.full(cells, np.inf), np.zeros(cells)
        prices[0] = 0.0
        for layer, several in enumerate(choices.values()):
            prices, self._losses = self._with_layer(layer, several, prices, self._losses)
        self._best = _best_up_to(prices)

    def _with_layer(
        self, layer: int, several: Sequence[Choice], prices: npt.NDArray[np.float64], losses: npt.NDArray[np.float64]
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """The least price for each number of units, and the loss in it, with one more layer."""
        least, summed = np.full_like(prices, np.inf), np.zeros_like(losses)
        for place, (one, span) in enumerate(zip(several, self._spans[layer], strict=True)):
            # Sliced from the end, where a span of 0 would be all of it.
            before = slice(0, len(prices) - span)
            price = prices[before] + (one.loss + TIES * one.kl)
            less = price < least[span:]
            least[span:][less] = price[less]
            summed[span:][less] = losses[before][less] + one.loss
            self._taken[layer, span:][less] = place
        return least, summed

    def smallest(self, most_loss: float) -> Allocation:
        """The plan of the least bytes that loses `most_loss` nats at most, which is at least 0."""
        fitting = self._losses[self._best] <= most_loss
        return self._at(int(self._best[np.argmax(fitting)]))

    def within(self, most_bytes: int) -> Allocation:
        """The plan that loses least of those of `most_bytes` at most, or the smallest where none is as small."""
        units = max(0, most_bytes - self._least_bytes) // self._unit
        return self._at(int(self._best[min(units, len(self._best) - 1)]))

    def _at(self, units: int) -> Allocation:
        """The plan of exactly so many units above the least."""
        taken: list[tuple[str, Choice]] = []
        for layer, (name, several) in reversed(list(enumerate(self._choices.items()))):
            place = int(self._taken[layer, units])
            units -= self._spans[layer][place]
            taken.append((name, several[place]))
        schemes = tuple((name, one.scheme) for name, one in reversed(taken) if one.scheme is not None)
        return Allocation(schemes, sum(one.nbytes for _, one in taken), math.fsum(one.loss for _, one in taken))


def _in_units(choices: Choices) -> tuple[int, list[list[int]]]:
    """The bytes of a unit, and of each layer's choices the units above the smallest one."""
    above = [[one.nbytes - min(other.nbytes for other in several) for one in several] for several in choices.values()]
    most = max(1, CELLS // len(choices) - len(choices) - 1)
    finest = math.gcd(*(nbytes for several in above for nbytes in several)) or 1
    unit = max(finest, -(-sum(max(several) for several in above) // most))
    return unit, [[round(nbytes / unit) for nbytes in several] for several in above]


def _best_up_to(prices: npt.NDArray[np.float64]) -> npt.NDArray[np.intp]:
    """For each number of units the one up to it with the least price, the smallest of those."""
    least_before = np.concatenate(([np.inf], np.minimum.accumulate(prices)[:-1]))
    places = np.where(prices < least_before, np.arange(len(prices)), 0)
    best: npt.NDArray[np.intp] = np.maximum.accumulate(places)
    return best
