"""What a study found, as plain data: what JSON holds, what the page is made of, and all that its verdicts rest on.

Errors are relative: squared errors to the mean square of the weights, largest errors to the absmax of their block. SQNR
is -10 log10 of the first, in dB. Every interval is a nominal 95 % one, [low, high].

A format is named as its scheme, with `-dq` for double quantization and `-mse` for scales that minimise the squared
error instead of taking the absmax (`quant.study.formats`).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from quant.evaluate.fingerprint import Fingerprint
from quant.study.settings import Settings

Interval = tuple[float, float]


@dataclass(frozen=True)
class Code:
    """How often a code occurs in blocks of normal weights; rank: of its level, ascending; constructed: its probability
    under the normal distribution of NF4's construction.
    """

    format: str
    block_size: int
    rank: int
    level: float
    derived: float
    sampled: float
    interval: Interval
    constructed: float


@dataclass(frozen=True)
class Entropy:
    """Of a format's codes in blocks of normal weights, in bits."""

    format: str
    block_size: int
    derived: float
    sampled: float
    interval: Interval


@dataclass(frozen=True)
class Error:
    """Of a format on a distribution. bits: stored per weight; derived: the relative squared error as the levels
    predict, None where that is not derived; against: SQNR minus int4's with the same options, against_absmax: minus
    that of the same format with absmax scales, in dB on the same samples; None for the format itself.
    """

    distribution: str
    format: str
    block_size: int
    bits: float
    derived: float | None
    relative_mse: float
    interval: Interval
    largest: float
    against_int4: float | None
    against_int4_interval: Interval | None
    against_absmax: float | None
    against_absmax_interval: Interval | None


@dataclass(frozen=True)
class Magnitude:
    """RMS error, relative to absmax, of the weights with low <= |w|/absmax < high; share: of all weights."""

    distribution: str
    format: str
    block_size: int
    low: float
    high: float
    share: float
    rmse: float
    interval: Interval


@dataclass(frozen=True)
class Layer:
    """A layer's weight in blocks. sqnr: format -> dB; nf4_minus_int4: in dB, with its interval over blocks;
    excess_kurtosis: of its weights (0 for a normal distribution).
    """

    layer: str
    block_size: int
    weights: int
    excess_kurtosis: float
    sqnr: dict[str, float]
    nf4_minus_int4: float
    interval: Interval


@dataclass(frozen=True)
class Model:
    """The whole model in a format. bits: stored per quantized weight; footprint_bytes: of the model, None for a format
    that is only simulated; ratio: perplexity over the float model's; against_int4: over int4's with the same options
    and block size; against_absmax: over that of the same format with absmax scales; kl: mean KL(float || format), nats
    per token; top1: fraction of tokens with the same best guess. Intervals are None where windows are too few.
    """

    format: str
    block_size: int
    bits: float
    footprint_bytes: int | None
    perplexity: float
    ratio: float
    ratio_interval: Interval | None
    against_int4: float | None
    against_int4_interval: Interval | None
    against_absmax: float | None
    against_absmax_interval: Interval | None
    kl: float
    kl_interval: Interval | None
    top1: float


@dataclass(frozen=True)
class Speed:
    """Decode speed of a format in one run with the others: tokens/s, the median of the rounds; over those of the float
    model, and over int4's, in each round.
    """

    format: str
    block_size: int
    tokens_per_second: float
    over_float: Sequence[float]
    over_int4: Sequence[float]


@dataclass(frozen=True)
class Support:
    """Who can compute with a format. kernels: variants of this package's CPU kernels here that run it; torch_operators:
    of torch's own, by name; fixed_point_error: largest rounding of a level in the kernels' integers, over absmax.
    """

    format: str
    kernels: Sequence[str]
    torch_operators: Sequence[str]
    fixed_point_error: float


@dataclass(frozen=True)
class Study:
    """All of it. environment: with the versions of the libraries that only the study uses; settings: which say what
    rows the parts have (`quant.study.completeness`); float_perplexity, float_bytes: of the unquantized model.
    """

    environment: Fingerprint
    settings: Settings
    float_perplexity: float
    float_bytes: int
    codes: Sequence[Code]
    entropies: Sequence[Entropy]
    errors: Sequence[Error]
    magnitudes: Sequence[Magnitude]
    layers: Sequence[Layer]
    models: Sequence[Model]
    speeds: Sequence[Speed]
    support: Sequence[Support]


def to_plain(study: Study) -> dict[str, Any]:
    """`study` as dicts and lists, floats to 8 significant digits, which is more than any of them is known to."""
    rounded: dict[str, Any] = _rounded(asdict(study))
    return rounded


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.8g}") if isinstance(value, float) else value
