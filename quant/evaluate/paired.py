"""One model's accuracy against a baseline's, from their per-token results: what a comparison reports.

Both results must have been measured on the same tokens, in the same windows, with the same software and machine
settings: their fingerprints are compared first, and a difference is an error that names the fields.
"""

from dataclasses import dataclass

from quant.errors import QuantError
from quant.evaluate.divergence import Measurement
from quant.evaluate.fingerprint import require_comparable
from quant.evaluate.perplexity import perplexity_of
from quant.evaluate.statistics import Estimate, bootstrap_mean, perplexity_ratio


@dataclass(frozen=True)
class PairedAccuracy:
    """A model's accuracy beside its baseline's.

    Attributes:
        perplexity: of the model; difference: to the baseline's; relative_change: difference / baseline (a fraction,
            not percent).
        ratio: perplexity over the baseline's, with its interval.
        kl: mean KL(baseline || model) in nats per token, with its interval.
        top1_agreement: fraction of tokens for which both models rank the same token first.
    """

    perplexity: float
    difference: float
    relative_change: float
    ratio: Estimate
    kl: Estimate
    top1_agreement: float


def paired_accuracy(baseline: Measurement, measured: Measurement) -> PairedAccuracy:
    """Compare `measured` with the `baseline` it was measured against.

    Raises:
        QuantError: different fingerprints, or `measured` was never compared with a baseline.
    """
    require_comparable(baseline.fingerprint, measured.fingerprint)
    if measured.kl is None or measured.top1 is None:
        raise QuantError("this measurement has no divergence from a baseline: make it with Baseline.compare")
    before, after = perplexity_of(baseline.losses), perplexity_of(measured.losses)
    return PairedAccuracy(
        perplexity=after,
        difference=after - before,
        relative_change=after / before - 1,
        ratio=perplexity_ratio(baseline.losses, measured.losses, baseline.window_of_token),
        kl=bootstrap_mean(measured.kl, baseline.window_of_token),
        top1_agreement=float(measured.top1.double().mean()),
    )
