"""Which scheme each layer gets so that a model is smallest for what it may lose: exact, for losses that are known.

What layers lose is taken to add up, so this is a knapsack with one choice for each layer ("bit allocation": Shoham and
Gersho, "Efficient bit allocation for an arbitrary set of quantizers", IEEE Trans. ASSP 36(9), 1988, who go along the
convex hull of (bytes, loss) and so pass over the plans between its corners). Here it is solved as an integer program by
HiGHS (Huangfu and Hall, 2018) in scipy: seconds for two thousand layers, and no plan is smaller. Of plans of the same
bytes it is the one that loses least.

A layer that seems to gain from being quantized counts as losing nothing, because that is noise. Of choices that seem to
cost nothing those of the smaller KL divergence are taken, which sees every change of the predictions, and of those the
smaller ones.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from quant.errors import QuantError
from quant.schemes import Scheme
from quant.sensitivity import Sensitivity

MARGIN = 1e-6
"""Part of the allowed loss that is left, as HiGHS holds to limits within a millionth."""
TIES = 1e-3
"""Nats of loss that a nat of KL divergence counts for, which decides only where losses do not."""


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


def smallest(choices: Choices, most_loss: float) -> Allocation:
    """The least bytes for a sum of losses of `most_loss` nats at most, which is at least 0."""
    allowed = {name: [one for one in several if one.loss <= most_loss] for name, several in choices.items()}
    losses = [one.loss / most_loss if most_loss > 0 else 0.0 for several in allowed.values() for one in several]
    least = _solve(allowed, _bytes(allowed), losses, 1 - MARGIN)
    return least_loss(choices, least.nbytes)


def least_loss(choices: Choices, most_bytes: int) -> Allocation:
    """The least sum of losses for `most_bytes` at most, which is at least what the smallest choices take."""
    prices, sizes = [one.loss + TIES * one.kl for several in choices.values() for one in several], _bytes(choices)
    # HiGHS takes sums that differ by less than a millionth for equal. Of those that are, the smaller one is taken.
    scale = 1e6 / max(prices) if max(prices) > 0 else 0.0
    costs = [scale * price + 1e-3 * size / sum(sizes) for price, size in zip(prices, sizes, strict=True)]
    unit = math.gcd(*sizes)
    return _solve(choices, costs, [size / unit for size in sizes], most_bytes / unit)


def _bytes(choices: Choices) -> list[int]:
    return [one.nbytes for several in choices.values() for one in several]


def _solve(choices: Choices, costs: Sequence[float], limited: Sequence[float], limit: float) -> Allocation:
    """One choice for each layer: the least sum of `costs`, for a sum of `limited` within `limit`."""
    import numpy as np  # noqa: PLC0415
    from scipy.optimize import Bounds, LinearConstraint, milp  # noqa: PLC0415, half a second to import
    from scipy.sparse import csr_array  # noqa: PLC0415

    layers = np.repeat(np.arange(len(choices)), [len(several) for several in choices.values()])
    places = np.arange(len(layers))
    one_each = csr_array((np.ones(len(layers)), (layers, places)))
    found = milp(
        np.array(costs, dtype=float),
        integrality=1,
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(np.array([limited]), -np.inf, limit)],
        options={"mip_rel_gap": 0},
    )
    if found.x is None:
        raise QuantError(f"no plan for {len(choices)} layers: {found.message}")
    flat = [(name, one) for name, several in choices.items() for one in several]
    taken = [flat[place] for place in places if found.x[place] > 0.5]
    schemes = tuple((name, one.scheme) for name, one in taken if one.scheme is not None)
    return Allocation(schemes, sum(one.nbytes for _, one in taken), math.fsum(one.loss for _, one in taken))
