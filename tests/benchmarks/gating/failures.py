"""What a session fails for: a line that says it, and a kind that the session's last line counts."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple


class Failure(NamedTuple):
    """line: what is wrong; kind: what there is a `number` of, in the singular ("ratio missing"), or, where that is 0,
    all that is to be said ("no benchmark has run").
    """

    line: str
    kind: str
    number: int = 1


def lines(failures: Sequence[Failure]) -> list[str]:
    return [failure.line for failure in failures]


def counted(failures: Sequence[Failure]) -> str:
    """'103 ratios missing, 1 ratio above a limit': each kind once, in the order in which they first occur."""
    counts: Counter[str] = Counter()
    for failure in failures:
        counts[failure.kind] += failure.number
    return ", ".join(in_number(kind, count) for kind, count in counts.items())


def in_number(kind: str, count: int) -> str:
    noun, space, rest = kind.partition(" ")
    return f"{count} {noun}{'' if count == 1 else 's'}{space}{rest}" if count else kind
