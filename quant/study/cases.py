"""What claims and summary ask of the records: a format's rows by block size, and what their intervals decide."""

from collections.abc import Sequence

from quant.study.records import Error, Interval, Model, Study
from quant.study.verdicts import judge_sizes, sign_above


def errors(study: Study, distribution: str, form: str) -> list[Error]:
    """The records of a format on a distribution, by ascending block size."""
    rows = [e for e in study.errors if (e.distribution, e.format) == (distribution, form)]
    return sorted(rows, key=lambda row: row.block_size)


def models_of(study: Study, form: str) -> dict[int, Model]:
    """Block size, ascending -> the record of the whole model in a format; empty where it was not measured in it."""
    return {m.block_size: m for m in sorted(study.models, key=lambda m: m.block_size) if m.format == form}


def nf4_speeds_over_int4(study: Study) -> list[float]:
    """NF4's decode speed over int4's in every round of every block size."""
    return [ratio for speed in study.speeds if speed.format == "nf4" for ratio in speed.over_int4]


def by_size(rows: Sequence[Error]) -> tuple[str, str]:
    """The verdict over block sizes on SQNR minus int4's: its word and condition."""
    return judge_sizes({row.block_size: sign_above(row.against_int4_interval) for row in rows})


def span(rows: Sequence[Error]) -> str:
    """The least and the largest SQNR minus int4's, in words."""
    above = [row.against_int4 for row in rows if row.against_int4 is not None]
    return f"{min(above):+.2f} to {max(above):+.2f} dB"


def apart(upper: Interval, lower: Interval) -> int:
    """+1 where the interval `upper` lies above `lower`, -1 below, 0 where they overlap."""
    return int(upper[0] > lower[1]) - int(upper[1] < lower[0])


def kl_apart(upper: Model, lower: Model) -> int:
    """`apart` of their KL divergences, 0 where one has no interval."""
    return apart(upper.kl_interval, lower.kl_interval) if upper.kl_interval and lower.kl_interval else 0
