"""What a verdict is, and the rule by which cases become one.

A case is a place where a claim can be true or not (a block size, a distribution), with a sign: +1 where the figures say
it is, -1 where they say it is not, 0 where their interval leaves it open. All +1: it holds. Some +1 and none -1: it
holds, and is left open for the rest. Some +1 and some -1: it holds only for the former. None +1: it does not hold where
all are -1, and is left open else.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from quant.study.records import Interval

K = TypeVar("K")
HOLDS, OPEN_FOR, ONLY_FOR = "holds", "holds, and is left open for", "holds only for"
FAILS, OPEN = "does not hold", "is left open"


@dataclass(frozen=True)
class Verdict:
    """subject: what the original report called it, narrowed to what is measured where that is less; claim: the sentence
    that is judged; rule: by which; word: one of the five; condition: what follows `ONLY_FOR` and `OPEN_FOR`;
    figures: a sentence of what was measured; see: the section.
    """

    subject: str
    claim: str
    rule: str
    word: str
    condition: str
    figures: str
    see: str

    @property
    def verdict(self) -> str:
        """The word with its condition."""
        return f"{self.word} {self.condition}".rstrip()


def sign_above(interval: Interval | None, bound: float = 0.0) -> int:
    """+1 where an interval lies above `bound`, -1 below, 0 around it or where there is none."""
    if interval is None:
        return 0
    return int(interval[0] > bound) - int(interval[1] < bound)


def judge(signs: Mapping[K, int], describe: Callable[[list[K]], str]) -> tuple[str, str]:
    """(word, condition) from the sign of each case; `describe` says in words which cases the condition is about."""
    found = set(signs.values())
    if 1 not in found:
        return (FAILS if found == {-1} else OPEN), ""
    if found == {1}:
        return HOLDS, ""
    word, chosen = (ONLY_FOR, 1) if -1 in found else (OPEN_FOR, 0)
    return word, describe([case for case, sign in signs.items() if sign == chosen])


def judge_sizes(signs: Mapping[int, int]) -> tuple[str, str]:
    """`judge` of signs by block size, ascending."""
    return judge(signs, lambda chosen: f"blocks of {sizes(chosen, list(signs))}")


def judge_one(sign: int) -> str:
    """The word for a single case."""
    return {1: HOLDS, -1: FAILS, 0: OPEN}[sign]


def listed(words: Sequence[str]) -> str:
    """As in "a", "a and b" or "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def sizes(chosen: Sequence[int], measured: Sequence[int]) -> str:
    """`chosen` of the ascending `measured` block sizes in words, neighbours joined: "32 to 128 and 4096"."""
    runs: list[list[int]] = []
    for chose, group in itertools.groupby(measured, key=lambda size: size in chosen):
        if chose:
            runs.append(list(group))
    return listed([str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs])
