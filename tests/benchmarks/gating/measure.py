"""`python -m tests.benchmarks.gating.measure [--runs N]`: measures the limits of the ratios on this machine, anew.

Runs the benchmarks that a pair names, and no others, in as many sessions as there are runs (`FEWEST_RUNS` unless told
otherwise), one after the other, writes what this machine's key has in the file of ratios, and prints which slowdowns
the limits see. The machine must have nothing else to do. `--folder` keeps the sessions' runs, and a second call with it
takes only those that it lacks: ten sessions last half an hour, and without it a stop loses all of them. `--from` takes
runs that `--benchmark-json` wrote, for instance on several days: with the same versions, which are read from the runs.
docs/benchmarks.md has the procedure. A machine's limits are written as one, so `--gpu`, which needs a GPU for the full
Phi-3-mini in float32, measures those of the CPU with them.
"""

import argparse
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.gating.file import RATIOS, Machine, machine_record, write
from tests.benchmarks.gating.machine import differences
from tests.benchmarks.gating.ratios import FEWEST_RUNS, Pair, Series, measured_ratios, times_of
from tests.benchmarks.gating.stored import Run, machine_key, read_run


def take_runs(count: int, pairs: Sequence[Pair], folder: Path) -> list[Path]:
    """The files run-0.json, ... in `folder` of `count` sessions over the benchmarks of `pairs`.

    A session whose file is there, with all pairs, is not run again. pytest-benchmark opens its file when the session
    starts, so each is written under another name, which only a session that has passed loses.

    Raises:
        subprocess.CalledProcessError: if one fails.
    """
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.numerator, pair.denominator)))
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"run-{index}.json" for index in range(count)]
    for file in files:
        if is_whole(file, pairs):
            continue
        unfinished = file.with_suffix(".unfinished")
        options = ["-q", "--benchmark-only", "--benchmark-gate=off", "--benchmark-quiet"]
        command = [sys.executable, "-m", "pytest", *options, f"--benchmark-json={unfinished}", *names]
        subprocess.run(command, check=True)
        unfinished.replace(file)
    return files


def is_whole(file: Path, pairs: Sequence[Pair]) -> bool:
    """Whether this is the file of a run that has every pair."""
    try:
        return file.exists() and bool(take_series([read_run(file)], pairs))
    except ValueError:
        return False


def take_series(runs: Sequence[Run], pairs: Sequence[Pair]) -> dict[str, Series]:
    """Name of a pair -> its ratio in every run, and what its limit is found with.

    Raises:
        ValueError: if one lacks a pair.
    """
    found = [measured_ratios(times_of(run), pairs) for run in runs]
    lacking = sorted({pair.name for pair in pairs for ratios in found if pair.name not in ratios})
    if lacking:
        raise ValueError(f"not in every run: {'; '.join(lacking)}")
    return {
        pair.name: Series(tuple(ratios[pair.name] for ratios in found), pair.group, pair.denominator) for pair in pairs
    }


def common(records: Sequence[Mapping[str, Any]], what: str) -> Mapping[str, Any]:
    """The record that all runs have.

    Raises:
        ValueError: if they differ or one is empty.
    """
    for record in records:
        differing = differences(records[0], record)
        if differing or not record:
            raise ValueError(f"the runs are not of one {what}: {'; '.join(differing) or 'they do not record it'}")
    return records[0]


def write_limits(runs: Sequence[Run], pairs: Sequence[Pair], command: str, path: Path) -> Machine:
    """Put what `runs` measured in the file at `path`, in the place of what it has for their key.

    Raises:
        ValueError: if runs are of different machine keys, of different versions of Python or packages, or do not record
            them, or if one lacks a pair.
    """
    key = common([machine_key(run) for run in runs], "machine")
    software = dict(common([run["machine_info"].get("software", {}) for run in runs], "set of versions"))
    provenance = {
        "dates": sorted({run["datetime"][:10] for run in runs}),
        "commits": sorted({commit_of(run) for run in runs}),
        "command": command,
        "runs": len(runs),
        "python": software.pop("python"),
        "versions": software,
    }
    machine = machine_record(key, provenance, take_series(runs, pairs))
    write(path, machine)
    return machine


def commit_of(run: Run) -> str:
    """Its hash, with a + where the working tree had changes."""
    commit = run["commit_info"]
    return (commit["id"] or "unknown") + ("+" if commit["dirty"] else "")


def summary(machine: Machine) -> str:
    """What slowdowns the limits see, by class: of the ratio in the middle and of the one that sees least."""
    lines = []
    for group, scatter in machine["groups"].items():
        ratios = {name: ratio for name, ratio in machine["ratios"].items() if ratio["group"] == group}
        sees = {name: ratio["limit"] / ratio["measured"] - 1 for name, ratio in ratios.items()}
        catches = [ratio["catches"] for ratio in ratios.values()]
        worst = max(sees, key=lambda name: sees[name])
        lines.append(
            f"{group}, deviation {scatter['deviation']:.1%}: a slowdown is seen in every second "
            f"run from {statistics.median(sees.values()):.1%} on (median), {sees[worst]:.1%} at worst ({worst}), and "
            f"caught from {statistics.median(catches):.1%} on, {max(catches):.1%} at worst"
        )
    return "\n".join(lines)


def main() -> None:
    """Parse the command line, measure, and print what the limits see."""
    from tests.benchmarks.pairs import all_pairs  # noqa: PLC0415
    from tests.gpu.pairs import gpu_pairs  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gating.measure", description=__doc__)
    parser.add_argument("--runs", type=int, default=FEWEST_RUNS, help=f"sessions, {FEWEST_RUNS} or more")
    kept = parser.add_mutually_exclusive_group()
    kept.add_argument("--folder", type=Path, help="keeps each session's run here, and takes only those that it lacks")
    kept.add_argument("--from", dest="files", type=Path, nargs="+", help="runs that were taken before")
    parser.add_argument("--ratios", type=Path, default=RATIOS, help=f"the file to write, {RATIOS} by default")
    parser.add_argument("--gpu", action="store_true", help="those of the full Phi-3-mini and its layers on the GPU too")
    arguments = parser.parse_args()
    pairs = [*all_pairs(), *(gpu_pairs() if arguments.gpu else [])]
    count = len(arguments.files) if arguments.files else arguments.runs
    if count < FEWEST_RUNS:
        parser.error(f"{count} runs are too few to know their spread: {FEWEST_RUNS} or more")
    command = shlex.join(["python", "-m", "tests.benchmarks.gating.measure", *sys.argv[1:]])
    with tempfile.TemporaryDirectory() as temporary:
        files = arguments.files or take_runs(count, pairs, arguments.folder or Path(temporary))
        try:
            machine = write_limits([read_run(file) for file in files], pairs, command, arguments.ratios)
        except ValueError as error:
            parser.error(str(error))
    print(summary(machine))


if __name__ == "__main__":
    main()
