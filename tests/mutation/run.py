"""Run mutmut over the core of the package and hold its survivors to their explanations.

    python -m tests.mutation.run                             everything that pyproject.toml names, hours on one core
    python -m tests.mutation.run 'quant.numerics.*'          what fits the patterns
    python -m tests.mutation.run --workers 4
    python -m tests.mutation.run --judge                     what the last run left in mutants/, without running

mutmut makes small changes, one at a time: another operator, a constant one larger, an argument dropped. It keeps its
copies and results in the folder `mutants`, and goes on where it was interrupted. Which files are changed and which
tests are run is in pyproject.toml. Prints a table by module, and what is wrong (`tests.mutation.survivors`), which
includes mutants that were not run to an end; the exit code is 1 where something is. Needs the extra `mutation`.
"""

import argparse
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from tests.mutation.survivors import CLASSES, Mutant, faults_of, read_survivors, score

ROOT = Path(__file__).parents[2]
KILLED = ("killed", "timeout", "segfault")
"""mutmut's words for mutants that something turned red, hung or crashed."""
NO_VERDICT = (3, 255, -9)
"""Exit codes that prove nothing: an error inside pytest, which mutmut takes for a kill; pytest could not even be
started, say for tests that are gone, which it calls a timeout; ended from outside, as where the memory is used up,
which it calls a segfault.
"""


def run_mutmut(patterns: Sequence[str], workers: int) -> None:
    """Make the mutants and run the tests. One thread each: OpenMP's do not survive a fork."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = (sys.executable, "-c", "from mutmut.__main__ import cli; cli()", "run", "--max-children", str(workers))
    subprocess.run((*command, *patterns), cwd=ROOT, env=environment, check=True)


def changed_lines(diff: str) -> str:
    """What a unified diff changes, as "old -> new" without indentation."""
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    sides = (" ".join(line[1:].strip() for line in lines if line.startswith(sign)) for sign in "-+")
    return " -> ".join(sides)


def readable(name: str) -> str:
    """The dotted name of the function that mutmut changed: quant.modules.xǁA__init__ǁf__mutmut_1 has it mangled."""
    module, _, mangled = name.partition("__mutmut_")[0].rpartition(".")
    plain = mangled.removeprefix("xǁ").replace("ǁ", ".") if "ǁ" in mangled else mangled.removeprefix("x_")
    return f"{module}.{plain}"


def verdicts(
    codes: Mapping[str, int | None], words: Mapping[int, str], patterns: Sequence[str]
) -> tuple[dict[str, bool], list[str]]:
    """Of the mutants that fit one of the patterns, or of all where there is none: (name -> whether a test killed it, of
    those that have a verdict; names of the others).

    Args:
        codes: name -> exit code, None where it was not run.
        words: exit code -> mutmut's word for it.

    Raises:
        ValueError: none has a verdict.
    """
    chosen = [name for name in codes if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)]
    ended = {name: code for name in chosen if (code := codes[name]) is not None and code not in NO_VERDICT}
    if not ended:
        raise ValueError(f"{len(chosen)} mutants fit {' '.join(patterns) or '*'} and none of them has a verdict")
    return {name: words[code] in KILLED for name, code in ended.items()}, [name for name in chosen if name not in ended]


def read_results(patterns: Sequence[str]) -> tuple[list[Mutant], list[str]]:
    """The mutants in the folder `mutants` that fit and have a verdict, and the names of those that fit and have none.

    Raises:
        ValueError: none has a verdict.
    """
    from mutmut.mutation.data import SourceFileMutationData  # noqa: PLC0415
    from mutmut.mutation.diff_apply import get_diff_for_mutant  # noqa: PLC0415
    from mutmut.stats import status_by_exit_code  # noqa: PLC0415
    from mutmut.utils.file_utils import walk_mutatable_files  # noqa: PLC0415

    codes: dict[str, int | None] = {}
    files: dict[str, Path] = {}
    for path in sorted(walk_mutatable_files()):
        data = SourceFileMutationData(path=path)
        data.load()
        codes.update(data.exit_code_by_key)
        files.update(dict.fromkeys(data.exit_code_by_key, path))
    judged, others = verdicts(codes, status_by_exit_code, patterns)
    mutants = []
    for name, killed in judged.items():
        # A diff takes a while, and only survivors are looked at.
        change = "" if killed else changed_lines(get_diff_for_mutant(name, path=files[name]))
        mutants.append(Mutant(readable(name), change, killed))
    return mutants, others


def table(mutants: Iterable[Mutant], explained: dict[str, str]) -> str:
    """Mutants, score and survivors by class, of each module, in Markdown."""
    by_module: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        module = next(iter(mutant.function.split(".")[1:]))
        by_module.setdefault(f"quant.{module}", []).append(mutant)
    rows = ["| module | mutants | killed | " + " | ".join(CLASSES) + " |", "|---|" + "---:|" * (2 + len(CLASSES))]
    by_module["all"] = [mutant for group in by_module.values() for mutant in group]
    for module, group in by_module.items():
        kinds = Counter(explained.get(mutant.key) for mutant in group if not mutant.killed)
        counts = " | ".join(str(kinds[kind]) for kind in CLASSES)
        rows.append(f"| {module} | {len(group)} | {score(group):.1%} | {counts} |")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.run", description=str(__doc__).split("\n")[0])
    parser.add_argument("patterns", nargs="*", help="of mutants' names, as 'quant.selection.*'")
    parser.add_argument("--workers", type=int, default=1, help="processes at a time")
    parser.add_argument("--judge", action="store_true", help="read the last results only")
    options = parser.parse_args(arguments)
    os.chdir(ROOT)  # where mutmut looks for its configuration
    if not options.judge:
        run_mutmut(options.patterns, options.workers)
    explained = read_survivors()
    mutants, others = read_results(options.patterns)
    print(table(mutants, explained))
    wrong = faults_of(mutants, explained)
    wrong += [f"has no verdict, run it again by name (or all without the folder `mutants`): {name}" for name in others]
    print("\n".join(wrong) or "Every survivor is explained.")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
