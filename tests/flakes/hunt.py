"""Run the suite many times under conditions that bring flaky tests out, and report what failed and how to repeat it.

    python -m tests.flakes.hunt                                  30 times, hours
    python -m tests.flakes.hunt --times 3 tests/unit/report      a part of it
    python -m tests.flakes.hunt --first 1712 --times 1           one run again, by its seed

Each run shuffles the files and the tests in them by a seed of its own, draws new hypothesis examples, and shares the
machine with others: `--at-once` of them, each as large as the machine, are the load for each other, which costs no time
as processes that compute for nothing would. A test that fails is listed with the seeds of the runs in which it did;
their whole output, with the hypothesis blobs, is kept in the folder `--keep`. The exit code is 1 where a run was not
green, which includes one that collected nothing; why it came to no verdict is printed. Needs the extra `mutation`, for
pytest-random-order.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAST_LINES = 10
"""Of a run that came to no verdict, which end with the reason."""
VERDICTS = (0, 1)
"""Exit codes of a run whose tests all ran: they passed, or some failed and are listed."""


def command(seed: int, tests: Sequence[str]) -> list[str]:
    """One run of the suite, or of `tests`, in the order that `seed` gives."""
    order = ("--random-order", f"--random-order-seed={seed}")
    # Without colours, whatever the environment asks for: names are read from the summary.
    options = ("-q", "-m", "not gpu", "-p", "no:cacheprovider", "-rfE", "--color=no")
    return [sys.executable, "-m", "pytest", *options, *order, *tests]


def run(seed: int, tests: Sequence[str], folder: Path) -> tuple[int, str, float]:
    """(exit code, output, seconds) of one run in `folder`, the root of a repository."""
    began = time.monotonic()
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "random"}
    done = subprocess.run(
        command(seed, tests),
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, time.monotonic() - began


def failed_tests(output: str) -> list[str]:
    """The tests that pytest's summary lists as failed or in error, each once."""
    return list(dict.fromkeys(re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", output, re.MULTILINE)))


def hunt(seeds: Sequence[int], tests: Sequence[str], keep: Path, at_once: int = 1, folder: Path = ROOT) -> bool:
    """Run once for each seed, of which there is at least one, and print what comes of it. Whether all were green."""
    seeds_of: dict[str, list[int]] = {}
    not_green = 0
    keep.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(at_once) as pool:
        runs = pool.map(lambda seed: run(seed, tests, folder), seeds)
        for seed, (code, output, seconds) in zip(seeds, runs, strict=True):
            if code:
                not_green += 1
                (keep / f"{seed}.log").write_text(output, encoding="utf-8")
                for test in failed_tests(output) or [f"pytest ended with code {code}"]:
                    seeds_of.setdefault(test, []).append(seed)
            ending = output.rstrip().splitlines()[-LAST_LINES:]
            print(f"seed {seed}: code {code} after {seconds:.0f} s: {''.join(ending[-1:])}", flush=True)
            for line in ending if code not in VERDICTS else []:
                print(f"    {line}", flush=True)
    for test, where in sorted(seeds_of.items()):
        print(f"{len(where)} of {len(seeds)} runs: {test} (seeds {', '.join(map(str, where))}; {keep})")
    print(f"{len(seeds)} runs (seeds {seeds[0]} to {seeds[-1]}), {not_green} not green, {len(seeds_of)} failures")
    return not not_green


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.flakes.hunt", description=str(__doc__).split("\n")[0])
    parser.add_argument("tests", nargs="*", help="files or folders; the whole suite by default")
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--first", type=int, default=1, help="seed of the first run; each next one is one more")
    parser.add_argument("--at-once", type=int, default=3, help="runs beside each other, the load of each")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir(), "flakes"), help="for failed runs")
    options = parser.parse_args(arguments)
    if options.times < 1 or options.at_once < 1:
        parser.error("--times and --at-once are at least 1")
    if find_spec("random_order") is None:
        parser.error("needs pytest-random-order: pip install -c constraints.txt -e '.[mutation]'")
    seeds = range(options.first, options.first + options.times)
    return 0 if hunt(seeds, options.tests, options.keep, options.at_once) else 1


if __name__ == "__main__":
    sys.exit(main())
