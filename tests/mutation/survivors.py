"""The mutants that no test kills, each with the reason why that is right: read from `survivors/*.yaml`.

    equivalent:
      "why they are":
        - "quant.numerics.int8.quantize_rows: old code -> new code"

A mutant is known by its function and by the lines that it changes, so that an edit elsewhere in the function does not
rename it. `CLASSES` are the only reasons that count; "nobody wrote a test" is none.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

FOLDER = Path(__file__).parent / "survivors"
LOWEST_SCORE = 0.9
CLASSES = {
    "equivalent": "computes the same for every input",
    "wording": "changes only the words of an error message",
    "performance": "changes only how long it takes or how much memory",
    "default": "changes a default value that callers always give, or an optional argument to its default",
    "defensive": "changes what is unreachable with the versions and devices that the suite runs on",
    "elsewhere": "is killed by tests, but not by those that mutmut runs for it",
}
"""Class of a survivor -> what its mutants have in common."""


@dataclass(frozen=True)
class Mutant:
    """One mutant and whether a test killed it (or it hung or crashed)."""

    function: str
    change: str
    killed: bool

    @property
    def key(self) -> str:
        """How a survivor is listed."""
        return f"{self.function}: {self.change}"


def read_survivors(folder: Path = FOLDER) -> dict[str, str]:
    """Key of each explained mutant -> its class.

    Raises:
        ValueError: no files, an unknown class, an empty reason, a mutant that is explained twice.
    """
    explained: dict[str, str] = {}
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise ValueError(f"no explanations (*.yaml) in {folder}")
    for path in files:
        for kind, reasons in yaml.safe_load(path.read_text(encoding="utf-8")).items():
            for reason, keys in reasons.items():
                twice = [key for key in keys if key in explained]
                if kind not in CLASSES or not reason.strip() or twice:
                    raise ValueError(f"{path.name}: {kind}: {reason}: {', '.join(twice) or 'no such class or reason'}")
                explained.update(dict.fromkeys(keys, kind))
    return explained


def score(mutants: Iterable[Mutant]) -> float:
    """Killed mutants over all of them."""
    killed = [mutant.killed for mutant in mutants]
    return sum(killed) / len(killed)


def faults_of(mutants: Iterable[Mutant], explained: Mapping[str, str]) -> list[str]:
    """What is wrong with a run: survivors that nobody explained, explanations of mutants that do not survive, and a
    score below `LOWEST_SCORE`. Explanations of functions that were not run are not judged.
    """
    mutants = list(mutants)
    surviving = {mutant.key for mutant in mutants if not mutant.killed}
    run = {mutant.function for mutant in mutants}
    found = [f"survives without an explanation: {key}" for key in sorted(surviving - explained.keys())]
    found += [
        f"is explained and does not survive: {key}"
        for key in sorted(explained.keys() - surviving)
        if key.partition(": ")[0] in run
    ]
    if score(mutants) < LOWEST_SCORE:
        found.append(f"{score(mutants):.1%} are killed, less than {LOWEST_SCORE:.0%}")
    return found
