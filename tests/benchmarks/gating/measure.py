"""`python -m tests.benchmarks.gating.measure [--runs N]`: measures the limits of the ratios on this machine, anew.

Runs the benchmarks that a pair names, and no others, in as many sessions as there are runs (`FEWEST_RUNS` unless told
otherwise), one after the other, and writes what this machine's key has in the file of ratios. The machine must have
nothing else to do. `--from FILE...` takes runs that `--benchmark-json` wrote, for instance on several days.
"""

import argparse
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.gating.file import machine_record, write
from tests.benchmarks.gating.machine import differences
from tests.benchmarks.gating.plugin import RATIOS
from tests.benchmarks.gating.ratios import FEWEST_RUNS, Pair, measured_ratios
from tests.benchmarks.gating.stored import Run, machine_key, read_run


def take_runs(count: int, pairs: Sequence[Pair], folder: Path) -> list[Path]:
    """The files of `count` sessions over the benchmarks of `pairs`.

    Raises:
        subprocess.CalledProcessError: if one fails.
    """
    names = list(dict.fromkeys(name for pair in pairs for name in (pair.numerator, pair.denominator)))
    files = [folder / f"run-{index}.json" for index in range(count)]
    for file in files:
        options = ["-q", "--benchmark-only", "--benchmark-gate=off", "--benchmark-quiet", f"--benchmark-json={file}"]
        subprocess.run([sys.executable, "-m", "pytest", *options, *names], check=True)
    return files


def values_of(runs: Sequence[Run], pairs: Sequence[Pair]) -> dict[str, list[float]]:
    """Name of a pair -> its ratio in every run.

    Raises:
        ValueError: if runs are of different keys, or one lacks a pair.
    """
    for run in runs:
        differing = differences(machine_key(runs[0]), machine_key(run))
        if differing or not machine_key(run):
            raise ValueError(f"the runs are not of one machine: {'; '.join(differing) or 'they have no key'}")
    found = [measured_ratios(run, pairs) for run in runs]
    lacking = sorted({pair.name for pair in pairs for ratios in found if pair.name not in ratios})
    if lacking:
        raise ValueError(f"not in every run: {'; '.join(lacking)}")
    return {pair.name: [ratios[pair.name] for ratios in found] for pair in pairs}


def write_limits(runs: Sequence[Run], pairs: Sequence[Pair], command: str, path: Path) -> None:
    """Put what `runs` measured in the file at `path`, in the place of what it has for their key."""
    provenance = {
        "dates": sorted({run["datetime"][:10] for run in runs}),
        "commits": sorted({run["commit_info"]["id"] + ("+" if run["commit_info"]["dirty"] else "") for run in runs}),
        "command": command,
        "runs": len(runs),
        "python": platform.python_version(),
        "versions": {package: version(package) for package in ("torch", "transformers", "bitsandbytes")},
    }
    write(path, machine_record(machine_key(runs[0]), provenance, values_of(runs, pairs)))


def main() -> None:
    """Parse the command line and measure."""
    from tests.benchmarks.pairs import all_pairs  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gating.measure", description=__doc__)
    parser.add_argument("--runs", type=int, default=FEWEST_RUNS, help=f"sessions, {FEWEST_RUNS} or more")
    parser.add_argument("--from", dest="files", type=Path, nargs="+", help="runs that were taken before")
    parser.add_argument("--ratios", type=Path, default=RATIOS, help=f"the file to write, {RATIOS} by default")
    arguments = parser.parse_args()
    count = len(arguments.files) if arguments.files else arguments.runs
    if count < FEWEST_RUNS:
        parser.error(f"{count} runs are too few to know their spread: {FEWEST_RUNS} or more")
    with tempfile.TemporaryDirectory() as folder:
        files = arguments.files or take_runs(count, all_pairs(), Path(folder))
        command = shlex.join(["python", "-m", "tests.benchmarks.gating.measure", *sys.argv[1:]])
        write_limits([read_run(file) for file in files], all_pairs(), command, arguments.ratios)


if __name__ == "__main__":
    main()
