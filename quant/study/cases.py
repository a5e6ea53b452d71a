"""What the claims ask of the records: errors of a format by block size, and what their intervals decide."""

from collections.abc import Sequence

from quant.study.records import Error, Interval, Study
from quant.study.verdicts import judge_sizes, sign_above


def errors(study: Study, distribution: str, form: str) -> list[Error]:
    """The records of a format on a distribution, by ascending block size."""
    rows = [e for e in study.errors if (e.distribution, e.format) == (distribution, form)]
    return sorted(rows, key=lambda row: row.block_size)


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
