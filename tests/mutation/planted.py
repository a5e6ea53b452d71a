"""Plant every fault in a copy of the package and see the suite turn red.

    python -m tests.mutation.planted                      all of them
    python -m tests.mutation.planted int8-truncates ...   some, by name
    python -m tests.mutation.planted --jobs 2             two at a time

The repository is copied to a temporary folder, so the sources are never touched. There the named tests must first be
green without a fault. Then the faults follow, each by itself, against its own test: *red* is a test that failed;
*survived* is that none did; *broken* is a run that never came to a verdict, as of tests that cannot be collected, which
proves nothing. The error that turned it red is printed beside it: a crash has to be one that the fault's name explains.
The exit code is 1 where a fault is not red. How one is tried: `tests.mutation.worker`.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.mutation.faults import FAULTS

ROOT = Path(__file__).parents[2]
COPIED = ("conftest.py", "constraints.txt", "pyproject.toml", "pytest.ini", "quant", "README.md", "tests", "tox.ini")
"""What the tests read, of the top level."""


def copy_repository(root: Path, target: Path) -> Path:
    """What of the repository `root` the tests need, in the new folder `target`. Weights and extensions are linked."""

    def copy(source: str, destination: str) -> None:
        if source.endswith((".safetensors", ".so")):
            Path(destination).symlink_to(source)
        else:
            shutil.copyfile(source, destination)

    target.mkdir()
    for name in COPIED:
        path = root / name
        if path.is_dir():
            shutil.copytree(path, target / name, copy_function=copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(path, target / name)
    return target


def start_worker(tree: Path, names: Sequence[str]) -> "subprocess.Popen[bytes]":
    """A process that tries the faults with these names on the package in `tree` and prints what comes of each."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "tests.mutation.worker", *names], cwd=tree, env=environment)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation.planted", description=str(__doc__).split("\n")[0])
    parser.add_argument("names", nargs="*", help="of faults; all by default")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    options = parser.parse_args(arguments)
    known = [fault.name for fault in FAULTS]
    unknown = sorted(set(options.names) - set(known))
    if unknown or options.jobs < 1:
        parser.error(f"no fault is called {', '.join(unknown)}" if unknown else "--jobs is at least 1")
    names = [name for name in known if not options.names or name in options.names]
    shares = [share for number in range(options.jobs) if (share := names[number :: options.jobs])]
    with tempfile.TemporaryDirectory() as folder:
        trees = [copy_repository(ROOT, Path(folder, str(number))) for number in range(len(shares))]
        workers = [start_worker(tree, share) for tree, share in zip(trees, shares, strict=True)]
        codes = [worker.wait() for worker in workers]
    print(f"{len(names)} faults: " + ("not all of them turned the suite red" if any(codes) else "all red"))
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
